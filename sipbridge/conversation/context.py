"""CallContext: what every part of a conversation works with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

from sipbridge.agent import AgentEvent
from sipbridge.audio import Played
from sipbridge.call_fields import CallFields
from sipbridge.call_record import CallRecord
from sipbridge.conversation.floor import Floor
from sipbridge.conversation.handover import Legs
from sipbridge.conversation.sounds import Sounds
from sipbridge.history.journal import Journal
from sipbridge.media.stream import MediaStream
from sipbridge.outcome import Ended
from sipbridge.tenants import Tenant
from sipbridge.turn import Turn

_AFTER_GOODBYE_S = 0.2
"""Between the last packet of a goodbye and BYE: the far end's playout buffer still holds that packet."""


class Spawn(Protocol):
    def __call__(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run it for as long as the call is up."""


class End(Protocol):
    def __call__(self, ended: Ended, detail: str = "", *, status: int | None = None) -> None:
        """End the call now. The first reason given stands."""


@dataclass(slots=True)
class CallContext:
    tenant: Tenant
    fields: CallFields
    """What is known of the call by now: who has answered one of ours may be known only then."""
    legs: Legs
    turn: Turn
    floor: Floor
    sounds: Sounds
    record: CallRecord
    journal: Journal
    """What happens is noted here."""
    spawn: Spawn
    end: End
    clock: Callable[[], float]
    log: structlog.stdlib.BoundLogger
    on_discard: Callable[[Sequence[Played]], None] = lambda played: None
    """Told what was heard of what is thrown away (`discard`)."""

    @property
    def stream(self) -> MediaStream | None:
        """The sound of whom the agent talks to, once there is some: the leg that the conversation is on, but while
        somebody is consulted."""
        return self.legs.addressed.stream

    @property
    def answered(self) -> bool:
        """They can talk, or could."""
        return self.record.answered_at is not None

    def answered_by_machine(self, kind: str) -> None:
        self.record.machine = kind
        self.fields = replace(self.fields, machine=kind)

    def finish_items(self, item_ids: tuple[str, ...]) -> None:
        """No more audio of these items will come; when they have been heard, `Drained` says so."""
        if self.stream is not None:
            for item_id in item_ids:
                self.stream.finish(item_id)

    def discard(self) -> tuple[Played, ...]:
        """Nothing more is heard of what has been said; so much was."""
        played = () if self.stream is None else self.stream.discard()
        self.on_discard(played)
        return played

    async def end_when_heard(self, ended: Ended, detail: str = "") -> None:
        """The last word has been said: hang up when it has been heard to its last packet. Nothing is said after it."""
        await self.floor.until_silent()
        self.turn.finish()
        await asyncio.sleep(_AFTER_GOODBYE_S)
        self.end(ended, detail)


class Observer(Protocol):
    """A part that is told of every event of the agent in use, after it has been acted on."""

    def agent_event(self, event: AgentEvent) -> None: ...
