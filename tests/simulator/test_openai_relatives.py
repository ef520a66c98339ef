"""OpenAI's relatives, simulated: what they say, as far as some vendor's types can judge it, and what they refuse."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect

from sipbridge.audio import PCMU
from sipbridge.simulator.model import ModelServer, SessionRecord
from sipbridge.simulator.openai_check import check_message
from sipbridge.simulator.openai_relatives import OlderModel
from sipbridge.simulator.script import Script, ToolUse, Utterance
from sipbridge.simulator.voice import speech
from sipbridge.simulator.xai_server import check_xai
from tests.providers import openai_sdk, voicelive_sdk

Json = dict[str, Any]
SCRIPT = Script(speed=0.0, utterances=(Utterance("One two.", seconds=0.3),), tools={1: ToolUse("look", spoken=True)})
TALK = speech(Utterance(seconds=0.5), PCMU) + b"\xff" * 8 * 800
GA: Json = {"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcmu"}, "transcription": {"model": "d"}}}}
BETA: Json = {"input_audio_format": "g711_ulaw", "input_audio_transcription": {"model": "d"}}
XAI: Json = {"audio": {"input": {"format": {"type": "audio/pcmu"}, "transcription": {"model": "d"}}}, "voice": "ara"}


def converse(wire: str, session: Json, path: str = "", query: str = "model=m") -> tuple[list[Json], SessionRecord]:
    """A greeting, a turn, a tool: everything that the model says, but errors."""

    async def scenario() -> tuple[list[Json], SessionRecord]:
        async with asyncio.timeout(20), ModelServer(SCRIPT, wire=wire) as server:
            url = f"ws://127.0.0.1:{server.port}{path}" if path else server.url
            headers = {"api-key": "key-0123456789"}
            async with connect(f"{url}?{query}", proxy=None, additional_headers=headers) as socket:
                said: list[Json] = []

                async def until(kind: str) -> None:
                    while not said or said[-1]["type"] != kind:
                        said.append(json.loads(await socket.recv()))
                        assert said[-1]["type"] != "error", said[-1]
                    said.append({"type": "-"})

                await until("session.created")
                await socket.send(json.dumps({"type": "session.update", "session": session}))
                await until("session.updated")
                await socket.send(json.dumps({"type": "response.create"}))
                await until("response.done")
                audio = b64encode(TALK).decode()
                await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
                await until("response.done")
            record = await server.session()
            await record.closed.wait()
            return [event for event in said if event["type"] != "-"], record

    said, record = asyncio.run(scenario())
    assert record.violations == []
    return said, record


@pytest.mark.parametrize(
    ("wire", "path", "query"),
    [
        ("openai_beta", "", "model=m"),
        ("azure_openai", "/openai/realtime", "api-version=2025-04-01-preview&deployment=d"),
    ],
)
def test_the_older_shape(wire: str, path: str, query: str) -> None:
    """Judged by the SDK of Voice Live, which speaks it. What that calls otherwise, OpenAI's reference of it has so."""
    said, _ = converse(wire, BETA, path, query)
    kinds = {event["type"] for event in said}
    assert {"response.audio.delta", "response.audio_transcript.done", "conversation.item.created"} <= kinds
    assert not [kind for kind in kinds if "output_audio" in kind or kind == "conversation.item.added"]
    assert said[0]["session"]["modalities"] == ["text", "audio"]
    for event in said:
        if event["type"] == "rate_limits.updated" or event.get("item", {}).get("role") == "user":
            continue
        if event["type"] in ("session.created", "session.updated"):
            unlike = ("object", "expires_at", "max_response_output_tokens")
            session = {key: value for key, value in event["session"].items() if key not in unlike}
            assert {"id", "model", "voice", "input_audio_format", "turn_detection"} <= session.keys()
            continue
        if event["type"].endswith("transcription.completed"):
            assert event.pop("usage")["type"] == "duration"
        if event["type"] == "response.function_call_arguments.done":
            event["name"] = "look"  # which OpenAI's own shape never repeated
        voicelive_sdk.check_server_event(event)


def test_azure_s_two_forms_are_told_apart_and_held_to_their_queries() -> None:
    said, _ = converse("azure_openai", GA)
    for event in said:
        openai_sdk.check_server_event(event)

    async def visit(url: str) -> list[str]:
        async with ModelServer(wire="azure_openai") as server, connect(server.url + url, proxy=None) as socket:
            await socket.recv()
            return [code for code, _ in server.sessions[0].violations]

    assert asyncio.run(visit("?model=d")) == ["401"]
    assert asyncio.run(visit("")) == ["missing_query_parameter", "401"]


def test_a_plain_server_says_no_more_than_it_must() -> None:
    said, _ = converse("openai_compatible", GA)
    kinds = {event["type"] for event in said}
    assert not kinds & {"conversation.item.added", "response.content_part.added", "rate_limits.updated"}
    assert not [event for event in said if "response_id" in event]


def test_xai_s_own_events() -> None:
    said, _ = converse("xai", XAI)
    assert [event["type"] for event in said[:2]] == ["conversation.created", "session.created"]
    kinds = {event["type"] for event in said}
    assert {"ping", "conversation.item.input_audio_transcription.updated"} <= kinds
    assert not kinds & {"conversation.item.done", "conversation.item.input_audio_transcription.delta"}
    (updated,) = [event for event in said if event["type"] == "session.updated"]
    assert updated["session"]["voice"] == "ara"
    own = {"session.created", "session.updated", "ping", "conversation.item.input_audio_transcription.updated"}
    for event in said:
        if event["type"] not in own:
            openai_sdk.check_server_event(event)


def older(message: Json) -> Any:
    return check_message(message, OlderModel.tables)


@pytest.mark.parametrize(
    ("check", "session", "code"),
    [
        (check_xai, {"type": "realtime"}, "unknown_parameter"),
        (check_xai, {"temperature": 0.8}, "unknown_parameter"),
        (check_xai, {"turn_detection": {"type": "semantic_vad"}}, "invalid_value"),
        (check_xai, {"turn_detection": {"type": "server_vad", "threshold": 0.95}}, "invalid_value"),
        (check_xai, {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 12000}}}}, "invalid_value"),
        (older, {"type": "realtime"}, "unknown_parameter"),
        (older, {"audio": {}}, "unknown_parameter"),
        (older, {"temperature": 0.1}, "decimal_below_min_value"),
        (older, {"modalities": ["audio"]}, "invalid_value"),
        (older, {"voice": "marin"}, "invalid_value"),
        (older, {"input_audio_format": "pcm"}, "invalid_value"),
        (older, {"turn_detection": {"type": "semantic_vad", "threshold": 0.5}}, "unknown_parameter"),
    ],
)
def test_what_they_refuse(check: Callable[[Json], Any], session: Json, code: str) -> None:
    refusal = check({"type": "session.update", "session": session})
    assert refusal is not None
    assert refusal.code == code
