"""What people are shown: the store and what waits for it, as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sipbridge.history.facts import Answered, Entry
from sipbridge.history.outbox import Outbox
from sipbridge.history.reading.archive import Archive
from sipbridge.history.sink import CallRow, Query
from sipbridge.history.stores.sqlite_store import SqliteStore
from tests.history.calls import BEGAN, a_call, ended, entries, started


def record(number: int) -> str:
    return f"{number:032x}"


def call(number: int, **more: object) -> list[Entry]:
    """The `number`-th: a second after the one before it."""
    facts = ((number, started(call_id=f"c{number}", **more)), (number + 0.5, Answered(500, "PCMU")))
    return entries(*facts, (number + 9.0, ended("caller_hung_up", outcome="completed")), record=record(number))


@asynccontextmanager
async def archive(
    directory: Path, stored: Sequence[Entry] = (), waiting: Sequence[Entry] = ()
) -> AsyncIterator[Archive]:
    """Read while the outbox is somebody's who writes."""
    store = SqliteStore(directory / "history.db")
    await store.deliver(stored)
    outbox = Outbox.open(directory / "outbox")
    outbox.owe({"store": lambda entry: True})
    outbox.add(waiting, BEGAN)
    reader = Archive(SqliteStore(directory / "history.db", read_only=True), directory / "outbox")
    try:
        yield reader
    finally:
        await reader.close()
        await store.close()
        outbox.close()


def names(rows: Sequence[CallRow]) -> list[str]:
    return [row.call_id for row in rows]


def test_what_waits_is_shown_with_what_is_stored(tmp_path: Path) -> None:
    async def run() -> None:
        up = call(3)[:1]
        half = call(2)
        async with archive(tmp_path, [*call(1), *half[:1]], [*half[1:], *up]) as both:
            rows = await both.calls(Query())
            assert names(rows) == ["c3", "c2", "c1"]
            assert [row.ended for row in rows] == [None, "caller_hung_up", "caller_hung_up"]
            assert rows[1].answered_at == BEGAN + 2.5
            assert await both.entries(record(2)) == half
            assert names(await both.calls(Query(outcome="completed", limit=1))) == ["c2"]
            assert names(await both.find(record(2))) == names(await both.find("c2")) == ["c2"]
            assert await both.find("c9") == []
            assert both.trouble == ""

    asyncio.run(run())


def test_a_query_is_answered_alike_wherever_a_call_is(tmp_path: Path) -> None:
    async def run(directory: Path, *, stored: bool) -> list[list[str]]:
        told = [*call(1), *call(2, tenant="other"), *call(3, caller="+15550177"), *call(4, to="+15550177")[:1]]
        async with archive(directory, told if stored else (), () if stored else told) as reader:
            return [
                names(await reader.calls(query))
                for query in (
                    Query(),
                    Query(tenant="other"),
                    Query(since=BEGAN + 2, until=BEGAN + 3),
                    Query(outcome="completed"),
                    Query(outcome="caller_hung_up", limit=2),
                    Query(caller="+15550177"),
                    Query(number="+15550177"),
                    Query(caller="001 555-0177"),
                )
            ]

    stored = asyncio.run(run(tmp_path / "a", stored=True))
    assert stored == [
        ["c4", "c3", "c2", "c1"],
        ["c2"],
        ["c2"],
        ["c3", "c2", "c1"],
        ["c3", "c2"],
        ["c3"],
        ["c4", "c3"],
        ["c3"],
    ]
    assert asyncio.run(run(tmp_path / "b", stored=False)) == stored


def test_all_of_them_come_page_by_page_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sipbridge.history.reading.archive._PAGE", 3)
    same = [Entry(record(50 + n), 0, BEGAN + 5, "call.started", started(call_id=f"s{n}").to_json()) for n in range(7)]

    async def run() -> None:
        told = [entry for number in range(12) for entry in call(number)[:1]]
        async with archive(tmp_path, [*told, *same]) as reader:
            found = [row.call_id async for row in reader.each(Query(limit=1000))]
            assert len(found) == len(set(found)) == 19
            assert found[:6] == ["c11", "c10", "c9", "c8", "c7", "c6"]
            assert [row.call_id async for row in reader.each(Query(limit=4))] == ["c11", "c10", "c9", "c8"]

    asyncio.run(run())


def test_a_store_that_gives_no_answer_is_told_and_the_outbox_is_shown(tmp_path: Path) -> None:
    async def run() -> None:
        async with archive(tmp_path, (), a_call()):
            broken = Archive(SqliteStore(tmp_path / "none.db", read_only=True), tmp_path / "outbox")
            assert names(await broken.calls(Query())) == ["c1@phone.example.com"]
            assert "the store cannot be asked" in broken.trouble
            await broken.close()

    asyncio.run(run())


def test_a_damaged_outbox_is_told_too(tmp_path: Path) -> None:
    async def run() -> None:
        async with archive(tmp_path, call(1)) as reader:
            (tmp_path / "outbox" / "9.outbox").write_bytes(b"not a database" * 100)
            assert names(await reader.calls(Query())) == ["c1"]
            assert "9.outbox cannot be read" in reader.trouble

    asyncio.run(run())
