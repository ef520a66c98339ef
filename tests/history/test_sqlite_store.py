"""The store that needs no set-up: what every store promises, and what may happen to a file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sipbridge.history.sink import Query, SinkUnavailableError, Store
from sipbridge.history.stores.sqlite_store import SqliteStore
from tests.history.store_contract import Call, StoreContract, ended, said, started


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Callable[[], Store]:
        return lambda: SqliteStore(tmp_path / "new" / "history.db")


def one(path: Path, *, name: str = "one") -> Call:
    call = Call(started(call_id=name), said("hello"), ended())

    async def deliver() -> None:
        store = SqliteStore(path)
        await store.deliver(call.entries)
        await store.close()

    asyncio.run(deliver())
    return call


def test_who_reads_beside_waits_for_nobody(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    call = one(path)

    async def main() -> None:
        writer, reader = SqliteStore(path), SqliteStore(path, read_only=True)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert [row.record for row in await reader.calls(Query())] == [call.record]
            other.execute("ROLLBACK")
        with pytest.raises(SinkUnavailableError, match="readonly"):
            await reader.deliver(call.entries)
        await writer.close()
        await reader.close()

    asyncio.run(main())


def test_what_is_locked_is_taken_when_it_is_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sipbridge.history.stores.sqlite_store._BUSY_S", 0.05)
    path = tmp_path / "history.db"
    one(path)
    call = Call(started(call_id="two"), ended())

    async def main() -> None:
        store = SqliteStore(path)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(SinkUnavailableError, match="locked"):
                await store.deliver(call.entries)
            other.execute("ROLLBACK")
        await store.deliver(call.entries)
        assert await store.entries(call.record) == call.entries
        await store.close()

    asyncio.run(main())


def test_a_file_that_is_no_database_is_told_and_one_in_its_place_is_used(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    path.write_bytes(b"this is not a database, whatever it is " * 500)
    call = Call(started(), ended())

    async def main() -> None:
        store = SqliteStore(path)
        with pytest.raises(SinkUnavailableError, match=r"history\.db: file is not a database"):
            await store.deliver(call.entries)
        assert path.read_bytes().startswith(b"this is not")  # nothing is destroyed
        path.rename(tmp_path / "aside")
        await store.deliver(call.entries)
        assert await store.entries(call.record) == call.entries
        await store.close()

    asyncio.run(main())


def test_where_no_file_can_be_made_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def main() -> None:
        store = SqliteStore(tmp_path / "file" / "history.db")
        with pytest.raises(SinkUnavailableError, match="Not a directory|File exists"):
            await store.deliver(Call(started()).entries)
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize("moved", [True, False], ids=["moved away", "deleted"])
def test_a_file_that_is_moved_or_deleted_is_made_anew(tmp_path: Path, moved: bool) -> None:
    path = tmp_path / "history.db"
    first, second = Call(started(call_id="one"), ended()), Call(started(call_id="two"), ended())

    async def main() -> None:
        store = SqliteStore(path)
        await store.deliver(first.entries)
        if moved:
            path.rename(tmp_path / "history.old")
        else:
            path.unlink()
        await store.deliver(second.entries)
        await store.close()

    asyncio.run(main())
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT call_id FROM calls").fetchall() == [("two",)]
    if moved:
        with closing(sqlite3.connect(tmp_path / "history.old")) as db:
            assert db.execute("SELECT call_id FROM calls").fetchall() == [("one",)]
