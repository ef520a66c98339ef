"""Where a call's facts go: a `Journal` takes them at once, and never raises or waits."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from sipbridge.history.facts import Entry, Fact


class Journal(Protocol):
    record: str
    """Names the call for good (`Entry.record`)."""

    began_at: float
    """Unix time, as the clock on the wall has it."""

    def note(self, fact: Fact, *, ago: float = 0.0) -> None:
        """It has happened now, or so many seconds ago. Called on the loop that the audio lives on: costs a few
        microseconds."""


class CallJournal:
    """One call's, between its loop and the history's thread. `wake` is told when something is there after nothing was.

    Time is the wall's when it begins, and goes on by `clock`, which nobody sets.
    """

    def __init__(
        self, *, queue_max: int, wake: Callable[[CallJournal], None], clock: Callable[[], float], wall: float
    ) -> None:
        self.record = new_record(wall)
        self._queue_max = queue_max
        self._wake = wake
        self._clock = clock
        self._wall_zero = wall - clock()
        self._seq = 0
        self._waiting: deque[Entry] = deque()
        self._woken = False
        self.left_out = 0

    def note(self, fact: Fact) -> None:
        if len(self._waiting) >= self._queue_max and fact.kind not in ("call.started", "call.ended"):
            self.left_out += 1
            return
        entry = Entry(self.record, self._seq, round(self._wall_zero + self._clock(), 6), fact.kind, fact.to_json())
        self._seq += 1
        self._waiting.append(entry)
        if not self._woken:
            self._woken = True
            self._wake(self)

    def take(self, most: int) -> list[Entry]:
        """The oldest that wait. In the history's thread; where `most` were taken there may be more."""
        self._woken = False  # before it looks: what is noted from here on wakes it again
        taken: list[Entry] = []
        while self._waiting and len(taken) < most:
            taken.append(self._waiting.popleft())
        return taken


def new_record(wall: float) -> str:
    """32 hexadecimal digits: milliseconds since 1970, and chance."""
    return f"{int(wall * 1000):012x}{secrets.token_hex(10)}"


class _Nowhere:
    record = ""
    began_at = 0.0

    def note(self, fact: Fact, *, ago: float = 0.0) -> None:
        pass


NOWHERE: Final[Journal] = _Nowhere()
"""History is switched off."""
