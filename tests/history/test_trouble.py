"""A History whose disk, outbox, store or node fails: real files, a real thread. Calls notice nothing."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from sipbridge.errors import ConfigError
from sipbridge.history.facts import Ended, Entry, Started
from sipbridge.history.history import STORE, History
from sipbridge.history.outbox import Outbox, OutboxError
from sipbridge.history.sink import Pace, Sink, SinkUnavailableError
from sipbridge.history.stores.sqlite_store import SqliteStore
from sipbridge.metrics import Metrics
from tests.history.test_history import CALL, STARTED, config, history, kept, tenant


class Watching:
    """A sink that can be waited for, from another thread."""

    name = STORE
    pace = Pace()

    def __init__(self, *, away: bool = False) -> None:
        self.away = away
        self.has: list[Entry] = []
        self._changed = threading.Condition()

    def wants(self, entry: Entry) -> bool:
        return True

    async def deliver(self, entries: Sequence[Entry]) -> None:
        with self._changed:
            self._changed.notify_all()
            if self.away:
                raise SinkUnavailableError("away")
            self.has += entries

    async def close(self) -> None:
        pass

    async def until(self, condition: Callable[[], bool]) -> None:
        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(condition, 10)

        assert await asyncio.to_thread(wait)

    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.has]


def opened(path: Path, sink: Sink, **keys: object) -> History:
    return history(path, {STORE: sink}, retry={"attempts": 2, "backoff_seconds": 0.05}, **keys)


def test_without_an_outbox_on_the_disk_what_is_noted_gets_there_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "outbox").write_text("a file is in the way")

    async def main() -> None:
        async with history(tmp_path) as opened:
            assert not opened.figures.durable
            journal = opened.journal(tenant())
            for fact in CALL:
                journal.note(fact)
        assert [ended for ended, _ in await kept(tmp_path)] == ["caller_hung_up"]

    asyncio.run(main())


def test_when_there_is_a_directory_again_what_waited_in_memory_is_moved_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sipbridge.history.history._SIGN_OF_LIFE_S", 0.02)
    monkeypatch.setattr("sipbridge.history.history._LOOK_AROUND_S", 0.02)
    (tmp_path / "outbox").write_text("a file is in the way")
    sink = Watching(away=True)

    async def main() -> None:
        async with opened(tmp_path, sink, drain_seconds=0.5) as there:
            journal = there.journal(tenant())
            journal.note(STARTED)
            tried = threading.Event()
            await sink.until(lambda: not tried.is_set())
            (tmp_path / "outbox").unlink()
            await asyncio.to_thread(_until, lambda: there.figures.durable)
            journal.note(Ended({}))
            sink.away = False
            await sink.until(lambda: len(sink.has) == 2)
        assert sink.kinds() == ["call.started", "call.ended"]

    asyncio.run(main())


def _until(condition: Callable[[], bool]) -> None:
    """In a thread: there is nothing to be told by."""
    pause = threading.Event()
    for _ in range(500):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("never")


def test_while_the_disk_is_full_calls_go_on_and_all_of_it_is_caught_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sipbridge.history.history._TRY_AGAIN_S", 0.05)
    sink = Watching()

    async def main() -> None:
        async with opened(tmp_path, sink) as there:
            journal = there.journal(tenant())
            journal.note(STARTED)
            await sink.until(lambda: len(sink.has) == 1)
            with closing(sqlite3.connect(tmp_path / "outbox" / "1.outbox", timeout=5)) as db:
                # As good as full: nobody can write while somebody does.
                db.execute("BEGIN IMMEDIATE")
                for fact in CALL[1:3]:
                    journal.note(fact)
                await asyncio.to_thread(_until, lambda: there.figures.counts["failed"] > 0)
                journal.note(CALL[3])
                db.rollback()
            await sink.until(lambda: len(sink.has) == 4)
        assert sink.kinds() == [fact.kind for fact in CALL]
        assert [entry.seq for entry in sink.has] == [0, 1, 2, 3]

    asyncio.run(main())


def test_a_store_that_is_away_when_the_gateway_ends_gets_it_from_the_next_one(tmp_path: Path) -> None:
    async def main() -> None:
        sink = Watching(away=True)
        async with opened(tmp_path, sink, drain_seconds=30) as there:
            journal = there.journal(tenant())
            for fact in CALL:
                journal.note(fact)
        # It has been tried as often as is configured, and the drain does not wait for more.
        assert sink.has == []
        sink = Watching()
        async with opened(tmp_path, sink):
            await sink.until(lambda: len(sink.has) == 4)
        assert sink.kinds() == [fact.kind for fact in CALL]
        assert {entry.tenant for entry in sink.has} == {"acme"}

    asyncio.run(main())


def test_calls_that_a_crash_has_cut_are_closed_at_the_next_start(tmp_path: Path) -> None:
    dead = Outbox.open(tmp_path / "outbox")
    dead.owe({STORE: lambda entry: True})
    started = Started("c9", "inbound", "+15550101", "agent", None, "acme", 1, "offline", "")
    dead.add([Entry("ab" * 16, 0, 1000.0, Started.kind, started.to_json())], 1005.0)
    dead.close()

    async def main() -> None:
        async with history(tmp_path) as opened:
            assert opened.figures.counts["crashed"] == 1
        async with history(tmp_path) as opened:
            assert opened.figures.counts["crashed"] == 0
        assert await kept(tmp_path, "c9") == [("node_crashed", ["call.started", "call.ended"])]

    asyncio.run(main())


def test_a_sink_that_cannot_be_what_is_configured_is_said_at_once(tmp_path: Path) -> None:
    def wrong() -> dict[str, Sink]:
        raise ConfigError("webhooks[0].secret: not set")

    async def main() -> None:
        with pytest.raises(ConfigError, match="not set"):
            async with History(config(tmp_path), wrong, node="n1"):
                pass

    asyncio.run(main())


def test_figures_are_there_for_who_scrapes(tmp_path: Path) -> None:
    async def main() -> None:
        async with history(tmp_path) as opened:
            metrics = Metrics()
            metrics.watch_history(opened)
            journal = opened.journal(tenant())
            for fact in CALL:
                journal.note(fact)
        text = metrics.render()
        for line in (
            "sipbridge_history_entries_total 4.0",
            'sipbridge_history_delivered_total{sink="store"} 4.0',
            'sipbridge_history_sink_up{sink="store"} 1.0',
            "sipbridge_history_outbox_up 1.0",
            "sipbridge_history_dropped_total 0.0",
        ):
            assert line in text.splitlines()

    asyncio.run(main())


def test_a_damaged_outbox_is_replaced_while_calls_are_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sipbridge.history.history._TRY_AGAIN_S", 0.05)
    path = tmp_path / "outbox" / "1.outbox"
    add = Outbox.add

    def broken(outbox: Outbox, entries: Sequence[Entry], alive: float) -> list[Entry]:
        monkeypatch.setattr(Outbox, "add", add)
        raise OutboxError("damaged") from sqlite3.DatabaseError("database disk image is malformed")

    async def main() -> None:
        sink = Watching()
        async with opened(tmp_path, sink) as there:
            journal = there.journal(tenant())
            journal.note(STARTED)
            await sink.until(lambda: len(sink.has) == 1)
            monkeypatch.setattr(Outbox, "add", broken)
            for fact in CALL[1:]:
                journal.note(fact)
            await sink.until(lambda: len(sink.has) >= 4)
        assert [entry.seq for entry in sink.has] == [0, 1, 2, 3]
        assert len(list(path.parent.glob("1.outbox.damaged-??????"))) == 1
        outbox = Outbox.open(tmp_path / "outbox")
        assert outbox.path == path
        assert outbox.close_crashed("n1") == []  # it knew that the call had begun, and that it ended
        outbox.close()

    asyncio.run(main())


def test_the_gateway_is_not_held_up_by_a_store_that_hangs(tmp_path: Path) -> None:
    class Hanging(Watching):
        async def deliver(self, entries: Sequence[Entry]) -> None:
            await super().deliver(entries)
            await asyncio.Event().wait()

    async def main() -> None:
        sink = Hanging()
        async with opened(tmp_path, sink, drain_seconds=0.2) as there:
            journal = there.journal(tenant())
            for fact in CALL:
                journal.note(fact)
            await sink.until(lambda: bool(sink.has))
        async with history(tmp_path):
            pass
        assert [len(kinds) for _, kinds in await kept(tmp_path)] == [4]

    asyncio.run(main())


def test_it_can_be_noted_in_when_history_is_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with history(tmp_path) as opened:
            journal = opened.journal(tenant())
        journal.note(STARTED)
        opened.note_late(journal.record, Ended({}))

    asyncio.run(main())
    assert SqliteStore.pace == Pace()


@pytest.mark.parametrize("spoil", [b'{"call_id', b'{"number"'], ids=["a call", "a turn"])
@pytest.mark.parametrize("wrong", [b"\xff\xfe", b"[1"], ids=["no text", "no JSON"])
def test_a_damaged_row_costs_no_other_one_and_calls_go_on(tmp_path: Path, spoil: bytes, wrong: bytes) -> None:
    dead = Outbox.open(tmp_path / "outbox")
    dead.owe({STORE: lambda entry: True})
    for number in range(3):
        facts = [Entry(f"{number:032x}", seq, 1000.0, fact.kind, fact.to_json()) for seq, fact in enumerate(CALL)]
        dead.add(facts, 1000.0)
    dead.close()
    path = tmp_path / "outbox" / "1.outbox"
    data = bytearray(path.read_bytes())
    at = data.rindex(spoil)
    data[at : at + 2] = wrong
    path.write_bytes(data)

    async def main() -> None:
        sink = Watching()
        async with opened(tmp_path, sink) as there:
            journal = there.journal(tenant())
            for fact in CALL:
                journal.note(fact)
            await sink.until(lambda: len({(entry.record, entry.seq) for entry in sink.has}) == 4 * 4 - 1)
        assert len(list(path.parent.glob("1.outbox.damaged-??????"))) == 1

    asyncio.run(main())


def test_an_outbox_that_is_deleted_while_calls_are_up_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sipbridge.history.history._SIGN_OF_LIFE_S", 0.02)
    sink = Watching(away=True)
    directory = tmp_path / "outbox"

    async def main() -> None:
        async with opened(tmp_path, sink, drain_seconds=1) as there:
            journal = there.journal(tenant())
            journal.note(STARTED)
            await asyncio.to_thread(_until, lambda: there.figures.counts["written"] == 1)
            for path in directory.iterdir():
                path.unlink()
            directory.rmdir()
            await asyncio.to_thread(_until, directory.exists)
            journal.note(CALL[1])
        sink.away = False
        async with opened(tmp_path, sink):
            await sink.until(lambda: sink.kinds() == ["call.started", "call.answered", "call.ended"])

    asyncio.run(main())
