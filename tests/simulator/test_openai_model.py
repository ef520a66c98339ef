"""The simulated model is only worth something if it is as strict and as talkative as the service.

Every message it sends here is read with the vendor's own types, unknown members refused.
"""

from __future__ import annotations

import asyncio
import json
import wave
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from sipbridge.audio import PCM_24K, PCMA, PCMU, AudioFormat
from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.openai_check import check_message
from sipbridge.simulator.script import Fault, Script, ToolUse, Utterance
from sipbridge.simulator.voice import Ear, speech
from tests.providers.openai_sdk import check_server_event

Json = dict[str, Any]
QUICK = Script(speed=0.0, utterances=(Utterance("One two three.", seconds=0.5),))


def tool(name: str) -> Json:
    return {"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}}


PCMU_SESSION = {
    "type": "realtime",
    "audio": {
        "input": {"format": {"type": "audio/pcmu"}, "transcription": {"model": "gpt-transcribe"}},
        "output": {"format": {"type": "audio/pcmu"}},
    },
}
VOICE = speech(Utterance(seconds=0.5), PCMU)
SILENCE = b"\xff" * 8 * 800


class Client:
    """A client without any intelligence."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.seen: list[Json] = []

    async def send(self, **message: Any) -> None:
        await self._socket.send(json.dumps(message))

    async def until(self, kind: str) -> Json:
        while True:
            event: Json = json.loads(await self._socket.recv())
            check_server_event(event)
            self.seen.append(event)
            if event["type"] == kind:
                return event

    def kinds(self) -> list[str]:
        """Of the events seen since last asked, each run of equal ones once."""
        kinds, self.seen = [event["type"] for event in self.seen], []
        return [kind for i, kind in enumerate(kinds) if i == 0 or kinds[i - 1] != kind]

    async def speak(self, audio: bytes) -> None:
        await self.send(type="input_audio_buffer.append", audio=b64encode(audio).decode())


def converse(script: Script, talk: Callable[[Client, ModelServer], Awaitable[None]], query: str = "") -> None:
    async def scenario() -> None:
        async with (
            asyncio.timeout(20),
            ModelServer(script) as server,
            connect(f"{server.url}?model=gpt-realtime-2.1{query}", proxy=None) as socket,
        ):
            client = Client(socket)
            await client.until("session.created")
            await client.send(type="session.update", session=PCMU_SESSION)
            updated = await client.until("session.updated")
            assert updated["session"]["audio"]["input"]["format"] == {"type": "audio/pcmu"}
            assert updated["session"]["audio"]["input"]["turn_detection"]["type"] == "server_vad"
            client.kinds()
            await talk(client, server)

    asyncio.run(scenario())


def test_a_turn_in_the_service_s_order() -> None:
    async def talk(client: Client, server: ModelServer) -> None:
        await client.speak(SILENCE + VOICE + SILENCE)
        started = await client.until("input_audio_buffer.speech_started")
        assert started["audio_start_ms"] == pytest.approx(800 - 300, abs=20)
        stopped = await client.until("input_audio_buffer.speech_stopped")
        assert stopped["audio_end_ms"] == pytest.approx(800 + 500 + 500, abs=20)
        done = await client.until("response.done")
        assert done["response"]["status"] == "completed"
        heard = [b64decode(event["delta"]) for event in client.seen if event["type"] == "response.output_audio.delta"]
        assert b"".join(heard) == speech(QUICK.utterances[0], PCMU)
        assert client.kinds() == [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "conversation.item.input_audio_transcription.delta",
            "conversation.item.input_audio_transcription.completed",
            "response.created",
            "rate_limits.updated",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
            "response.output_audio.delta",
            "response.output_audio_transcript.delta",
            "response.output_audio.delta",
            "response.output_audio_transcript.delta",
            "response.output_audio.delta",
            "response.output_audio_transcript.delta",
            "response.output_audio.delta",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "conversation.item.done",
            "response.output_item.done",
            "response.done",
        ]

    converse(QUICK, talk)


def test_an_interruption_and_what_may_be_truncated() -> None:
    async def talk(client: Client, server: ModelServer) -> None:
        await client.send(type="response.create")
        item = (await client.until("response.output_audio.delta"))["item_id"]
        await client.speak(VOICE)
        await client.until("input_audio_buffer.speech_started")
        done = await client.until("response.done")
        assert done["response"]["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
        for at_ms, answer in ((10**6, "error"), (50, "conversation.item.truncated"), (60, "error")):
            await client.send(type="conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=at_ms)
            await client.until(answer)
        await client.send(type="conversation.item.truncate", item_id="x", content_index=0, audio_end_ms=0)
        assert (await client.until("error"))["error"]["code"] == "item_truncate_invalid_item_id"

    converse(Script(speed=4.0, utterances=(Utterance(seconds=20),)), talk)


def test_one_response_at_a_time_and_none_to_cancel() -> None:
    async def talk(client: Client, server: ModelServer) -> None:
        await client.send(type="response.cancel", event_id="mine")
        refused = await client.until("error")
        assert (refused["error"]["code"], refused["error"]["event_id"]) == ("response_cancel_not_active", "mine")
        await client.send(type="response.create")
        await client.send(type="response.create")
        assert (await client.until("error"))["error"]["code"] == "conversation_already_has_active_response"
        await client.send(type="response.cancel")
        done = await client.until("response.done")
        assert done["response"]["status_details"]["reason"] == "client_cancelled"
        codes = [code for code, _ in server.sessions[0].violations]
        assert codes == ["response_cancel_not_active", "conversation_already_has_active_response"]

    converse(Script(speed=1.0), talk)


def test_a_tool_on_command_and_its_result() -> None:
    async def talk(client: Client, server: ModelServer) -> None:
        content = [{"type": "input_text", "text": 'call:price {"nights": 2}'}]
        item = {"type": "message", "role": "user", "content": content}
        await client.send(type="conversation.item.create", item=item)
        await client.send(type="response.create")
        call = await client.until("response.function_call_arguments.done")
        assert (call["name"], call["arguments"]) == ("price", '{"nights": 2}')
        await client.until("response.done")
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "240"}
        await client.send(type="conversation.item.create", item=result)
        await client.send(type="conversation.item.create", item=result)
        assert (await client.until("error"))["error"]["code"] == "item_create_invalid_call_id"
        await client.send(type="response.create")
        said = await client.until("response.output_audio_transcript.done")
        assert said["transcript"] == "The tool said: 240"
        assert server.sessions[0].open_calls == []

    converse(QUICK, talk)


def test_a_refused_update_changes_nothing() -> None:
    async def talk(client: Client, server: ModelServer) -> None:
        await client.send(type="session.update", session={"type": "realtime", "temperature": 1, "instructions": "x"})
        assert (await client.until("error"))["error"]["param"] == "session.temperature"
        await client.send(type="session.update", session={"type": "realtime"})
        assert (await client.until("session.updated"))["session"]["instructions"] != "x"

    converse(QUICK, talk)


def test_turns_by_hand() -> None:
    async def talk(client: Client, server: ModelServer) -> None:
        off = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
        await client.send(type="session.update", session=off)
        await client.until("session.updated")
        await client.speak(VOICE[:80])
        await client.send(type="input_audio_buffer.commit")
        assert (await client.until("error"))["error"]["code"] == "input_audio_buffer_commit_empty"
        await client.speak(VOICE)
        await client.send(type="input_audio_buffer.commit")
        await client.until("input_audio_buffer.committed")
        assert "input_audio_buffer.speech_started" not in client.kinds()

    converse(QUICK, talk)


def test_sound_that_is_none_and_an_event_id_that_was_there_before() -> None:
    async def talk(client: Client, server: ModelServer) -> None:
        await client.send(type="input_audio_buffer.append", audio="")
        assert (await client.until("error"))["error"]["param"] == "audio"
        await client.send(type="input_audio_buffer.clear", event_id="c1")
        await client.send(type="input_audio_buffer.clear", event_id="c1")
        assert (await client.until("error"))["error"]["param"] == "event_id"
        assert len(server.sessions[0].violations) == 2

    converse(QUICK, talk)


def test_a_url_may_change_the_script() -> None:
    async def talk(client: Client, server: ModelServer) -> None:
        await client.send(type="response.create")
        failed = await client.until("response.done")
        assert failed["response"]["status_details"]["error"]["code"] == "rate_limit_exceeded"

    converse(QUICK, talk, "&fault=rate_limit")


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ({"type": "no.such"}, "invalid_value", "type"),
        ({"type": "session.update"}, "missing_required_parameter", "session"),
        ({"type": "session.update", "session": {"instructions": "x"}}, "missing_required_parameter", "session.type"),
        (
            {"type": "session.update", "session": {"type": "realtime", "input_audio_format": "pcm16"}},
            "unknown_parameter",
            "session.input_audio_format",
        ),
        (
            {"type": "session.update", "session": {"type": "realtime", "output_modalities": ["audio", "text"]}},
            "invalid_value",
            "session.output_modalities",
        ),
        (
            {"type": "session.update", "session": {"type": "realtime", "tools": [tool("hang up")]}},
            "invalid_value",
            "session.tools[0].name",
        ),
        (
            {"type": "session.update", "session": {"type": "realtime", "tools": [tool("f"), tool("f")]}},
            "invalid_value",
            "session.tools[1].name",
        ),
        ({"type": "response.create", "response": {"modalities": []}}, "unknown_parameter", "response.modalities"),
        ({"type": "input_audio_buffer.append", "audio": 7}, "invalid_type", "audio"),
        (
            {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": True},
            "invalid_type",
            "audio_end_ms",
        ),
        ({"type": "conversation.item.create", "item": {"type": "odd"}}, "invalid_value", "item.type"),
        (
            {
                "type": "conversation.item.create",
                "item": {"type": "message", "role": "assistant", "content": [{"type": "input_text", "text": "x"}]},
            },
            "invalid_value",
            "item.content[0].type",
        ),
        (
            {"type": "conversation.item.create", "item": {"type": "function_call_output", "call_id": "c"}},
            "missing_required_parameter",
            "item.output",
        ),
    ],
)
def test_what_the_service_would_refuse_is_refused(message: Json, code: str, param: str) -> None:
    refusal = check_message(message)
    assert refusal is not None
    assert (refusal.code, refusal.param) == (code, param)


def test_semantic_turns_have_their_own_settings() -> None:
    def update(detection: Json) -> Json:
        session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
        return {"type": "session.update", "session": session}

    assert check_message(update({"type": "semantic_vad", "eagerness": "low"})) is None
    refusal = check_message(update({"type": "semantic_vad", "threshold": 0.5}))
    assert refusal is not None
    assert refusal.param == "session.audio.input.turn_detection.threshold"


def _words(role: str, kind: str, text: str) -> Json:
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}


def test_a_conversation_that_began_elsewhere() -> None:
    async def talk(client: Client, server: ModelServer) -> None:
        past = [
            _words("user", "input_text", "call:price"),
            {"type": "function_call", "call_id": "c1", "name": "price", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "240"},
            _words("assistant", "output_text", "It is 240."),
            {"type": "function_call", "call_id": "c2", "name": "book", "arguments": "{}"},
        ]
        for item in past:
            await client.send(type="conversation.item.create", item=item)
            assert (await client.until("conversation.item.done"))["item"]["type"] == item["type"]
        assert server.sessions[0].open_calls == ["c2"]
        await client.send(type="response.create")
        said = await client.until("response.output_audio_transcript.done")
        assert said["transcript"] == "One two three.", "what was answered before is not answered again"
        assert server.sessions[0].violations == []

    converse(QUICK, talk)


def test_items_are_deleted_and_made_in_their_place() -> None:
    async def talk(client: Client, server: ModelServer) -> None:
        await client.send(type="response.create", response={"output_modalities": ["text"]})
        item_id = (await client.until("response.output_text.done"))["item_id"]
        await client.until("response.done")
        await client.send(type="conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=0)
        assert (await client.until("error"))["error"]["code"] == "item_truncate_invalid_item_id"
        made = {"item": _words("assistant", "output_text", "One"), "previous_item_id": item_id}
        await client.send(type="conversation.item.create", **made)
        await client.until("conversation.item.done")
        await client.send(type="conversation.item.delete", item_id=item_id)
        assert (await client.until("conversation.item.deleted"))["item_id"] == item_id
        await client.send(type="conversation.item.delete", item_id=item_id)
        assert (await client.until("error"))["error"]["code"] == "item_delete_invalid_item_id"
        await client.send(type="conversation.item.create", **made)
        assert (await client.until("error"))["error"]["code"] == "item_create_invalid_previous_item_id"

    converse(QUICK, talk)


@pytest.mark.parametrize("fault", ["expire", "expire:1"])
def test_a_session_s_time_is_up(fault: str) -> None:
    """After some speech, or so long after the set-up."""

    async def talk(client: Client, server: ModelServer) -> None:
        if fault == "expire":
            await client.send(type="response.create")
        assert (await client.until("error"))["error"]["code"] == "session_expired"
        await server.sessions[0].closed.wait()
        assert server.sessions[0].close_code == 1001

    converse(Script(speed=0.0, fault=Fault.parse(fault)), talk)


# --- voice and ear ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("audio", [PCM_24K, PCMU, PCMA])
def test_the_ear_counts_stream_time_in_every_format(audio: AudioFormat) -> None:
    voice = speech(Utterance(seconds=0.4), audio)
    silence = audio.silence * (audio.rate * 8 // 10)
    ear = Ear(audio, rms=300, prefix_ms=0, silence_ms=500)
    stream = silence + voice + silence
    changes = [change for i in range(0, len(stream), 777) for change in ear.feed(stream[i : i + 777])]
    assert [speaking for speaking, _ in changes] == [True, False]
    assert changes[0][1] == pytest.approx(800, abs=20)
    assert changes[1][1] == pytest.approx(800 + 400 + 500, abs=20)


def test_a_wav_file_is_spoken_at_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "prompt.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(48000)
        file.writeframes(b"\x10\x20\x10\x20" * 48000)
    spoken = speech(Utterance(wav=path), PCM_24K)
    assert PCM_24K.duration_ms(spoken) == pytest.approx(1000, abs=1)
    assert PCMU.duration_ms(speech(Utterance(wav=path), PCMU)) == pytest.approx(1000, abs=1)


def test_faults_are_named_and_unknown_ones_list_them() -> None:
    assert Fault.parse("close:1011") == Fault("close", "1011")
    with pytest.raises(ValueError, match="status, silence"):
        Fault.parse("meteor")
    with pytest.raises(ValueError, match="unknown fault"):
        Script().with_query({"fault": ["meteor"]})


def test_a_reply_may_speak_and_call() -> None:
    async def talk(client: Client, server: ModelServer) -> None:
        await client.send(type="response.create")
        done = await client.until("response.done")
        kinds = [item["type"] for item in done["response"]["output"]]
        assert kinds == ["message", "function_call", "function_call"]

    spoken_first = ToolUse("look", spoken=True, times=2)
    converse(Script(speed=0.0, tools={0: spoken_first}), talk)
