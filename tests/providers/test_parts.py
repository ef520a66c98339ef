"""Agents made of several services, over real sockets: what is said when one of them fails; the vendors' own clients
with the simulated services; and the pages about them."""

from __future__ import annotations

import asyncio
import io
import re
import warnings
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from sipbridge.agent import (
    Agent,
    AgentError,
    AgentEvent,
    AgentOptions,
    AssistantAudio,
    AssistantTurnEnd,
    Reconnecting,
    SessionOpen,
    ToolCall,
    ToolDeclaration,
    UserTranscript,
)
from sipbridge.agent_settings import problems
from sipbridge.audio import PCM_24K, PCMU, Played
from sipbridge.configfile import parse
from sipbridge.errors import AgentStartError
from sipbridge.providers import new_agent_from_credential
from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.parts import PartsServer
from sipbridge.simulator.script import Fault, Script, ToolUse, Utterance
from sipbridge.simulator.voice import speech
from sipbridge.tenant_config import TenantConfig
from tests.providers.cartesia_sdk import check_server_event
from tests.providers.order import audio_of
from tests.providers.speech_sdk import check_heard, check_spoken

OPTIONS = AgentOptions(instructions="You run a hotel.", input_format=PCMU, output_format=PCMU)
SHORT = Script(utterances=(Utterance("Two nights are 240 euros. Anything else?", 0.6),), speed=0.0)
TOOL = ToolDeclaration("price", "What a stay costs.", {"type": "object", "properties": {}})


def agent_of(server: PartsServer, options: AgentOptions = OPTIONS) -> Agent:
    return new_agent_from_credential(server.credential, options)


async def until(agent: Agent, ready: Callable[[AgentEvent], bool]) -> list[AgentEvent]:
    events = []
    async with asyncio.timeout(8):
        async for event in agent:
            events.append(event)
            if ready(event):
                break
    return events


def ask(agent: Agent) -> None:
    agent.push_audio(speech(Utterance(seconds=0.6), PCMU) + b"\xff" * 8000)


def judged(server: PartsServer) -> None:
    """What the simulated services said is what the vendors' types know."""
    checks: dict[str, Callable[[Any], None]] = {
        "/v1/listen": check_heard,
        "/v1/speak": check_spoken,
        "/v2/listen": check_heard,
        "/tts/websocket": check_server_event,
    }
    assert [record.violations for record in server.sessions if record.violations] == []
    for record in server.sessions:
        for message in record.sent:
            checks.get(record.path.partition("?")[0], lambda _: None)(message)


@pytest.mark.parametrize("kind", ["deepgram", "nova", "plain"])
def test_a_conversation(kind: str) -> None:
    async def scenario() -> None:
        async with PartsServer.cascade(kind, SHORT) as server:
            options = AgentOptions() if kind == "plain" else OPTIONS
            agent = agent_of(server, options)
            await agent.start()
            assert isinstance(await anext(agent), SessionOpen)
            sound = speech(Utterance(seconds=0.6), options.input_format)
            agent.push_audio(sound + options.input_format.silence * 16000)
            events = await until(agent, lambda event: isinstance(event, AssistantTurnEnd))
            assert any(isinstance(event, UserTranscript) and event.final for event in events)
            heard_ms = options.output_format.duration_ms(audio_of(events))
            assert heard_ms == pytest.approx(600, abs=30)
            await agent.close()
            judged(server)

    asyncio.run(scenario())


def test_what_was_heard_is_what_the_model_is_told() -> None:
    script = Script(utterances=(Utterance("Once upon a time there was a hotel.", 4.0),), speed=8.0)

    async def scenario() -> None:
        async with PartsServer.model_and_voice(script) as server:
            agent = agent_of(server)
            await agent.start()
            agent.create_response()
            (audio,) = [
                e for e in await until(agent, lambda e: isinstance(e, AssistantAudio)) if isinstance(e, AssistantAudio)
            ]
            agent.cancel([Played(audio.reply_id, audio.item_id, 100)])
            model = server.servers[""].sessions[0]
            deleted = await model.wait_for("conversation.item.delete")
            assert deleted["item_id"]
            cancelled = server.servers["voice_provider"].sessions[0]
            await cancelled.wait_until(lambda: any("cancel" in entry.message for entry in cancelled.received))
            await agent.close()
            judged(server)

    asyncio.run(scenario())


