"""Requests that nobody asked for: MWI, keep-alives, subscriptions, messages (RFC 6665 §4.1.3, RFC 3842)."""

from __future__ import annotations

import pytest

from sipbridge.sip.screening import ALLOW
from tests.sip.wire import Wire, in_dialog, request

MWI = b"Messages-Waiting: yes\r\nMessage-Account: sip:100@pbx.example.com\r\nVoice-Message: 2/8 (0/2)\r\n"


@pytest.mark.parametrize(
    ("event", "outside", "inside"),
    [
        ("message-summary", 200, 200),
        ("Message-Summary", 200, 200),
        ("keep-alive", 200, 200),
        ("check-sync;reboot=true", 200, 200),
        ("resync", 200, 200),
        ("reboot", 200, 200),
        ("report", 200, 200),
        ("talk", 481, 200),
        ("hold", 481, 200),
        ("refer", 481, 481),
        ("refer;id=5", 481, 481),
        ("presence", 481, 481),
        ("dialog", 481, 481),
        ("x-nonsense", 489, 489),
        (";id=1", 489, 489),
        ("message-summary.winfo", 489, 489),
    ],
)
def test_a_notify_without_a_subscription(event: str, outside: int, inside: int) -> None:
    wire = Wire()
    call, tag = wire.answered()
    headers = [f"Event: {event}", "Subscription-State: active"]
    kind = "application/simple-message-summary"
    response = wire.reply(request("NOTIFY", call_id="x", headers=headers, body=MWI, content_type=kind))
    assert response.status == outside
    assert response.headers.get("Allow-Events") == ("refer" if outside == 489 else None)
    assert wire.reply(in_dialog("NOTIFY", tag, headers=headers, body=MWI, content_type=kind)).status == inside
    assert wire.events() == []
    assert not call.is_over


def test_a_notify_without_an_event() -> None:
    wire = Wire()
    assert wire.reply(request("NOTIFY")).status == 489


def test_unasked_notifies_leave_nothing_behind() -> None:
    wire = Wire()
    for number in range(100):
        data = request("NOTIFY", branch=f"z9hG4bK{number}", call_id=f"c{number}", headers=["o: keep-alive"])
        assert wire.reply(data).status == 200
    assert wire.user_agent.idle


@pytest.mark.parametrize(
    ("method", "headers", "status", "header"),
    [
        ("SUBSCRIBE", ["Event: presence"], 489, ("Allow-Events", "refer")),
        ("SUBSCRIBE", ["Event: message-summary"], 489, ("Allow-Events", "refer")),
        ("SUBSCRIBE", [], 489, ("Allow-Events", "refer")),
        ("SUBSCRIBE", ["Event: refer"], 403, None),
        ("REFER", ["Refer-To: <sip:100@192.0.2.2>"], 403, None),
        ("MESSAGE", [], 405, ("Allow", ALLOW)),
        ("PUBLISH", ["Event: presence"], 405, ("Allow", ALLOW)),
        ("INFO", [], 481, None),
        ("BYE", [], 481, None),
        ("UPDATE", [], 481, None),
    ],
)
def test_other_requests_outside_a_call(
    method: str, headers: list[str], status: int, header: tuple[str, str] | None
) -> None:
    wire = Wire()
    response = wire.reply(request(method, headers=headers))
    assert response.status == status
    assert header is None or response.headers.get(header[0]) == header[1]
    assert wire.events() == []
    assert wire.user_agent.idle


def test_what_we_can_be_asked_is_told() -> None:
    response = Wire().reply(request("OPTIONS"))
    assert response.headers.get("Allow-Events") == "refer"
    assert {"INFO", "NOTIFY", "REFER", "SUBSCRIBE"} <= set((response.headers.get("Allow") or "").split(", "))
