"""The timers of RFC 3261 (table 4) and RFC 6026 as data, and the schedule that finds the next one to fire.

A protocol object never starts a real timer: it tells the time at which it wants to be called (`get_timer()`) and is
called with the time it is (`handle_timer(now)`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Timers:
    """The base values, in seconds; everything else is derived from them."""

    t1: float = 0.5
    """Estimate of the round-trip time."""
    t2: float = 4.0
    """Longest interval between repetitions of a non-INVITE request or of a response to INVITE."""
    t4: float = 5.0
    """How long a message stays in the network."""
    d: float = 32.0
    """How long an INVITE client transaction waits for repetitions of a failure over UDP (at least 32 s)."""
    c: float = 180.0
    """How long a ringing outgoing call may stay without a further provisional response (§16.6 says so for proxies)."""

    failover: float = 5.0
    """How long a server may say nothing at all to a new request before the next one is asked, where there is one. RFC
    3263 §4.3 lets 64*T1 pass; nobody listens to silence on the phone for 32 s."""

    @property
    def transaction_timeout(self) -> float:
        """64*T1: Timers B, F, H, J, L and M, and the wait for the ACK of a 2xx (§13.3.1.4)."""
        return 64 * self.t1


class Timer(Enum):
    A = "A"
    B = "B"
    D = "D"
    E = "E"
    F = "F"
    G = "G"
    H = "H"
    I = "I"  # noqa: E741 - the RFC's name
    J = "J"
    K = "K"
    L = "L"
    M = "M"


@dataclass(frozen=True, slots=True)
class TimerRule:
    """How long a timer runs over UDP and over a reliable transport. None: it does not run; 0: it fires at once."""

    unreliable: Callable[[Timers], float]
    reliable: Callable[[Timers], float | None]


def _at_once(_: Timers) -> float:
    return 0.0


def _never(_: Timers) -> None:
    return None


def _timeout(timers: Timers) -> float:
    return timers.transaction_timeout


RULES: dict[Timer, TimerRule] = {
    Timer.A: TimerRule(lambda timers: timers.t1, _never),  # INVITE request repetition, UDP only
    Timer.B: TimerRule(_timeout, _timeout),  # INVITE transaction timeout
    Timer.D: TimerRule(lambda timers: timers.d, _at_once),  # wait for repetitions of a failure
    Timer.E: TimerRule(lambda timers: timers.t1, _never),  # non-INVITE request repetition, UDP only
    Timer.F: TimerRule(_timeout, _timeout),  # non-INVITE transaction timeout
    Timer.G: TimerRule(lambda timers: timers.t1, _never),  # failure repetition, UDP only
    Timer.H: TimerRule(_timeout, _timeout),  # wait for the ACK of a failure
    Timer.I: TimerRule(lambda timers: timers.t4, _at_once),  # wait for repetitions of that ACK
    Timer.J: TimerRule(_timeout, _at_once),  # wait for repetitions of a non-INVITE request
    Timer.K: TimerRule(lambda timers: timers.t4, _at_once),  # wait for repetitions of a response
    Timer.L: TimerRule(_timeout, _timeout),  # RFC 6026: wait for repetitions of an accepted INVITE
    Timer.M: TimerRule(_timeout, _timeout),  # RFC 6026: wait for repetitions of a 2xx, and for forked ones
}


class Timed(Protocol):
    """Something that wants to be called at a time."""

    def get_timer(self) -> float | None: ...

    def handle_timer(self, now: float) -> None: ...


class Schedule:
    """Which of many timed objects is due next.

    Call `update(owner)` after anything that may have changed its `get_timer()`. A heap with lazy deletion: entries
    that no longer hold are skipped, and the heap is rebuilt when they outnumber the others. They keep no owner alive.
    """

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        """`changed` is called whenever a deadline was set or dropped."""
        self._changed = changed
        self._heap: list[tuple[float, int]] = []
        self._entries: dict[Timed, tuple[float, int]] = {}
        self._owners: dict[int, Timed] = {}
        self._serial = count()

    def __len__(self) -> int:
        return len(self._entries)

    def update(self, owner: Timed) -> None:
        deadline = owner.get_timer()
        known = self._entries.get(owner)
        if deadline == (None if known is None else known[0]):
            return
        self._changed()
        self.cancel(owner)
        if deadline is None:
            return
        entry = (deadline, next(self._serial))
        self._entries[owner] = entry
        self._owners[entry[1]] = owner
        heappush(self._heap, entry)
        if len(self._heap) > 64 and len(self._heap) > 2 * len(self._entries):
            self._heap = list(self._entries.values())
            heapify(self._heap)

    def cancel(self, owner: Timed) -> None:
        entry = self._entries.pop(owner, None)
        if entry is not None:
            del self._owners[entry[1]]

    def next_deadline(self) -> float | None:
        while self._heap and self._heap[0][1] not in self._owners:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> Timed | None:
        """One owner whose time has come; after serving it the caller must `update()` it."""
        deadline = self.next_deadline()
        if deadline is None or deadline > now:
            return None
        owner = self._owners[heappop(self._heap)[1]]
        self.cancel(owner)
        return owner
