"""What is said to a caller on the house's behalf: by the agent in its own voice where it can, else by a sentence that
ships with sipbridge. The last of them is the goodbye when a limit is reached."""

from __future__ import annotations

from functools import partial

from sipbridge.conversation.agents import Agents
from sipbridge.conversation.context import CallContext
from sipbridge.conversation.transfers import Transfers
from sipbridge.outcome import Ended
from sipbridge.prompts import PROMPTS

_LET_FINISH_S = 10.0
"""For what is being said when an announcement is due. Then it comes as soon as the model lets it, and a goodbye at
once."""


class Announcements:
    def __init__(self, call: CallContext, agents: Agents, transfers: Transfers) -> None:
        self._call = call
        self._agents = agents
        self._transfers = transfers

    async def say(self, words: str | None, prompt: str) -> None:
        """`words`, or those of the prompt, when whoever speaks has finished; returns when they have been heard. The
        prompt itself is played where no agent says them in time. While the caller is being handed over it waits: he
        hears music, and whoever is asked is not to hear it in his place."""
        call, turn, floor = self._call, self._call.turn, self._call.floor
        await floor.happens(lambda: turn.silent, _LET_FINISH_S)
        await self._transfers.settled.wait()
        if self._agents.can_say:
            say = partial(self._agents.say, words or PROMPTS[prompt])
            if await floor.until_said(say, call.tenant.config.deadlines.reply_seconds):
                return
        floor.say_prompt(prompt)
        await floor.until_silent()

    async def _cut_short(self) -> None:
        """What is being said when a limit is reached may come to its end, but not for ever."""
        call = self._call
        if not await call.floor.happens(lambda: call.turn.silent, _LET_FINISH_S) and call.stream is not None:
            call.turn.cut_all()
            self._agents.cancel(call.discard())

    async def goodbye(self, ended: Ended, detail: str) -> None:
        """Say farewell, which nothing interrupts, and hang up when it has been heard. Does nothing where somebody is
        saying it already."""
        turn = self._call.turn
        if turn.closing:
            return
        turn.close_floor()
        await self._transfers.stop()
        if self._call.answered:
            await self._cut_short()
            farewell = self._agents.farewell
            if farewell is not None:
                await self.say(farewell, "goodbye")
            else:
                self._call.floor.say_prompt("goodbye")
        await self._call.end_when_heard(ended, detail)
