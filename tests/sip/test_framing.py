"""Streams cut into messages: RFC 3261 §7.5, §18.3, RFC 5626 §3.5.1."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipbridge.errors import StreamFramingError
from sipbridge.sip.framing import Keepalive, StreamFramer

OPTIONS = b"OPTIONS sip:a@h SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 0\r\n\r\n"
MESSAGE = b"MESSAGE sip:a@h SIP/2.0\r\nCall-ID: 2\r\nl :\r\n  5\r\n\r\nhe\r\n\r"
RINGING = b"SIP/2.0 180 Ringing\r\nCONTENT-LENGTH: 0\r\n\r\n"
PING = b"\r\n\r\n"


def head(*lines: bytes) -> bytes:
    return b"\r\n".join((b"OPTIONS sip:a@h SIP/2.0", *lines)) + b"\r\n\r\n"


def frame(chunks: list[bytes], max_headers: int = 65_536) -> list[bytes | Keepalive | str]:
    """All that comes out of a stream, with its error, if it has one, last."""
    framer = StreamFramer(max_headers=max_headers)
    out: list[bytes | Keepalive | str] = []
    try:
        for chunk in chunks:
            out += framer.feed(chunk)
        out += framer.feed(b"")
    except StreamFramingError as error:
        out.append(str(error))
    return out


def singly(data: bytes) -> list[bytes]:
    return [bytes((octet,)) for octet in data]


def test_messages_and_pings_in_order() -> None:
    stream = b"\r\n" + OPTIONS + PING + PING + MESSAGE + b"\r\n" + RINGING + PING
    expected = [OPTIONS, Keepalive.PING, Keepalive.PING, MESSAGE, RINGING, Keepalive.PING]
    assert StreamFramer().feed(stream) == expected
    assert frame(singly(stream)) == expected


def test_half_a_message_waits() -> None:
    framer = StreamFramer()
    assert not framer.pending
    for part in (OPTIONS[:1], OPTIONS[1:30], OPTIONS[30:-1]):
        assert framer.feed(part) == []
        assert framer.pending
    assert framer.feed(OPTIONS[-1:] + MESSAGE[:-2]) == [OPTIONS]
    assert framer.pending
    assert framer.feed(MESSAGE[-2:]) == [MESSAGE]
    assert not framer.pending


def test_half_a_ping_is_not_half_a_message() -> None:
    framer = StreamFramer()
    for octet in singly(PING[:3]):
        assert framer.feed(octet) == []
        assert not framer.pending
    assert framer.feed(b"\n") == [Keepalive.PING]


def test_without_content_length_there_is_no_body() -> None:
    assert StreamFramer().feed(head(b"Call-ID: 1") + OPTIONS) == [head(b"Call-ID: 1"), OPTIONS]


@pytest.mark.parametrize(
    ("stream", "fault"),
    [
        (b"\x16\x03\x01", "not SIP"),  # a TLS ClientHello
        (b"\n\n", "not SIP"),
        (b"\r\rOPTIONS", "not SIP"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "not SIP"),
        (head(b"Content-Length: -1"), "Content-Length"),
        (head(b"Content-Length: +1"), "Content-Length"),
        (head(b"Content-Length: 0x1"), "Content-Length"),
        (head(b"Content-Length: 1, 1"), "Content-Length"),
        (head(b"Content-Length: 1\r\n 0"), "Content-Length"),
        (head(b"Content-Length:"), "Content-Length"),
        (head(b"Content-Length: " + b"9" * 5_000), "Content-Length"),
        (head(b"Content-Length: 1", b"l: 1"), "Content-Length"),
        (head(b"Content-Length: 1", b"CONTENT-LENGTH : 2"), "Content-Length"),
        (head(b"Content-Length: 65537"), "65536 octets of body"),
        (head(b"Subject: x\nContent-Length: 5"), "bare CR or LF"),
        (head(b"Subject: x\rContent-Length: 5"), "bare CR or LF"),
        (b"OPTIONS sip:a@h SIP/2.0\r\nSubject: " + b"x" * 65_536, "65536 octets of header"),
        (head(b"Subject: " + b"x" * 65_536), "65536 octets of header"),
    ],
    ids=lambda value: ascii(value[-24:]) if isinstance(value, bytes) else None,
)
def test_a_stream_that_cannot_be_framed(stream: bytes, fault: str) -> None:
    framer = StreamFramer()
    with pytest.raises(StreamFramingError, match=fault):
        framer.feed(stream)
    with pytest.raises(StreamFramingError, match=fault):
        framer.feed(OPTIONS)


def test_what_was_complete_before_the_error_is_handed_out() -> None:
    framer = StreamFramer()
    assert framer.feed(OPTIONS + PING + b"\x00") == [OPTIONS, Keepalive.PING]
    assert framer.broken is not None
    with pytest.raises(StreamFramingError):
        framer.feed(b"")


def test_headers_up_to_the_limit_are_let_through() -> None:
    message = head(b"Subject: " + b"x" * 60)
    size = len(message) - 4
    assert frame([message], max_headers=size) == [message]
    assert frame(singly(message), max_headers=size) == [message]
    refused = [f"more than {size - 1} octets of header fields"]
    assert frame([message], max_headers=size - 1) == refused
    assert frame(singly(message), max_headers=size - 1) == refused


def test_octet_by_octet_takes_linear_time() -> None:
    message = head(b"Subject: " + b"x" * 60_000, b"Content-Length: 60000") + b"y" * 60_000
    started = time.process_time()
    assert frame(singly(message)) == [message]
    assert frame([OPTIONS * 5_000]) == [OPTIONS] * 5_000
    assert time.process_time() - started < 2


PIECES = [OPTIONS, MESSAGE, RINGING, PING, b"\r\n", b"\r", b"\n", b" ", b"l: 3\r\n", b"A SIP/2.0 b\r\n", b"\x00", b"x"]


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join), st.data())
def test_the_cut_does_not_depend_on_the_chunks(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole = frame([stream], max_headers=120)
    assert frame(singly(stream), max_headers=120) == whole
    assert frame(chunks, max_headers=120) == whole


# --- answers to pings of ours -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feeds", "answered"),
    [
        ([b"\r\n"], True),
        ([b"\r", b"\n"], True),
        ([b"\r\n\r\n"], False),
        ([b"\r\n", b"\r\n"], False),
        ([b"\r\n\r\n\r\n"], True),
        ([b"\r\n" + b"OPTIONS "], True),
        ([b"OPTIONS "], False),
        ([b""], False),
    ],
)
def test_a_single_line_end_is_a_pong_and_a_double_one_is_none(feeds: list[bytes], answered: bool) -> None:
    framer = StreamFramer()
    for data in feeds:
        framer.feed(data)
    assert framer.take_pong() is answered
    assert not framer.take_pong(), "it was told once"
