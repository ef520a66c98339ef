"""Azure Voice Live: what is sent, in virtual time and past the SDK's types; the SDK's client against the simulator."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Any

import pytest
from azure.ai.voicelive.aio import VoiceLiveConnection, connect
from azure.ai.voicelive.models import (
    AssistantMessageItem,
    AudioInputTranscriptionOptions,
    AzureSemanticVad,
    AzureStandardVoice,
    FunctionCallOutputItem,
    FunctionTool,
    OutputTextContentPart,
    RequestSession,
    ResponseCreateParams,
    ServerEvent,
)
from azure.core.credentials import AzureKeyCredential

from sipbridge.agent import (
    AgentOptions,
    AssistantAudio,
    AssistantTurnEnd,
    AssistantTurnStarted,
    Capabilities,
    Said,
    ToolDeclaration,
    ToolUsed,
    TurnDetection,
)
from sipbridge.audio import PCM_8K, PCM_16K, PCM_24K, PCMA, PCMU, Played
from sipbridge.errors import ConfigError
from sipbridge.providers import WebSocketEndpoint, capabilities_of, new_agent_from_credential
from sipbridge.providers.azure_voice_live import VoiceLiveDialect
from sipbridge.providers.openai import CHANNEL
from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.openai_check import check_message
from sipbridge.simulator.script import Script, ToolUse, Utterance
from sipbridge.simulator.voice import speech
from sipbridge.simulator.voice_live_check import TABLES
from tests.providers.openai_driver import Driver, audio, created, done, options, speech_started
from tests.providers.voicelive_sdk import check_client_event, check_server_event

URL = "wss://aster.services.ai.azure.com/voice-live/realtime"
CREDENTIAL = {"provider": "azure_voice_live", "api_key": "key-0123456789", "url": URL, "model": "gpt-realtime"}
TOOL = ToolDeclaration("price", "Price of a room", {"type": "object", "properties": {"nights": {"type": "integer"}}})


def driver(wanted: AgentOptions | None = None, **credential: Any) -> Driver:
    return Driver(wanted or options(), CREDENTIAL | credential, dialect=VoiceLiveDialect, check=check_client_event)


def session_of(wanted: AgentOptions, **credential: Any) -> dict[str, Any]:
    talk = driver(wanted, **credential)
    talk.server({"type": "session.created", "session": {"id": "sess_1"}})
    session: dict[str, Any] = talk.take_sent()[0]["session"]
    return session


def endpoint_of(**credential: Any) -> WebSocketEndpoint:
    endpoint = VoiceLiveDialect(CREDENTIAL | credential, options()).endpoints()[CHANNEL]
    assert isinstance(endpoint, WebSocketEndpoint)
    return endpoint


# --- where it is, and who may ----------------------------------------------------------------------------------------


def test_the_endpoint_of_a_model() -> None:
    endpoint = endpoint_of()
    assert endpoint.url == f"{URL}?api-version=2026-07-15&model=gpt-realtime"
    assert endpoint.headers == {"api-key": "key-0123456789"}
    assert endpoint_of(url="wss://aster.services.ai.azure.com").url.startswith(f"{URL}?")
    assert endpoint_of(api_version="2027-01-01").url.startswith(f"{URL}?api-version=2027-01-01&")


def test_the_endpoint_of_an_agent_with_a_token() -> None:
    endpoint = endpoint_of(agent_name="desk", agent_project="hotel aster", token="eyJ0", api_key=None)
    assert endpoint.url == f"{URL}?api-version=2026-07-15&agent-name=desk&agent-project-name=hotel%20aster"
    assert endpoint.headers == {"Authorization": "Bearer eyJ0"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"url": None}, "url: is needed"),
        ({"api_key": None}, "api_key: is needed"),
        ({"agent_name": "desk"}, "named by both"),
        ({"entra": {"tenant_id": "t"}}, "entra.client_id"),
    ],
)
def test_what_is_missing_is_named(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        VoiceLiveDialect(CREDENTIAL | changes, options())


# --- the session -----------------------------------------------------------------------------------------------------


def test_the_whole_session() -> None:
    wanted = options(
        instructions="You are the desk of Hotel Aster.",
        voice="en-US-Ava:DragonHDLatestNeural",
        language="en-GB",
        temperature=1.7,
        tools=(TOOL,),
        turn_detection=TurnDetection("semantic_vad", threshold=0.4, silence_ms=300, eagerness="low"),
        extra={"input_audio_noise_reduction": {"type": "azure_deep_noise_suppression"}},
    )
    assert session_of(wanted) == {
        "modalities": ["text", "audio"],
        "instructions": "You are the desk of Hotel Aster.",
        "voice": {"type": "azure-standard", "name": "en-US-Ava:DragonHDLatestNeural"},
        "input_audio_format": "g711_ulaw",
        "input_audio_sampling_rate": 8000,
        "output_audio_format": "g711_ulaw",
        "input_audio_transcription": {"model": "azure-speech", "language": "en-GB"},
        "turn_detection": {
            "type": "azure_semantic_vad",
            "threshold": 0.4,
            "silence_duration_ms": 300,
            "create_response": True,
            "interrupt_response": True,
        },
        "temperature": 1.0,
        "tools": [
            {
                "type": "function",
                "name": "price",
                "description": "Price of a room",
                "parameters": {"type": "object", "properties": {"nights": {"type": "integer"}}},
            }
        ],
        "tool_choice": "auto",
        "input_audio_noise_reduction": {"type": "azure_deep_noise_suppression"},
    }


@pytest.mark.parametrize(
    ("heard", "spoken", "named"),
    [
        (PCMU, PCMA, ("g711_ulaw", 8000, "g711_alaw")),
        (PCM_8K, PCM_8K, ("pcm16", 8000, "pcm16_8000hz")),
        (PCM_16K, PCM_16K, ("pcm16", 16000, "pcm16_16000hz")),
        (PCM_24K, PCM_24K, ("pcm16", 24000, "pcm16")),
    ],
)
def test_formats(heard: Any, spoken: Any, named: tuple[str, int, str]) -> None:
    session = session_of(options(input_format=heard, output_format=spoken))
    keys = ("input_audio_format", "input_audio_sampling_rate", "output_audio_format")
    assert tuple(session[key] for key in keys) == named


def test_a_leg_gets_what_its_codec_is() -> None:
    possible: Capabilities = capabilities_of("azure_voice_live")
    assert possible.formats_for(PCMA, 8000) == (PCMA, PCMA)
    assert possible.formats_for(None, 16000) == (PCM_16K, PCM_16K)
    assert possible.formats_for(None, 48000) == (PCM_24K, PCM_24K)
    assert possible.says_verbatim


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("marin", "marin"),
        ("ava", {"type": "azure-realtime-native", "name": "ava"}),
        ("de-DE-SeraphinaMultilingualNeural", {"type": "azure-standard", "name": "de-DE-SeraphinaMultilingualNeural"}),
    ],
)
def test_voices(name: str, told: Any) -> None:
    assert session_of(options(voice=name))["voice"] == told


def test_what_is_not_wanted_is_off_or_left_out() -> None:
    session = session_of(options(transcription=False, turn_detection=TurnDetection("none")))
    assert session["turn_detection"] is None
    assert session["input_audio_transcription"] is None
    assert {"voice", "temperature"}.isdisjoint(session)
    session = session_of(options(modalities=("text",), turn_detection=TurnDetection(interrupt_response=False)))
    assert session["modalities"] == ["text"]
    assert session["turn_detection"]["interrupt_response"] is False
    for kind in ("server_vad", "semantic_vad"):
        session = session_of(options(turn_detection=TurnDetection(kind, create_response=False)))
        assert session["turn_detection"]["create_response"] is False


def test_an_agent_of_azures_keeps_its_instructions() -> None:
    session = session_of(options(), agent_name="desk", agent_project="hotel", transcription_model="whisper-1")
    assert {"instructions", "tools"}.isdisjoint(session)
    assert session["input_audio_transcription"] == {"model": "whisper-1"}


# --- a call ----------------------------------------------------------------------------------------------------------


def test_say_speaks_the_very_words() -> None:
    talk = driver().open()
    talk.command("say", "Hotel Aster, hello.")
    content = [{"type": "text", "text": "Hotel Aster, hello."}]
    written = {"type": "message", "role": "assistant", "content": content}
    assert talk.take_sent() == [{"type": "response.create", "response": {"pre_generated_assistant_message": written}}]


def test_a_successor_knows_what_was_said() -> None:
    past = (Said("user", "Two nights?"), ToolUsed("c1", "price", "{}", "240"), Said("assistant", "240 euro."))
    talk = driver(options(history=past))
    talk.server({"type": "session.created", "session": {"id": "s"}}, {"type": "session.updated", "session": {}})
    items = [message["item"] for message in talk.take_sent()[1:]]
    assert [item.get("role", item["type"]) for item in items] == [
        "user", "function_call", "function_call_output", "assistant",
    ]  # fmt: skip
    assert items[-1]["content"] == [{"type": "text", "text": "240 euro."}]


def test_what_the_caller_cut_is_truncated_by_us() -> None:
    talk = driver().open()
    talk.server(created("r1"), audio("r1", "i1", 2000) | {"type": "response.audio.delta"}, speech_started())
    talk.command("cancel", [Played("r1", "i1", 700)])
    assert talk.take_sent() == [
        {"type": "conversation.item.truncate", "item_id": "i1", "content_index": 0, "audio_end_ms": 700}
    ]
    talk.server(done("r1", "cancelled", "turn_detected"))
    ends = [event for event in talk.take_events() if isinstance(event, AssistantTurnEnd)]
    assert ends == [AssistantTurnEnd("r1", "cancelled")]


def test_a_warning_and_events_of_the_avatar_say_nothing() -> None:
    talk = driver().open()
    talk.server(
        {"type": "warning", "event_id": "e", "warning": {"message": "slow today"}},
        {"type": "warning", "event_id": "e"},
        {"type": "response.audio_timestamp.delta", "event_id": "e"},
    )
    talk.command("send_image", b"\xff\xd8", "image/jpeg")
    assert talk.take_events() == []
    assert talk.take_sent() == []
    assert not talk.dialect.counters["unknown"]
    assert talk.dialect.counters["image_unsupported"] == 1


# --- with the simulated service ---------------------------------------------------------------------------------------

SPOKEN = speech(Utterance(seconds=0.6), PCM_24K)
SILENCE = bytes(PCM_24K.bytes_per_ms * 600)


def test_the_vendors_client_holds_a_conversation_with_the_simulator() -> None:
    script = Script(
        speed=0.0,
        utterances=(Utterance("unused", 0.3),),
        transcripts=("two nights",),
        tools={1: ToolUse("price", '{"nights":2}')},
    )

    async def until(connection: VoiceLiveConnection, kind: str) -> ServerEvent:
        async for event in connection:
            if event.type == kind:
                return event
        raise AssertionError(f"no {kind}")

    async def scenario() -> None:
        async with asyncio.timeout(15), ModelServer(script, wire="azure_voice_live") as server:
            endpoint = f"http://127.0.0.1:{server.port}"
            async with connect(
                endpoint=endpoint, credential=AzureKeyCredential("key-0123456789"), model="gpt-realtime"
            ) as connection:
                await until(connection, "session.created")
                await connection.session.update(
                    session=RequestSession(
                        voice=AzureStandardVoice(name="en-US-AvaNeural"),
                        turn_detection=AzureSemanticVad(silence_duration_ms=300),
                        input_audio_transcription=AudioInputTranscriptionOptions(model="azure-speech"),
                        tools=[FunctionTool(name="price", parameters={"type": "object"})],
                    )
                )
                await until(connection, "session.updated")
                greeting = AssistantMessageItem(content=[OutputTextContentPart(text="Hotel Aster.")])
                await connection.response.create(
                    response=ResponseCreateParams(pre_generated_assistant_message=greeting)
                )
                said: Any = await until(connection, "response.audio_transcript.done")
                assert said.transcript == "Hotel Aster."
                await until(connection, "response.done")
                await connection.input_audio_buffer.append(audio=b64encode(SPOKEN + SILENCE).decode("ascii"))
                heard: Any = await until(connection, "conversation.item.input_audio_transcription.completed")
                assert heard.transcript == "two nights"
                call: Any = await until(connection, "response.function_call_arguments.done")
                await until(connection, "response.done")
                output = FunctionCallOutputItem(call_id=call.call_id, output="240 euro")
                await connection.conversation.item.create(item=output)
                await connection.response.create()
                said = await until(connection, "response.audio_transcript.done")
                assert said.transcript.endswith("240 euro")
                await until(connection, "response.done")
            record = server.sessions[0]
            assert record.violations == []
            for message in record.sent:
                check_server_event(message)
            for entry in record.received:
                check_client_event(entry.message)

    asyncio.run(scenario())


def test_our_client_holds_one_too() -> None:
    async def scenario() -> None:
        script = Script(speed=0.0, utterances=(Utterance("unused", 0.3),))
        async with asyncio.timeout(15), ModelServer(script, wire="azure_voice_live") as server:
            credential = CREDENTIAL | {"url": server.url}
            agent = new_agent_from_credential(credential, options(voice="en-US-AvaNeural"))
            await agent.start()
            agent.say("Hotel Aster.")
            seen = []
            async for event in agent:
                seen.append(event)
                if isinstance(event, AssistantTurnEnd):
                    break
            assert any(isinstance(event, AssistantTurnStarted) for event in seen)
            sound = b"".join(event.pcm for event in seen if isinstance(event, AssistantAudio))
            assert sound == speech(script.utterances[0], PCMU)
            await agent.close()
            record = server.sessions[0]
            assert record.violations == []
            for message in record.sent:
                check_server_event(message)
            for entry in record.received:
                check_client_event(entry.message)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"voice": "en-US-AvaNeural"}, "session.voice"),
        ({"temperature": 1.2}, "session.temperature"),
        ({"turn_detection": {"type": "semantic_vad"}}, "session.turn_detection.type"),
        ({"input_audio_format": "g711_ulaw", "input_audio_sampling_rate": 16000}, "session.input_audio_sampling_rate"),
        ({"output_audio_format": "pcm16_48000hz"}, "session.output_audio_format"),
        ({"type": "realtime"}, "session.type"),
    ],
)
def test_what_the_simulator_refuses(session: dict[str, Any], param: str) -> None:
    refusal = check_message({"type": "session.update", "session": session}, TABLES)
    assert refusal is not None
    assert refusal.param == param
