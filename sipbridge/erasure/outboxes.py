"""Calls removed from the outboxes of this machine, also of processes that are running.

A call that is removed while it is up, or while its last entries are on their way, must not come back: from here on its
file takes no more entries of it. That is a trigger in the file, so that it holds from the very transaction on, whoever
writes to it, and over restarts.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sipbridge.errors import SipbridgeError
from sipbridge.history.facts import Started
from sipbridge.history.numbers import same_number
from sipbridge.history.stores.rows import person_of

_BUSY_S = 10.0
_TABLES = ("entries", "due", "calls", "refused")
_REMEMBERED_S = 2 * 86_400.0
"""Longer than any call, and than an outbox knows one that is over."""

_NO_MORE = """
CREATE TABLE IF NOT EXISTS erased (record TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS no_more BEFORE INSERT ON entries
    WHEN NEW.record IN (SELECT record FROM erased) BEGIN SELECT RAISE(IGNORE); END;
"""


class OutboxUnreadableError(SipbridgeError):
    label = "history_outbox"


@dataclass(slots=True)
class InOutboxes:
    """What there is of somebody."""

    records: set[str] = field(default_factory=set)
    up: int = 0
    """Of those calls."""
    call_ids: set[str] = field(default_factory=set)
    trouble: str = ""
    """Which of them could not be looked into."""


def find(directory: Path, number: str) -> InOutboxes:
    """His calls, as far as the outboxes know whose they are."""
    found, wanted = InOutboxes(), same_number(number)

    def look(db: sqlite3.Connection) -> None:
        up = {record for (record,) in db.execute("SELECT record FROM calls WHERE up = 1")}
        for record, started in _started(db):
            if wanted and same_number(person_of(started)) == wanted and record not in found.records:
                found.up += record in up
                found.records.add(record)
                found.call_ids.add(str(started.get("call_id", "")))

    try:
        _in_each(directory, look)
    except OutboxUnreadableError as error:
        found.trouble = str(error)
    return found


def erase(directory: Path, records: Iterable[str]) -> int:
    """All that the outboxes have of those calls, now and later; how many entries that were. Raises
    `OutboxUnreadableError`, after all that can be done."""
    records, entries, now = set(records), 0, time.time()

    def delete(db: sqlite3.Connection) -> None:
        nonlocal entries
        db.executescript(_NO_MORE)
        with db:
            db.execute("DELETE FROM erased WHERE at < ?", (now - _REMEMBERED_S,))
            for record in records:
                db.execute("INSERT OR REPLACE INTO erased VALUES (?, ?)", (record, now))
                for table in _TABLES:
                    deleted = db.execute(f"DELETE FROM {table} WHERE record = ?", (record,)).rowcount
                    entries += deleted if table == "entries" else 0
        (busy, _, _) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise sqlite3.OperationalError("somebody reads it for long; run it again")

    if records:
        _in_each(directory, delete)
    return entries


def set_aside(directory: Path) -> list[Path]:
    """Damaged files, which nobody can look into."""
    return sorted(directory.glob("*.outbox.damaged-*"))


def _in_each(directory: Path, work: Callable[[sqlite3.Connection], None]) -> None:
    """With each, whatever is the matter with another."""
    trouble = []
    for path in sorted(directory.glob("*.outbox")):
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_S)) as db:
                db.execute("PRAGMA secure_delete = ON")
                work(db)
        except sqlite3.Error as error:
            if path.exists():  # else somebody has just taken it over: what it had is in another
                trouble.append(f"{path}: {error}")
    if trouble:
        raise OutboxUnreadableError("; ".join(trouble))


def _started(db: sqlite3.Connection) -> Iterator[tuple[str, dict[str, Any]]]:
    for record, text in db.execute(
        "SELECT record, data FROM entries WHERE kind = ? UNION SELECT record, started FROM calls WHERE started <> ''",
        (Started.kind,),
    ):
        with suppress(ValueError):
            yield record, json.loads(text)
