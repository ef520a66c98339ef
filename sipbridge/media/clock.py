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


class Turn(Generic[_T]):
    """A member's place on the rota."""

    __slots__ = ("due", "fair", "last", "member", "period", "phase")

    def __init__(self, member: _T, phase: int, first: int, period: int) -> None:
        self.member = member
        self.phase = phase
        self.period = period
        """In ticks; a change holds from the next packet on."""
        self.due: int | None = first
        """The tick of the next packet."""
        self.fair = first
        """Which it would be had nothing ever been hastened."""
        self.last = first
        """The tick at which it was taken last."""


class Rota(Generic[_T]):
    """Who is due at which tick. Newcomers go to the phase that fewest have, so that no burst of packets leaves at once.

    A packet may be sent before its time (`hasten`). Timestamps count samples, so the stream is then ahead of the clock.
    It stays ahead for as long as there is speech, always by less than one packet; with the first pause in it, a packet
    of silence waits for its fair time again. So nothing adds up, however often speech begins.
    """

    def __init__(self) -> None:
        self._due: dict[int, list[Turn[_T]]] = {}
        self._phases = [0] * PHASES

    def enter(self, member: _T, tick: int, period: int) -> Turn[_T]:
        """First due within the next PHASES ticks after `tick`. To be handed back to `leave`."""
        phase = self._phases.index(min(self._phases))
        self._phases[phase] += 1
        first = tick + 1
        turn = Turn(member, phase, first + (phase - first) % PHASES, period)
        self._put(turn, turn.fair)
        return turn

    def leave(self, turn: Turn[_T]) -> None:
        self._phases[turn.phase] -= 1
        turn.due = None

    def take(self, tick: int) -> list[_T]:
        """Whose time it is. Then say of each that stays that it goes on: `again`."""
        members: list[_T] = []
        for turn in self._due.pop(tick, ()):
            if turn.due == tick:  # else it has been moved since
                turn.due = None
                turn.last = tick
                members.append(turn.member)
        return members

    def again(self, turn: Turn[_T], *, silent: bool) -> None:
        """A packet was sent in its turn, of silence or not."""
        turn.fair += turn.period
        self._put(turn, turn.fair if silent else turn.last + turn.period)

    def hasten(self, turn: Turn[_T], tick: int) -> bool:
        """Let it be due right after `tick`, or as soon as it is less than one period before its fair time. False: it is
        not due any later."""
        due = max(tick + 1, turn.fair - turn.period + 1)
        if turn.due is None or turn.due <= due:
            return False
        self._put(turn, due)
        return True

    def _put(self, turn: Turn[_T], due: int) -> None:
        turn.due = due
        self._due.setdefault(due, []).append(turn)
