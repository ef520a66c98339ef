"""A History, its thread, its outbox and its store, all real."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from sipbridge.configfile import parse
from sipbridge.gateway_file.history import HistoryConfig
from sipbridge.history.facts import Answered, Ended, Fact, RecordingReady, Started, Turn
from sipbridge.history.history import STORE, History
from sipbridge.history.outbox import Outbox
from sipbridge.history.sink import Query, Sink
from sipbridge.history.stores.sqlite_store import SqliteStore
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenants import Tenant

STARTED = Started("c1", "inbound", "+15550100", "agent", "pbx", "acme", 3, "offline", "", "n1")
CALL: tuple[Fact, ...] = (
    STARTED,
    Answered(120, "PCMU"),
    Turn(1, "caller", "hello", 1.0, 2.0),
    Ended({"ended": "caller_hung_up", "outcome": "completed", "seconds": 3.0}),
)


def tenant() -> Tenant:
    return Tenant("acme", parse("agent: {provider: offline}", TenantConfig, "acme.yaml"))


def config(path: Path, **keys: Any) -> HistoryConfig:
    return HistoryConfig.model_validate(
        {"store": f"sqlite:///{path}/history.db", "outbox": path / "outbox", "drain_seconds": 5, **keys}
    )


def history(path: Path, sinks: dict[str, Sink] | None = None, **keys: Any) -> History:
    return History(config(path, **keys), lambda: sinks or {STORE: SqliteStore(path / "history.db")}, node="n1")


async def kept(path: Path, name: str = "c1") -> list[tuple[str, list[str]]]:
    """By call, the latest first: how it ended, and the kinds of its entries."""
    store = SqliteStore(path / "history.db", read_only=True)
    try:
        rows = await store.find(name)
        return [(str(row.ended), [each.kind for each in await store.entries(row.record)]) for row in rows]
    finally:
        await store.close()


def test_what_is_noted_is_in_the_store_when_it_is_closed(tmp_path: Path) -> None:
    async def main() -> None:
        async with history(tmp_path) as opened:
            journal = opened.journal(tenant())
            for fact in CALL:
                journal.note(fact)
            opened.note_late(journal.record, RecordingReady("a.wav", 3.0, False))
        assert await kept(tmp_path) == [
            ("caller_hung_up", ["call.started", "call.answered", "call.turn", "call.ended", "recording.ready"])
        ]
        store = SqliteStore(tmp_path / "history.db", read_only=True)
        [row] = await store.calls(Query(tenant="acme", outcome="completed", number="agent"))
        assert (row.caller, row.to, row.trunk, row.seconds, row.tenant_version) == ("+15550100", "agent", "pbx", 3.0, 3)
        assert row.answered_at is not None
        assert row.began_at <= row.answered_at
        assert await store.calls(Query(outcome="failed")) == []
        await store.close()

    asyncio.run(main())
    outbox = Outbox.open(tmp_path / "outbox")
    outbox.owe({STORE: lambda entry: True})
    assert outbox.waiting() == {"store": (0, None)}
    outbox.close()
