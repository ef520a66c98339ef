"""Calls as a store has them, made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sipbridge.history.facts import Answered, Ended, Entry, Fact, Latency, Noted, Started, ToolUsed, Transferred, Turn
from sipbridge.history.sink import CallRow
from sipbridge.outcome import ToolRun

BEGAN = 1_795_000_000.0
RECORD = "019345f0aa00000000000000000000a1"


def entries(*facts: tuple[float, Fact], record: str = RECORD) -> list[Entry]:
    return [Entry(record, seq, BEGAN + at, fact.kind, fact.to_json()) for seq, (at, fact) in enumerate(facts)]


def started(**more: Any) -> Started:
    given: dict[str, Any] = {
        "call_id": "c1@phone.example.com",
        "direction": "inbound",
        "caller": "+15550123",
        "to": "+15550100",
        "trunk": "pbx",
        "tenant": "acme",
        "tenant_version": 3,
        "provider": "openai",
        "model": "gpt-realtime",
        "node": "n1",
    }
    return Started(**(given | more))


def leg(**more: Any) -> dict[str, Any]:
    return {"codec": "PCMU", "packets_received": 1500, "packets_sent": 1490, "loss_percent": 0.1, **more}


def ended(reason: str, *legs: Mapping[str, Any], ladder: tuple[Mapping[str, Any], ...] = (), **more: Any) -> Ended:
    report = {
        "ended": reason,
        "detail": "",
        "status": None,
        "seconds": 20.0,
        "audio": {"first_audio_ms": 900, "first_audio_after_answer_ms": 500, "legs": [dict(each) for each in legs]},
        **more,
    }
    return Ended(report, ladder)


def step(at: float, sent: bool, title: str, text: str = "", peer: str = "127.0.0.1:5080") -> dict[str, Any]:
    return {"at": at, "sent": sent, "peer": peer, "title": title, "text": text}


def a_call() -> list[Entry]:
    """With something of everything."""
    return entries(
        (0.0, started()),
        (0.4, Answered(400, "PCMU")),
        (3.1, Turn(1, "agent", "Hello, ACME.", 0.9, 2.0, agent="main", heard_ms=1100)),
        (3.5, Turn(2, "caller", "Where is", 2.5, 3.4, final=False)),
        (4.6, Turn(2, "caller", "Where is my order?", 2.5, 4.0)),
        (5.3, ToolUsed(ToolRun("order_status", '{"number": "12"}', 4.7, 120, "ok"))),
        (7.0, Turn(3, "agent", "It is on its way.", 5.2, 7.0, True, "main", True, 800, Latency(500, 600, 20))),
        (7.1, Noted("interrupted", "by the caller")),
        (9.0, Transferred("desk", "refer", False, "486 Busy Here")),
        (20.4, ended("caller_hung_up", leg(), ladder=(step(0.0, False, "INVITE +sdp"), step(0.4, True, "200 OK")))),
    )


def call_row(**more: Any) -> CallRow:
    row = CallRow(
        record=RECORD,
        call_id="c1@phone.example.com",
        node="n1",
        tenant="acme",
        tenant_version=3,
        direction="inbound",
        caller="+15550123",
        to="+15550100",
        trunk="pbx",
        provider="openai",
        model="gpt-realtime",
        began_at=BEGAN,
        answered_at=BEGAN + 0.4,
        ended_at=BEGAN + 20.4,
        ended="caller_hung_up",
        outcome="completed",
        detail="",
        seconds=20.4,
        cost_usd=0.012,
        report={"ended": "caller_hung_up", "codec": "PCMU", "audio": {"legs": [leg()]}},
    )
    return replace(row, **more)
