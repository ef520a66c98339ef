"""Which vendor's types judge what a client sends over a simulated wire."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias
from unittest.mock import patch

from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.xai_server import check_xai
from tests.providers import (
    cartesia_sdk,
    dashscope_sdk,
    deepgram_sdk,
    elevenlabs_sdk,
    genai_sdk,
    live_sdk,
    openai_sdk,
    speech_sdk,
    voicelive_sdk,
)

Judge: TypeAlias = Callable[[Mapping[str, Any]], None]


def judge_of(wire: str, path: str) -> Judge | None:
    """`path`: what the client opened. None: there is no SDK of this vendor's that could tell."""
    if wire == "azure_openai":
        return openai_sdk.check_client_event if "/v1/" in path else voicelive_sdk.check_client_event
    if wire == "gemini" and "google.cloud" in path:
        return _vertex
    return _JUDGES.get(wire)


def judge_all(server: ModelServer) -> None:
    """Every message that clients of ours sent to this server; raises for the first that the vendor's SDK does not
    know. What the SDK's own client sends may be looser than its types, and where the server refused something itself,
    a test sent that on purpose."""
    for record in server.sessions:
        judge = judge_of(server.wire, record.path)
        if judge is not None and not record.violations and "genai" not in str(dict(record.headers)):
            for entry in record.received:
                judge(entry.message)


@contextmanager
def all_judged() -> Iterator[None]:
    """While entered: every simulated server judges what it was sent when it is left."""
    leave = ModelServer.__aexit__

    async def leave_and_judge(self: ModelServer, *reason: object) -> None:
        await leave(self, *reason)
        if not any(reason):
            judge_all(self)

    with patch.object(ModelServer, "__aexit__", leave_and_judge):
        yield


def judge_of_part(path: str) -> Judge | None:
    """Of a service that does one part of an agent's work: by the path alone."""
    return _PARTS.get(path.partition("?")[0])


def _form(fields: Mapping[str, Any]) -> None:
    speech_sdk.check_transcription_form({**fields, "file": b""})


def _xai(message: Mapping[str, Any]) -> None:
    """The session object is its own, by the vendor's page; all else is OpenAI's."""
    if message["type"] == "session.update":
        assert check_xai(message) is None, check_xai(message)
    else:
        openai_sdk.check_client_event(message)


def _vertex(message: Mapping[str, Any]) -> None:
    genai_sdk.check_client_event(message, vertex=True)


_PARTS: dict[str, Judge] = {
    "/tts/websocket": cartesia_sdk.check_client_event,
    "/v1/audio/speech": speech_sdk.check_speech,
    "/v1/audio/transcriptions": _form,
    "/v1/chat/completions": speech_sdk.check_chat,
    "/v1/listen": speech_sdk.check_listen,
    "/v1/realtime": openai_sdk.check_client_event,
    "/v1/speak": speech_sdk.check_speak,
    "/v2/listen": speech_sdk.check_listen,
}

_JUDGES: dict[str, Judge] = {
    "azure_voice_live": voicelive_sdk.check_client_event,
    "dashscope": dashscope_sdk.check_client_event,
    "deepgram": deepgram_sdk.check_client_event,
    "elevenlabs": elevenlabs_sdk.check_client_event,
    "gemini": genai_sdk.check_client_event,
    "openai": openai_sdk.check_client_event,
    "openai_beta": voicelive_sdk.check_client_event,
    "openai_compatible": openai_sdk.check_client_event,
    "openai_live": live_sdk.check_client_event,
    "xai": _xai,
}
"""The older shape is OpenAI's no more: Voice Live's types have it."""
