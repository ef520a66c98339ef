"""The embedded model behind the one session that drives every dialect, on a real clock."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from sipbridge.agent import Agent, AgentOptions, AssistantTurnEnd, SessionClosed, SessionOpen
from sipbridge.audio import PCM_24K
from sipbridge.prompts import load_prompt
from sipbridge.providers import new_agent_from_credential
from tests.media.test_vad import silence, tone
from tests.providers.order import OrderChecker, audio_of


async def until_turn_end(agent: Agent, order: OrderChecker) -> None:
    async for event in agent:
        order.feed([event])
        if isinstance(event, AssistantTurnEnd):
            return


def test_a_conversation() -> None:
    async def converse() -> None:
        order = OrderChecker()
        agent = new_agent_from_credential({"provider": "offline", "synthesiser": None}, AgentOptions())
        await agent.start()
        agent.say("Goodbye.")
        await until_turn_end(agent, order)
        assert audio_of(order.seen, "reply-1") == load_prompt("goodbye", 24000)
        agent.push_audio(silence(300) + tone(400) + silence(600))
        await until_turn_end(agent, order)
        assert PCM_24K.duration_ms(audio_of(order.seen, "reply-2")) > 900
        await agent.close()
        order.feed([event async for event in agent])
        order.done()
        assert isinstance(order.seen[0], SessionOpen)
        assert isinstance(order.seen[-1], SessionClosed)

    asyncio.run(converse())


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs the program espeak-ng")
def test_any_text_with_the_synthesiser() -> None:
    async def converse() -> None:
        order = OrderChecker()
        agent = new_agent_from_credential({"provider": "offline"}, AgentOptions())
        await agent.start()
        agent.say("Your order number 4711 arrived yesterday.")
        await until_turn_end(agent, order)
        assert 2000 < PCM_24K.duration_ms(audio_of(order.seen)) < 6000
        await agent.close()

    asyncio.run(converse())
