"""Keys told by INFO, in the shapes of PBXs and phones (RFC 6086, 2976)."""

from __future__ import annotations

import pytest

from sipbridge.errors import SipParseError
from sipbridge.sip.events import InfoReceived
from sipbridge.sip.info import DTMF, DTMF_RELAY, KeyPress, parse_keys
from tests.sip.wire import Wire, in_dialog, request


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        (DTMF_RELAY, b"Signal=5\r\nDuration=160\r\n", KeyPress("5", 160)),
        (DTMF_RELAY, b"Signal= 5\nDuration= 160\n", KeyPress("5", 160)),
        (DTMF_RELAY, b"signal=#\r\nduration=250", KeyPress("#", 250)),
        (DTMF_RELAY, b"Signal=*\r\n", KeyPress("*")),
        (DTMF_RELAY, b"Duration=100\r\nSignal=d\r\n", KeyPress("D", 100)),
        (DTMF_RELAY, b"Signal=10\r\nDuration=160", KeyPress("*", 160)),
        (DTMF_RELAY, b"Signal=11\r\n", KeyPress("#")),
        (DTMF_RELAY, b"Signal=15\r\n", KeyPress("D")),
        (DTMF_RELAY, b"Signal: 7\r\nDuration: 90\r\n", KeyPress("7", 90)),
        (DTMF_RELAY, b"Signal=1\r\nDuration=999999999999999999\r\n", KeyPress("1")),
        (DTMF_RELAY, b"Signal=1\r\nDuration=-5\r\n", KeyPress("1")),
        (DTMF_RELAY, b"Signal=1\r\nDuration=\xd9\xa1\r\n", KeyPress("1")),
        (DTMF_RELAY, b"Signal=16\r\n", None),
        (DTMF_RELAY, b"Signal=!\r\n", None),
        (DTMF_RELAY, b"Signal=hf\r\n", None),
        (DTMF, b"5", KeyPress("5")),
        (DTMF, b"#\r\n", KeyPress("#")),
        (DTMF, b"Signal=9\r\nDuration=80\r\n", KeyPress("9", 80)),
        (DTMF, b"5\x00", KeyPress("5")),
    ],
)
def test_keys(kind: str, body: bytes, expected: KeyPress | None) -> None:
    assert parse_keys(kind, body) == expected


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (DTMF_RELAY, b""),
        (DTMF_RELAY, b"5"),
        (DTMF_RELAY, b"Signal=\r\n"),
        (DTMF_RELAY, b"Signal=55\r\n"),
        (DTMF_RELAY, b"Signal=E\r\n"),
        (DTMF_RELAY, b"Signal=\xd9\xa5\r\n"),
        (DTMF_RELAY, b"Signal=" + b"5" * 100_000),
        (DTMF_RELAY, b"\xff\xfe\x00\x01"),
        (DTMF, b""),
        (DTMF, b"123"),
        (DTMF, b"hello"),
    ],
)
def test_what_is_no_key(kind: str, body: bytes) -> None:
    with pytest.raises(SipParseError):
        parse_keys(kind, body)


def info(tag: str, body: bytes = b"", kind: str | None = None, *headers: str, cseq: int = 2) -> bytes:
    return in_dialog("INFO", tag, cseq=cseq, body=body, content_type=kind, headers=headers)


def test_a_key_is_answered_and_told_once() -> None:
    wire = Wire()
    call, tag = wire.answered()
    data = info(tag, b"Signal=5\r\nDuration=160\r\n", "Application/DTMF-Relay; charset=utf-8")
    assert wire.reply(data).status == 200
    event = wire.event(InfoReceived)
    assert (event.call, event.content_type, event.key) == (call, DTMF_RELAY, KeyPress("5", 160))
    assert wire.reply(data).status == 200  # repeated: the answer was lost
    assert wire.events() == []


def test_a_hook_flash_is_told_without_a_key() -> None:
    wire = Wire()
    _, tag = wire.answered()
    assert wire.reply(info(tag, b"Signal=16\r\n", DTMF_RELAY)).status == 200
    assert wire.event(InfoReceived).key is None


def test_keys_before_the_answer() -> None:
    wire = Wire()
    call = wire.incoming()
    call.ring(0.0)
    (ringing,) = wire.sent()
    assert ringing.to.tag
    assert wire.reply(info(ringing.to.tag, b"5", DTMF)).status == 200
    assert wire.event(InfoReceived).key == KeyPress("5")


@pytest.mark.parametrize(
    ("body", "kind", "headers", "status", "header"),
    [
        (b"", None, (), 200, None),
        (b"", None, (f"Content-Type: {DTMF_RELAY}",), 400, None),
        (b"Signal=x\r\n", DTMF_RELAY, (), 400, None),
        (b"<media_control/>", "application/media_control+xml", (), 415, ("Accept", f"{DTMF_RELAY}, {DTMF}")),
        (b"<x/>", "application/x-broadworks", ("Content-Disposition: render;handling=optional",), 200, None),
        (b"Signal=5\r\n", DTMF_RELAY, ("Info-Package: dtmf",), 469, ("Recv-Info", "")),
        (b"", None, ("Info-Package: nonsense",), 469, ("Recv-Info", "")),
        (b"x", "nonsense", (), 400, None),
    ],
)
def test_other_infos_do_no_harm(
    body: bytes, kind: str | None, headers: tuple[str, ...], status: int, header: tuple[str, str] | None
) -> None:
    wire = Wire()
    call, tag = wire.answered()
    response = wire.reply(info(tag, body, kind, *headers))
    assert response.status == status
    assert header is None or response.headers.get(header[0]) == header[1]
    assert wire.events() == []
    assert not call.is_over
    call.hang_up(1.0)
    wire.sent()
    wire.advance(60.0)
    assert wire.user_agent.idle


def test_outside_a_call_there_are_no_keys() -> None:
    wire = Wire()
    _, tag = wire.answered()
    assert wire.reply(request("INFO", call_id="x", body=b"5", content_type=DTMF)).status == 481
    assert wire.reply(info("other", b"5", DTMF)).status == 481
    wire.reply(in_dialog("BYE", tag, cseq=3))
    wire.events()
    assert wire.reply(info(tag, b"5", DTMF, cseq=4)).status == 481
    assert wire.events() == []
