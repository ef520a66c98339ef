"""The vendor's own client talks to the simulated service; and the judge of the wire judges."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google import genai
from google.genai import errors, types

from sipbridge.audio import PCM_16K
from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.script import Fault, Script, ToolUse, Utterance
from sipbridge.simulator.voice import speech
from tests.providers.genai_sdk import check_client_event, check_server_event

SPOKEN = speech(Utterance(seconds=0.6, tone_hz=700.0), PCM_16K)
SILENCE = bytes(32 * 1000)
SCRIPT = Script(
    utterances=(Utterance("Hotel Aster, good morning.", 0.5, 440.0), Utterance("Two nights.", 6.0, 560.0)),
    transcripts=("how much for two nights?",),
    tools={1: ToolUse("room_price", '{"nights": 2}')},
    speed=8.0,
)
PRICE = types.FunctionDeclaration(
    name="room_price",
    description="Price of a room",
    parameters_json_schema={"type": "object", "properties": {"nights": {"type": "integer"}}},
    behavior=types.Behavior.BLOCKING,
)
CONFIG = types.LiveConnectConfig(
    response_modalities=[types.Modality.AUDIO],
    temperature=0.5,
    system_instruction="You are the desk of Hotel Aster.",
    speech_config=types.SpeechConfig(
        voice_config=types.VoiceConfig(prebuilt_voice_config=types.PrebuiltVoiceConfig(voice_name="Kore"))
    ),
    tools=[types.Tool(function_declarations=[PRICE])],
    input_audio_transcription=types.AudioTranscriptionConfig(),
    output_audio_transcription=types.AudioTranscriptionConfig(),
    session_resumption=types.SessionResumptionConfig(),
)


@asynccontextmanager
async def connected(server: ModelServer, config: Any = CONFIG, model: str = "gemini-3.8-live") -> AsyncIterator[Any]:
    """By the Developer API's path. The SDK insists on TLS: here, on loopback, it goes without."""
    place = f"127.0.0.1:{server.port}"
    client = genai.Client(api_key="AIza-test", http_options=types.HttpOptions(base_url=f"http://{place}"))
    inner: Any = client._api_client
    inner._websocket_base_url = lambda options=None: f"ws://{place}"
    inner._websocket_ssl_ctx = {}
    async with client.aio.live.connect(model=model, config=config) as session:
        yield session


async def said_in(session: Any, until: str = "turn_complete") -> tuple[bytes, str, list[Any]]:
    """All of one turn of the model's: its sound, its words, the messages."""
    pcm, words, messages = b"", "", []
    async for message in session.receive():
        messages.append(message)
        pcm += message.data or b""
        content = message.server_content
        if content and content.output_transcription:
            words += content.output_transcription.text or ""
        if message.tool_call or (content and getattr(content, until)):
            break
    return pcm, words, messages


async def push(session: Any, pcm: bytes) -> None:
    for start in range(0, len(pcm), 1280):
        blob = types.Blob(data=pcm[start : start + 1280], mime_type="audio/pcm;rate=16000")
        await session.send_realtime_input(audio=blob)


