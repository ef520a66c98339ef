"""The link that a session uses, and how another one takes its place: opened beside it or after it, told the
conversation so far, switched to at the moment that `Recovery` chooses.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import structlog

from sipbridge.agent import AgentError, AgentOptions, Reconnecting, SessionClosed
from sipbridge.errors import AgentStartError, SipbridgeError
from sipbridge.providers import Dialect, Lifetime
from sipbridge.providers.activity import Activity
from sipbridge.providers.breaker import TURNED_AWAY
from sipbridge.providers.link import Link
from sipbridge.providers.memory import Memory
from sipbridge.providers.recovery import Action, Phase, Recovery, forced_at

log = structlog.get_logger(__name__)

NewLink: TypeAlias = Callable[[Dialect], Link]
NewDialect: TypeAlias = Callable[[AgentOptions], Dialect]


@dataclass(slots=True)
class Successor:
    """A link that is being opened, and what it is told at its start."""

    link: Link
    options: AgentOptions
    version: int
    """Of the memory that its history was taken from."""
    task: asyncio.Task[None] | None = None


class Heir(Protocol):
    """What a succession tells its session."""

    def tell(self, event: Reconnecting | AgentError | SessionClosed) -> None: ...

    def parted(self, link: Link, *, in_use: bool) -> None:
        """This link was closed, and its last events can be taken. `in_use`: it was the one that the session had."""

    def replaced(self, successor: Successor) -> None:
        """Another link is in use now."""

    def wake(self) -> None:
        """There may be events."""


class Succession:
    """Once `link` is open, call `settle` whenever something has happened that may make the moment quiet."""

    def __init__(
        self,
        link: Link,
        heir: Heir,
        memory: Memory,
        activity: Activity,
        *,
        slug: str,
        options: AgentOptions,
        new_link: NewLink,
        new_dialect: NewDialect | None,
        connect_timeout: float,
        clock: Callable[[], float],
    ) -> None:
        self.link: Link | None = link
        self.counters: Counter[str] = Counter()
        """Of links that are gone, and of what happened between them."""
        self.dropped_ms = 0.0
        self._heir = heir
        self._memory = memory
        self._activity = activity
        self._slug = slug
        self._options = options
        self._new_link = new_link
        self._new_dialect = new_dialect
        self._clock = clock
        self._overlaps = link.dialect.capabilities.successor_overlaps
        self._recovery = Recovery(overlaps=self._overlaps, connect_timeout=connect_timeout)
        self._next: Successor | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._handle = self._refused_handle = ""
        self._why = SessionClosed("")
        self._turned_away = False  # the latest try was not let through: its number is known, and comes again
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None

    @property
    def planned(self) -> bool:
        """The link in use was closed for another one, and nobody is to notice."""
        return self._recovery.phase is Phase.INSTEAD

    @property
    def beside(self) -> bool:
        """Another link is being opened beside the one in use."""
        return self._recovery.phase is Phase.BESIDE

    # --- what happens -------------------------------------------------------------------------------------------------

    def lost(self, closed: SessionClosed, error: AgentError | None) -> bool:
        """The link in use has ended by itself, with this error. False: there will be no other."""
        if self._new_dialect is None or not closed.again:
            return False
        log.warning("session lost", provider=self._slug, reason=closed.reason)
        self.counters["sessions_lost"] += 1
        self._why, self._turned_away = closed, False
        self._retire()
        action = self._recovery.lost(self._clock())
        if action is Action.GIVE_UP:
            return False
        if error is not None:
            self._heir.tell(replace(error, fatal=False))
        if self._next is not None:
            self._heir.tell(Reconnecting(self._recovery.tries))
        self._do(action)
        return True

    def settle(self) -> None:
        """Re-arm the timer: something has happened."""
        at = self._recovery.get_timer(self._lifetime, self._activity.quiet_at())
        if at == self._timer_at:
            return
        self._disarm()
        if at is not None:
            self._timer_at = at
            self._timer = asyncio.get_running_loop().call_later(max(0.0, at - self._clock()), self._ring)

    def over(self) -> None:
        """No other link is to follow."""
        self._recovery.over()
        self._disarm()
        if self._next is not None and self._next.task is not None:
            self._next.task.cancel()

    async def close(self) -> None:
        """Within a second everything is closed."""
        self.over()
        opening = self._next.task if self._next is not None else None
        ends = [*self._retiring, *([opening] if opening else []), *([self.link.close()] if self.link else [])]
        await asyncio.gather(*ends, return_exceptions=True)

    # --- the time -----------------------------------------------------------------------------------------------------

    @property
    def _lifetime(self) -> Lifetime | None:
        return self.link.dialect.lifetime if self.link is not None and self._new_dialect is not None else None

    def _ring(self) -> None:
        self._timer = self._timer_at = None
        self._do(self._recovery.ring(self._clock(), self._lifetime, self._activity.quiet_at()))
        self._heir.wake()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._timer_at = None

    def _do(self, action: Action) -> None:
        if action is Action.OPEN:
            if self._recovery.phase is Phase.OPENING and not self._turned_away:
                self._heir.tell(Reconnecting(self._recovery.tries))
            self._open()
        elif action is Action.REPLACE:
            self._retire()
            self._open()
        self.settle()

    # --- one after the other ------------------------------------------------------------------------------------------

    def _handle_of_link(self) -> None:
        if self.link is not None:
            self._handle = self.link.dialect.resume_handle

    def _retire(self) -> None:
        """Close the link in use, in the background."""
        self._handle_of_link()
        link, self.link = self.link, None
        if link is not None:
            self._part_with(link, in_use=True)

    def _part_with(self, link: Link, *, in_use: bool) -> None:
        self.counters.update(link.dialect.counters)
        self.dropped_ms += link.dropped_ms
        link.dialect.close(self._clock())
        link.after()
        self._heir.parted(link, in_use=in_use)
        task = asyncio.create_task(link.close())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _open(self) -> None:
        assert self._new_dialect is not None
        self._handle_of_link()
        handle = "" if self._handle == self._refused_handle else self._handle
        history = self._memory.history()
        options = replace(self._options, instructions=self._memory.instructions, history=history, resume_handle=handle)
        try:
            dialect = self._new_dialect(options)
        except SipbridgeError as error:
            self._failed(AgentStartError(str(error), code=error.label))
            return
        successor = self._next = Successor(self._new_link(dialect), options, self._memory.version)
        successor.task = asyncio.create_task(self._connect(successor))

    async def _connect(self, successor: Successor) -> None:
        seconds = self._recovery.seconds(self._clock())
        try:
            if not self._overlaps and self._retiring:
                await asyncio.wait(self._retiring)  # which go on if this is cancelled
            await successor.link.open(seconds)
        except AgentStartError as error:
            self._next = None
            if successor.options.resume_handle and successor.link.connected and error.code != "timeout":
                # It took the connection and not the session: perhaps for the handle, which lives for a while only.
                self._refused_handle = successor.options.resume_handle
                self.counters["resume_handles_refused"] += 1
                self._open()
            else:
                self._failed(error)
        except Exception:
            self._next = None
            log.exception("session not opened", provider=self._slug)
            self._failed(AgentStartError("not opened", code="internal"))
        else:
            self._next = None
            self._opened(successor)
        self._heir.wake()

    def _failed(self, error: AgentStartError) -> None:
        known, self._turned_away = self._turned_away, error.code == TURNED_AWAY
        if not (known and self._turned_away):
            self.counters["successions_failed"] += 1
            log.warning("session not opened", provider=self._slug, code=error.code, error=str(error))
        action = self._recovery.failed(self._clock(), again=error.again, turned_away=self._turned_away)
        if action is Action.GIVE_UP:
            self._heir.tell(AgentError(str(error), error.code, fatal=True))
            self._heir.tell(SessionClosed(self._why.reason or error.code, again=error.again))
        else:
            self._do(action)

    def _opened(self, successor: Successor) -> None:
        now = self._clock()
        lifetime = self._lifetime
        quiet_at = self._activity.quiet_at()
        missed = successor.version != self._memory.version or quiet_at is None or quiet_at > now
        stale = missed and (lifetime is None or now < forced_at(lifetime))
        action = self._recovery.opened(now, stale=stale)
        if action is Action.DISCARD:
            self.counters["successors_discarded"] += 1
            self._part_with(successor.link, in_use=False)
        elif action is Action.SWITCH:
            self.counters["sessions_succeeded"] += 1
            self._retire()
            self.link = successor.link
            self._heir.replaced(successor)
        self.settle()
