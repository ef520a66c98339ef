"""How much speech a leg gathers before it begins to play it.

Most models make speech much faster than it is heard: what they say may begin with the first piece. One that speaks in
real time (full duplex, or a slow voice) has nothing in hand: each piece that comes late is a hole in a word. Which of
the two it is shows in how the pieces come, never in a name: where the ring fills, there is nothing to wait for; where
it runs dry in the middle of an item and then goes on, a little has to be gathered, as much as would have bridged that
hole, within bounds. What is not needed for long is given back.

Keeps no time: the owner says how much of it passes.
"""

from __future__ import annotations

LEAST_MS = 10
MOST_MS = 120
_STEP_MS = 40  # more at once only where the holes are longer again and again
_PLENTY_MS = 500  # no model that speaks in real time is ever so far ahead
_CALM_MS = 10_000
_GIVEN_BACK_MS = 10


class Cushion:
    __slots__ = ("_calm_ms", "ms")

    def __init__(self) -> None:
        self.ms = 0
        """What to gather now, counted from the first piece; 0: play at once."""
        self._calm_ms = 0.0

    def hole(self, ms: float) -> None:
        """Speech stopped in the middle of an item and has now gone on. A hole that no cushion could have bridged (the
        model was thinking, its line was down) says little."""
        step = LEAST_MS if ms > MOST_MS else min(max(round(ms), LEAST_MS), _STEP_MS)
        self.ms = max(self.ms, LEAST_MS) if ms > MOST_MS else min(self.ms + step, MOST_MS)
        self._calm_ms = 0.0

    def arrived(self, ms: float, waiting_ms: float) -> None:
        """A piece of so many milliseconds; with it so much waits to be heard."""
        if not self.ms:
            return
        if waiting_ms >= _PLENTY_MS:
            self.ms = 0
            return
        self._calm_ms += ms
        while self._calm_ms >= _CALM_MS:
            self._calm_ms -= _CALM_MS
            self.ms = self.ms - _GIVEN_BACK_MS if self.ms >= LEAST_MS + _GIVEN_BACK_MS else 0
