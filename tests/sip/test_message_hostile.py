"""What must not get past the parser, what may be answered, and what it may cost (RFC 3261 §8.2, §18.3, §26)."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipbridge.errors import SipParseError
from sipbridge.sip.message import Message, Response, parse_message, refusal
from tests.sip.messages import BODY, INVITE, build


def fault(data: bytes) -> SipParseError:
    with pytest.raises(SipParseError) as raised:
        parse_message(data)
    return raised.value


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (build(Content_Length=b"6"), "shorter"),
        (build(Content_Length=b"-5"), "Content-Length"),
        (build(Content_Length=b"5 5"), "Content-Length"),
        (build(Content_Length=b"5,5"), "Content-Length"),
        (build(Content_Length=b""), "Content-Length"),
        (build(Content_Length="٥".encode()), "Content-Length"),
        (build(Content_Length=b"1" * 5000), "Content-Length"),
        (build(b"Content-Length: 5"), "more than one Content-Length"),
        (build(b"l: 5"), "more than one Content-Length"),
        (build(b"f: <sip:x@h>;tag=1"), "more than one From"),
        (build(b"To: <sip:x@h>"), "more than one To"),
        (build(b"i: 1"), "more than one Call-ID"),
        (build(b"CSeq: 7 INVITE"), "more than one CSeq"),
        (build(b"Max-Forwards: 70"), "more than one Max-Forwards"),
        (build(b"c: text/plain"), "more than one Content-Type"),
        (build(From=b"<sip:a@h>;tag=1, <sip:b@h>;tag=2"), "malformed"),
        (build(From=b"<sip:a@h>;tag=1;tag=2"), "twice"),
        (build(From=None), "From is missing"),
        (build(To=None), "To is missing"),
        (build(To=b""), "To is missing"),
        (build(Call_ID=None), "Call-ID is missing"),
        (build(Call_ID=b"a b"), "malformed Call-ID"),
        (build(CSeq=b"%d INVITE" % 2**31), "malformed CSeq"),
        (build(CSeq=b"%d INVITE" % 2**65), "malformed CSeq"),
        (build(CSeq=b"7 invite"), "methods"),
        (build(From=b"<sip:a@h>;tag=" + b"x" * 65_000), "too many octets|too long"),
        (build(From=b"<sip:a@h>;tag=" + b"x" * 10_000), "From is too long"),
        (build(b"Subject: a\nVia: SIP/2.0/UDP evil"), "bare CR or LF"),
        (build(b"Subject: a\rVia: SIP/2.0/UDP evil"), "bare CR or LF"),
        (build(b"Subject: a\x00b"), "NUL"),
        (build(b"Subject: \\\\\x00"), "NUL"),
        (build(b"no header field"), "not a header field"),
        (build(b": nameless"), "not a header field"),
        (build(b"Two Words: x"), "not a header field"),
        (build("Übel: x".encode()), "not a header field"),
        (build(b"\xe2\x84\xaa: Kelvin sign, which lower() makes a k"), "not a header field"),
        (build(*[b"X: y"] * 600), "too many header fields"),
        (INVITE[: -len(BODY) - 2], "no empty line"),
        (INVITE[: -len(BODY) - 9], "no empty line"),
        (INVITE.replace(b"\r\n", b"\r\n ", 1), "folded"),
        (build(start=b"INVITE sip:a@h  SIP/2.0"), "request line"),
        (build(start=b"INVITE\tx sip:a@h SIP/2.0"), "request line"),
        (build(start=b"INVITE sip:a@h x\tSIP/2.0"), "request line"),
        (build(start=b"INVITE sip:a@h SIP/2.0 "), "request line"),
        (build(start=b"INVITE sip:a@h SIP/3.0"), "unknown version"),
        (build(start=b"INVITE sip:a@h SIP/22.0"), "unknown version"),
        (build(start=b"INVITE sip:a@h;method=BYE SIP/2.0"), "Request-URI"),
        (build(start=b"INVITE sip:a@h?Via=evil SIP/2.0"), "Request-URI"),
        (build(start=b"INVITE sip:a@@h SIP/2.0"), "malformed URI"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_faulty_requests(data: bytes, says: str) -> None:
    error = fault(data)
    with pytest.raises(SipParseError, match=says):
        raise error
    assert error.sip_status in (400, 505, 513)
    assert (error.sip_status == 505) == ("version" in says)
    assert error.method == "INVITE"
    assert len(str(error)) < 400
    answer = refusal(error, to_tag="t")
    if answer is not None:
        text = answer.serialize()
        assert b"evil" not in text
        assert text.startswith(b"SIP/2.0 %d " % error.sip_status)
        assert parse_like_a_client(text) is not None


def parse_like_a_client(data: bytes) -> Response | None:
    """A client finds its transaction by Via and CSeq (§17.1.3); other fields may be as broken as they came."""
    try:
        message = parse_message(data)
    except SipParseError:
        lines = data.split(b"\r\n")
        assert any(line.startswith(b"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1") for line in lines)
        return Response(400, "")
    assert isinstance(message, Response)
    return message


def test_a_refusal_says_who_it_answers() -> None:
    error = fault(build(Content_Length=b"6"))
    assert error.reply_headers == (
        ("Via", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport"),
        ("Via", "SIP/2.0/TCP 192.0.2.2;branch=z9hG4bK2"),
        ("From", '"Alice, A." <sip:alice@example.com>;tag=a1'),
        ("To", "<sip:+15550100@gw.example.com>"),
        ("Call-ID", "abc@192.0.2.2"),
        ("CSeq", "7 INVITE"),
    )
    answer = refusal(error, to_tag="t1")
    assert answer is not None
    again = parse_message(answer.serialize())
    assert isinstance(again, Response)
    assert (again.status, again.reason, again.to.tag) == (400, "Bad Request", "t1")
    tagged = refusal(fault(build(Content_Length=b"6", To=b"<sip:b@h> ; Tag=theirs")), to_tag="t1")
    assert tagged is not None
    assert tagged.to.tag == "theirs"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\r\n",
        b"\r\n\r\n",
        b"\r\n" * 30_000,
        b"hello",
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"INVITE\r\n\r\n",
        b"\x80" * 1000,
        INVITE.replace(b"SIP/2.0\r\n", b"SIP/2.0\n", 1),
        INVITE.replace(b"\r\n", b"\n"),
        build(start=b"SIP/2.0 200 OK", Content_Length=b"6"),
        build(start=b"SIP/2.0 99 Low"),
        build(start=b"SIP/2.0 700 High"),
        build(start="SIP/2.0 ٢٠٠ OK".encode()),
        build(start=b"SIP/2.0  200 OK"),
        build(start=b"SIP/2.0"),
        build(start=b"SIP/3.0 200 OK"),
        build(start=b"ACK sip:a@h SIP/2.0"),  # its CSeq is wrong, but an ACK is never answered
        build(Content_Length=b"6", Via=None),
        build(Content_Length=b"6", CSeq=None),
        build(Content_Length=b"6", Call_ID=b"a\nb"),
        build(Content_Length=b"6", To=b"<sip:b@h>;x=" + b"y" * 10_000),
    ],
    ids=range(23),
)
def test_what_is_to_be_dropped(data: bytes) -> None:
    error = fault(data)
    assert error.reply_headers == ()
    assert refusal(error, to_tag="t") is None


@pytest.mark.parametrize(
    "data",
    [
        build(b"a:" * 32_000),
        build(b"X:" + b" " * 65_000),
        build(b"X" * 65_000),
        build(*[b"Via: SIP/2.0/UDP h"] * 3_000),
        build(b"X: y" + b"\r\n " * 20_000),
        build(b"X: " + b" " * 60_000 + b"y\r\n z"),
        build(Via=b"SIP/2.0/UDP h" + b",SIP/2.0/UDP h" * 500),
        build(start=b"INVITE " + b"sip:a SIP/" * 6_000 + b" SIP/2.0"),
        build(start=b"I" * 65_000),
        build(start=b"INVITE " + b" " * 65_000),
        b"\r\n" * 32_000 + INVITE,
        b"A " * 500_000,
        INVITE[:-7] + b"x" * 1_000_000,
    ],
    ids=range(13),
)
def test_no_datagram_takes_more_than_linear_time(data: bytes) -> None:
    started = time.process_time()
    try:
        message = parse_message(data)
        touch(message)
    except SipParseError:
        pass
    assert time.process_time() - started < 0.5


OPTIONAL = ("vias", "contacts", "routes", "record_routes", "max_forwards", "require", "supported", "content_type")


OPTIONAL = ("vias", "contacts", "routes", "record_routes", "max_forwards", "require", "supported", "content_type")


def touch(message: Message) -> None:
    """The optional accessors may refuse what they find; the mandatory ones were checked."""
    for accessor in OPTIONAL:
        with suppress(SipParseError):
            getattr(message, accessor)
    _ = message.via, message.from_, message.to, message.call_id, message.cseq


POISON = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n ",
    b"\x00",
    b":",
    b",",
    b";",
    b'"',
    b"<",
    b">",
    b"\\",
    b"%",
    b"@",
    b"\xff",
    b"9" * 30,
]


@settings(derandomize=True, max_examples=400, deadline=None)
@given(st.data())
def test_a_mutated_invite_parses_or_is_refused(data: st.DataObject) -> None:
    message = bytearray(INVITE)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(message)))
        cut = data.draw(st.integers(0, 3))
        message[at : at + cut] = data.draw(st.sampled_from(POISON) | st.binary(max_size=3))
    try:
        parsed = parse_message(bytes(message))
    except SipParseError as error:
        answer = refusal(error, to_tag="t")
        assert answer is None or answer.serialize().count(b"\n") == len(answer.headers) + 3
        return
    touch(parsed)
    again = parse_message(parsed.serialize())
    parsed.headers.set("Content-Length", str(len(parsed.body)))
    assert sorted(again.headers) == sorted(parsed.headers)
    assert again.body == parsed.body
