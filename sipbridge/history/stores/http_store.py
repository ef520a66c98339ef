"""A backend that keeps the history of calls (docs/backend.md): its entries by POST, those of one call in order.

It is a store as far as it is written to. Who wants to look at calls asks the backend itself.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from secrets import token_hex
from typing import Any

from sipbridge.gateway_file.history import HistoryConfig
from sipbridge.history.facts import Entry
from sipbridge.history.http import Answer, HttpPeer
from sipbridge.history.sink import CallRow, EntryRefusedError, Pace, Query, SinkUnavailableError
from sipbridge.history.webhooks import time_of

_AT_ONCE = 8
_BATCH = 50
_ANSWER_S = 30.0
_NO_SUCH_METHOD = (405, 501)
_MOST_UNSURE = 10_000


class HttpStore:
    """A `Store`."""

    pace = Pace(entries=_BATCH, mixed=False, calls=_AT_ONCE)

    def __init__(self, config: HistoryConfig) -> None:
        """Raises `ConfigError` where its secret is not there."""
        self._peer = HttpPeer(config.store, config.secret, kind="backend", seconds=_ANSWER_S, connections=_AT_ONCE)
        self.name = self._peer.name
        self._unsure: dict[str, int] = {}
        """Last `seq` of batches of which nobody knows whether they were taken: they are sent as they were, so that the
        backend knows them again by their key."""

    def wants(self, entry: Entry) -> bool:
        return True

    async def deliver(self, entries: Sequence[Entry]) -> None:
        record = entries[0].record
        if len(self._unsure) >= _MOST_UNSURE:
            self._unsure.clear()
        last = self._unsure.get(record, entries[-1].seq)
        for batch in (
            [entry for entry in entries if entry.seq <= last],
            [entry for entry in entries if entry.seq > last],
        ):
            if batch:
                self._unsure[record] = batch[-1].seq
                try:
                    await self._post(batch)
                except EntryRefusedError:
                    del self._unsure[record]  # there is no doubt
                    raise
        self._unsure.pop(record, None)

    async def _post(self, batch: Sequence[Entry]) -> None:
        first = batch[0]
        key = f"{first.record}-{first.seq}-{batch[-1].seq}"
        content = {
            "record": first.record,
            "call_id": first.call_id,
            "tenant": first.tenant,
            "entries": [
                {"seq": entry.seq, "time": time_of(entry), "type": entry.kind, "data": entry.data} for entry in batch
            ],
        }
        answer = await self._peer.ask(key, content, headers={"Idempotency-Key": key})
        if answer.status < 300 and not makes_sense(answer):
            raise SinkUnavailableError(f"{self._peer.place} answers {answer.status} with something that is no JSON")
        self._peer.judge(key, answer, several=len(batch) > 1)

    async def erase(self, caller: str, also: Collection[str] = ()) -> list[CallRow]:
        """By DELETE. What it says that it has removed; of a backend that only says yes, nothing."""
        identity = f"erase-{token_hex(8)}"
        asked = {"caller": caller} | ({"records": list(also)} if also else {})
        answer = await self._peer.ask(identity, asked, method="DELETE")
        if answer.status in _NO_SUCH_METHOD:
            raise SinkUnavailableError(f"{self._peer.place} cannot erase ({answer.status}): ask whoever runs it")
        if answer.status == 404:
            return []
        self._peer.judge(identity, answer)
        return [_row(call) for call in _calls_in(answer)]

    async def expire(self, tenant: str | None, before: float) -> int:
        """How long it keeps what it has is the backend's affair."""
        return 0

    async def calls(self, query: Query) -> list[CallRow]:
        raise self._elsewhere()

    async def find(self, name: str) -> list[CallRow]:
        raise self._elsewhere()

    async def entries(self, record: str) -> list[Entry]:
        raise self._elsewhere()

    def _elsewhere(self) -> SinkUnavailableError:
        return SinkUnavailableError(f"the history is kept by {self._peer.place}: ask there")

    async def close(self) -> None:
        await self._peer.close()


def makes_sense(answer: Answer) -> bool:
    """A backend says yes with nothing, with JSON, or with a word. A web page, or what should be JSON and is none, comes
    from somebody else (a proxy, a login page, a server that is falling over): nothing has been taken."""
    body = answer.body.strip()
    if answer.status == 204 or not body:
        return True
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return False
    if answer.media_type.endswith("json"):
        return _json(text) is not None
    return not text.startswith("<")


def _json(text: str) -> Any:
    """None for what is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return "" if found is None else found


def _calls_in(answer: Answer) -> list[dict[str, Any]]:
    content = _json(answer.body.decode("utf-8", "replace"))
    calls = content.get("calls") if isinstance(content, dict) else None
    return [call for call in calls if isinstance(call, dict) and call.get("record")] if isinstance(calls, list) else []


def _row(call: dict[str, Any]) -> CallRow:
    """A call that a backend has removed: enough of it to find what else there is of it here."""

    def text(name: str) -> str:
        return str(call.get(name) or "")[:200]

    return CallRow(
        record=text("record"),
        call_id=text("call_id"),
        node=text("node"),
        tenant=text("tenant"),
        tenant_version=0,
        direction=text("direction"),
        caller=text("caller"),
        to=text("to"),
        trunk=None,
        provider="",
        model="",
        began_at=0.0,
        answered_at=None,
        ended_at=None,
        ended=None,
        outcome=None,
        detail="",
        seconds=None,
        cost_usd=None,
        report=None,
    )
