"""What was noted and has not gone everywhere yet: one SQLite file of this machine, durable when `add` returns.

A file is one process's at a time (`flock` on the `.lock` beside it), so that a `dial` beside a `serve` has its own.
What a process that died has left is taken over by the next one that looks (`adopt`): its entries go where they were to
go, and its calls that never ended are ended.

Owned by the history's thread; every method may raise `OutboxError`.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import structlog

from sipbridge.errors import SipbridgeError
from sipbridge.history.facts import Ended, Entry, Started
from sipbridge.history.stores.rows import crash_report, encode, plain
from sipbridge.history.wreck import Wreck, whole
from sipbridge.sqlite_files import is_damage, set_aside

log = structlog.get_logger(__name__)

LATE = -1
"""`Entry.seq` of what somebody notes after a call's end who does not have its journal: it gets the next number."""

SUFFIX = ".outbox"
_MOST_FILES = 1000
_MOST_ON_DISK = 8 << 30
_MOST_IN_MEMORY = 64 << 20
"""Bytes: then it is full, and what is noted waits where it is, as long as there is room."""
_REMEMBERED_S = 86_400.0
"""So long a call that has ended can still be added to."""
_STRANGER = 1_000_000
"""Number of the first late entry of a call that is not remembered."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, record TEXT NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL,
    kind TEXT NOT NULL, data TEXT NOT NULL, UNIQUE (record, seq));
CREATE TABLE IF NOT EXISTS sinks (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS due (
    sink INTEGER NOT NULL, entry INTEGER NOT NULL, record TEXT NOT NULL, PRIMARY KEY (sink, entry)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS due_of_call ON due (sink, record, entry);
CREATE INDEX IF NOT EXISTS due_of_entry ON due (entry);
CREATE TABLE IF NOT EXISTS calls (
    record TEXT PRIMARY KEY, seq INTEGER NOT NULL, at REAL NOT NULL, up INTEGER NOT NULL,
    call_id TEXT NOT NULL DEFAULT '', tenant TEXT NOT NULL DEFAULT '',
    started TEXT, began REAL, answered REAL, setup_ms INTEGER, codec TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refused (
    sink TEXT NOT NULL, record TEXT NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL,
    data TEXT NOT NULL, why TEXT NOT NULL, PRIMARY KEY (sink, record, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS node (id INTEGER PRIMARY KEY CHECK (id = 1), alive REAL NOT NULL);
"""


_TABLES = {"entries", "sinks", "due", "calls", "refused", "node"}


class OutboxError(SipbridgeError):
    """The file cannot be used now: no space, no permission, damaged."""

    label = "history_outbox"

    @property
    def damaged(self) -> bool:
        """No attempt will mend it."""
        return is_damage(self.__cause__)

    @property
    def foreign(self) -> bool:
        """It is another version's: whoever has that can read it."""
        return isinstance(self.__cause__, _ForeignError)


class _ForeignError(sqlite3.OperationalError):
    pass


def _check(db: sqlite3.Connection) -> None:
    """Its tables are as we make them, as far as there are any."""
    there = _columns(db)
    if there.items() - _our_columns().items():
        raise _ForeignError("of another version of sipbridge, which has to deliver what is in it; left as it is")


