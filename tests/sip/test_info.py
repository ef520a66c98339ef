"""Keys told by INFO, in the shapes of PBXs and phones (RFC 6086, 2976)."""

from __future__ import annotations

import pytest

from sipbridge.errors import LocalProtocolError, SipParseError
from sipbridge.sip.events import CallEnded, InfoReceived, KeyTold
from sipbridge.sip.info import DTMF, DTMF_RELAY, KeyPress, parse_keys, told_key
from tests.sip.wire import UDP, Wire, answer_to, in_dialog, request


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


# --- keys of ours -----------------------------------------------------------------------------------------------------


def keys_told(wire: Wire) -> list[int]:
    return [event.status for event in wire.events() if isinstance(event, KeyTold)]


def test_keys_of_ours_are_told_one_after_the_other() -> None:
    wire = Wire()
    call, _ = wire.answered()
    for key in "4#d":
        call.send_key(key, wire.now)
    for signal in ("4", "#", "D"):
        told = wire.sent_request("INFO")
        assert told.content_type == DTMF_RELAY
        assert parse_keys(DTMF_RELAY, told.body) == KeyPress(signal, 160)
        assert wire.sent() == [], "the next waits for the answer"
        wire.user_agent.receive(answer_to(told, 200), UDP, wire.now)
    assert keys_told(wire) == [200, 200, 200]
    assert wire.sent() == []


def test_who_refuses_one_key_is_sent_no_more() -> None:
    wire = Wire()
    call, _ = wire.answered()
    for key in "123":
        call.send_key(key, wire.now)
    assert wire.receive(answer_to(wire.sent_request("INFO"), 415)) == []
    assert keys_told(wire) == [415, 415, 415]
    assert not call.is_over
    call.send_key("4", wire.now)
    wire.receive(answer_to(wire.sent_request("INFO"), 200))
    assert keys_told(wire) == [200]


@pytest.mark.parametrize("status", [481, None])
def test_a_peer_that_does_not_know_the_call_any_more(status: int | None) -> None:
    wire = Wire()
    call, _ = wire.answered()
    call.send_key("1", wire.now)
    told = wire.sent_request("INFO")
    if status is None:
        wire.advance(40.0)
    else:
        wire.receive(answer_to(told, status))
    assert [type(event) for event in wire.events()] == [KeyTold, CallEnded]
    assert call.is_over


def test_keys_and_the_call_s_end() -> None:
    wire = Wire()
    call, tag = wire.answered()
    call.send_key("1", wire.now)
    call.send_key("2", wire.now)
    told = wire.sent_request("INFO")
    wire.reply(in_dialog("BYE", tag, cseq=3))
    wire.receive(answer_to(told, 200))
    assert [type(event) for event in wire.events()] == [CallEnded], "which is the last"
    call.send_key("3", wire.now)
    assert wire.sent() == []
    wire.advance(60.0)
    assert wire.user_agent.idle


def test_a_key_is_one_and_a_call_is_up() -> None:
    wire = Wire()
    call = wire.incoming()
    with pytest.raises(LocalProtocolError):
        call.send_key("1", wire.now)
    with pytest.raises(ValueError, match="no key"):
        told_key("12")