def test_a_voice_s_socket_that_was_closed_while_idle_is_opened_again_by_the_next_word() -> None:
    async def scenario() -> None:
        async with PartsServer.model_and_voice(SHORT) as server:
            agent = agent_of(server)
            await agent.start()
            voice = server.servers["voice_provider"]
            for _ in range(2):
                agent.create_response()
                events = await until(agent, lambda event: isinstance(event, AssistantTurnEnd))
                assert PCMU.duration_ms(audio_of(events)) == pytest.approx(600, abs=5)
                assert not any(isinstance(event, AgentError | Reconnecting) for event in events)
                voice.drop()
                await voice.sessions[-1].closed.wait()
            assert (len(server.servers[""].sessions), len(voice.sessions)) == (1, 2)
            await agent.close()
            judged(server)

    asyncio.run(scenario())


@pytest.mark.parametrize("part", ["stt", "tts"])
def test_a_key_that_a_socket_refuses_is_known_at_the_start(part: str) -> None:
    async def scenario() -> None:
        server = PartsServer.cascade("deepgram", Script(fault=Fault("status", "401")))
        server.faulty = part
        async with server:
            agent = agent_of(server)
            with pytest.raises(AgentStartError) as error:
                await agent.start()
            assert error.value.code == "401"
            assert not error.value.again
            assert "key-0123456789" not in str(error.value)

    asyncio.run(scenario())


def test_a_language_model_that_refuses_the_key_is_named() -> None:
    async def scenario() -> None:
        server = PartsServer.cascade("deepgram", Script(fault=Fault("status", "401")))
        server.faulty = "llm"
        async with server:
            agent = agent_of(server)
            await agent.start()
            ask(agent)
            events = await until(agent, lambda event: isinstance(event, AgentError) and event.fatal)
            error = events[-1]
            assert isinstance(error, AgentError)
            assert error.message.startswith("llm:")
            assert error.code == "401"
            assert "key-0123456789" not in error.message
            await agent.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("fault", ["rate_limit:1", "garbage"])
def test_a_language_model_s_whims_are_survived(fault: str) -> None:
    async def scenario() -> None:
        server = PartsServer.cascade(
            "openai", Script((Utterance("Yes, of course.", 0.4),), speed=0.0, fault=Fault.parse(fault))
        )
        server.faulty = "llm"
        async with server:
            agent = agent_of(server, AgentOptions(input_format=PCMU, output_format=PCM_24K))
            await agent.start()
            ask(agent)
            events = await until(agent, lambda event: isinstance(event, AssistantTurnEnd))
            assert (
                events[-1] == AssistantTurnEnd(events[-1].reply_id)
                if isinstance(events[-1], AssistantTurnEnd)
                else False
            )
            assert audio_of(events)
            await agent.close()

    asyncio.run(scenario())


def test_several_calls_of_a_tool() -> None:
    async def scenario() -> None:
        script = Script(SHORT.utterances, speed=0.0, tools={0: ToolUse("price", '{"nights":2}', times=2, spoken=True)})
        async with PartsServer.cascade("deepgram", script) as server:
            agent = agent_of(server, AgentOptions(input_format=PCMU, output_format=PCMU, tools=(TOOL,)))
            await agent.start()
            ask(agent)
            events = await until(agent, lambda event: isinstance(event, AssistantTurnEnd))
            calls = [event for event in events if isinstance(event, ToolCall)]
            assert [call.arguments for call in calls] == ['{"nights":2}'] * 2
            for call in calls:
                agent.send_tool_result(call.call_id, "240")
            await until(agent, lambda event: isinstance(event, AssistantTurnEnd))
            await agent.close()
            judged(server)

    asyncio.run(scenario())


# --- the vendors' own clients -----------------------------------------------------------------------------------------


