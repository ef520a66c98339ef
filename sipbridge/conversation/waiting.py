"""What the caller hears while a tool takes its time: a sound, over and over, or a word of the agent's.

It begins when the tool has been running for so long and all that was said has been heard; it ends with the agent's
next word, with the caller's, or when the agent should have spoken by now.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sipbridge.agent import AgentEvent, ToolCall, UserSpeechStarted
from sipbridge.conversation.context import CallContext
from sipbridge.conversation.sounds import Sound, sound_of, waiting_tone
from sipbridge.tenant_file.sounds import TONE

_LONGEST_REPLY_S = 60.0


class Waiting:
    """An `Observer`. `say` has the agent say words while it waits for the result of a call."""

    def __init__(self, call: CallContext, say: Callable[[ToolCall, str], None]) -> None:
        config = call.tenant.config.tools.waiting
        self._call = call
        self._config = config
        self._say = say
        self._running = 0
        self._sound: Sound | None = None
        if config is not None and config.sound is not None:
            self._sound = waiting_tone if config.sound == TONE else sound_of(config.sound)

    @asynccontextmanager
    async def during(self, request: ToolCall) -> AsyncIterator[None]:
        if self._config is None:
            yield
            return
        watching = self._call.spawn(self._watch(request, self._config.after_seconds))
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            watching.cancel()
            if self._running == 0 and self._playing and self._call.record.outcome is None:
                self._call.spawn(self._end())

    async def _watch(self, request: ToolCall, after_seconds: float) -> None:
        await asyncio.sleep(after_seconds)
        turn = self._call.turn
        await self._call.floor.until(lambda: turn.heard, _LONGEST_REPLY_S)
        if self._config is not None and self._config.say is not None and not turn.closing:
            spoken, seconds = turn.spoken, self._call.tenant.config.deadlines.reply_seconds
            self._say(request, self._config.say)
            await self._call.floor.until(lambda: turn.spoken > spoken, seconds)
            await self._call.floor.until(lambda: turn.heard, _LONGEST_REPLY_S)
        legs = self._call.legs
        if turn.closing or legs.bridged or legs.consulting:
            return  # nobody waits for the agent any more
        if self._sound is not None and not self._call.sounds.playing:
            self._call.sounds.loop(self._sound)

    async def _end(self) -> None:
        """The agent's first word ends it; where there is none, time does."""
        replies, seconds = self._call.turn.spoken, self._call.tenant.config.deadlines.reply_seconds
        await self._call.floor.until(lambda: self._call.turn.spoken > replies, seconds)
        if self._running == 0:
            self.stop()

    def agent_event(self, event: AgentEvent) -> None:
        if isinstance(event, UserSpeechStarted):
            self.stop()

    @property
    def _playing(self) -> bool:
        return self._sound is not None and self._call.sounds.is_playing(self._sound)

    def stop(self) -> None:
        """The caller speaks: he is not to be talked over."""
        if self._playing:
            self._call.sounds.stop()
