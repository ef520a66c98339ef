"""Holding: the caller hears music because the agent asked for it, and the agent goes on listening."""

from __future__ import annotations

import asyncio

from sipbridge import agent as model
from sipbridge.agent import AgentEvent
from sipbridge.conversation.context import CallContext
from sipbridge.history.facts import Noted


class Holding:
    """An `Observer`: speech of either side ends it."""

    def __init__(self, call: CallContext) -> None:
        self._call = call
        self._over: asyncio.Future[str] | None = None

    async def hold(self, seconds: float) -> str:
        """Until something ends it; returns what."""
        if self._over is not None:
            return "the caller is on hold already"
        await self._call.floor.until_silent()
        sounds = self._call.sounds
        self._over = asyncio.get_running_loop().create_future()
        sounds.loop(self._call.tenant.hold_music)
        self._call.journal.note(Noted("hold", "begins"))
        why = "the call is over"
        try:
            async with asyncio.timeout(seconds):
                why = await self._over
        except TimeoutError:
            why = f"{seconds:g} seconds are over"
        finally:
            self._over = None
            self._call.journal.note(Noted("hold", f"ends: {why}"))
            sounds.stop()
        return why

    def agent_event(self, event: AgentEvent) -> None:
        match event:
            case model.UserSpeechStarted():
                self.end("the caller speaks")
            case model.AssistantAudio():
                self.end("the agent speaks")
            case _:
                pass

    def end(self, why: str) -> None:
        """Nothing, where nobody is on hold."""
        if self._over is not None and not self._over.done():
            self._over.set_result(why)