def _columns(db: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
    found = db.execute("SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c").fetchall()
    return {
        table: tuple(column for name, column in found if name == table) for table in _TABLES & {n for n, _ in found}
    }


@cache
def _our_columns() -> dict[str, tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(_SCHEMA)
        return _columns(db)


class Outbox:
    """One file of it, or (`path` None) one in memory, for as long as no file can be had."""

    def __init__(self, path: Path | None, lock: int | None = None) -> None:
        self.path = path
        self.most_bytes = _MOST_IN_MEMORY if path is None else _MOST_ON_DISK
        self._lock = lock
        self._sinks: dict[str, int] = {}
        self._wants: dict[str, Callable[[Entry], bool]] = {}
        self._told: set[str] = set()
        """What has been said, and is still so."""
        with _told(path):
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False, timeout=2)
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")  # a power cut takes nothing that was acknowledged
                self._db.execute("PRAGMA secure_delete = ON")
                _check(self._db)
                self._db.executescript(_SCHEMA)
                self._file = None if path is None else os.stat(path)
            except BaseException:
                self._db.close()
                raise

    @classmethod
    def open(cls, directory: Path) -> Outbox:
        """The first file there that nobody else has, and that we can read."""
        with _told(directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for number in range(1, _MOST_FILES + 1):
                path = directory / f"{number}{SUFFIX}"
                lock = _locked(path)
                if lock is None:
                    continue
                try:
                    return cls._of(path, lock)
                except OutboxError as error:
                    if not error.foreign:
                        raise
                    log.error("outbox not used", error=str(error))
        raise OutboxError(f"{directory}: {_MOST_FILES} processes have one already")

    @classmethod
    def _of(cls, path: Path, lock: int) -> Outbox:
        try:
            try:
                return cls(path, lock)
            except OutboxError as error:
                if not error.damaged:
                    raise
                set_aside(path)
                return cls(path, lock)
        except BaseException:
            os.close(lock)
            raise

    def begin_anew(self) -> Outbox:
        """A new file in the place of this one, which is set aside: it is damaged. This one can still be read from."""
        assert self.path is not None
        with _told(self.path):
            set_aside(self.path)
        lock, self._lock = self._lock, None
        return Outbox(self.path, lock)

    @property
    def gone(self) -> bool:
        """Somebody has deleted the file: what is in it would not survive us."""
        if self.path is None or self._file is None:
            return False
        try:
            return not os.path.samestat(os.stat(self.path), self._file)
        except FileNotFoundError:
            return True

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._db.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # --- who is owed what -----------------------------------------------------------------------------------------

    def owe(self, wants: Mapping[str, Callable[[Entry], bool]]) -> dict[str, int]:
        """From now on entries are owed to these, each what it wants; what others were still owed is forgotten, and
        counted by name."""
        with self._changing() as db:
            known = dict(db.execute("SELECT name, id FROM sinks").fetchall())
            forgotten = {}
            for name in known.keys() - wants.keys():
                forgotten[name] = db.execute("DELETE FROM due WHERE sink = ?", (known[name],)).rowcount
                db.execute("DELETE FROM sinks WHERE id = ?", (known[name],))
            for name in wants:
                if name not in known:
                    db.execute("INSERT INTO sinks (name) VALUES (?)", (name,))
            db.execute("DELETE FROM entries WHERE id NOT IN (SELECT entry FROM due)")
            self._sinks = dict(db.execute("SELECT name, id FROM sinks").fetchall())
        self._wants = dict(wants)
        return {name: count for name, count in forgotten.items() if count}

    # --- entries come ---------------------------------------------------------------------------------------------

    def add(self, entries: Iterable[Entry], alive: float) -> list[Entry]:
        """Durable when it returns: all of them, or none. As they were kept, with their numbers."""
        pages = {name: self._rows(f"PRAGMA {name}")[0][0] for name in ("page_count", "freelist_count", "page_size")}
        if (pages["page_count"] - pages["freelist_count"]) * pages["page_size"] > self.most_bytes:
            raise OutboxError(f"{self.path or 'outbox in memory'}: full, for nobody takes what is in it")
        kept = []
        with self._changing() as db:
            for entry in entries:
                kept.append(self._add(db, entry))
            db.execute("INSERT OR REPLACE INTO node VALUES (1, ?)", (alive,))
        return kept

    def _add(self, db: sqlite3.Connection, entry: Entry) -> Entry:
        if entry.seq == LATE:
            known = db.execute("SELECT seq FROM calls WHERE record = ?", (entry.record,)).fetchone()
            entry = replace(entry, seq=_STRANGER if known is None else known[0] + 1)
        text = encode(entry.data)
        row = (entry.record, entry.seq, entry.at, entry.kind, text)
        added = db.execute("INSERT OR IGNORE INTO entries (record, seq, at, kind, data) VALUES (?, ?, ?, ?, ?)", row)
        if not added.rowcount:
            return entry
        self._remember(db, entry, text)
        names = db.execute("SELECT call_id, tenant FROM calls WHERE record = ?", (entry.record,)).fetchone()
        entry = replace(entry, call_id=names[0], tenant=names[1])
        debtors = [number for name, number in self._sinks.items() if self._wants.get(name, _everything)(entry)]
        due = [(number, added.lastrowid, entry.record) for number in debtors]
        db.executemany("INSERT INTO due (sink, entry, record) VALUES (?, ?, ?)", due)
        if not due:
            db.execute("DELETE FROM entries WHERE id = ?", (added.lastrowid,))
        return entry

    def _remember(self, db: sqlite3.Connection, entry: Entry, text: str) -> None:
        db.execute(
            "INSERT INTO calls (record, seq, at, up) VALUES (?, ?, ?, 0)"
            " ON CONFLICT (record) DO UPDATE SET seq = max(seq, excluded.seq), at = max(at, excluded.at)",
            (entry.record, entry.seq, entry.at),
        )
        match entry.kind:
            case Started.kind:
                names = plain(entry.data.get("call_id")), plain(entry.data.get("tenant"))
                db.execute(
                    "UPDATE calls SET up = 1, started = ?, began = ?, call_id = ?, tenant = ? WHERE record = ?",
                    (text, entry.at, *names, entry.record),
                )
            case "call.answered":
                values = (entry.at, entry.data.get("setup_ms"), entry.data.get("codec"), entry.record)
                db.execute("UPDATE calls SET answered = ?, setup_ms = ?, codec = ? WHERE record = ?", values)
            case Ended.kind:
                db.execute("UPDATE calls SET up = 0, started = NULL WHERE record = ?", (entry.record,))

    def alive(self, now: float) -> None:
        """Calls are up and nothing happens: so long they have been seen."""
        with self._changing(durable=False) as db:
            db.execute("INSERT OR REPLACE INTO node VALUES (1, ?)", (now,))

    # --- entries go -----------------------------------------------------------------------------------------------

    def due(self, sink: str, most: int, record: str | None = None) -> list[Entry]:
        """What a sink is owed, of one call or of all: the oldest first."""
        which: str = "due.sink = ?"
        values: tuple[Any, ...] = (self._sinks[sink],)
        if record is not None:
            which, values = which + " AND due.record = ?", (*values, record)
        with _told(self.path):
            rows = self._db.execute(
                "SELECT e.record, e.seq, e.at, e.kind, e.data, coalesce(c.call_id, ''), coalesce(c.tenant, '')"
                " FROM due JOIN entries AS e ON e.id = due.entry LEFT JOIN calls AS c ON c.record = e.record"
                f" WHERE {which} ORDER BY due.entry LIMIT ?",
                (*values, most),
            ).fetchall()
            return [_entry(row) for row in rows]

    def calls_due(self, sink: str, *, kinds: Sequence[str] = ()) -> list[str]:
        """The calls of which a sink is owed something, or something of those kinds: what has waited longest first."""
        which = f" AND e.kind IN ({', '.join('?' * len(kinds))})" if kinds else ""
        query = (
            "SELECT due.record FROM due JOIN entries AS e ON e.id = due.entry"
            f" WHERE due.sink = ?{which} GROUP BY due.record ORDER BY min(due.entry)"
        )
        with _told(self.path):
            return [record for (record,) in self._db.execute(query, (self._sinks[sink], *kinds)).fetchall()]

    def done(self, sink: str, entries: Sequence[Entry]) -> None:
        """A sink has them. Where this is forgotten it gets them once more, so it need not survive a power cut."""
        with self._changing(durable=False) as db:
            self._settle(db, sink, entries)

    def refused(self, sink: str, entry: Entry, why: str) -> None:
        """It will never take that one."""
        row = (sink, entry.record, entry.seq, entry.at, entry.kind, encode(entry.data), why[:1000])
        with self._changing() as db:
            db.execute("INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            self._settle(db, sink, [entry])

    def _settle(self, db: sqlite3.Connection, sink: str, entries: Sequence[Entry]) -> None:
        number = self._sinks[sink]
        for entry in entries:
            found = db.execute("SELECT id FROM entries WHERE record = ? AND seq = ?", (entry.record, entry.seq))
            for (identity,) in found.fetchall():
                db.execute("DELETE FROM due WHERE sink = ? AND entry = ?", (number, identity))
                db.execute(
                    "DELETE FROM entries WHERE id = ? AND NOT EXISTS (SELECT 1 FROM due WHERE entry = ?)",
                    (identity, identity),
                )

    def waiting(self) -> dict[str, tuple[int, float | None]]:
        """By sink: how many entries it is owed, and when the oldest of them happened."""
        with _told(self.path):
            rows = self._db.execute(
                "SELECT name, (SELECT count(*) FROM due WHERE sink = id),"
                " (SELECT at FROM entries WHERE id = (SELECT min(entry) FROM due WHERE sink = sinks.id)) FROM sinks"
            ).fetchall()
        return {name: (count, at) for name, count, at in rows}

    # --- after a crash --------------------------------------------------------------------------------------------

    def close_crashed(self, node: str) -> list[Entry]:
        """Whoever had this file is dead: his calls that never ended have ended when he was last seen. Once, for it is
        one transaction."""
        with self._changing() as db:
            alive = db.execute("SELECT alive FROM node").fetchone()
            rows = db.execute("SELECT * FROM calls WHERE up = 1 ORDER BY record").fetchall()
            return [self._add(db, _crashed(row, alive[0] if alive else 0.0, node)) for row in rows]

    def take_over(self, other: Outbox) -> None:
        """All that another one has. Row by row: it may be more than there is memory."""
        names = dict(other._rows("SELECT id, name FROM sinks"))
        with self._changing() as db:
            ours = {}
            for identity, *row in other._db.execute("SELECT id, record, seq, at, kind, data FROM entries ORDER BY id"):
                insert = "INSERT OR IGNORE INTO entries (record, seq, at, kind, data) VALUES (?, ?, ?, ?, ?)"
                if db.execute(insert, row).rowcount:
                    ours[identity] = (db.execute("SELECT last_insert_rowid()").fetchone()[0], row[0])
            for sink, identity in other._db.execute("SELECT sink, entry FROM due"):
                number = self._sinks.get(names.get(sink, ""))
                if identity in ours and number is not None:
                    db.execute("INSERT OR IGNORE INTO due VALUES (?, ?, ?)", (number, *ours[identity]))
            calls = other._db.execute("SELECT * FROM calls")
            db.executemany("INSERT OR IGNORE INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", calls)
            refused = other._db.execute("SELECT * FROM refused")
            db.executemany("INSERT OR IGNORE INTO refused VALUES (?, ?, ?, ?, ?, ?, ?)", refused)

    def salvage(self, other: Outbox, node: str | None = None) -> int:
        """What can still be read of a damaged one. Who is owed what cannot be relied on there: everybody gets all that
        he wants of it, at least once. `node`: whoever had it is dead, and his calls are closed: how many were up."""
        left = Wreck(other._db)
        alive, crashed = left.alive(), 0
        with self._changing() as db:
            for entry in left.entries():
                self._add(db, entry)
            for row in left.calls():
                db.execute("INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            if node is not None:
                up = [
                    row for row in db.execute("SELECT * FROM calls WHERE up = 1").fetchall() if row[0] in left.records
                ]
                for row in up:
                    self._add(db, _crashed(row, alive, node))
                crashed = len(up)
        log.warning("damaged outbox: what could be read of it is kept", entries=left.found, calls=len(left.records))
        return crashed

    def adopt(self, node: str) -> int:
        """Take over what dead processes have left beside this file; how many calls of theirs were up."""
        if self.path is None:
            return 0
        crashed = 0
        with _told(self.path.parent):
            others = sorted(path for path in self.path.parent.glob(f"*{SUFFIX}") if path != self.path)
        for path in others:
            lock = _locked(path)
            if lock is None:
                continue
            try:
                crashed += self._adopt(path, lock, node)
            except OutboxError as error:
                if str(error) not in self._told:
                    self._told.add(str(error))
                    log.error("what a dead process has left cannot be taken over", error=str(error))
        return crashed

    def _adopt(self, path: Path, lock: int, node: str) -> int:
        other = self._of(path, lock)
        try:
            try:
                other._sinks = {name: number for number, name in other._rows("SELECT id, name FROM sinks")}
                crashed = len(other.close_crashed(node))
                self.take_over(other)
            except OutboxError as error:
                if not error.damaged:
                    raise
                crashed = self.salvage(other, node)
                with _told(path):
                    set_aside(path)
            with _told(path):
                for leftover in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
                    leftover.unlink(missing_ok=True)
        finally:
            other.close()
        return crashed

    def forget(self, now: float) -> None:
        """Calls that ended long ago need not be remembered."""
        with self._changing(durable=False) as db:
            db.execute(
                "DELETE FROM calls WHERE up = 0 AND at < ? AND record NOT IN (SELECT record FROM due)",
                (now - _REMEMBERED_S,),
            )

    def _rows(self, query: str) -> list[Any]:
        with _told(self.path):
            return self._db.execute(query).fetchall()

    @contextmanager
    def _changing(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        with _told(self.path):
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk rolls back by itself
                    self._db.execute("ROLLBACK")
                raise


def _entry(row: tuple[Any, ...]) -> Entry:
    record, seq, at, kind, data, call_id, tenant = row
    return Entry(record, seq, at, kind, whole(data), call_id, tenant)


def _everything(entry: Entry) -> bool:
    return True


def _crashed(row: tuple[Any, ...], alive: float, node: str) -> Entry:
    record, seq, at, _, _, _, started, began, answered, setup_ms, codec = row
    seen = max(at, alive)
    report = crash_report(whole(started), began, answered, setup_ms, codec, seen, node, record)
    return Entry(record, seq + 1, seen, Ended.kind, Ended(report).to_json())


def _locked(path: Path) -> int | None:
    """The lock of a file, None where another process has it. Not on the file itself: a process that closes any of its
    descriptors would lose SQLite's own locks on it."""
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


@contextmanager
def _told(path: Path | None) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
        raise OutboxError(f"{path or 'outbox in memory'}: {error}") from error
