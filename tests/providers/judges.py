"""Which vendor's types judge what a client sends over a simulated wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from sipbridge.simulator.xai_server import check_xai
from tests.providers import (
    cartesia_sdk,
    dashscope_sdk,
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
    "gemini": genai_sdk.check_client_event,
    "openai": openai_sdk.check_client_event,
    "openai_beta": voicelive_sdk.check_client_event,
    "openai_compatible": openai_sdk.check_client_event,
    "openai_live": live_sdk.check_client_event,
    "xai": _xai,
}
"""The older shape is OpenAI's no more: Voice Live's types have it."""
