"""Which vendor's types judge what a client sends over a simulated wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from sipbridge.simulator.xai_server import check_xai
from tests.providers import dashscope_sdk, genai_sdk, live_sdk, openai_sdk, voicelive_sdk

Judge: TypeAlias = Callable[[Mapping[str, Any]], None]


def judge_of(wire: str, path: str) -> Judge | None:
    """`path`: what the client opened. None: there is no SDK of this vendor's that could tell."""
    if wire == "azure_openai":
        return openai_sdk.check_client_event if "/v1/" in path else voicelive_sdk.check_client_event
    if wire == "gemini" and "google.cloud" in path:
        return _vertex
    return _JUDGES.get(wire)


def _xai(message: Mapping[str, Any]) -> None:
    """The session object is its own, by the vendor's page; all else is OpenAI's."""
    if message["type"] == "session.update":
        assert check_xai(message) is None, check_xai(message)
    else:
        openai_sdk.check_client_event(message)


def _vertex(message: Mapping[str, Any]) -> None:
    genai_sdk.check_client_event(message, vertex=True)


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
