"""What becomes of a call whose agent is gone: a sentence and BYE, not dead air."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sipbridge.conversation.agents import Agents, Lost
from sipbridge.conversation.context import CallContext
from sipbridge.conversation.transfers import Transfers
from sipbridge.outcome import Ended


class Failure:
    def __init__(self, call: CallContext, agents: Agents, transfers: Transfers) -> None:
        self._call = call
        self._agents = agents
        self._transfers = transfers

    async def open_first(self, pick_up: Callable[[], Awaitable[bool]]) -> bool:
        """Give the line to the agent that the call begins with. Raises what `Agents.open` does. `pick_up` is for what
        has to be heard before there is one. False: the call has been ended."""
        name, config = next(iter(self._call.tenant.config.agents.items()))
        self._agents.use(await self._agents.open(name, config))
        return True

    async def lost(self, lost: Lost) -> bool:
        """Whether the conversation goes on with another agent (see `Agents.converse`)."""
        call = self._call
        call.finish_items(call.turn.model_lost())
        if call.turn.closing:
            # Nothing went wrong for the caller: what the goodbye is waiting for ends the call.
            if call.turn.silent:
                call.floor.say_prompt("goodbye")
            return False
        call.turn.close_floor()
        call.floor.say_prompt("unavailable")
        await call.floor.until_silent()
        call.end(Ended.PROVIDER_FAILED, lost.why)
        return False
