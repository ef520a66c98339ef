"""ElevenLabs over real sockets on loopback: our session, and the vendor's own client, talk to the simulated agent."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from elevenlabs.client import ElevenLabs

from sipbridge.agent import (
    Agent,
    AgentEvent,
    AgentOptions,
    AssistantAudio,
    AssistantInterrupted,
    AssistantText,
    AssistantTurnEnd,
    SessionClosed,
    ToolCall,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import PCM_16K, PCMU, Played
from sipbridge.errors import AgentStartError
from sipbridge.providers import new_agent_from_credential
from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.script import Fault, Script, ToolUse, Utterance
from sipbridge.simulator.voice import speech
from tests.providers.elevenlabs_sdk import check_client_event
from tests.providers.listener import until

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from elevenlabs.conversational_ai.conversation import (
        AsyncAudioInterface,
        AsyncConversation,
        ClientTools,
        ConversationInitiationData,
    )

KEY = "xi-test-0123456789"
G711 = AgentOptions(input_format=PCMU, output_format=PCMU, greeting="Hotel Aster, how can I help?")
SPOKEN = speech(Utterance(seconds=0.6), PCMU)
SILENCE = b"\xff" * 160 * 60


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def watched() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(watched())


def agent_for(url: str, options: AgentOptions = G711, **more: Any) -> Agent:
    credential = {"provider": "elevenlabs", "agent_id": "agent_sim", "url": url, "api_key": KEY, **more}
    return new_agent_from_credential(credential, options)


def formats(url: str, name: str) -> str:
    return f"{url}?input={name}&output={name}"


def test_a_conversation_by_a_signed_url() -> None:
    """The greeting with the setup, a turn, a tool and its result; each octet of G.711 as it was sent."""

    async def scenario() -> None:
        script = Script(speed=0.0, transcripts=("two nights",), tools={1: ToolUse("price", '{"nights":2}')})
        async with ModelServer(script, wire="elevenlabs") as server:
            agent = agent_for(server.http_url)
            await agent.start()
            agent.say("Hotel Aster, how can I help?")
            seen: list[AgentEvent] = []
            await until(agent, AssistantTurnEnd, seen)
            assert AssistantText("reply-1", "Hotel Aster, how can I help?", final=True) in seen
            agent.push_audio(SPOKEN + SILENCE)
            assert (await until(agent, UserTranscript, seen)).text == "two nights"
            call = await until(agent, ToolCall, seen)
            agent.send_tool_result(call.call_id, '{"eur":240}')
            text = await until(agent, AssistantText, seen)
            assert text.text == 'The tool said: {"eur":240}'
            await until(agent, AssistantAudio, seen)
            await agent.close()
            record = server.sessions[0]
            await record.closed.wait()
            assert record.violations == []
            assert "conversation_signature=" in record.path
            assert record.headers.get("xi-api-key") is None, "the signed URL is enough"
            assert server.asked[0].headers["xi-api-key"] == KEY
            for message in record.messages():
                check_client_event(message)

    run(scenario)


def test_g711_passes_untouched_where_the_agent_speaks_it() -> None:
    async def scenario() -> None:
        async with ModelServer(Script(speed=0.0), wire="elevenlabs") as server:
            agent = agent_for(formats(server.url, "ulaw_8000"))
            await agent.start()
            seen: list[AgentEvent] = []
            await until(agent, AssistantTurnEnd, seen)
            assert b"".join(e.pcm for e in seen if isinstance(e, AssistantAudio)) == speech(Utterance(), PCMU)
            agent.push_audio(SPOKEN + SILENCE)
            await until(agent, UserTranscript, seen)
            assert bytes(server.sessions[0].audio) == SPOKEN + SILENCE
            await agent.close()

    run(scenario)


@pytest.mark.parametrize("speed", [4.0, 0.0], ids=["while it generates", "after it has"])
def test_barge_in(speed: float) -> None:
    async def scenario() -> None:
        script = Script(speed=speed, utterances=(Utterance(seconds=8.0),))
        async with ModelServer(script, wire="elevenlabs") as server:
            agent = agent_for(server.url)
            await agent.start()
            seen: list[AgentEvent] = []
            first = await until(agent, AssistantAudio, seen)
            agent.push_audio(SPOKEN)
            await until(agent, UserSpeechStarted, seen)
            agent.cancel([Played(first.reply_id, first.item_id, 70)])
            if speed:
                await until(agent, AssistantInterrupted, seen)
            end = await until(agent, AssistantTurnEnd, seen)
            assert end.status == "cancelled"
            assert server.sessions[0].violations == []
            await agent.close()

    run(scenario)


@pytest.mark.parametrize(
    ("fault", "code"),
    [("status:401", "401"), ("status:404", "404"), ("refuse_setup", "closed"), ("silence", "timeout")],
)
def test_a_start_that_fails(fault: str, code: str) -> None:
    async def scenario() -> None:
        async with ModelServer(Script(fault=Fault.parse(fault)), wire="elevenlabs") as server:
            credential = {"provider": "elevenlabs", "agent_id": "a", "url": server.url, "api_key": KEY}
            agent = new_agent_from_credential(credential, G711, connect_timeout=0.5)
            with pytest.raises(AgentStartError) as failure:
                await agent.start()
            assert failure.value.code == code
            assert KEY not in str(failure.value)
            await agent.close()

    if fault == "silence":
        fault = "no_update"  # here the client speaks first
    run(scenario)


def test_a_key_that_is_refused_where_the_signed_url_is_asked_for() -> None:
    async def scenario() -> None:
        async with ModelServer(Script(fault=Fault("status", "401")), wire="elevenlabs") as server:
            agent = agent_for(server.http_url)
            with pytest.raises(AgentStartError) as failure:
                await agent.start()
            assert (failure.value.code, failure.value.again) == ("401", False)
            await agent.close()

    run(scenario)


def test_garbage_in_between() -> None:
    async def scenario() -> None:
        async with ModelServer(Script(speed=0.0, fault=Fault("garbage")), wire="elevenlabs") as server:
            agent = agent_for(server.url)
            await agent.start()
            seen: list[AgentEvent] = []
            assert (await until(agent, AssistantTurnEnd, seen)).status == "completed"
            await agent.close()
            assert agent.counters["malformed"] > 5

    run(scenario)


class Ear(AsyncAudioInterface):
    """The caller of the vendor's client."""

    def __init__(self) -> None:
        self.heard = b""
        self.send: Any = None
        self.ready = asyncio.Event()
        self.whole = asyncio.Event()

    async def start(self, input_callback: Any) -> None:
        self.send = input_callback
        self.ready.set()

    async def stop(self) -> None:
        pass

    async def output(self, audio: bytes) -> None:
        self.heard += audio
        if self.heard == speech(Utterance(), PCM_16K):
            self.whole.set()

    async def interrupt(self) -> None:
        self.heard = b""


