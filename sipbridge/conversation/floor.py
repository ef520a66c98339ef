"""Waiting for the floor, and taking it when no agent can: what a conversation does around a `Turn` that takes time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from sipbridge.audio import AudioFormat
from sipbridge.conversation.handover import Legs
from sipbridge.conversation.sounds import Sounds
from sipbridge.media.convert import Converter
from sipbridge.prompts import load_prompt
from sipbridge.turn import Turn

_LONGEST_S = 30.0
"""Of what is waited for until it was heard."""


class Floor:
    def __init__(
        self,
        turn: Turn,
        legs: Legs,
        sounds: Sounds,
        clock: Callable[[], float],
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._turn = turn
        self._legs = legs
        self._sounds = sounds
        self._clock = clock
        self._log = log
        self._moved = asyncio.Event()

    def moved(self) -> None:
        """Something has happened that somebody may be waiting for."""
        self._moved.set()

    async def until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Return when the condition holds, or when it has not for so long, which should not be."""
        if not await self.happens(condition, seconds):
            self._log.warning("gave up waiting", seconds=seconds)

    async def happens(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Return when the condition holds, or when it has not for so long."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True

    async def until_silent(self) -> None:
        await self.until(lambda: self._turn.silent, _LONGEST_S)

    async def until_said(self, ask: Callable[[], None], seconds: float) -> bool:
        """`ask` has an agent say something, which begins within so many seconds; return when that has been heard, and
        whether there was a word of it."""
        turn = self._turn
        replies, spoken = turn.replies, turn.spoken
        ask()
        await self.until(lambda: turn.replies > replies, seconds)
        await self.until_silent()
        return turn.spoken > spoken

    async def until_heard(self) -> None:
        """Until all that has come was heard; more may be on its way."""
        await self.until(lambda: self._turn.heard, _LONGEST_S)

    def say_prompt(self, name: str) -> None:
        """A sentence that ships with sipbridge, for when no agent can speak."""
        self.say(f"prompt-{name}", partial(load_prompt, name))

    def say(self, name: str, sound: Callable[[int], bytes]) -> None:
        """A sentence that no agent speaks, as if one did. `name` is that of the reply and its item, `sound` gives PCM
        at a rate."""
        stream = self._legs.addressed.stream
        if stream is None:
            return
        _, downlink = self._legs.addressed.formats
        data = Converter(AudioFormat("pcm16", downlink.rate), downlink).process(sound(downlink.rate))
        if self._turn.may_play(name, name, len(data), self._clock(), ours=True):
            self._sounds.give_way()
            self._turn.reply_ended(name)
            stream.play(data, name, name)
            stream.finish(name)
