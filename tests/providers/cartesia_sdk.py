"""The judge of Cartesia's wire: the vendor's own types, made strict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cartesia.types.websocket_client_event import WebsocketClientEvent
from cartesia.types.websocket_response import WebsocketResponse
from pydantic import TypeAdapter

from tests.providers.strict import nothing_unknown

_CLIENT: TypeAdapter[Any] = TypeAdapter(WebsocketClientEvent)
_SERVER: TypeAdapter[Any] = TypeAdapter(WebsocketResponse)


def check_client_event(message: Mapping[str, Any]) -> None:
    """Raises where the vendor's SDK would not send this."""
    nothing_unknown(_CLIENT.validate_python(message, strict=True))


def check_server_event(message: Mapping[str, Any]) -> None:
    """Raises where the vendor's SDK would not understand this fully."""
    nothing_unknown(_SERVER.validate_python(message, strict=True))
