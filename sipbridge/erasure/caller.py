"""A caller, found and removed: in the store, the outboxes, the recordings, the ladders, and what a backend has said.

    1. the outboxes       which calls they know to be his; nothing more of those is taken from here on
    2. the store          his calls, and those
    3. the outboxes again what the store has just named
    4. files              recordings that say that they are his, or are of those calls; ladders that name him
    5. the store again    what was on its way to it meanwhile

What cannot be reached is said, and does not keep the rest.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sipbridge.config import Config
from sipbridge.erasure import outboxes
from sipbridge.errors import SipbridgeError
from sipbridge.history.numbers import same_number
from sipbridge.history.reading.archive import Archive
from sipbridge.history.sink import Query, Store
from sipbridge.history.stores.opening import open_store
from sipbridge.ladder_files import ladders_of
from sipbridge.recording_files.keys import KeyRing
from sipbridge.recording_files.library import about, recording_files
from sipbridge.recording_files.sealed import SealError
from sipbridge.tenant_source import known_good

AUDIT = "erasures.jsonl"
"""In `history.outbox`."""
_ON_THEIR_WAY_S = 2.0
"""So long entries may be between an outbox and the store of this machine."""
_EVERY_CALL = Query(limit=1_000_000_000)


@dataclass(slots=True)
class Found:
    """Of somebody; removed, unless it was only looked for."""

    calls: int = 0
    up: int = 0
    """Of those calls: nothing more is kept of them."""
    waiting: int = 0
    """Entries in outboxes."""
    recordings: list[Path] = field(default_factory=list)
    ladders: list[Path] = field(default_factory=list)
    documents: int = 0
    """Answers of a tenants' backend for his calls."""
    trouble: list[str] = field(default_factory=list)
    """What could not be looked through, or removed."""

    @property
    def nothing(self) -> bool:
        return not (self.calls or self.waiting or self.recordings or self.ladders or self.documents)


class Eraser:
    """Of one number. `look` finds, `erase` removes."""

    def __init__(self, config: Config, number: str, *, on_their_way_s: float = _ON_THEIR_WAY_S) -> None:
        self._on_their_way_s = on_their_way_s
        self._config = config
        self._number = number
        self._wanted = same_number(number)
        self._records: set[str] = set()
        self._call_ids: set[str] = set()
        self.found = Found()

    def is_his(self, text: str) -> bool:
        return bool(self._wanted) and same_number(text) == self._wanted

    async def look(self) -> Found:
        self._look_into_outboxes()
        with self._told("the history"):
            async with self._store() as store:
                archive = Archive(store, self._config.history.outbox)
                async for row in archive.each(_EVERY_CALL):
                    if self.is_his(row.to if row.direction == "outbound" else row.caller):
                        self._records.add(row.record)
                        self._call_ids.add(row.call_id)
                if archive.trouble:
                    self.found.trouble.append(archive.trouble)
        self.found.calls = len(self._records)
        await asyncio.to_thread(self._look_at_files)
        return self.found

    async def erase(self) -> Found:
        self._look_into_outboxes()
        self._erase_from_outboxes()
        await self._erase_from_store()
        self._erase_from_outboxes()
        self.found.calls = len(self._records)
        await asyncio.to_thread(self._look_at_files, remove=True)
        self._erase_from_backend_cache()
        if self._records:
            await asyncio.sleep(self._on_their_way_s)
            await self._erase_from_store()
        with self._told("the audit"):
            self._audit()
        return self.found

    # --- the history --------------------------------------------------------------------------------------------------

    def _look_into_outboxes(self) -> None:
        with self._told("the outbox"):
            known = outboxes.find(self._config.history.outbox, self._number)
            self._records |= known.records
            self._call_ids |= known.call_ids
            self.found.up = known.up
            if known.trouble:
                self.found.trouble.append(f"the outbox: {known.trouble}")
        cache = self._config.tenants.cache
        of_cache = cache.parent.glob(f"{cache.name}.damaged-*")
        for path in (*outboxes.set_aside(self._config.history.outbox), *sorted(of_cache)):
            self.found.trouble.append(f"{path}: damaged; nobody can say whose calls are in it: delete it")

    def _erase_from_outboxes(self) -> None:
        with self._told("the outbox"):
            self.found.waiting += outboxes.erase(self._config.history.outbox, self._records)

    async def _erase_from_store(self) -> None:
        with self._told("the history"):
            async with self._store() as store:
                for row in await store.erase(self._number, self._records):
                    self._records.add(row.record)
                    self._call_ids.add(row.call_id)

    @asynccontextmanager
    async def _store(self) -> AsyncIterator[Store]:
        store = open_store(self._config)
        try:
            yield store
        finally:
            await store.close()

    def _erase_from_backend_cache(self) -> None:
        with self._told("what the tenants' backend has said"):
            self.found.documents = known_good.erase(self._config.tenants.cache, self.is_his)

    # --- files --------------------------------------------------------------------------------------------------------

    def _look_at_files(self, *, remove: bool = False) -> None:
        self._call_ids.discard("")
        for found, files in ((self.found.recordings, self._recordings()), (self.found.ladders, self._ladders())):
            with self._told("files"):
                for path in files:
                    if remove:
                        path.unlink(missing_ok=True)
                    found.append(path)

    def _recordings(self) -> Iterator[Path]:
        directory = self._config.recordings.directory
        if directory is None:
            return
        keys: KeyRing | None = None
        with self._told("the recordings' keys"):
            keys = self._config.recordings.key_ring()
        for file in recording_files(directory):
            try:
                known = about(file, keys)
            except (SealError, OSError) as error:
                self.found.trouble.append(f"{file.path}: nobody can say whose it is: {error}")
                continue
            if known is None:
                self.found.trouble.append(f"{file.path}: it does not say whose it is")
            elif self.is_his(known.person) or known.record in self._records or known.call_id in self._call_ids:
                yield file.path

    def _ladders(self) -> Iterator[Path]:
        if (directory := self._config.sip.ladders) is not None:
            yield from ladders_of(directory, self.is_his, self._call_ids)

    # --- what is said of it -------------------------------------------------------------------------------------------

    @contextmanager
    def _told(self, where: str) -> Iterator[None]:
        try:
            yield
        except (SipbridgeError, OSError, sqlite3.Error) as error:
            self.found.trouble.append(f"{where}: {error}")

    def _audit(self) -> None:
        """That somebody was erased, when, and by whom; not who."""
        found, directory = self.found, self._config.history.outbox
        line = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "node": self._config.node.name,
            "user": os.getuid(),
            "calls": found.calls,
            "entries_waiting": found.waiting,
            "recordings": len(found.recordings),
            "ladders": len(found.ladders),
            "documents": found.documents,
            "incomplete": bool(found.trouble),
        }
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / AUDIT, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
