"""Ultravox over real sockets on loopback: the call is created over HTTP and joined by a WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sipbridge.agent import (
    Agent,
    AgentEvent,
    AgentOptions,
    AssistantAudio,
    AssistantText,
    AssistantTurnEnd,
    ToolCall,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import PCM_8K, Played
from sipbridge.errors import AgentStartError
from sipbridge.providers import new_agent_from_credential
from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.script import Fault, Script, ToolUse, Utterance
from sipbridge.simulator.voice import speech
from tests.providers.listener import until

KEY = "uv-test-0123456789"
OPTIONS = AgentOptions(input_format=PCM_8K, output_format=PCM_8K, greeting="Hotel Aster, how can I help?")
SPOKEN = speech(Utterance(seconds=0.6), PCM_8K)
SILENCE = bytes(16 * 1200)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def watched() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(watched())


def agent_for(server: ModelServer, options: AgentOptions = OPTIONS) -> Agent:
    credential = {"provider": "ultravox", "url": server.http_url, "api_key": KEY}
    return new_agent_from_credential(credential, options, connect_timeout=0.5)


def test_a_conversation() -> None:
    """The greeting, each sample of it though its frames cut some in two; a turn, a tool, the goodbye."""

    async def scenario() -> None:
        script = Script(speed=0.0, transcripts=("two nights",), tools={1: ToolUse("price", '{"nights":2}')})
        async with ModelServer(script, wire="ultravox") as server:
            agent = agent_for(server)
            await agent.start()
            agent.say("Hotel Aster, how can I help?")
            seen: list[AgentEvent] = []
            await until(agent, AssistantTurnEnd, seen)
            greeting = b"".join(event.pcm for event in seen if isinstance(event, AssistantAudio))
            assert greeting == speech(Utterance(), PCM_8K)
            assert AssistantText("reply-1", "Hotel Aster, how can I help?", final=True) in seen
            agent.push_audio(SPOKEN + SILENCE)
            assert (await until(agent, UserTranscript, seen)).text == "two nights"
            call = await until(agent, ToolCall, seen)
            agent.send_tool_result(call.call_id, '{"eur":240}')
            await until(agent, AssistantAudio, seen)
            await until(agent, AssistantTurnEnd, seen)
            assert AssistantText("reply-3", 'The tool said: {"eur":240}', final=True) in seen
            agent.say("Goodbye")
            await until(agent, AssistantTurnEnd, seen)
            assert AssistantText("reply-4", "Goodbye", final=True) in seen
            await agent.close()
            record = server.sessions[0]
            await record.closed.wait()
            assert (record.violations, record.close_code) == ([], 1000)
            assert bytes(record.audio) == SPOKEN + SILENCE
            assert record.messages()[-1] == {"type": "hang_up"}
            assert record.headers.get("X-API-Key") is None, "the join URL is enough"

    run(scenario)


@pytest.mark.parametrize("speed", [4.0, 0.0], ids=["while it generates", "after it has"])
def test_barge_in(speed: float) -> None:
    async def scenario() -> None:
        script = Script(speed=speed, utterances=(Utterance(seconds=8.0),))
        async with ModelServer(script, wire="ultravox") as server:
            agent = agent_for(server)
            await agent.start()
            seen: list[AgentEvent] = []
            first = await until(agent, AssistantAudio, seen)
            agent.push_audio(SPOKEN)
            await until(agent, UserSpeechStarted, seen)
            agent.cancel([Played(first.reply_id, first.item_id, 70)])
            if speed:
                assert (await until(agent, AssistantTurnEnd, seen)).status == "cancelled"
            assert server.sessions[0].violations == []
            await agent.close()

    run(scenario)


@pytest.mark.parametrize(
    ("fault", "code", "again"),
    [
        ("status:401", "401", False),
        ("status:402", "402", False),
        ("status:429", "429", True),
        ("status:503", "503", True),
        ("refuse_setup", "closed", False),
        ("no_update", "timeout", True),
    ],
)
def test_a_start_that_fails(fault: str, code: str, again: bool) -> None:
    async def scenario() -> None:
        async with ModelServer(Script(fault=Fault.parse(fault)), wire="ultravox") as server:
            agent = agent_for(server)
            with pytest.raises(AgentStartError) as failure:
                await agent.start()
            assert (failure.value.code, failure.value.again) == (code, again)
            assert KEY not in str(failure.value)
            await agent.close()

    run(scenario)


def test_a_call_that_cannot_be_joined_twice() -> None:
    async def scenario() -> None:
        async with ModelServer(wire="ultravox") as server:
            credential = {"provider": "ultravox", "url": server.url}
            agent = new_agent_from_credential(credential, OPTIONS, connect_timeout=0.5)
            with pytest.raises(AgentStartError):
                await agent.start()
            await agent.close()

    run(scenario)


def test_garbage_in_between() -> None:
    async def scenario() -> None:
        async with ModelServer(Script(speed=0.0, fault=Fault("garbage")), wire="ultravox") as server:
            agent = agent_for(server)
            await agent.start()
            seen: list[AgentEvent] = []
            assert (await until(agent, AssistantTurnEnd, seen)).status == "completed"
            await agent.close()
            assert agent.counters["malformed"] > 5

    run(scenario)