def sound_file() -> io.BytesIO:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16000)
        writer.writeframes(bytes(3200))
    file.seek(0)
    file.name = "speech.wav"
    return file


def test_openai_s_client_talks_to_what_is_asked_over_http() -> None:
    async def scenario() -> None:
        async with PartsServer.cascade("openai", SHORT) as server, PartsServer.cascade("plain", SHORT) as other:
            model, speaker, hearer = server.servers["llm"].url, server.servers["tts"].url, other.servers["stt"].url
            chat = openai.AsyncOpenAI(api_key="k-123456", base_url=model.removesuffix("/chat/completions"))
            messages: Any = [{"role": "user", "content": "two nights"}]
            stream = await chat.chat.completions.create(model="m", messages=messages, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
            assert text == "Two nights are 240 euros. Anything else?"
            await chat.close()
            voice = openai.AsyncOpenAI(api_key="k-123456", base_url=speaker.removesuffix("/audio/speech"))
            spoken = await voice.audio.speech.create(model="m", voice="cedar", input=text, response_format="pcm")
            assert PCM_24K.duration_ms(spoken.content) == pytest.approx(600, abs=5)
            await voice.close()
            ear = openai.AsyncOpenAI(api_key="k-123456", base_url=hearer.removesuffix("/audio/transcriptions"))
            heard = await ear.audio.transcriptions.create(model="m", file=sound_file())
            assert heard.text == "The caller said something."
            await ear.close()
            judged(server)

    asyncio.run(scenario())


def test_cartesia_s_client_talks_to_the_simulated_voice() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the client's own
        from cartesia import AsyncCartesia

    async def scenario() -> None:
        async with ModelServer(SHORT, wire="cartesia") as server:
            base = server.url.removesuffix("/tts/websocket")
            client = AsyncCartesia(api_key="key-0123456789", websocket_base_url=base)
            async with client.tts.websocket_connect() as connection:
                context = connection.context(
                    model_id="sonic-3.5",
                    voice={"id": "voice-1"},
                    output_format={"container": "raw", "encoding": "pcm_mulaw", "sample_rate": 8000},
                )
                await context.push("Two nights are 240 euros. ")
                await context.push("Anything else?")
                await context.no_more_inputs()
                sound = b""
                async for response in context.receive():
                    if response.type == "chunk" and response.audio:
                        sound += response.audio
            assert PCMU.duration_ms(sound) == pytest.approx(600, abs=5)
            problems = [words for code, words in server.sessions[0].violations if code not in ("version", "key")]
            assert problems == []
            await client.close()

    asyncio.run(scenario())


# --- the pages --------------------------------------------------------------------------------------------------------

PAGES = Path(__file__).parents[2] / "docs" / "providers"
EXAMPLES = [
    (page, block)
    for page in ("cascade.md", "voice_provider.md")
    for block in re.findall(r"^```yaml\n(.*?)^```", (PAGES / page).read_text(), re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize(("page", "block"), EXAMPLES)
def test_the_pages_examples_load_and_can_be_put_together(page: str, block: str) -> None:
    config = parse(block, TenantConfig, page)
    assert list(problems(config.agent)) == []


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        ("voice_provider: {provider: cartesia, api_key: k}", "voice", "id of one of Cartesia's voices"),
        ("voice_provider: {provider: nobody}", "provider", "there is no 'nobody'"),
    ],
)
def test_parts_that_cannot_be_are_mistakes_when_the_file_is_read(change: str, place: str, words: str) -> None:
    config = parse(f"agent:\n  provider: openai\n  api_key: k\n  {change}\n", TenantConfig, "x.yaml")
    ((found, message),) = problems(config.agent)
    assert found == ("agent", "voice_provider", place)
    assert words in message


def test_a_model_that_only_speaks_gets_no_other_voice() -> None:
    text = "agent:\n  provider: gemini\n  api_key: k\n  voice_provider: {provider: cartesia, api_key: k, voice: v}\n"
    ((found, message),) = problems(parse(text, TenantConfig, "x.yaml").agent)
    assert found == ("agent", "voice_provider")
    assert "only speak themselves" in message
