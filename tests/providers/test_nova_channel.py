"""The channel to Bedrock with a stand-in for the vendor's SDK, and whole sessions over it and over a WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

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
from sipbridge.audio import PCM_8K, Played
from sipbridge.errors import AgentStartError
from sipbridge.providers import BedrockEndpoint, Outgoing, new_agent_from_credential
from sipbridge.providers.channels import open_channel
from sipbridge.providers.nova_channel import BedrockChannel, sdk_is_there
from sipbridge.providers.websocket import MAX_UNSENT_MS
from sipbridge.simulator.model import ModelServer, SessionRecord
from sipbridge.simulator.script import Fault, Script, ToolUse, Utterance
from sipbridge.simulator.voice import speech
from tests.providers.bedrock_stub import Bedrock, error, installed

KEYS = {"region": "eu-north-1", "access_key_id": "AKTEST", "secret_access_key": "secret-0123456789"}
OPTIONS = AgentOptions(input_format=PCM_8K, output_format=PCM_8K)
SPOKEN = speech(Utterance(seconds=0.6), PCM_8K)
SILENCE = bytes(16 * 1200)
QUICK = Script(speed=0.0, transcripts=("two nights",), tools={1: ToolUse("price", '{"nights":2}')})


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def watched() -> None:
        async with asyncio.timeout(20):
            await scenario()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, f"tasks left behind: {others}"

    asyncio.run(watched())


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bedrock]:
    bedrock = Bedrock()
    with installed(bedrock, monkeypatch):
        yield bedrock


def agent_for(**credential: Any) -> Agent:
    return new_agent_from_credential({"provider": "nova_sonic", **credential}, OPTIONS, connect_timeout=3.0)


async def until(agent: Agent, kind: type[Any], seen: list[AgentEvent]) -> Any:
    async for event in agent:
        seen.append(event)
        if isinstance(event, kind):
            return event
    raise AssertionError(f"the session ended without {kind.__name__}: {seen}")


async def converse(agent: Agent, record: Callable[[], SessionRecord]) -> None:
    """The greeting, a turn, a tool and its result, the goodbye."""
    await agent.start()
    agent.say("Hotel Aster, how can I help?")
    seen: list[AgentEvent] = []
    await until(agent, AssistantTurnEnd, seen)
    assert AssistantText("reply-1", "Hotel Aster, how can I help?", final=True) in seen
    greeting = b"".join(event.pcm for event in seen if isinstance(event, AssistantAudio))
    assert greeting == speech(Utterance(), PCM_8K), "every sample"
    for start in range(0, len(SPOKEN + SILENCE), 320):
        agent.push_audio((SPOKEN + SILENCE)[start : start + 320])
        if start % 3200 == 0:
            await asyncio.sleep(0.005)  # the stream takes them one by one
    assert (await until(agent, UserTranscript, seen)).text == "two nights"
    call = await until(agent, ToolCall, seen)
    await until(agent, AssistantTurnEnd, seen)
    agent.send_tool_result(call.call_id, '{"eur":240}')
    await until(agent, AssistantTurnEnd, seen)
    assert AssistantText("reply-3", 'The tool said: {"eur":240}', final=True) in seen
    await agent.close()
    assert record().violations == []
    assert [message["type"] for message in record().messages()][-3:] == ["contentEnd", "promptEnd", "sessionEnd"]
    assert agent.uplink_dropped_ms == 0


def test_a_conversation_over_the_sdks_stream(service: Bedrock) -> None:
    async def scenario() -> None:
        service.script = QUICK
        await converse(agent_for(aws=KEYS, model="m1"), lambda: service.record)
        assert bytes(service.record.audio) == SPOKEN + SILENCE
        transport = service.config.pop("transport")
        assert transport is not None
        assert service.config == {
            "region": "eu-north-1",
            "aws_access_key_id": "AKTEST",
            "aws_secret_access_key": "secret-0123456789",
        }
        assert service.model_id == "m1"
        assert service.closed == ["input", "transport"]

    run(scenario)


def test_a_conversation_over_a_websocket() -> None:
    async def scenario() -> None:
        async with ModelServer(QUICK, wire="nova_sonic") as server:
            await converse(agent_for(url=server.url), lambda: server.sessions[0])
            await server.sessions[0].closed.wait()
            assert server.sessions[0].close_code == 1000

    run(scenario)


@pytest.mark.parametrize("speed", [4.0, 0.0], ids=["while it generates", "after it has"])
def test_barge_in(speed: float) -> None:
    async def scenario() -> None:
        script = Script(speed=speed, utterances=(Utterance(seconds=8.0),))
        async with ModelServer(script, wire="nova_sonic") as server:
            agent = agent_for(url=server.url)
            await agent.start()
            agent.say("A long story.")
            seen: list[AgentEvent] = []
            first = await until(agent, AssistantAudio, seen)
            if not speed:
                await until(agent, AssistantTurnEnd, seen)
            agent.push_audio(SPOKEN)
            await until(agent, UserSpeechStarted, seen)
            agent.cancel([Played(first.reply_id, first.item_id, 70)])
            if speed:
                await until(agent, AssistantInterrupted, seen)
                assert (await until(agent, AssistantTurnEnd, seen)).status == "cancelled"
            assert server.sessions[0].violations == []
            await agent.close()

    run(scenario)


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "code", "again"),
    [
        (error("AccessDeniedException", "You don't have access to the model."), "403", False),
        (error("ThrottlingException", "Too many requests."), "429", True),
        (error("ValidationException", "The provided model identifier is invalid."), "400", False),
        (error("AwsCrtError", "AWS_IO_DNS_INVALID_NAME"), "closed", True),
    ],
)
def test_a_stream_that_is_refused(service: Bedrock, refusal: Exception, code: str, again: bool) -> None:
    async def scenario() -> None:
        service.refusal = refusal
        agent = agent_for(aws=KEYS)
        with pytest.raises(AgentStartError) as failure:
            await agent.start()
        assert (failure.value.code, failure.value.again) == (code, again)
        assert str(refusal) in str(failure.value)
        assert KEYS["secret_access_key"] not in str(failure.value)
        await agent.close()

    run(scenario)


def test_a_stream_that_breaks(service: Bedrock) -> None:
    async def scenario() -> None:
        service.script = replace(QUICK, fault=Fault("drop"))
        channel = await open_channel(BedrockEndpoint("eu-north-1", "m1"))
        received: list[str | bytes] = []
        reading = asyncio.create_task(channel.receive(received.append))
        for message in setup():
            channel.send(Outgoing("stream", message))
        code, reason = await reading
        assert (code, reason) == (1006, "OSError: Failed to read from stream.")
        assert received[0] == b"", "the stream was taken"
        await channel.close()

    run(scenario)


def setup() -> list[str]:
    """A dialect's own first words, and a text that asks for a reply."""
    from sipbridge.providers.nova_sonic import NovaSonicDialect

    dialect = NovaSonicDialect({"provider": "nova_sonic", "url": "ws://127.0.0.1:1"}, OPTIONS)
    dialect.channel_opened("stream", 0.0)
    dialect.say("Hello", 0.0)
    return [str(message.data) for message in dialect.messages_to_send()]


