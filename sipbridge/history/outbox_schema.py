"""The tables of an outbox's file, and whether a file that exists has them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache

SCHEMA = """
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


class ForeignError(sqlite3.OperationalError):
    pass


def check(db: sqlite3.Connection) -> None:
    """Its tables are as we make them, as far as there are any."""
    there = _columns(db)
    if there.items() - _our_columns().items():
        raise ForeignError("of another version of sipbridge, which has to deliver what is in it; left as it is")


def _columns(db: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
    found = db.execute("SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c").fetchall()
    return {
        table: tuple(column for name, column in found if name == table) for table in _TABLES & {n for n, _ in found}
    }


@cache
def _our_columns() -> dict[str, tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        return _columns(db)
