"""The judge of the OpenAI wire: the vendor's own types, made strict.

The SDK's models let unknown members pass, so every model that was built is walked and must have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter

_CLIENT: TypeAdapter[Any] = TypeAdapter(RealtimeClientEvent)
_SERVER: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)

# The service sends these, the SDK types the session of its events by what a client may ask for.
_SERVER_EXTRAS = frozenset({"session.id", "session.object", "session.expires_at"})


def check_client_event(message: Mapping[str, Any]) -> None:
    """Raises where the vendor's SDK would not send this."""
    _walk(_CLIENT.validate_python(message, strict=True), "", frozenset())


def check_server_event(message: Mapping[str, Any]) -> None:
    """Raises where the vendor's SDK would not understand this fully."""
    _walk(_SERVER.validate_python(message, strict=True), "", _SERVER_EXTRAS)


def _walk(value: object, path: str, allowed: frozenset[str]) -> None:
    if isinstance(value, BaseModel):
        unknown = {f"{path}{name}" for name in value.model_extra or {}} - allowed
        assert not unknown, f"unknown to the SDK: {sorted(unknown)}"
        for name in type(value).model_fields:
            _walk(getattr(value, name), f"{path}{name}.", allowed)
    elif isinstance(value, list):
        for entry in value:
            _walk(entry, path, allowed)
