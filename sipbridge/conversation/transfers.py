"""Handing the caller over to somebody whom the tenant's file names."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sipbridge.conversation.context import CallContext
from sipbridge.outcome import Ended


class Transfers:
    def __init__(self, call: CallContext) -> None:
        self._call = call

    async def transfer(self, name: str, target: str, announced: Callable[[], Awaitable[None]]) -> str:
        """Hand the caller over when `announced` is done. Returns why it did not succeed; where it does, the call is
        over and this does not return."""
        await announced()
        failure = await self._call.legs.current.refer(target)
        if not failure:
            self._call.end(Ended.TRANSFERRED, name)
            await asyncio.Event().wait()  # until the call's end cancels this: nobody is left to be answered
        return failure
