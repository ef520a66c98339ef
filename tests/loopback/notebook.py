"""A history that is read at once: what calls of a gateway note, without a thread, an outbox or a store."""

from __future__ import annotations

import time
from typing import Any, cast

from sipbridge.history.call_journal import CallJournal
from sipbridge.history.facts import Entry, Fact
from sipbridge.history.history import History
from sipbridge.history.privacy import Storage
from sipbridge.tenants import Tenant
from tests.loopback.waiting import Watched


class Notebook(Watched):
    def __init__(self) -> None:
        super().__init__()
        self._journals: list[CallJournal] = []
        self._entries: list[list[Entry]] = []

    @property
    def history(self) -> History:
        return cast(History, self)

    def journal(self, tenant: Tenant | None, storage: Storage = "everything") -> CallJournal:
        level = storage if tenant is None else tenant.config.storage
        journal = CallJournal(wall=time.time(), clock=time.monotonic, storage=level, node="n1", wake=self._woken)
        self._journals.append(journal)
        self._entries.append([])
        return journal

    def note_late(self, record: str, fact: Fact) -> None:
        for journal in self._journals:
            if journal.record == record:
                journal.note(fact)

    def _woken(self, journal: CallJournal) -> None:
        self.changed()

    def entries(self, call: int = 1) -> list[Entry]:
        """Of the so-manyth call, as far as it has come."""
        self._entries[call - 1] += self._journals[call - 1].take()
        return self._entries[call - 1]

    def of(self, kind: str, call: int = 1) -> list[Any]:
        """What facts of this kind say: `turn` for `call.turn`."""
        return [entry.data for entry in self.entries(call) if entry.kind in (kind, f"call.{kind}")]

    def notes(self, call: int = 1) -> list[str]:
        return [note["what"] for note in self.of("note", call)]

    async def ended(self, call: int = 1) -> Any:
        """What is said of the call's end, as soon as it is over."""
        await self.until(lambda: len(self._journals) >= call and bool(self.of("ended", call)), within=5.0)
        return self.of("ended", call)[0]