def test_a_stream_that_takes_nothing_costs_the_oldest_sound_and_nothing_else(service: Bedrock) -> None:
    async def scenario() -> None:
        service.stalls = True
        channel = await BedrockChannel.open(BedrockEndpoint("eu-north-1", "m1"))
        channel.send(Outgoing("stream", "setup"))
        await asyncio.sleep(0)
        for number in range(100):
            channel.send(Outgoing("stream", f"{number}", 20.0))
        channel.send(Outgoing("stream", "a tool's result"))
        assert channel.dropped_ms == 2000 - MAX_UNSENT_MS
        async with asyncio.timeout(1.0):
            await channel.close()

    run(scenario)


def test_it_closes_while_somebody_waits_for_events(service: Bedrock) -> None:
    async def scenario() -> None:
        agent = agent_for(aws=KEYS)
        await agent.start()
        waiting = asyncio.create_task(until(agent, SessionClosed, []))
        await asyncio.sleep(0)
        await agent.close()
        assert (await waiting).expected

    run(scenario)


@pytest.mark.skipif(sdk_is_there(), reason="the SDK is installed")
def test_without_the_sdk_it_says_what_to_install() -> None:
    async def scenario() -> None:
        with pytest.raises(AgentStartError, match="extra `nova`"):
            await open_channel(BedrockEndpoint("eu-north-1", "m1"))

    run(scenario)
