"""Listens to an agent until something is told, and checks the order of all that is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sipbridge.agent import Agent, AgentEvent, AgentOptions
from sipbridge.providers import new_agent_from_credential
from sipbridge.simulator.model import ModelServer, SessionRecord
from sipbridge.simulator.script import Script
from tests.providers.order import OrderChecker

E = TypeVar("E", bound=AgentEvent)


async def until(agent: Agent, kind: type[E], seen: list[AgentEvent] | None = None) -> E:
    """The next event of that kind; those before it, and it, are added to `seen`."""
    async for event in agent:
        if seen is not None:
            seen.append(event)
        if isinstance(event, kind):
            return event
    raise AssertionError(f"the session ended without {kind.__name__}: {seen}")


class Listener:
    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.order = OrderChecker()

    @property
    def seen(self) -> list[AgentEvent]:
        return self.order.seen

    async def until(self, kind: type[E], **fields: Any) -> E:
        """The next such event, all of whose named fields are so."""
        async with asyncio.timeout(5):
            async for event in self.agent:
                self.order.feed([event])
                if isinstance(event, kind) and all(getattr(event, key) == fields[key] for key in fields):
                    return event
        raise AssertionError(f"no {kind.__name__} in {self.seen}")


class Talk(Listener):
    """With a simulated service, of whose side there is a record."""

    def __init__(self, agent: Agent, record: SessionRecord) -> None:
        super().__init__(agent)
        self.record = record


@asynccontextmanager
async def talk(wire: str, script: Script, options: AgentOptions) -> AsyncIterator[Talk]:
    """The simulator has found nothing wrong at the end."""
    async with ModelServer(script, wire=wire) as server:
        agent = new_agent_from_credential({"provider": wire, "url": server.url}, options)
        await agent.start()
        conversation = Talk(agent, server.sessions[0])
        yield conversation
        await agent.close()
        await server.sessions[0].closed.wait()
    assert conversation.record.violations == []
