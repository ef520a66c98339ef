"""What people are shown of the history: a store, and what waits in this machine's outbox for it, as one. Reads only."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from sipbridge.history.facts import Entry
from sipbridge.history.numbers import forms_of, same_number
from sipbridge.history.sink import CallRow, Query, SinkUnavailableError, Store
from sipbridge.history.stores.rows import changes, row_of

T = TypeVar("T")

_PAGE = 500
_OF_A_ROW = ("call.started", "call.answered", "call.ended")


class Archive:
    """`store` None: there is none that can be read here. What gives no answer is left out, which `trouble` tells."""

    def __init__(self, store: Store | None, outbox: Path | None = None) -> None:
        self._store = store
        self._outbox = outbox
        self.trouble = ""

    async def calls(self, query: Query) -> list[CallRow]:
        """The latest first. A number is looked for in each form that a PBX may write it in."""
        found: dict[str, CallRow] = {}
        for caller, number in product(_forms(query.caller), _forms(query.number)):
            each = replace(query, caller=caller, number=number)
            found |= {row.record: row for row in await self._ask(partial(_calls, query=each))}
        for record, waiting in self._waiting().items():
            row = _with(found.pop(record, None) or await self._row(record), waiting)
            if _matches(row, query):
                found[record] = row
        return sorted(found.values(), key=_latest, reverse=True)[: query.limit]

    async def each(self, query: Query) -> AsyncIterator[CallRow]:
        """All of them, however many there are: page by page."""
        left, limit, until = query.limit, _PAGE, query.until
        seen: set[str] = set()
        while left > 0:
            page = await self.calls(replace(query, until=until, limit=limit))
            fresh = [row for row in page if row.record not in seen][:left]
            for row in fresh:
                yield row
            left -= len(fresh)
            if len(page) < limit:
                return
            # The next page begins with the calls of the moment that this one has ended in.
            last = page[-1].began_at
            limit = limit if last < page[0].began_at else limit * 2
            until, seen = math.nextafter(last, math.inf), {row.record for row in page if row.began_at == last}

    async def find(self, name: str) -> list[CallRow]:
        """By record, its beginning, or Call-ID: the latest first."""
        found = {row.record: row for row in await self._ask(lambda store: store.find(name))}
        for record, waiting in self._waiting().items():
            row = _with(found.get(record) or await self._row(record), waiting)
            if record in found or row.call_id == name or (len(name) >= 8 and record.startswith(name.lower())):
                found[record] = row
        return sorted(found.values(), key=_latest, reverse=True)

    async def entries(self, record: str) -> list[Entry]:
        stored = await self._ask(lambda store: store.entries(record))
        every = {entry.seq: entry for entry in (*self._read("record = ?", (record,)), *stored)}
        return [every[seq] for seq in sorted(every)]

    async def close(self) -> None:
        if self._store is not None:
            await self._store.close()

    async def _ask(self, question: Callable[[Store], Awaitable[list[T]]]) -> list[T]:
        if self._store is None:
            return []
        try:
            return await question(self._store)
        except SinkUnavailableError as error:
            self.trouble = f"the store cannot be asked, so only what waits for it is shown: {error}"
            store, self._store = self._store, None
            await store.close()
            return []

    async def _row(self, record: str) -> CallRow | None:
        return next((row for row in await self._ask(lambda store: store.find(record)) if row.record == record), None)

    def _waiting(self) -> dict[str, list[Entry]]:
        """What makes rows, by call."""
        calls: dict[str, list[Entry]] = {}
        marks = ", ".join("?" * len(_OF_A_ROW))
        for entry in self._read(f"kind IN ({marks})", _OF_A_ROW):
            calls.setdefault(entry.record, []).append(entry)
        return calls

    def _read(self, which: str, values: tuple[str, ...]) -> Iterator[Entry]:
        for path in sorted(self._outbox.glob("*.outbox")) if self._outbox is not None else ():
            try:
                yield from _entries_of(path, which, values)
            except SinkUnavailableError as error:
                self.trouble = str(error)


def _entries_of(path: Path, which: str, values: tuple[str, ...]) -> list[Entry]:
    """A running gateway goes on writing meanwhile."""
    query = f"SELECT record, seq, at, kind, data FROM entries WHERE {which} ORDER BY record, seq"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as db:
            found = db.execute(query, values)
            return [Entry(record, seq, at, kind, _object(data)) for record, seq, at, kind, data in found]
    except sqlite3.Error as error:
        if not path.exists():  # another process has just taken it over
            return []
        raise SinkUnavailableError(f"{path} cannot be read: {error}") from error


def _object(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _with(row: CallRow | None, waiting: Iterable[Entry]) -> CallRow:
    if row is None:
        row = row_of(list(waiting))
        assert row is not None
        return row
    for entry in waiting:
        row = replace(row, **changes(entry))
    return row


def _matches(row: CallRow, query: Query) -> bool:
    """As a store has it."""
    return (
        (query.tenant is None or row.tenant == query.tenant)
        and (query.since is None or row.began_at >= query.since)
        and (query.until is None or row.began_at < query.until)
        and (query.outcome is None or query.outcome in (row.outcome, row.ended))
        and (query.caller is None or bool(forms_of(query.caller, [row.caller])))
        and (query.number is None or bool(forms_of(query.number, [row.caller, row.to])))
    )


async def _calls(store: Store, query: Query) -> list[CallRow]:
    return await store.calls(query)


def _forms(number: str | None) -> list[str | None]:
    """As it was written, and with or without the signs for "international"."""
    if number is None:
        return [None]
    bare = same_number(number)
    return [number] if not bare.isdecimal() else list(dict.fromkeys([number, f"+{bare}", f"00{bare}", bare]))


def _latest(row: CallRow) -> tuple[float, str]:
    return row.began_at, row.record
