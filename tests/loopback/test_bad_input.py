"""What strangers send to see what breaks, over UDP and over TCP: each message ends in its refusal, in silence or in a
closed connection, is counted by its reason, leaves nothing behind, and raises nothing past the transport."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import NamedTuple

import pytest
from structlog.testing import capture_logs

from sipbridge.sip.flow import Transport
from tests.loopback.endpoints import endpoint, run
from tests.loopback.test_torture import answers_by_tcp, answers_by_udp
from tests.sip.messages import BODY, INVITE, build

OPTIONS = (
    b"OPTIONS sip:a@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKo\r\nFrom: <sip:b@h>;tag=1\r\n"
    b"To: <sip:a@h>\r\nCall-ID: o\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)


class Bad(NamedTuple):
    what: str
    data: bytes
    status: int | None
    """Of the answer; None: there is none."""
    counter: str
    stream: str | None = None
    """Over TCP: the counter of the connection that is closed without an answer; "" where the rest is waited for. None:
    as over UDP."""


def many(field: bytes, count: int) -> list[bytes]:
    return [field] * count


LINE_BREAK, LENGTH, TOO_LONG = "stream_bare_line_break", "stream_content_length", "stream_header_too_long"
MULTIPART = b"".join(b"--b\r\nContent-Type: multipart/mixed;boundary=b%d\r\n\r\n" % n for n in range(1_000))

BAD = [
    # header fields that some would see and others not
    Bad("bare LF", build(b"Subject: a\nVia: SIP/2.0/UDP evil"), 400, "bare_line_break", LINE_BREAK),
    Bad("bare LF before the body", build(b"X: a\n\nBYE sip:x SIP/2.0"), 400, "bare_line_break", LINE_BREAK),
    Bad("bare CR", build(b"Subject: a\rVia: SIP/2.0/UDP evil"), 400, "bare_line_break", LINE_BREAK),
    Bad("LF for every CRLF", INVITE.replace(b"\r\n", b"\n"), None, "not_sip", ""),
    Bad("CR CR LF", build(b"X: a\r"), 400, "bare_line_break", LINE_BREAK),
    Bad("NUL in a value", build(b"Subject: a\x00b"), 400, "nul"),
    Bad("NUL in a name", build(b"Sub\x00ject: a"), 400, "nul"),
    Bad("NUL in the start line", build(start=b"INVITE sip:a\x00@h SIP/2.0"), 400, "nul"),
    Bad(
        "a second length, disguised",
        build(b"Content-Length : 0"),
        400,
        "repeated_content_length",
        LENGTH,
    ),
    Bad("header in the Request-URI", build(start=b"INVITE sip:a@h?Route=x SIP/2.0"), 400, "header_in_request_uri"),
    Bad("method in the Request-URI", build(start=b"INVITE sip:a@h;method=BYE SIP/2.0"), 400, "header_in_request_uri"),
    Bad("a folded first line", INVITE.replace(b"\r\n", b"\r\n ", 1), 400, "folded_start_line"),
    # numbers
    Bad("CSeq 2^31", build(CSeq=b"%d INVITE" % 2**31), 400, "cseq"),
    Bad("CSeq 2^32", build(CSeq=b"%d INVITE" % 2**32), 400, "cseq"),
    Bad("CSeq 2^65", build(CSeq=b"%d INVITE" % 2**65), 400, "cseq"),
    Bad("CSeq of 5000 digits", build(CSeq=b"9" * 5000 + b" INVITE"), 400, "cseq"),
    Bad("CSeq below zero", build(CSeq=b"-1 INVITE"), 400, "cseq"),
    Bad("CSeq with a plus", build(CSeq=b"+1 INVITE"), 400, "cseq"),
    Bad("CSeq of another method", build(CSeq=b"7 BYE"), 400, "methods_differ"),
    Bad("CSeq without a method", build(CSeq=b"7"), 400, "cseq"),
    Bad("two CSeq", build(b"CSeq: 8 INVITE"), 400, "repeated_field"),
    Bad("Max-Forwards below zero", build(Max_Forwards=b"-1"), 400, "max_forwards"),
    Bad("port 65536", build(Via=b"SIP/2.0/UDP h:65536;branch=z9hG4bK1"), 400, "port"),
    Bad("port 0", build(start=b"INVITE sip:a@h:0 SIP/2.0"), 400, "port"),
    # versions and what is no SIP
    Bad("SIP/7.0", build(start=b"INVITE sip:a@h SIP/7.0"), 505, "version"),
    Bad("SIP/2.00", build(start=b"INVITE sip:a@h SIP/2.00"), 505, "version"),
    Bad("SIP/7.0 in a response", build(start=b"SIP/7.0 200 OK"), None, "status_line"),
    Bad("HTTP", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", None, "not_sip", "stream_not_sip"),
    Bad("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), None, "not_sip", "stream_not_sip"),
    Bad("noise", bytes(range(128, 256)) * 20, None, "not_sip", "stream_not_sip"),
    # lengths
    Bad("two Content-Lengths that agree", build(b"Content-Length: 5"), 400, "repeated_content_length", LENGTH),
    Bad("two Content-Lengths that differ", build(b"l: 500"), 400, "repeated_content_length", LENGTH),
    Bad("a list of Content-Lengths", build(Content_Length=b"5, 5"), 400, "content_length", LENGTH),
    Bad("a negative Content-Length", build(Content_Length=b"-5"), 400, "content_length", LENGTH),
    Bad("a Content-Length with a plus", build(Content_Length=b"+5"), 400, "content_length", LENGTH),
    Bad("a hexadecimal Content-Length", build(Content_Length=b"0x5"), 400, "content_length", LENGTH),
    Bad("an Arabic Content-Length", build(Content_Length="٥".encode()), 400, "content_length", LENGTH),
    Bad("a huge Content-Length", build(Content_Length=b"999999999"), 400, "body_cut_short", "stream_body_too_long"),
    Bad("a Content-Length of 2^64", build(Content_Length=b"%d" % 2**64), 400, "content_length", LENGTH),
    Bad("a Content-Length one too large", build(Content_Length=b"6"), 400, "body_cut_short", ""),
    # sizes
    Bad("a From tag of 64 KiB", build(From=b"<sip:a@h>;tag=" + b"x" * 64_500), None, "field_too_long"),
    Bad("a From tag of 8 KiB", build(From=b"<sip:a@h>;tag=" + b"x" * 8_192), None, "field_too_long"),
    Bad("a To tag of 64 KiB", build(To=b"<sip:a@h>;tag=" + b"x" * 64_500), None, "field_too_long"),
    Bad("a branch of 64 KiB", build(Via=b"SIP/2.0/UDP h;branch=z9hG4bK" + b"x" * 30_000), None, "field_too_long"),
    Bad("a Call-ID of 64 KiB", build(Call_ID=b"x" * 64_500), None, "field_too_long"),
    Bad("a method of 60 KiB", build(start=b"M" * 60_000 + b" sip:a@h SIP/2.0"), 400, "methods_differ"),
    Bad("64 KiB of header without an end", INVITE[:-9] + b"X: " + b"y" * 64_800, 400, "no_end_of_header", ""),
    Bad("600 header fields", build(*many(b"X: y", 600)), 513, "too_many_fields"),
    Bad("thousands of header fields", build(*many(b"X: y", 9_000)), 513, "too_many_fields"),
    Bad("thousands of Vias", build(*many(b"v: SIP/2.0/UDP h", 3_000)), 513, "too_many_fields"),
    Bad("thousands of Vias in one field", build(b"v: h" + b",h" * 5_000), None, "too_many_values"),
    Bad("thousands of Routes", build(*many(b"Route: <sip:h;lr>", 3_000)), 513, "too_many_fields"),
    Bad("a Contact bomb", build(Contact=b"<sip:a@h>" + b",<sip:a@h>" * 6_000), 400, "too_many_values"),
    Bad("a Contact bomb in many fields", build(*many(b"m: <sip:a@h>,<sip:b@h>", 400)), 400, "too_many_values"),
    Bad("a Record-Route bomb", build(b"Record-Route: " + b"<sip:h;lr>," * 5_000), 400, "too_many_values"),
    Bad("a Require bomb", build(b"Require: " + b"a," * 30_000), 400, "too_many_values"),
    # nesting
    Bad("a parameter bomb in From", build(From=b"<sip:a@h>;tag=1" + b";x" * 30_000), None, "field_too_long"),
    Bad("quotes never closed", build(From=b'"' + b"\\" * 5_001 + b'"<sip:a@h>;tag=1'), 400, "address"),
    Bad("brackets in brackets", build(From=b"<" * 4_000 + b"sip:a@h" + b">" * 4_000), 400, "address"),
    Bad("two tags", build(From=b"<sip:a@h>;tag=1;tag=2"), 400, "repeated_parameter"),
    Bad("no Via", build(Via=None), None, "missing_field"),
    Bad("no From", build(From=None), 400, "missing_field"),
    Bad("a Via that is none", build(Via=b"SIP/2.0 h;branch=z9hG4bK1"), 400, "via"),
    Bad("no header field", build(b"Via"), 400, "field"),
    Bad("an ACK with a fault", build(start=b"ACK sip:a@h SIP/2.0"), None, "methods_differ"),
    Bad("a response with a fault", build(start=b"SIP/2.0 200 OK", CSeq=b"x"), None, "cseq"),
    Bad("a response with status 1000", build(start=b"SIP/2.0 1000 OK"), None, "status_line"),
]

REFUSED_ABOVE = [
    Bad("an unknown method", OPTIONS.replace(b"OPTIONS", b"FROBNICATE"), 405, "refused_405"),
    Bad("an unknown scheme", OPTIONS.replace(b"sip:a@192.0.2.1", b"gopher:a"), 416, "refused_416"),
    Bad("an unknown extension", OPTIONS.replace(b"To:", b"Require: x\r\nTo:"), 420, "refused_420"),
    Bad("an unknown body", build(Content_Type=b"text/plain"), 415, "refused_415"),
    Bad("an encoded body", build(b"Content-Encoding: gzip"), 415, "refused_415"),
    Bad(
        "a multipart bomb",
        build(Content_Type=b"multipart/mixed;boundary=b", Content_Length=b"%d" % len(MULTIPART), body=MULTIPART),
        415,
        "refused_415",
    ),
    Bad("a multipart without a boundary", build(Content_Type=b"multipart/mixed"), 415, "refused_415"),
    Bad("no Contact", build(Contact=None), 400, "malformed_contact"),
    Bad("two Contacts", build(b"m: <sip:a@h>"), 400, "malformed_contact"),
    Bad("a dialog nobody knows", build(To=b"<sip:a@h>;tag=x"), 481, "refused_481"),
    Bad("a CANCEL of nothing", OPTIONS.replace(b"OPTIONS", b"CANCEL"), 481, "refused_481"),
    Bad("an ACK of nothing", OPTIONS.replace(b"OPTIONS", b"ACK"), None, "stray_ack"),
    Bad("escapes of escapes", OPTIONS.replace(b"sip:a@", b"sip:" + b"%25" * 2_000 + b"41@"), 200, ""),
    Bad("a keepalive of NULs", bytes(4), None, "keepalive", "stream_not_sip"),
]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("bad", BAD + REFUSED_ABOVE, ids=lambda bad: bad.what)
def test_bad_input(bad: Bad, transport: Transport) -> None:
    raised: list[object] = []
    stream = transport == "tcp" and bad.stream is not None
    wanted = set() if stream or bad.status is None else {bad.status}
    counter = bad.stream if stream else bad.counter
    if not stream and bad in BAD:
        counter = f"malformed_{bad.counter}"

    async def scenario(stack: AsyncExitStack) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
        target = await endpoint(stack)
        answers = answers_by_tcp if transport == "tcp" else answers_by_udp
        assert await answers(stack, target, bad.data) == wanted
        user_agent = target.user_agent
        assert not counter or user_agent.counters[counter] == 1, user_agent.counters
        if bad in BAD and not stream:
            outcome = "refused_malformed" if bad.status else "dropped_malformed"
            assert user_agent.counters[outcome] == 1 or user_agent.counters["refused_400"] == 1
        assert user_agent.idle
        assert target.events.empty()

    with capture_logs() as logs:
        run(scenario)
    assert raised == []
    assert [entry for entry in logs if entry["log_level"] in ("error", "critical")] == []


def test_a_message_after_a_bad_one_is_served_on_the_same_connection() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        target = await endpoint(stack)
        bad = build(CSeq=b"-1 INVITE")
        assert len(BODY) == 5
        assert await answers_by_tcp(stack, target, bad + OPTIONS) == {400, 200}

    run(scenario)
