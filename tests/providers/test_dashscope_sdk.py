"""The vendor's own client and the simulated service understand each other; so do we and the vendor's client."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import pytest
from dashscope.audio.qwen_omni import MultiModality, OmniRealtimeConversation
from dashscope.audio.qwen_omni.omni_realtime import AudioFormatConfig

from sipbridge.audio import PCM_16K, PCM_24K
from sipbridge.simulator.model import ModelServer, SessionRecord
from sipbridge.simulator.script import Script, ToolUse, Utterance
from sipbridge.simulator.voice import speech
from tests.providers.dashscope_sdk import Callback, check_client_event

KEY = "sk-test-0123456789abcdef"
SPOKEN = speech(Utterance(seconds=0.6), PCM_16K)
SILENCE = bytes(PCM_16K.bytes_per_ms * 1000)
BOTH = [MultiModality.TEXT, MultiModality.AUDIO]
TOOL = {"type": "function", "function": {"name": "price", "description": "", "parameters": {"type": "object"}}}


def converse(script: Script, talk: Callable[[OmniRealtimeConversation, Callback], None], model: str) -> SessionRecord:
    """Let the SDK's client talk, on a thread of its own, to the simulated service."""

    async def scenario() -> SessionRecord:
        async with asyncio.timeout(30), ModelServer(script, wire="dashscope") as server:
            callback = Callback()
            conversation = OmniRealtimeConversation(model, callback, url=server.url, api_key=KEY, workspace="ws-1")
            await asyncio.to_thread(_talk, conversation, callback, talk)
            record = await server.session()
            await record.closed.wait()
            return record

    return asyncio.run(scenario())


def _talk(conversation: OmniRealtimeConversation, callback: Callback, talk: Callable[..., None]) -> None:
    conversation.connect()
    socket: Any = conversation.ws
    websocket, raw = socket.sock, socket.sock.sock
    try:
        talk(conversation, callback)
        conversation.end_session(timeout=5)
        # Not `close()`: it reads the server's goodbye on this thread, and the SDK's own thread waits on for 10 s.
        websocket.send_close()
        assert callback.closed.get(timeout=5) == 1000
    finally:
        raw.close()


def _say(conversation: OmniRealtimeConversation, pcm: bytes) -> None:
    for start in range(0, len(pcm), 3200):
        conversation.append_audio(b64encode(pcm[start : start + 3200]).decode("ascii"))


def test_the_vendors_client_holds_a_conversation() -> None:
    script = Script(
        speed=0.0,
        utterances=(Utterance("Hotel Aster.", 0.4), Utterance("", 0.1), Utterance("240 euro.", 0.3)),
        transcripts=("two nights",),
        tools={1: ToolUse("price", '{"nights":2}')},
    )

    def talk(conversation: OmniRealtimeConversation, callback: Callback) -> None:
        assert callback.until("session.created")["session"]["voice"] == "Tina"
        conversation.update_session(
            BOTH,
            voice="Ethan",
            input_audio_config=AudioFormatConfig(sample_rate=16000),
            output_audio_config=AudioFormatConfig(sample_rate=24000),
            instructions="You are the desk of Hotel Aster.",
            tools=[TOOL],
        )
        updated = callback.until("session.updated")["session"]
        assert updated["audio"]["output"]["format"] == {"type": "pcm", "sample_rate": 24000}
        assert updated["voice"] == "Ethan"
        conversation.create_response(instructions="Greet the caller.")
        seen: list[dict[str, Any]] = []
        callback.until("response.done", seen)
        sound = b"".join(b64decode(event["delta"]) for event in seen if event["type"] == "response.audio.delta")
        assert sound == speech(script.utterances[0], PCM_24K)
        _say(conversation, SPOKEN + SILENCE)
        callback.until("input_audio_buffer.speech_started")
        callback.until("input_audio_buffer.speech_stopped")
        heard = callback.until("conversation.item.input_audio_transcription.completed")
        assert heard["transcript"] == "two nights"
        call = callback.until("response.function_call_arguments.done")
        assert (call["name"], call["arguments"]) == ("price", '{"nights":2}')
        callback.until("response.done")
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": '{"eur":240}'}
        conversation.create_item(output)
        conversation.create_response()
        assert callback.until("response.audio_transcript.done")["transcript"].endswith('{"eur":240}')
        assert callback.until("response.done")["response"]["status"] == "completed"
        assert conversation.last_first_audio_delay is not None

    record = converse(script, talk, "qwen3.5-omni-plus-realtime")
    assert record.violations == []
    assert record.headers["X-DashScope-WorkSpace"] == "ws-1"
    assert bytes(record.audio) == SPOKEN + SILENCE
    for entry in record.received:
        if entry.message["type"] != "conversation.item.create":
            check_client_event(entry.message)


def test_the_vendors_client_by_hand_and_cut_off() -> None:
    """The older form of formats, no turn detection, a reply that is cancelled, one in text only."""

    def talk(conversation: OmniRealtimeConversation, callback: Callback) -> None:
        conversation.update_session(BOTH, voice="Cherry", enable_turn_detection=False)
        assert "turn_detection" not in callback.until("session.updated")["session"]
        _say(conversation, SPOKEN)
        conversation.append_video(b64encode(b"\xff\xd8\xff\xe0").decode("ascii"))
        conversation.commit()
        callback.until("input_audio_buffer.committed")
        conversation.create_response()
        callback.until("response.audio.delta")
        conversation.cancel_response()
        assert callback.until("response.done")["response"]["status"] == "cancelled"
        conversation.create_response(output_modalities=[MultiModality.TEXT])
        seen: list[dict[str, Any]] = []
        callback.until("response.done", seen)
        kinds = {event["type"] for event in seen}
        assert "response.text.done" in kinds
        assert "response.audio.delta" not in kinds

    record = converse(Script(utterances=(Utterance(seconds=5.0),)), talk, "qwen3-omni-flash-realtime")
    assert record.violations == []


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ({"type": "conversation.item.truncate", "item_id": "i"}, "sends no"),
        ({"type": "response.cancel", "response_id": "r"}, "response_id"),
        ({"type": "session.update", "session": {"tool_choice": "auto"}}, "tool_choice"),
        ({"type": "session.update", "session": {"audio": {}, "input_audio_format": "pcm"}}, "both forms"),
        ({"type": "response.create", "response": {"tool_choice": "none"}}, "tool_choice"),
    ],
)
def test_the_measure_itself(message: dict[str, Any], problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        check_client_event(message)
