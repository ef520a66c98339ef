"""What can still be read of a damaged outbox: whatever is whole, from both ends of each table."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from sipbridge.history.facts import Entry


def whole(text: object) -> dict[str, Any]:
    """An entry's data, as it was written; else the file is damaged: `sqlite3.DatabaseError`."""
    try:
        data = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise sqlite3.DatabaseError("there is something that nobody has written")
    return data


class Wreck:
    """Of the file behind a connection, which is good for nothing else any more. Raises nothing."""

    def __init__(self, db: sqlite3.Connection) -> None:
        db.text_factory = lambda data: data.decode("utf-8", "replace")
        self._db = db
        self.found = 0
        """Entries."""
        self.records: set[str] = set()
        """Their calls, and those that are known besides."""

    def entries(self) -> Iterator[Entry]:
        """In their order."""
        found = []
        for identity, record, seq, at, kind, text in self._rows("entries", "id, record, seq, at, kind, data", "id"):
            if _is(str, record, kind) and _is(int, identity, seq) and _is_time(at):
                with suppress(sqlite3.DatabaseError):
                    found.append((identity, Entry(record, seq, at, kind, whole(text))))
        found.sort(key=lambda each: each[0])
        self.found = len(found)
        self.records.update(entry.record for _, entry in found)
        return (entry for _, entry in found)

    def calls(self) -> Iterator[tuple[Any, ...]]:
        """Rows of the table."""
        for row in self._rows("calls", "*", "record"):
            record, seq, at, up, call_id, tenant, started, began, answered, setup_ms, codec = row
            if not (_is(str, record, call_id, tenant) and _is(int, seq, up) and _is_time(at)):
                continue
            if not (_is_time(began, answered) and _is(int, setup_ms) and _is(str, started, codec)):
                continue
            if up:
                try:
                    whole(started)
                except sqlite3.DatabaseError:
                    continue
            self.records.add(record)
            yield row

    def alive(self) -> float:
        """When its process was last seen; 0: nobody knows."""
        for _, alive in self._rows("node", "id, alive", "id"):
            if _is_time(alive):
                return float(alive)
        return 0.0

    def _rows(self, table: str, columns: str, key: str) -> Iterator[tuple[Any, ...]]:
        """Reading ends where the damage begins: so from the other end, too."""
        for order in ("ASC", "DESC"):
            try:
                yield from self._db.execute(f"SELECT {columns} FROM {table} NOT INDEXED ORDER BY {key} {order}")
            except sqlite3.Error:
                continue
            return


def _is(kind: type, *values: object) -> bool:
    return all(value is None or isinstance(value, kind) for value in values)


def _is_time(*values: object) -> bool:
    return all(value is None or (isinstance(value, float) and math.isfinite(value)) for value in values)
