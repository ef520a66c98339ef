"""The judge of Cartesia's wire: the vendor's own types, made strict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cartesia.types.websocket_client_event import WebsocketClientEvent
from cartesia.types.websocket_response import WebsocketResponse
from pydantic import BaseModel, TypeAdapter

_CLIENT: TypeAdapter[Any] = TypeAdapter(WebsocketClientEvent)
_SERVER: TypeAdapter[Any] = TypeAdapter(WebsocketResponse)


def check_client_event(message: Mapping[str, Any]) -> None:
    """Raises where the vendor's SDK would not send this."""
    _walk(_CLIENT.validate_python(message, strict=True), "")


def check_server_event(message: Mapping[str, Any]) -> None:
    """Raises where the vendor's SDK would not understand this fully."""
    _walk(_SERVER.validate_python(message, strict=True), "")


def _walk(value: object, path: str) -> None:
    if isinstance(value, BaseModel):
        assert not value.model_extra, f"unknown to the SDK: {path}{sorted(value.model_extra)}"
        for name in type(value).model_fields:
            _walk(getattr(value, name), f"{path}{name}.")
    elif isinstance(value, list):
        for entry in value:
            _walk(entry, path)
