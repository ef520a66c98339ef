"""Handing the caller over to somebody whom the tenant's file names."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sipbridge.conversation.context import CallContext
from sipbridge.outcome import Ended


class Transfers:
    def __init__(self, call: CallContext) -> None:
        self._call = call

    async def hand_over(self, name: str) -> str:
        """The same where no agent can announce it: by the name of a target of `tools.transfer_call`."""
        tool = self._call.tenant.config.tools.transfer_call
        if tool is None or name not in tool.targets:
            return f"there is no target {name!r}"
        return await self.transfer(name, tool.targets[name], self._call.floor.until_silent)

    async def transfer(self, name: str, target: str, announced: Callable[[], Awaitable[None]]) -> str:
        """Hand the caller over when `announced` is done. Returns why it did not succeed; where it does, the call is
        over and this does not return."""
        await announced()
        failure = (await self._call.legs.current.refer(target)).failure
        if not failure:
            self._call.end(Ended.TRANSFERRED, name)
            await asyncio.Event().wait()  # until the call's end cancels this: nobody is left to be answered
        return failure
