"""The judge of the OpenAI wire: the vendor's own types, made strict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
from pydantic import TypeAdapter

from tests.providers.strict import no_unknown_members

_CLIENT: TypeAdapter[Any] = TypeAdapter(RealtimeClientEvent)
_SERVER: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)

# The service sends these, the SDK types the session of its events by what a client may ask for.
_SERVER_EXTRAS = frozenset({"session.id", "session.object", "session.expires_at"})


def check_client_event(message: Mapping[str, Any]) -> None:
    """Raises where the vendor's SDK would not send this."""
    no_unknown_members(_CLIENT.validate_python(message, strict=True))


def check_server_event(message: Mapping[str, Any]) -> None:
    """Raises where the vendor's SDK would not understand this fully."""
    no_unknown_members(_SERVER.validate_python(message, strict=True), allowed=_SERVER_EXTRAS)
