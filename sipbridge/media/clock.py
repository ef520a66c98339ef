"""The engine's clock: ticks of 5 ms by absolute deadlines, and whose turn it is at each. Keeps no time of its own."""

from __future__ import annotations

from typing import Generic, TypeVar

TICK_SECONDS = 0.005
PHASES = 4
# A clock that is late makes up for it, two packets of each leg at most. Beyond that the time is lost: a burst would
# only fill the jitter buffer at the other end.
_MAX_CATCH_UP_TICKS = 8
_CROWD = 8  # that so many are due at one tick is nothing


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


class Place:
    """A place on the rota; members have one by being one."""

    __slots__ = ("due", "fair", "last", "period", "phase")

    def __init__(self, period: int) -> None:
        self.period = period
        """In ticks; a change holds from the next packet on."""
        self.phase = 0
        self.due: int | None = None
        """The tick of the next packet."""
        self.fair = 0
        """Which it would be had nothing ever been hastened."""
        self.last = 0
        """The tick at which it was taken last."""


_T = TypeVar("_T", bound=Place)


class Rota(Generic[_T]):
    """Who is due at which tick. Newcomers go to the phase that fewest have, so that no burst of packets leaves at once.

    A packet may be sent before its time (`hasten`). Timestamps count samples, so the stream is then ahead of the clock.
    It stays ahead for as long as there is speech, always by less than one packet; with the first pause in it, a packet
    of silence waits for its fair time again. So nothing adds up, however often speech begins.
    """

    def __init__(self) -> None:
        self._due: dict[int, list[_T]] = {}
        self._phases = [0] * PHASES

    def enter(self, place: _T, tick: int) -> None:
        """First due within the next PHASES ticks after `tick`. Until it is told to `leave`."""
        place.phase = self._phases.index(min(self._phases))
        self._phases[place.phase] += 1
        place.fair = tick + 1 + (place.phase - tick - 1) % PHASES
        self._put(place, place.fair)

    def leave(self, place: _T) -> None:
        self._phases[place.phase] -= 1
        place.due = None
        if not any(self._phases):
            self._due.clear()  # nobody is left for whom those ticks would come

    def take(self, tick: int) -> list[_T]:
        """Whose time it is. Then say of each that stays that it goes on: `again`."""
        places: list[_T] = []
        for place in self._due.pop(tick, ()):
            if place.due == tick:  # else it has been moved since
                place.due = None
                place.last = tick
                places.append(place)
        return places

    def again(self, place: _T, *, silent: bool) -> None:
        """A packet was sent in its turn, of silence or not."""
        place.fair += place.period
        self._put(place, place.fair if silent else place.last + place.period)

    def hasten(self, place: _T, tick: int) -> bool:
        """Let it be due right after `tick`, or as soon as it is less than one period before its fair time. Where many
        begin at once, the ticks after that take them in, each up to half more than its share: together they would stay
        so for as long as they speak. False: it is not due any earlier than before."""
        if place.due is None:
            return False
        most = max(_CROWD, sum(self._phases) * 3 // (PHASES * 2))
        for due in range(max(tick + 1, place.fair - place.period + 1), place.due):
            if len(self._due.get(due, ())) < most:
                self._put(place, due)
                return True
        return False

    def _put(self, place: _T, due: int) -> None:
        place.due = due
        self._due.setdefault(due, []).append(place)
