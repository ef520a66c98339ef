"""Handing the caller over to somebody whom the tenant's file names.

*Blind*: the caller's side is asked to call the target (REFER). Where it does not want to or does not know how, we call
it ourselves, and connect the two over us. *Attended*: we call the target, tell who wants what, and ask; who presses 1
gets the caller, by a REFER with Replaces where the caller's side can do that, else over us. Meanwhile the caller hears
music, and the agent does not hear the caller. What comes to nothing gives the call back to the agent, with the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from sipbridge.conversation.agents import Agents
from sipbridge.conversation.bridge import Bridge, SecondLeg
from sipbridge.conversation.context import CallContext
from sipbridge.outcome import Ended
from sipbridge.referring import Referred
from sipbridge.tool_config import TransferCallConfig

_UNNOTICED_S = 1.0
"""A REFER that is over by then needs no music."""
_ACCEPT, _DECLINE = "1", "2"


class Transfers:
    def __init__(self, call: CallContext, agents: Agents, second_leg: SecondLeg) -> None:
        self._call = call
        self._agents = agents
        self.bridge = Bridge(call, second_leg)
        self._under_way = False

    async def hand_over(self, name: str) -> str:
        """The same where no agent can announce it: by the name of a target of `tools.transfer_call`."""
        tool = self._call.tenant.config.tools.transfer_call
        if tool is None or name not in tool.targets:
            return f"there is no target {name!r}"
        return await self.transfer(name, tool.targets[name], self._call.floor.until_silent)

    async def transfer(
        self,
        name: str,
        target: str,
        announced: Callable[[], Awaitable[None]],
        *,
        say: Callable[[str], None] | None = None,
        summary: str = "",
    ) -> str:
        """Hand the caller over when `announced` is done. Of an attended transfer: what the target is told (`summary`),
        and what makes the agent say it (`say`). Returns why it did not succeed; where it does, the agent is gone and
        this does not return."""
        tool = self._call.tenant.config.tools.transfer_call
        if tool is None:
            return "this tenant transfers nobody"
        if self._under_way:
            return "another transfer is under way"
        self._under_way = True
        try:
            await announced()
            if tool.mode == "attended":
                failure = await self._call_and(self._consulted(name, tool, say or self._agents.say, summary), target)
            else:
                failure = await self._blind(name, target, tool)
        finally:
            self._under_way = False
        self._call.log.info("transfer failed", target=name, failure=failure)
        return failure

    def key_pressed(self, key: str) -> bool:
        """By the caller. False: it is for the agent."""
        if self._call.legs.bridged:
            self.bridge.key_pressed(key, by_second=False)
        return self._call.legs.bridged or self._agents.deaf

    # --- blind ------------------------------------------------------------------------------------------------------

    async def _blind(self, name: str, target: str, tool: TransferCallConfig) -> str:
        refused = ""
        if tool.via != "bridge":
            referred = await self._refer(target, tool)
            if not referred.failure:
                await self._transferred(name)
            if tool.via == "refer" or referred.by_target:
                return referred.failure
            refused = f"{referred.failure}; "
        return refused + await self._call_and(self._connect(name), target)

    async def _refer(self, target: str, tool: TransferCallConfig) -> Referred:
        leg = self._call.legs.current
        with self._caller_waits(_UNNOTICED_S):
            return await leg.refer(target, seconds=tool.ring_seconds)

    # --- by a call of our own -----------------------------------------------------------------------------------------

    async def _call_and(self, answered: Awaitable[str], target: str) -> str: ...
