"""What the caller hears while his agent can't go on: a word, when it has been silent for a moment, and only one.

That begins with an agent that has failed (`failure.py`), and is over when one speaks; or with one that tries to get
another session by itself, where it had broken off, or can't go on when all that it had said has been heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from sipbridge.conversation.context import CallContext
from sipbridge.conversation.sounds import sound_of
from sipbridge.prompts import load_prompt

_SILENCE_S = 1.0
"""After a failure, until the caller hears a word: somebody who stands in may be quicker, and then none is needed."""


class Meanwhile:
    def __init__(
        self, call: CallContext, next_prompt: Callable[[], str | None], agent_is_out: Callable[[], bool]
    ) -> None:
        """`next_prompt`: the prompt that the tenant's `fallback` has for him next, if it is one. `agent_is_out`:
        whoever has the line tries to get another session."""
        self._call = call
        self._next_prompt = next_prompt
        self._agent_is_out = agent_is_out
        self.said = False
        """He has had his word."""
        self._sayings = 0
        self._silence: asyncio.Task[None] | None = None
        """Set while he waits for a word because of a failure."""

    # --- an agent has failed ------------------------------------------------------------------------------------------

    def begins(self) -> None:
        if self._silence is None and self._call.answered:
            self.said = False
            self._silence = self._call.spawn(self._break_silence())

    def over(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    async def _break_silence(self) -> None:
        await asyncio.sleep(_SILENCE_S)
        await self._call.floor.until_heard()
        if not self.said:
            self.word()

    # --- one tries to get another session -----------------------------------------------------------------------------

    def session_lost(self) -> None:
        turn = self._call.turn
        self._call.spawn(self._one_moment(broke_off=turn.broke_off, spoken=turn.spoken))

    async def _one_moment(self, *, broke_off: bool, spoken: int) -> None:
        """Unless it speaks again by then; or can again, where it had not broken off: nobody has missed anything."""
        turn = self._call.turn
        await self._call.floor.until_heard()
        if (self._agent_is_out() or broke_off) and turn.spoken == spoken and not turn.closing:
            self.word()

    # --- words --------------------------------------------------------------------------------------------------------

    def word(self) -> None:
        """It takes a moment: in the words of the prompt that would come next, if it is one."""
        self.begins()
        path = self._next_prompt()
        self._say(partial(load_prompt, "one-moment") if path is None else sound_of(path))

    def say(self, path: str) -> None:
        """A prompt of the tenant's."""
        self._say(sound_of(path))

    def _say(self, sound: Callable[[int], bytes]) -> None:
        self.said = True
        self._sayings += 1
        self._call.floor.say(f"fallback-{self._sayings}", sound)
