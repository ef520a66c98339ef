"""The limits of one call, and what the caller hears when one is reached."""

from __future__ import annotations

import asyncio

from sipbridge.conversation.agents import Agents
from sipbridge.conversation.context import CallContext
from sipbridge.outcome import Ended


class Limits:
    def __init__(self, call: CallContext, agents: Agents, *, max_seconds: float) -> None:
        """`max_seconds`: the longest that any call of this node may last."""
        self._call = call
        self._agents = agents
        self._max_seconds = max_seconds

    async def watch(self) -> None:
        """The longest that a call may last, and a word before it is cut."""
        await asyncio.sleep(self._max_seconds)
        call, farewell = self._call, self._call.tenant.config.agent.farewell
        if farewell is not None and call.answered and self._agents.ready:
            replies = call.turn.replies
            self._agents.say(farewell)
            await call.floor.until_reply(replies, call.tenant.config.deadlines.reply_seconds)
        else:
            call.floor.say_prompt("goodbye")
        call.turn.close_floor()
        await call.floor.until_silent()
        call.end(Ended.TOO_LONG, f"{self._max_seconds:g} s")
