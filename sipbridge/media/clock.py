"""The engine's clock: ticks of 5 ms by absolute deadlines, and whose turn it is at each. Keeps no time of its own."""

from __future__ import annotations

from typing import Generic, TypeVar

TICK_SECONDS = 0.005
PHASES = 4
# A clock that is late makes up for it, two packets of each leg at most. Beyond that the time is lost: a burst would
# only fill the jitter buffer at the other end.
_MAX_CATCH_UP_TICKS = 8

_T = TypeVar("_T")


class TickClock:
    def __init__(self, now: float) -> None:
        self.tick = 0
        """How many ticks there were."""
        self.late_max = 0.0
        """The longest, in seconds, that a tick was behind its time."""
        self.stalled_ms = 0
        """Time that had to be given up."""
        self._epoch = now  # when tick 0 was due; moves when time is given up

    def restart(self, now: float) -> None:
        """The next tick is one tick from now."""
        self._epoch = now - self.tick * TICK_SECONDS

    @property
    def deadline(self) -> float:
        """Of the next tick."""
        return self._epoch + (self.tick + 1) * TICK_SECONDS

    def step(self, now: float) -> tuple[float, int]:
        """The next tick is here: by how many seconds it is late, and how many ms have been given up because of that."""
        late = now - self.deadline
        self.tick += 1
        if late > self.late_max:
            self.late_max = late
        if late <= _MAX_CATCH_UP_TICKS * TICK_SECONDS:
            return late, 0
        ticks = int(late / TICK_SECONDS)  # whole ticks, so that each leg keeps its place
        self._epoch += ticks * TICK_SECONDS
        given_up = round(ticks * TICK_SECONDS * 1000)
        self.stalled_ms += given_up
        return late - ticks * TICK_SECONDS, given_up


class Rota(Generic[_T]):
    """Who is due at which tick. Newcomers go to the phase that fewest have, so that no burst of packets leaves at
    once."""

    def __init__(self) -> None:
        self._due: dict[int, list[_T]] = {}
        self._phases = [0] * PHASES

    def enter(self, member: _T, tick: int) -> int:
        """First due within the next PHASES ticks after `tick`. The phase, to be handed back to `leave`."""
        phase = self._phases.index(min(self._phases))
        self._phases[phase] += 1
        first = tick + 1
        self.put(member, first + (phase - first) % PHASES)
        return phase

    def leave(self, phase: int) -> None:
        """Its member is still named by `take` once more."""
        self._phases[phase] -= 1

    def put(self, member: _T, tick: int) -> None:
        self._due.setdefault(tick, []).append(member)

    def take(self, tick: int) -> list[_T]:
        return self._due.pop(tick, [])