def test_the_vendors_client_holds_a_conversation_with_the_simulator() -> None:
    async def scenario() -> None:
        script = Script(speed=0.0, transcripts=("two nights",), tools={1: ToolUse("price", '{"nights":2}')})
        async with ModelServer(script, wire="elevenlabs") as server:
            client = ElevenLabs(api_key=KEY, base_url=server.http_url, httpx_client=http)
            ear, tools, said, heard = Ear(), ClientTools(), asyncio.Queue[str](), asyncio.Queue[str]()
            tools.register("price", lambda parameters: f"{parameters['nights'] * 120} euro")
            conversation = AsyncConversation(
                client,
                "agent_sim",
                requires_auth=True,
                audio_interface=ear,
                client_tools=tools,
                config=ConversationInitiationData(conversation_config_override={"agent": {"first_message": "Hello"}}),
                callback_agent_response=said.put,
                callback_user_transcript=heard.put,
            )
            await conversation.start_session()  # type: ignore[no-untyped-call]
            await ear.ready.wait()
            assert await said.get() == "Hello"
            await ear.whole.wait()
            ear.heard = b""
            ear.whole.clear()
            await ear.send(speech(Utterance(seconds=0.6), PCM_16K) + bytes(32 * 1200))
            assert await heard.get() == "two nights"
            assert await said.get() == "The tool said: 240 euro"
            await ear.whole.wait()
            await conversation.end_session()  # type: ignore[no-untyped-call]
            await conversation.wait_for_session_end()
            assert server.sessions[0].violations == []

    with httpx.Client() as http:
        run(scenario)


def test_it_ends_when_the_agent_hangs_up() -> None:
    async def scenario() -> None:
        async with ModelServer(Script(fault=Fault("close", "1000")), wire="elevenlabs") as server:
            agent = agent_for(server.url)
            await agent.start()
            seen: list[AgentEvent] = []
            closed = await until(agent, SessionClosed, seen)
            assert (closed.expected, closed.again) == (False, False)
            await agent.close()

    run(scenario)
