"""What the model does to its call by tools: the requests under way, and the `CallControl` of `sipbridge.tools`.

A goodbye and an announcement are the agent's to say; what they ask for happens when they have been heard.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial

from sipbridge.agent import ToolCall
from sipbridge.conversation.agents import Agents
from sipbridge.conversation.context import CallContext
from sipbridge.conversation.switching import Switching
from sipbridge.conversation.transfers import Transfers
from sipbridge.outcome import Ended
from sipbridge.tools import Toolbox


class CallTools:
    def __init__(
        self, call: CallContext, agents: Agents, toolbox: Toolbox, transfers: Transfers, switching: Switching
    ) -> None:
        self._call = call
        self._agents = agents
        self._toolbox = toolbox
        self._transfers = transfers
        self._switching = switching
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._answered: set[str] = set()

    @property
    def busy(self) -> bool:
        """Something that the model asked for is being done."""
        return bool(self._tasks)

    def asked(self, request: ToolCall) -> None:
        speaker = self._agents.current
        if speaker is not None and request.name not in speaker.tools:
            # The toolbox is the tenant's: what this agent was not told of is not there for it.
            error = f"there is no tool {request.name[:64]!r}; there are: {', '.join(speaker.tools) or 'none'}"
            self._agents.answer_tool(request.call_id, json.dumps({"error": error}))
            return
        self._tasks[request.call_id] = self._call.spawn(self._run(request))

    def taken_back(self, call_id: str) -> None:
        if task := self._tasks.pop(call_id, None):
            task.cancel()

    async def _run(self, request: ToolCall) -> None:
        result = (await self._toolbox.run(self, request)).text
        self._tasks.pop(request.call_id, None)
        if result is None:
            return
        if request.call_id in self._answered:
            self._agents.tell(result)
        else:
            self._agents.answer_tool(request.call_id, result)

    # --- `CallControl` ----------------------------------------------------------------------------

    async def end_call(self, request: ToolCall, reason: str) -> None:
        self._call.turn.close_floor()
        await self._announce(request, "The line is still open: say goodbye in one short sentence, nothing else.")
        await self._call.end_when_heard(Ended.AGENT_HUNG_UP, reason)

    async def switch_agent(self, name: str, summary: str) -> str:
        return await self._switching.switch(name, summary)

    async def transfer(self, request: ToolCall, name: str, target: str) -> str:
        words = f"Tell the caller in one short sentence that you put them through to {name}."
        return await self._transfers.transfer(name, target, partial(self._announce, request, words))

    async def _announce(self, request: ToolCall, prompt: str) -> None:
        """Return when what the agent has to say to its request was heard; where it said nothing, ask it to."""
        turn, floor = self._call.turn, self._call.floor
        seconds = self._call.tenant.config.deadlines.reply_seconds
        if not turn.spoke(request.reply_id) and self._agents.ready:
            replies, spoken = turn.replies, turn.spoken
            self._answered.add(request.call_id)
            self._agents.answer_tool(request.call_id, prompt)
            await floor.until_reply(replies, seconds)
            await floor.until_silent()
            if floor.broke_off and turn.spoken == spoken:
                # The session was lost before a word of it was said; another one is asked for it.
                await floor.until_reply(turn.replies, seconds)
        await floor.until_silent()
