"""The vendor's own client (SDK 3.54) holds a conversation with the simulated model, in code like its users'."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from typing import Any

from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection

from sipbridge.audio import PCM_24K
from sipbridge.simulator.model import ModelServer, SessionRecord
from sipbridge.simulator.script import Script, ToolUse, Utterance
from sipbridge.simulator.voice import speech

SCRIPT = Script(
    utterances=(Utterance("Hotel Aster, how can I help?", seconds=1.0),),
    transcripts=("How much for two nights?",),
    tools={1: ToolUse("room_price", '{"nights":2}')},
    speed=0.0,
)
VOICE = speech(Utterance(seconds=0.5), PCM_24K)
SILENCE = bytes(48 * 800)
TOOL: Any = {
    "type": "function",
    "name": "room_price",
    "parameters": {"type": "object", "properties": {"nights": {"type": "integer"}}},
}


class Caller:
    """What a user of the SDK would write around its connection."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self.connection = connection
        self.heard = bytearray()
        self.item = ""

    async def until(self, kind: str) -> Any:
        while True:
            event = await self.connection.recv()
            assert event.type != "error", event
            if event.type == "response.output_audio.delta":
                self.heard += b64decode(event.delta)
                self.item = event.item_id
            if event.type == kind:
                return event

    async def speak(self, audio: bytes) -> None:
        for start in range(0, len(audio), 4800):
            block = b64encode(audio[start : start + 4800]).decode()
            await self.connection.input_audio_buffer.append(audio=block)


async def greeting(caller: Caller) -> None:
    await caller.until("session.created")
    await caller.connection.session.update(
        session={
            "type": "realtime",
            "instructions": "You are the desk of Hotel Aster.",
            "output_modalities": ["audio"],
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24000},
                    "transcription": {"model": "gpt-transcribe"},
                    "turn_detection": {"type": "server_vad", "silence_duration_ms": 500},
                },
                "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin"},
            },
            "tools": [TOOL],
        }
    )
    updated = await caller.until("session.updated")
    assert updated.session.audio.output.voice == "marin"
    await caller.connection.response.create(response={"instructions": "Greet the caller."})
    done = await caller.until("response.done")
    assert done.response.status == "completed"
    assert len(caller.heard) == 48000
    assert done.response.usage.output_token_details.audio_tokens > 0


async def question(caller: Caller) -> None:
    """The caller cuts in: of the greeting, 400 ms were heard."""
    await caller.speak(VOICE)
    await caller.until("input_audio_buffer.speech_started")
    await caller.connection.conversation.item.truncate(item_id=caller.item, content_index=0, audio_end_ms=400)
    assert (await caller.until("conversation.item.truncated")).audio_end_ms == 400
    await caller.speak(SILENCE)
    heard = await caller.until("conversation.item.input_audio_transcription.completed")
    assert heard.transcript == "How much for two nights?"


async def answer(caller: Caller) -> None:
    call = await caller.until("response.function_call_arguments.done")
    assert (call.name, call.arguments) == ("room_price", '{"nights":2}')
    await caller.until("response.done")
    await caller.connection.conversation.item.create(
        item={"type": "function_call_output", "call_id": call.call_id, "output": '{"eur":240}'}
    )
    await caller.until("conversation.item.done")
    await caller.connection.response.create()
    said = await caller.until("response.output_audio_transcript.done")
    assert "240" in said.transcript
    await caller.until("response.done")


def test_a_whole_conversation() -> None:
    async def scenario() -> SessionRecord:
        async with asyncio.timeout(20), ModelServer(SCRIPT) as server:
            client = AsyncOpenAI(api_key="sk-test-0123456789", websocket_base_url=server.url.removesuffix("/realtime"))
            options: Any = {"proxy": None}
            async with client.realtime.connect(
                model="gpt-realtime-2.1", websocket_connection_options=options
            ) as connection:
                caller = Caller(connection)
                for part in (greeting, question, answer):
                    await part(caller)
            record = await server.session()
            await record.closed.wait()
            return record

    record = asyncio.run(scenario())
    assert record.violations == []
    assert record.open_calls == []
    assert record.close_code == 1000
    assert {name.lower(): value for name, value in record.headers.items()}[
        "authorization"
    ] == "Bearer sk-test-0123456789"


def test_what_is_wrong_it_is_told() -> None:
    async def scenario() -> None:
        async with asyncio.timeout(20), ModelServer(SCRIPT) as server:
            client = AsyncOpenAI(api_key="sk-test-0123456789", websocket_base_url=server.url.removesuffix("/realtime"))
            options: Any = {"proxy": None}
            async with client.realtime.connect(model="m", websocket_connection_options=options) as connection:
                assert (await connection.recv()).type == "session.created"
                wrong: Any = {"type": "realtime", "temperature": 0.8}
                await connection.session.update(session=wrong)
                refused: Any = await connection.recv()
                assert refused.error.code == "unknown_parameter"
                await connection.conversation.item.delete(item_id="item_none")
                refused = await connection.recv()
                assert refused.error.code == "item_delete_invalid_item_id"

    asyncio.run(scenario())
