"""The vendor's SDK as the judge of what our dialect sends: its typed models for the setup, its client's own messages
for the rest. The models let unknown fields pass, so their fields are walked."""

from __future__ import annotations

import warnings
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from elevenlabs import ConversationInitiationClientDataRequestInput

from tests.providers.strict import nothing_unknown

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it names a class that `websockets` has replaced
    from elevenlabs.conversational_ai.conversation import (
        ContextualUpdateClientToOrchestratorEvent,
        UserMessageClientToOrchestratorEvent,
    )

Json = dict[str, Any]


def check_client_event(message: Mapping[str, Any]) -> None:
    """Raises `AssertionError` or pydantic's `ValidationError`."""
    kind = message.get("type")
    if kind is None:
        assert message.keys() == {"user_audio_chunk"}, message.keys()
        b64decode(message["user_audio_chunk"], validate=True)
    elif kind == "conversation_initiation_client_data":
        rest = {key: value for key, value in message.items() if key != "type"}
        nothing_unknown(ConversationInitiationClientDataRequestInput.model_validate(rest))
    elif kind == "user_message":
        assert message == plain(UserMessageClientToOrchestratorEvent(text=message["text"]).to_dict())
    elif kind == "contextual_update":
        assert message == plain(ContextualUpdateClientToOrchestratorEvent(text=message["text"]).to_dict())
    elif kind == "pong":
        assert message.keys() == {"type", "event_id"}
        assert isinstance(message["event_id"], int)
    else:
        assert kind == "client_tool_result", kind
        types = {name: type(value) for name, value in message.items()}
        assert types == {"type": str, "tool_call_id": str, "result": str, "is_error": bool}


def plain(message: Mapping[str, Any]) -> Json:
    return {**message, "type": message["type"].value}
