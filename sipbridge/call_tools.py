"""What the model does to its call by tools: the requests under way, and the `CallControl` of `sipbridge.tools`.

A goodbye and an announcement are the agent's to say; what they ask for happens when they have been heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from sipbridge.agent import Agent, ToolCall, ToolDeclaration
from sipbridge.floor import Floor
from sipbridge.handover import Legs
from sipbridge.outcome import Ended
from sipbridge.tools import Toolbox
from sipbridge.turn import Turn

_AFTER_GOODBYE_S = 0.2
"""Between the last packet of a goodbye and BYE: the far end's playout buffer still holds that packet."""


class CallTools:
    """`spawn` runs a task for as long as the call is up, `end` ends it."""

    def __init__(
        self,
        toolbox: Toolbox,
        turn: Turn,
        floor: Floor,
        legs: Legs,
        *,
        reply_seconds: float,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        end: Callable[[Ended, str], None],
    ) -> None:
        self._toolbox = toolbox
        self._turn = turn
        self._floor = floor
        self._legs = legs
        self._reply_seconds = reply_seconds
        self._spawn = spawn
        self._end = end
        self._agent: Agent | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._answered: set[str] = set()

    @property
    def declarations(self) -> tuple[ToolDeclaration, ...]:
        return self._toolbox.declarations

    def asked(self, agent: Agent, request: ToolCall) -> None:
        self._agent = agent
        self._tasks[request.call_id] = self._spawn(self._run(request))

    def taken_back(self, call_id: str) -> None:
        if task := self._tasks.pop(call_id, None):
            task.cancel()

    def agent_lost(self) -> None:
        """Nobody is left to be told of results."""
        self._agent = None

    async def _run(self, request: ToolCall) -> None:
        result = await self._toolbox.run(self, request)
        self._tasks.pop(request.call_id, None)
        if result is None or self._agent is None:
            return
        if request.call_id in self._answered:
            self._agent.send_text(result)
            self._agent.create_response()
        else:
            self._agent.send_tool_result(request.call_id, result)

    # --- `CallControl` ----------------------------------------------------------------------------

    async def end_call(self, request: ToolCall, reason: str) -> None:
        self._turn.close_floor()
        await self._announce(request, "The line is still open: say goodbye in one short sentence, nothing else.")
        self._turn.finish()
        await asyncio.sleep(_AFTER_GOODBYE_S)
        self._end(Ended.AGENT_HUNG_UP, reason)

    async def transfer(self, request: ToolCall, name: str, target: str) -> str:
        await self._announce(request, f"Tell the caller in one short sentence that you put them through to {name}.")
        failure = await self._legs.current.refer(target)
        if not failure:
            self._end(Ended.TRANSFERRED, name)
            await asyncio.Event().wait()  # until `run` cancels this task: nobody is left to be answered
        return failure

    async def _announce(self, request: ToolCall, prompt: str) -> None:
        """Return when what the agent has to say to its request was heard; where it said nothing, ask it to."""
        if not self._turn.spoke(request.reply_id) and self._agent is not None:
            replies, spoken = self._turn.replies, self._turn.spoken
            self._answered.add(request.call_id)
            self._agent.send_tool_result(request.call_id, prompt)
            await self._floor.until_reply(replies, self._reply_seconds)
            await self._floor.until_silent()
            if self._floor.broke_off and self._turn.spoken == spoken:
                # The session was lost before a word of it was said; another one is asked for it.
                await self._floor.until_reply(self._turn.replies, self._reply_seconds)
        await self._floor.until_silent()
