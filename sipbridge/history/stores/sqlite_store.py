"""The store that needs no set-up: one SQLite file (WAL), served by a thread of its own.

`calls` has a row for each call (`CallRow`), `entries` all that happened in it. What `deliver` has taken survives a
power cut. Whoever else reads the file (`sipbridge history`) opens it read-only, and waits for nobody.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from sipbridge.history.facts import Entry
from sipbridge.history.numbers import same_number
from sipbridge.history.sink import CallRow, Pace, Query, SinkUnavailableError
from sipbridge.history.stores.rows import BLANK, COLUMNS, changes, encode, plain

T = TypeVar("T")

_BUSY_S = 5.0
"""So long a lock of somebody else's is waited for; then it is tried again later."""

_EXPIRED_AT_ONCE = 100
_REST_S = 0.02

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    record TEXT PRIMARY KEY, call_id TEXT NOT NULL, node TEXT NOT NULL, tenant TEXT NOT NULL,
    tenant_version INTEGER NOT NULL, direction TEXT NOT NULL, caller TEXT NOT NULL, "to" TEXT NOT NULL, trunk TEXT,
    provider TEXT NOT NULL, model TEXT NOT NULL, began_at REAL NOT NULL, answered_at REAL, ended_at REAL, ended TEXT,
    outcome TEXT, detail TEXT NOT NULL, seconds REAL, cost_usd REAL, report TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS calls_began ON calls (began_at);
CREATE INDEX IF NOT EXISTS calls_of_tenant ON calls (tenant, began_at);
CREATE INDEX IF NOT EXISTS calls_by_call_id ON calls (call_id);
CREATE INDEX IF NOT EXISTS calls_by_caller ON calls (caller);
CREATE TABLE IF NOT EXISTS entries (
    record TEXT NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL,
    PRIMARY KEY (record, seq)) WITHOUT ROWID;
