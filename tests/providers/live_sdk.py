"""The judge of the Live wire: the vendor's own types (`openai.types.live`), made strict.

The SDK's models let unknown members pass, so every model that was built is walked and must have none. Its typed
dictionaries know more of what is required (`delegation_id` has to be there, if only as null): they are asked, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openai.types.live import ClientEvent, ClientEventParam, ServerEvent
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from tests.providers.strict import nothing_unknown

_CLIENT: TypeAdapter[Any] = TypeAdapter(ClientEvent)
_CLIENT_PARAM: TypeAdapter[Any] = TypeAdapter(ClientEventParam)
_SERVER: TypeAdapter[Any] = TypeAdapter(ServerEvent)
_RESPONSES: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def check_client_event(message: Mapping[str, Any]) -> None:
    """Raises where the vendor's SDK would not send this."""
    nothing_unknown(_CLIENT.validate_python(message, strict=True))
    _CLIENT_PARAM.validate_python(message)
    if message["type"] == "session.start":
        audio = message["session"]["audio"]["format"]
        rates = {"audio/pcm": (16000, 24000), "audio/pcmu": (8000,), "audio/pcma": (8000,)}
        assert audio["rate"] in rates[audio["type"]], audio
        assert len(message["session"].get("input", [])) <= 128
    if message["type"] in ("session.instructions.append", "session.thinking.append", "session.commentary.append"):
        assert len(message["content"]) <= 4 * 500, "more than 500 tokens"


def check_server_event(message: Mapping[str, Any]) -> None:
    """Raises where the vendor's SDK would not understand this fully; of a text model's events, those inside as well."""
    nothing_unknown(_SERVER.validate_python(message, strict=True))
    if message["type"] == "response.event":
        nothing_unknown(_RESPONSES.validate_python(message["event"], strict=True), "event.")