def test_the_vendor_s_client_holds_a_conversation_with_the_simulator() -> None:
    async def scenario() -> None:
        async with ModelServer(SCRIPT, wire="gemini") as server, asyncio.timeout(20):
            async with connected(server) as session:
                assert session.session_id == "session_sim"
                await session.send_client_content(
                    turns=types.Content(role="user", parts=[types.Part(text="Greet the caller.")]), turn_complete=True
                )
                pcm, words, messages = await said_in(session)
                assert len(pcm) == 24000
                assert words == "Hotel Aster, good morning."
                assert messages[-1].session_resumption_update is None
                assert messages[-1].usage_metadata.response_token_count > 0

                await push(session, SPOKEN + SILENCE)
                _, _, messages = await said_in(session)
                heard = [m.server_content.input_transcription for m in messages if m.server_content]
                assert "".join(entry.text for entry in heard if entry) == "how much for two nights?"
                [call] = messages[-1].tool_call.function_calls
                assert (call.name, call.args) == ("room_price", {"nights": 2})
                await session.send_tool_response(
                    function_responses=types.FunctionResponse(id=call.id, name=call.name, response={"output": 240})
                )
                pcm, words, _ = await said_in(session, "generation_complete")
                assert "240" in words

                await push(session, SPOKEN)
                _, _, messages = await said_in(session)
                assert [m.server_content.interrupted for m in messages if m.server_content] == [True, None]
            [record] = server.sessions
            assert record.violations == []
            for message in record.sent:
                check_server_event(message)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("fault", "words"), [("refuse_setup:key", "API key not valid"), ("refuse_setup:quota", "current quota")]
)
def test_the_vendor_s_client_understands_a_refusal(fault: str, words: str) -> None:
    async def scenario() -> None:
        async with ModelServer(Script(fault=Fault.parse(fault)), wire="gemini") as server, asyncio.timeout(10):
            with pytest.raises(errors.APIError, match=words):
                async with connected(server):
                    pass

    asyncio.run(scenario())


def test_all_that_the_vendor_s_client_sends_passes_the_judge() -> None:
    """Both see the same wire, but for the names: the service takes them in snake_case as well, we do not send them."""

    async def scenario() -> None:
        async with ModelServer(SCRIPT, wire="gemini") as server, asyncio.timeout(10):
            async with connected(server) as session:
                await session.send_realtime_input(text="Hello")
                await session.send_realtime_input(audio_stream_end=True)
                await session.send_context_update(system_instruction="Be brief.")
            [record] = server.sessions
            await record.closed.wait()
            for entry in record.received:
                check_client_event(entry.message)
            assert record.violations == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "wrong",
    [
        {"setup": {"model": "models/m", "colour": 1}},
        {"setup": {"model": "models/m"}, "realtimeInput": {"text": "x"}},
        {"setup": {"model": "models/m", "generation_config": {}}},
        {"setup": {"model": "models/m", "systemInstruction": "a string"}},
        {"setup": {"model": "models/m", "explicitVadSignal": True}},
        {"setup": {"model": "models/m", "sessionResumption": {"transparent": True}}},
        {"setup": {"model": "models/m", "generationConfig": {"responseModalities": ["SPEECH"]}}},
        {"setup": {"model": "models/m", "generationConfig": {"speechConfig": {"voiceName": "Kore"}}}},
        {"setup": {"model": "models/m", "realtimeInputConfig": {"activityHandling": "no_interruption"}}},
        {"setup": {"model": "models/m", "realtimeInputConfig": {"automaticActivityDetection": {"threshold": 1}}}},
        {"setup": {"model": "models/m", "tools": [{"functionDeclarations": [{"name": "f", "behavior": "blocking"}]}]}},
        {"realtimeInput": {"audio": {"data": "%%%%", "mimeType": "audio/pcm;rate=16000"}}},
        {"realtimeInput": {"mediaChunks": []}},
        {"realtimeInput": {"text": "x", "audioStreamEnd": True}},
        {"clientContent": {"turns": [{"role": "user", "parts": [{"txt": "x"}]}]}},
        {"clientContent": {"turnComplete": "true"}},
        {"toolResponse": {"functionResponses": [{"name": "f", "response": {}}]}},
        {"toolResponse": {"functionResponses": [{"id": "1", "name": "f", "response": {}, "scheduling": "LATER"}]}},
        {"contextUpdate": {"tools": [{"functionDeclarations": []}]}},
    ],
    ids=lambda wrong: json.dumps(wrong)[:60],
)
def test_the_judge_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises((AssertionError, ValueError)):
        check_client_event(wrong)


def test_the_judge_knows_what_vertex_does_not_take() -> None:
    check_client_event({"realtimeInput": {"audioStreamEnd": True}})
    with pytest.raises(ValueError, match="audio_stream_end"):
        check_client_event({"realtimeInput": {"audioStreamEnd": True}}, vertex=True)
