"""CallJournal: one call's facts, from the loop that the audio lives on to the thread that keeps them.

Pure: it has no clock and no thread of its own. `note` is called on the loop, costs a few microseconds and never raises;
`take` is called in the thread, and makes entries of what was noted since. What waits in between is bounded
(`history.queue_max`): where nobody takes it, interim results and notes are given up first, then turns, then all else;
never how the call began and how it ended, which says what was given up.

Nothing leaves by `take` but what the tenant's storage level keeps (`privacy.py`).
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sipbridge.history.facts import Ended, Entry, Fact, Noted, Started, Turn
from sipbridge.history.privacy import Filter, Storage

_MOST_EXPENDABLE = 50_000
"""Interim results, notes and turns of one call: who never hangs up fills no disk."""
_NOTES, _TURNS, _REST, _ENDS = range(4)
"""Given up in this order; the last never."""


def new_record(now: float, random_bits: Callable[[int], int] = secrets.randbits) -> str:
    """Names a call that begins at this Unix time: 32 hexadecimal digits, the milliseconds first, so that they sort by
    it (the order of RFC 9562 §5.7, without its version and variant)."""
    return f"{int(now * 1000) & 0xFFFFFFFFFFFF:012x}{random_bits(80):020x}"


@dataclass(frozen=True, slots=True)
class _Waiting:
    seq: int
    at: float
    fact: Fact


class CallJournal:
    """A `Journal`. `wake` is told, on the loop, when there is something to take where there was nothing. It may be
    noted in after the call's end, and from other threads."""

    def __init__(
        self,
        *,
        wall: float,
        clock: Callable[[], float],
        storage: Storage = "everything",
        queue_max: int = 1000,
        node: str = "",
        wake: Callable[[CallJournal], None] = lambda journal: None,
    ) -> None:
        """`wall` is the time by the clock on the wall, `clock` one that nobody sets: entries have the former's time and
        go on with the latter's. `node` is who notes."""
        self.record = new_record(wall)
        self.began_at = wall
        self.storage: Storage = storage
        self._filter = Filter(storage)
        self._clock = clock
        self._offset = wall - clock()
        self._queue_max = queue_max
        self._node = node
        self._wake = wake
        self._lock = threading.Lock()
        self._queues: tuple[deque[_Waiting], ...] = (deque(), deque(), deque(), deque())
        self._count = 0
        self._seq = 0
        self._left_out: Counter[str] = Counter()

    def note(self, fact: Fact, *, ago: float = 0.0) -> None:
        """It has happened now, or so many seconds ago."""
        if not self._filter.keeps(fact):
            return
        rank = _rank(fact)
        at = self._clock() + self._offset - ago
        with self._lock:
            waited = self._count
            seq, self._seq = self._seq, self._seq + 1
            if rank is not _ENDS and not self._room(rank):
                self._left_out[fact.kind] += 1
                return
            self._queues[rank].append(_Waiting(seq, at, fact))
            self._count += 1
        if not waited:
            self._wake(self)

    def _room(self, rank: int) -> bool:
        """Whether there is some for what is of this rank; made where something of no higher one waits."""
        if rank <= _TURNS and self._seq > _MOST_EXPENDABLE:
            return False
        if self._count < self._queue_max:
            return True
        for queue in self._queues[: rank + 1]:
            if queue:
                self._left_out[queue.popleft().fact.kind] += 1
                self._count -= 1
                return True
        return False

    @property
    def waiting(self) -> int:
        """How many facts nobody has taken yet."""
        return self._count

    @property
    def left_out(self) -> int:
        """How many there was no room for."""
        return self._left_out.total()

    def take(self, most: int | None = None) -> list[Entry]:
        """The entries of what was noted since, in their order; of those the first `most`, and then there may be more,
        of which `wake` does not tell."""
        with self._lock:
            queues, self._queues = self._queues, (deque(), deque(), deque(), deque())
            self._count = 0
        taken = sorted((waiting for queue in queues for waiting in queue), key=lambda waiting: waiting.seq)
        if most is not None and len(taken) > most:
            self._give_back(taken[most:])
            taken = taken[:most]
        return [
            Entry(self.record, each.seq, round(each.at, 6), each.fact.kind, self._data(each.fact)) for each in taken
        ]

    def _give_back(self, taken: list[_Waiting]) -> None:
        """Before what was noted meanwhile."""
        with self._lock:
            for waiting in reversed(taken):
                self._queues[_rank(waiting.fact)].appendleft(waiting)
            self._count += len(taken)

    def _data(self, fact: Fact) -> dict[str, Any]:
        if isinstance(fact, Started) and not fact.node:
            fact = replace(fact, node=self._node)
        data = self._filter.data(fact)
        if isinstance(fact, Ended) and self._left_out:
            data["left_out"] = dict(self._left_out)
        return data


def _rank(fact: Fact) -> int:
    match fact:
        case Started() | Ended():
            return _ENDS
        case Noted() | Turn(final=False):
            return _NOTES
        case Turn():
            return _TURNS
        case _:
            return _REST
