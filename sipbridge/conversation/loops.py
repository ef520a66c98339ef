"""Are these two machines that go round in circles? Pure, in the time of `now`.

A voice menu, an announcement or another agent at the far end answers for ever, and each answer is paid for. Two signs:
nothing new is said any more, by either side; or the far end never needs a moment to think and never interrupts, turn
after turn.
"""

from __future__ import annotations

from collections import deque

from sipbridge.wording import plain_words

_ALIKE = 0.8
"""Share of words in common (Dice) from which two sentences are the same again."""
_MOST_WORDS = 200
"""Of one sentence that are compared."""
_QUICK_S = 2.0
"""An answer that begins within this was not thought about."""
_PATIENCE = 5
"""Times `turns` of quick answers; people are quick, too, but not for so long."""


class _Side:
    """What one side has said lately, and for how many turns it has been nothing new."""

    def __init__(self, turns: int) -> None:
        self._said: deque[frozenset[str]] = deque(maxlen=turns)
        self.stale = 0

    def said(self, text: str) -> None:
        words = frozenset(plain_words(text[: _MOST_WORDS * 20])[:_MOST_WORDS])
        if not words:
            return
        self.stale = self.stale + 1 if any(_alike(words, other) for other in self._said) else 0
        self._said.append(words)


def _alike(one: frozenset[str], other: frozenset[str]) -> bool:
    return 2 * len(one & other) >= _ALIKE * (len(one) + len(other))


class LoopDetector:
    def __init__(self, turns: int) -> None:
        self._turns = turns
        self._caller, self._agent = _Side(turns), _Side(turns)
        self._heard_at: float | None = None
        self._quick = 0

    def caller_said(self, text: str) -> None:
        self._caller.said(text)

    def agent_said(self, text: str) -> None:
        self._agent.said(text)

    def agent_heard(self, now: float) -> None:
        """All that the agent had to say has been heard."""
        self._heard_at = now

    def caller_began(self, now: float) -> None:
        """The far end begins to speak; before the agent has been heard to its end it interrupts."""
        quick = self._heard_at is not None and now - self._heard_at < _QUICK_S
        self._quick = self._quick + 1 if quick else 0
        self._heard_at = None

    @property
    def found(self) -> str:
        """What shows that it is a loop. "": nothing."""
        turns, caller = self._turns, self._caller.stale
        # An agent finds ever new words for the same; a machine at the far end doesn't.
        if caller >= turns and (self._agent.stale >= turns or caller >= 2 * turns):
            return f"nothing new was said in {caller} turns"
        if self._quick >= _PATIENCE * turns:
            return f"{self._quick} turns at a machine's pace"
        return ""
