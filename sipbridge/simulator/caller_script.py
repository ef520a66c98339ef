"""What a simulated caller does in a call, step by step. Pure: told what is heard and what time it is.

It behaves as people do: hears the greeting out, says its sentence, waits for the answer, may interrupt it, presses its
keys one by one, each after the last was answered, and hangs up.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

TURN_GAP_S = 0.9
"""So long a quiet means that the other side has finished."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Hear the other side out."""

    to: str
    """What is awaited: `greeting`, `reply`, `key`."""
    within_s: float
    """Go on where nothing is heard by then."""
    interrupt_after_s: float | None = None
    """Go on while it still speaks, after so much of it."""


@dataclass(frozen=True, slots=True)
class Say:
    """Say the sentence."""

    interrupting: bool = False


@dataclass(frozen=True, slots=True)
class Press:
    key: str


@dataclass(frozen=True, slots=True)
class HangUp:
    pass


Action: TypeAlias = Say | Press | HangUp
Step: TypeAlias = Listen | Action


def steps_for(
    *,
    speaks: bool,
    keys: str = "",
    interrupt_after_s: float | None = None,
    greeting_within_s: float = 5.0,
    reply_within_s: float = 10.0,
) -> list[Step]:
    """The usual call. Without a sentence and keys there is nothing to do but listen until the script's end."""
    if not speaks and not keys:
        return []
    steps: list[Step] = [Listen("greeting", greeting_within_s)]
    if speaks:
        steps += [Say(), Listen("reply", reply_within_s, interrupt_after_s)]
        if interrupt_after_s is not None:
            steps += [Say(interrupting=True), Listen("reply", reply_within_s)]
    for key in keys:
        steps += [Press(key), Listen("key", reply_within_s)]
    return [*steps, HangUp()]


class Script:
    """Takes one step after the other; `seconds` after the start it hangs up wherever it is.

    After every call, take `next_action` until it is None and arm a timer for `get_timer`. `done` must be told when the
    sentence or the key of the last action has been sent.
    """

    def __init__(self, steps: list[Step], *, seconds: float, turn_gap_s: float = TURN_GAP_S) -> None:
        self._steps = deque(steps)
        self._turn_gap_s = turn_gap_s
        self._seconds = seconds
        self._actions: deque[Action] = deque()
        self._step: Step | None = None
        self._entered = 0.0
        self._hang_up_at = float("inf")
        self._speaking = False
        self._began: float | None = None
        self._quiet_since = 0.0
        self._over = False

    def start(self, now: float) -> None:
        self._hang_up_at = now + self._seconds
        self._quiet_since = now
        self._next(now)

    def speech_started(self, at: float, now: float) -> None:
        self._speaking = True
        if self._began is None:
            self._began = at
        self.handle_timer(now)

    def speech_ended(self, at: float, now: float) -> None:
        self._speaking = False
        self._quiet_since = at
        self.handle_timer(now)

    def done(self, now: float) -> None:
        if isinstance(self._step, Say | Press):
            self._next(now)

    def get_timer(self) -> float | None:
        if self._over:
            return None
        return min(self._hang_up_at, self._ends_at()) if isinstance(self._step, Listen) else self._hang_up_at

    def handle_timer(self, now: float) -> None:
        if self._over:
            return
        if now >= self._hang_up_at:
            self._finish()
        elif isinstance(self._step, Listen) and now >= self._ends_at():
            self._next(now)

    def next_action(self) -> Action | None:
        return self._actions.popleft() if self._actions else None

    def _ends_at(self) -> float:
        """When this listening ends, as things are now."""
        step = self._step
        assert isinstance(step, Listen)
        if self._began is None:
            return self._entered + step.within_s
        if not self._speaking:
            return self._quiet_since + self._turn_gap_s
        return float("inf") if step.interrupt_after_s is None else self._began + step.interrupt_after_s

    def _next(self, now: float) -> None:
        self._step = self._steps.popleft() if self._steps else None
        self._entered = now
        # Who speaks already when we begin to listen is heard from now on.
        self._began = now if self._speaking else None
        if isinstance(self._step, HangUp):
            self._finish()
        elif isinstance(self._step, Say | Press):
            self._actions.append(self._step)

    def _finish(self) -> None:
        self._over = True
        self._actions.append(HangUp())
