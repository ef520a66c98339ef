"""The judge of the OpenAI wire: the vendor's own types, made strict.

The SDK's models let unknown members pass, so every model that was built is walked and must have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
from pydantic import TypeAdapter

from tests.providers.strict import nothing_unknown

_CLIENT: TypeAdapter[Any] = TypeAdapter(RealtimeClientEvent)
_SERVER: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)

# The service sends these, the SDK types the session of its events by what a client may ask for.
_SERVER_EXTRAS = frozenset({"session.id", "session.object", "session.expires_at"})


def check_client_event(message: Mapping[str, Any]) -> None:
    """Raises where the vendor's SDK would not send this."""
    nothing_unknown(_CLIENT.validate_python(message, strict=True))


def check_server_event(message: Mapping[str, Any]) -> None:
    """Raises where the vendor's SDK would not understand this fully."""
    nothing_unknown(_SERVER.validate_python(message, strict=True), allowed=_SERVER_EXTRAS)