"""
_NAMES = ", ".join(f'"{name}"' for name in COLUMNS)


class SqliteStore:
    """`Store` over one file, which is made when it is first used. `read_only`: of somebody else's."""

    pace = Pace()

    def __init__(self, path: Path, *, name: str = "store", read_only: bool = False) -> None:
        self.name = name
        self._path = path
        self._read_only = read_only
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history-store")
        self._db: sqlite3.Connection | None = None
        self._file: os.stat_result | None = None

    def wants(self, entry: Entry) -> bool:
        return True

    async def deliver(self, entries: Sequence[Entry]) -> None:
        await self._do(lambda db: _write(db, entries))

    async def calls(self, query: Query) -> list[CallRow]:
        return await self._do(lambda db: _calls(db, query))

    async def find(self, name: str) -> list[CallRow]:
        return await self._do(lambda db: _find(db, name))

    async def entries(self, record: str) -> list[Entry]:
        return await self._do(lambda db: _entries(db, record))

    async def erase(self, caller: str, also: Collection[str] = ()) -> list[CallRow]:
        found = await self._do(lambda db: _erase(db, caller, also))
        await self._do(_scrub, transaction=False)
        return found

    async def expire(self, tenant: str | None, before: float) -> int:
        expired = 0
        while some := await self._do(lambda db: _expire(db, tenant, before)):
            expired += some
            await asyncio.sleep(_REST_S)
        if expired:
            await self._do(_scrub, transaction=False)
        return expired

    async def close(self) -> None:
        def close() -> None:
            if self._db is not None:
                self._db.close()
                self._db = None

        with suppress(sqlite3.Error):
            await asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown(wait=False)

    async def _do(self, work: Callable[[sqlite3.Connection], T], *, transaction: bool = True) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._in_thread, work, transaction)

    def _in_thread(self, work: Callable[[sqlite3.Connection], T], transaction: bool) -> T:
        try:
            if self._db is not None and self._moved():
                with suppress(sqlite3.Error):  # who has moved it without its -wal is to find everything all the same
                    self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._let_go()
            if self._db is None:
                self._db = self._open()
                self._file = os.stat(self._path)
            if self._read_only or not transaction:
                return work(self._db)
            return _transaction(self._db, work)
        except (sqlite3.Error, OSError) as error:
            self._let_go()
            raise SinkUnavailableError(f"{self._path}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        if self._read_only:
            return sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        db = sqlite3.connect(self._path, isolation_level=None, timeout=_BUSY_S)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA secure_delete = ON")
            db.executescript(_SCHEMA)
        except BaseException:
            db.close()
            raise
        return db

    def _moved(self) -> bool:
        """Somebody has deleted the file, or put another one there: what is written to it nobody finds again."""
        try:
            return self._file is None or not os.path.samestat(os.stat(self._path), self._file)
        except FileNotFoundError:
            return True

    def _let_go(self) -> None:
        """Opened again next time: the file may be another one then."""
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()


def _transaction(db: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    db.execute("BEGIN IMMEDIATE")
    try:
        result = work(db)
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # a full disk rolls back by itself
            db.execute("ROLLBACK")
        raise
    return result


def _write(db: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    for entry in entries:
        row = (entry.record, entry.seq, entry.at, entry.kind, encode(entry.data))
        added = db.execute("INSERT OR IGNORE INTO entries VALUES (?, ?, ?, ?, ?)", row).rowcount
        if added and (changed := changes(entry)):
            _change(db, entry, changed)


def _change(db: sqlite3.Connection, entry: Entry, changed: Mapping[str, Any]) -> None:
    values = {name: _value(name, value) for name, value in changed.items()}
    setting = ", ".join(f'"{name}" = ?' for name in values)
    update = f"UPDATE calls SET {setting} WHERE record = ?"
    if not db.execute(update, (*values.values(), entry.record)).rowcount:
        whole = {**{name: BLANK.get(name) for name in COLUMNS}, "began_at": entry.at, **values, "record": entry.record}
        places = ", ".join("?" * len(COLUMNS))
        db.execute(f"INSERT INTO calls ({_NAMES}) VALUES ({places})", [whole[name] for name in COLUMNS])


def _value(name: str, value: Any) -> Any:
    if name == "report":
        return encode(value)
    return plain(value) if isinstance(value, str) else value


def _row(row: tuple[Any, ...]) -> CallRow:
    values = dict(zip(COLUMNS, row, strict=True))
    report = values.pop("report")
    return CallRow(**values, report=None if report is None else json.loads(report))


def _calls(db: sqlite3.Connection, query: Query) -> list[CallRow]:
    where: list[str] = []
    values: list[Any] = []

    def narrow(condition: str, *given: Any) -> None:
        if given[0] is not None:
            where.append(condition)
            values.extend(given)

    narrow("tenant = ?", _sought(query.tenant))
    narrow("began_at >= ?", query.since)
    narrow("began_at < ?", query.until)
    narrow("? IN (outcome, ended)", _sought(query.outcome))
    narrow("caller = ?", _sought(query.caller))
    narrow('? IN (caller, "to")', _sought(query.number))
    which = f" WHERE {' AND '.join(where)}" if where else ""
    rows = db.execute(f"SELECT {_NAMES} FROM calls{which} ORDER BY began_at DESC LIMIT ?", (*values, query.limit))
    return [_row(row) for row in rows]


def _sought(text: str | None) -> str | None:
    return None if text is None else plain(text)


def _find(db: sqlite3.Connection, name: str) -> list[CallRow]:
    if not name:
        return []
    which, values = "call_id = ?", [plain(name)]
    if len(name) >= 8 and not set(name.lower()) - set("0123456789abcdef"):
        which, values = "call_id = ? OR (record >= ? AND record < ?)", [name, name.lower(), name.lower() + "g"]
    return [_row(row) for row in db.execute(f"SELECT {_NAMES} FROM calls WHERE {which} ORDER BY record DESC", values)]


def _entries(db: sqlite3.Connection, record: str) -> list[Entry]:
    rows = db.execute("SELECT record, seq, at, kind, data FROM entries WHERE record = ? ORDER BY seq", (record,))
    return [Entry(name, seq, at, kind, json.loads(data)) for name, seq, at, kind, data in rows]


def _erase(db: sqlite3.Connection, caller: str, also: Collection[str]) -> list[CallRow]:
    db.create_function("same_number", 1, same_number, deterministic=True)
    person = """CASE direction WHEN 'outbound' THEN "to" ELSE caller END"""
    his = f"SELECT {_NAMES} FROM calls WHERE ? <> '' AND same_number({person}) = ?"
    wanted = same_number(caller)
    found = {row.record: row for row in map(_row, db.execute(his, (wanted, wanted)))}
    for record in also:
        found |= {row.record: row for row in _find(db, record) if row.record == record}
    for record in {*found, *also}:
        _delete(db, record)
    return list(found.values())


def _scrub(db: sqlite3.Connection) -> None:
    """What was deleted is nowhere in the file (`secure_delete`); nor beside it from here on."""
    (busy, _, _) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise sqlite3.OperationalError("somebody reads it for long: what was deleted is still in its -wal; try again")


def _expire(db: sqlite3.Connection, tenant: str | None, before: float) -> int:
    """A few: nobody who writes has to wait for long."""
    which, values = ("began_at < ?", (before,)) if tenant is None else ("began_at < ? AND tenant = ?", (before, tenant))
    old = db.execute(f"SELECT record FROM calls WHERE {which} LIMIT {_EXPIRED_AT_ONCE}", values).fetchall()
    for (record,) in old:
        _delete(db, record)
    return len(old)


def _delete(db: sqlite3.Connection, record: str) -> None:
    db.execute("DELETE FROM entries WHERE record = ?", (record,))
    db.execute("DELETE FROM calls WHERE record = ?", (record,))
