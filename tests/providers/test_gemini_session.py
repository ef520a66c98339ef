"""The gemini dialect over real WebSockets, with the simulated service: resumption, refusals, turns by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from sipbridge.agent import (
    Agent,
    AgentEvent,
    AgentOptions,
    AssistantAudio,
    AssistantTurnEnd,
    AssistantTurnStarted,
    Resumed,
    SessionOpen,
    ToolDeclaration,
    TurnDetection,
    UserTranscript,
)
from sipbridge.audio import PCM_16K
from sipbridge.errors import AgentStartError
from sipbridge.providers import new_agent_from_credential
from sipbridge.simulator.gemini_server import GeminiModel
from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.script import Fault, Script, ToolUse, Utterance
from sipbridge.simulator.voice import speech
from tests.providers.listener import Listener

E = TypeVar("E", bound=AgentEvent)

SCRIPT = Script(
    utterances=(Utterance("One.", 0.3, 440.0), Utterance("Two.", 0.3, 560.0)),
    transcripts=("two nights", "from Monday"),
    speed=0.0,
)
PRICE = ToolDeclaration("price", "What a stay costs.", {"type": "object", "properties": {}})
SPOKEN = speech(Utterance(seconds=0.5, tone_hz=700.0), PCM_16K)
SILENCE = bytes(32 * 700)


class Talk(Listener):
    def __init__(self, agent: Agent, server: ModelServer) -> None:
        super().__init__(agent)
        self.server = server

    def push(self, pcm: bytes) -> None:
        for start in range(0, len(pcm), 1280):
            self.agent.push_audio(pcm[start : start + 1280])

    async def turn(self) -> None:
        self.push(SPOKEN + SILENCE)
        await self.until(AssistantTurnEnd)


@asynccontextmanager
async def talk(server: ModelServer, path: str = "", **wanted: Any) -> AsyncIterator[Talk]:
    options = replace(AgentOptions(instructions="You run a hotel.", tools=(PRICE,)), **wanted)
    credential = {"provider": "gemini", "api_key": "AIza-test", "url": path or server.url}
    agent = new_agent_from_credential(credential, options)
    async with asyncio.timeout(15):
        await agent.start()
        there = Talk(agent, server)
        await there.until(SessionOpen)
        yield there
        await agent.close()
        there.order.feed([event async for event in agent])
        there.order.done()


def handles(server: ModelServer) -> list[str]:
    """What each session was resumed with."""
    setups = [record.messages("setup")[0]["setup"] for record in server.sessions]
    return [setup["sessionResumption"].get("handle", "") for setup in setups]


def violations(server: ModelServer) -> list[Any]:
    return [violation for record in server.sessions for violation in record.violations]


def test_go_away_is_followed_by_a_session_that_knows_everything() -> None:
    async def scenario() -> None:
        script = replace(SCRIPT, fault=Fault("go_away", "6000"))
        async with ModelServer(script, wire="gemini") as server, talk(server) as there:
            await there.turn()
            resumed = await there.until(Resumed)
            assert resumed.context_kept
            first, second = handles(server)
            assert first == ""
            assert second.startswith("handle_")
            await there.turn()
            said = [event.text for event in there.order.seen if isinstance(event, UserTranscript)]
            assert said == ["two nights", "from Monday"], "the service itself remembers where they were"
            assert violations(server) == [], "the old socket was closed first"

    asyncio.run(scenario())


@pytest.mark.parametrize("known", [True, False])
def test_a_connection_that_breaks_between_turns(known: bool) -> None:
    async def scenario() -> None:
        async with ModelServer(SCRIPT, wire="gemini") as server, talk(server) as there:
            await there.turn()
            [record] = server.sessions
            updates = [
                message["sessionResumptionUpdate"]
                for message in record.sent
                if len(message) == 1 and "sessionResumptionUpdate" in message
            ]
            await record.wait_until(lambda: any("newHandle" in str(message) for message in record.sent))
            assert updates[0] == {"resumable": False}
            if not known:
                GeminiModel.forget()
            server.drop()
            resumed = await there.until(Resumed)
            assert resumed.context_kept
            last = server.sessions[-1]
            if known:
                assert handles(server)[1]
            else:
                assert [bool(handle) for handle in handles(server)] == [False, True, False]
                told = await last.wait_for("clientContent")
                assert "two nights" in str(told)
                assert told["clientContent"]["turnComplete"] is False
            await there.turn()
            assert violations(server) == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("fault", "code", "again"),
    [
        ("refuse_setup:key", "invalid_api_key", False),
        ("refuse_setup:quota", "insufficient_quota", False),
        ("refuse_setup", "invalid_argument", False),
        ("status:401", "401", False),
        ("status:503", "503", True),
    ],
)
def test_a_start_that_is_refused(fault: str, code: str, again: bool) -> None:
    async def scenario() -> None:
        async with ModelServer(Script(fault=Fault.parse(fault)), wire="gemini") as server:
            with pytest.raises(AgentStartError) as refused:
                async with talk(server):
                    pass
            assert (refused.value.code, refused.value.again) == (code, again)
            assert "AIza" not in str(refused.value)

    asyncio.run(scenario())


def test_turns_by_hand() -> None:
    async def scenario() -> None:
        by_hand = TurnDetection("none")
        async with ModelServer(SCRIPT, wire="gemini") as server, talk(server, turn_detection=by_hand) as there:
            there.agent.say("Welcome.")
            await there.until(AssistantTurnEnd)
            there.push(SPOKEN)
            await server.sessions[0].wait_until(lambda: "turnComplete" in str(server.sessions[0].sent[-3:]))
            there.push(SPOKEN)
            there.agent.commit_input_audio()
            await there.until(AssistantTurnEnd)
            sent = [message for message in server.sessions[0].messages() if "realtimeInput" in message]
            assert [next(iter(message["realtimeInput"])) for message in sent] == [
                "activityStart",
                "text",
                "activityEnd",
                "activityStart",
                "activityEnd",
            ]
            assert violations(server) == []

    asyncio.run(scenario())


@pytest.mark.parametrize("behavior", ["blocking", "non_blocking"])
def test_two_calls_at_once(behavior: str) -> None:
    async def scenario() -> None:
        script = replace(SCRIPT, tools={0: ToolUse("price", '{"nights": 2}', times=2)})
        async with ModelServer(script, wire="gemini") as server:
            credential = {"provider": "gemini", "api_key": "k", "url": server.url, "tool_behavior": behavior}
            agent = new_agent_from_credential(credential, AgentOptions(tools=(PRICE,)))
            await agent.start()
            there = Talk(agent, server)
            there.push(SPOKEN + SILENCE)
            async with asyncio.timeout(10):
                await there.until(AssistantTurnEnd)
                for call_id in list(server.sessions[0].open_calls):
                    agent.send_tool_result(call_id, "240")
                await there.until(AssistantTurnStarted)
                await there.until(AssistantAudio)
                await there.until(AssistantTurnEnd)
            await agent.close()
            assert violations(server) == []
            assert server.sessions[0].open_calls == []

    asyncio.run(scenario())
