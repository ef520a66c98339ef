"""What the model does to its call by tools: the requests under way, and the `CallControl` of `sipbridge.tools`.

A goodbye and an announcement are the agent's to say; what they ask for happens when they have been heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from sipbridge.agent import ToolCall
from sipbridge.call_fields import CallFields
from sipbridge.conversation.agents import Agents
from sipbridge.conversation.attached import Attached
from sipbridge.conversation.confirmation import Confirmation
from sipbridge.conversation.context import CallContext
from sipbridge.conversation.digits import Digits
from sipbridge.conversation.entry import Collected
from sipbridge.conversation.holding import Holding
from sipbridge.conversation.switching import Switching
from sipbridge.conversation.transfers import Transfers
from sipbridge.conversation.waiting import Waiting
from sipbridge.outcome import Ended
from sipbridge.tools import Answer, Toolbox


class CallTools:
    def __init__(
        self,
        call: CallContext,
        agents: Agents,
        toolbox: Toolbox,
        transfers: Transfers,
        digits: Digits,
        holding: Holding,
        confirmation: Confirmation,
        switching: Switching,
    ) -> None:
        self._call = call
        self._agents = agents
        self._toolbox = toolbox
        self._transfers = transfers
        self._holding = holding
        self._switching = switching
        self.attached = Attached()
        self.waiting = Waiting(call, self._say_meanwhile)
        self._digits = digits
        self._confirmation = confirmation
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._answered: set[str] = set()
        """Of those under way: told something, so that the agent speaks; the result is told in words."""
        self._promised: set[str] = set()
        """Of these: told that a result will follow."""

    @property
    def busy(self) -> bool:
        """Something that the model asked for is being done."""
        return bool(self._tasks)

    def asked(self, request: ToolCall) -> None:
        speaker = self._agents.current
        known = () if speaker is None else speaker.tools
        self._tasks[request.call_id] = self._call.spawn(self._run(request, known))

    def taken_back(self, call_id: str) -> None:
        if task := self._tasks.pop(call_id, None):
            task.cancel()

    async def _run(self, request: ToolCall, known: Sequence[str]) -> None:
        """`known`: the toolbox is the tenant's, and of these the agent that asks was told."""
        record, began = self._call.record, self._call.clock()
        shown = self._toolbox.shown(request)
        try:
            async with nullcontext() if self._toolbox.steers(request) else self.waiting.during(request):
                answer = await self._toolbox.run(self, request, known)
        except asyncio.CancelledError:
            done = record.outcome is not None and record.outcome[0] in (Ended.TRANSFERRED, Ended.AGENT_HUNG_UP)
            record.tool_ran(request, shown, began, "ok" if done and self._toolbox.steers(request) else "cancelled")
            raise
        self._tasks.pop(request.call_id, None)
        record.tool_ran(request, shown, began, answer.outcome, answer.error)
        self._log(request, answer)
        if answer.text is None:
            return
        if request.call_id in self._answered:
            late = request.call_id in self._promised
            self._agents.tell(f"The result of {request.name}: {answer.text}" if late else answer.text)
        else:
            self._agents.answer_tool(request.call_id, answer.text)

    def _log(self, request: ToolCall, answer: Answer) -> None:
        """What was asked and what came is the tenant's affair, and in its history: not in the log."""
        self._call.log.info("tool used", tool=request.name[:64], outcome=answer.outcome)

    def _say_meanwhile(self, request: ToolCall, words: str) -> None:
        """The models wait for an answer before they say another word, so they are given one, and the result later."""
        if request.call_id in self._tasks and request.call_id not in self._answered:
            self._answered.add(request.call_id)
            self._promised.add(request.call_id)
            self._agents.answer_tool(
                request.call_id, f"This takes a while; the result will follow. Meanwhile say only this: {words}"
            )

    # --- `CallControl` ----------------------------------------------------------------------------

    @property
    def fields(self) -> CallFields:
        return self._call.fields

    async def ask_client(self, request: ToolCall, arguments: Mapping[str, Any]) -> str:
        return await self.attached.ask(request, arguments)

    async def end_call(self, request: ToolCall, reason: str) -> None:
        self._call.turn.close_floor()
        await self._announce(request, "The line is still open: say goodbye in one short sentence, nothing else.")
        await self._call.end_when_heard(Ended.AGENT_HUNG_UP, reason)

    async def switch_agent(self, name: str, summary: str) -> str:
        return await self._switching.switch(name, summary)

    async def transfer_objection(self, name: str, agreed: bool | None) -> str:
        return await self._confirmation.objection(name, agreed)

    async def transfer(self, request: ToolCall, name: str, target: str, summary: str = "") -> str:
        words = f"Tell the caller in one short sentence that you put them through to {name}."
        return await self._transfers.transfer(
            name, target, partial(self._announce, request, words), say=partial(self._say, request), summary=summary
        )

    async def hold(self, request: ToolCall, seconds: float) -> str:
        await self._announce(request, "Ask the caller in one short sentence to hold the line.")
        return await self._holding.hold(seconds)

    def _say(self, request: ToolCall, words: str) -> None:
        """Have the agent say something to whom its request has brought to the telephone. A model that waits for the
        answer to its request may say nothing before."""
        if request.call_id in self._answered:
            self._agents.say(words)
        else:
            self._answered.add(request.call_id)
            prompt = "Whom you asked for has answered and hears you now, the caller does not. Say, word for word: "
            self._agents.answer_tool(request.call_id, prompt + words)

    async def press_keys(self, request: ToolCall, keys: str) -> str:
        if self._call.turn.spoke(request.reply_id):
            await self._call.floor.until_silent()
        return await self._digits.send(keys)

    async def collect_digits(self, request: ToolCall, field: str, asking: str) -> Collected | None:
        asked = self._call.turn.spoke(request.reply_id)
        return await self._digits.collect(field, partial(self._announce, request, asking), asked=asked)

    def lacking_digits(self, fields: Sequence[str]) -> list[str]:
        return self._digits.lacking(fields)

    def take_digits(self, fields: Sequence[str]) -> dict[str, str]:
        return self._digits.take(fields)

    async def _announce(self, request: ToolCall, prompt: str) -> None:
        """Return when what the agent has to say to its request was heard; where it said nothing, ask it to."""
        turn, floor = self._call.turn, self._call.floor
        seconds = self._call.tenant.config.deadlines.reply_seconds
        if not turn.spoke(request.reply_id) and self._agents.ready:
            self._answered.add(request.call_id)
            said = await floor.until_said(partial(self._agents.answer_tool, request.call_id, prompt), seconds)
            if turn.broke_off and not said:
                # The session was lost before a word of it was said; another one is asked for it.
                await floor.until_said(lambda: None, seconds)
        await floor.until_silent()
