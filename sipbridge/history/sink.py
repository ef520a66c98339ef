"""Where a history goes: what stores and webhooks have in common, and what a store answers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sipbridge.errors import SipbridgeError
from sipbridge.history.facts import Entry


class SinkUnavailableError(SipbridgeError):
    """It cannot take anything now: it is asked again later, with the same entries."""

    label = "history_sink"

    def __init__(self, message: str, *, retry_after: float | None = None, only_this_call: bool = False) -> None:
        """`retry_after`: seconds that it wants to be left alone for. `only_this_call`: it takes those of others."""
        super().__init__(message)
        self.retry_after = retry_after
        self.only_this_call = only_this_call


class EntryRefusedError(SipbridgeError):
    """It will never take this entry: it is set aside, and counted."""

    label = "history_entry"


@dataclass(frozen=True, slots=True)
class Pace:
    """How much a sink is given at once."""

    entries: int = 100
    """At most, in one delivery."""
    mixed: bool = True
    """Those of several calls together, in one delivery after the other. Else a delivery is of one call."""
    calls: int = 1
    """Of how many calls deliveries may be under way at once; never two of one call."""
    whole: bool = False
    """Nothing of a call before it has ended, then all of it."""
    pause: float = 0.0
    """Seconds after a delivery in which more gathers for the next one: each costs, however little is in it."""


class Sink(Protocol):
    """Takes entries at least once, those of one call in their order; what it has taken it has for good."""

    name: str
    """In logs and metrics; nothing secret. What it has not taken yet it is owed under this name, over restarts."""
    pace: Pace

    def wants(self, entry: Entry) -> bool:
        """False: nobody need keep it for this sink. Of its kind and data alone."""

    async def deliver(self, entries: Sequence[Entry]) -> None:
        """All of them, or none that it does not know again by (`record`, `seq`).

        Raises `SinkUnavailableError` or `EntryRefusedError`. Of several entries, the latter has them given again one by
        one; one that is refused alone is set aside, and the next ones follow.
        """

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class CallRow:
    """One call, as a store has it: its record, and what it is looked for by."""

    record: str
    call_id: str
    node: str
    tenant: str
    tenant_version: int
    direction: str
    caller: str
    to: str
    trunk: str | None
    provider: str
    model: str
    began_at: float
    """Unix time; likewise `answered_at` and `ended_at`, None where it is not."""
    answered_at: float | None
    ended_at: float | None
    ended: str | None
    """The reason (docs/ended-reasons.md); None: it is up."""
    outcome: str | None
    """`completed`, `failed`, `unanswered` or `refused` (`outcome.Ending`)."""
    detail: str
    seconds: float | None
    cost_usd: float | None
    report: dict[str, Any] | None
    """All that was told at the end."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which calls; None: any. The latest come first."""

    tenant: str | None = None
    since: float | None = None
    until: float | None = None
    outcome: str | None = None
    """Of `CallRow`, or a reason to end."""
    caller: str | None = None
    number: str | None = None
    """Caller or dialled."""
    limit: int = 100


class Store(Sink, Protocol):
    """A sink that can be asked. Everything may raise `SinkUnavailableError`."""

    async def calls(self, query: Query) -> list[CallRow]: ...

    async def find(self, name: str) -> list[CallRow]:
        """By `record`, or its beginning (8 digits at least), or by SIP's Call-ID: the latest first."""

    async def entries(self, record: str) -> list[Entry]:
        """Of one call, in their order."""

    async def erase(self, caller: str, also: Collection[str] = ()) -> list[CallRow]:
        """Delete every call that somebody made to us, or we to him, and `also` those of these records, with all their
        entries; returns what there was. His number is any form of it (`numbers.same_number`)."""

    async def expire(self, tenant: str | None, before: float) -> int:
        """Delete the calls of a tenant (None: of all) that began earlier, some at a time; how many there were."""
