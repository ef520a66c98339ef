"""The judge of Deepgram's wire: the vendor's own types (`deepgram.agent.v1`), made strict.

They let unknown members pass, so every model that was built is walked and must have none. Where they name the values
of a member they take any other as well (`Literal[...] | Any`): such a member must have one of those that are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from deepgram.agent.v1 import types
from pydantic import BaseModel

_CLIENT: dict[str, type[BaseModel]] = {
    "Settings": types.AgentV1Settings,
    "KeepAlive": types.AgentV1KeepAlive,
    "ForceEndTurn": types.AgentV1ForceEndTurn,
    "UpdatePrompt": types.AgentV1UpdatePrompt,
    "UpdateSpeak": types.AgentV1UpdateSpeak,
    "UpdateThink": types.AgentV1UpdateThink,
    "UpdateListen": types.AgentV1UpdateListen,
    "InjectUserMessage": types.AgentV1InjectUserMessage,
    "InjectAgentMessage": types.AgentV1InjectAgentMessage,
    "FunctionCallResponse": types.AgentV1SendFunctionCallResponse,
}
_SERVER: dict[str, type[BaseModel]] = {
    "Welcome": types.AgentV1Welcome,
    "SettingsApplied": types.AgentV1SettingsApplied,
    "ConversationText": types.AgentV1ConversationText,
    "UserStartedSpeaking": types.AgentV1UserStartedSpeaking,
    "AgentThinking": types.AgentV1AgentThinking,
    "AgentStartedSpeaking": types.AgentV1AgentStartedSpeaking,
    "AgentAudioDone": types.AgentV1AgentAudioDone,
    "FunctionCallRequest": types.AgentV1FunctionCallRequest,
    "FunctionCallCancelled": types.AgentV1FunctionCallCancelled,
    "InjectionRefused": types.AgentV1InjectionRefused,
    "PromptUpdated": types.AgentV1PromptUpdated,
    "SpeakUpdated": types.AgentV1SpeakUpdated,
    "ThinkUpdated": types.AgentV1ThinkUpdated,
    "ListenUpdated": types.AgentV1ListenUpdated,
    "LatencyReport": types.AgentV1LatencyReport,
    "Error": types.AgentV1Error,
    "Warning": types.AgentV1Warning,
}
_OPEN = frozenset({"model"})
"""Members that may have values beside those that are named: models and voices come and go."""


def check_client_event(message: Mapping[str, Any]) -> None:
    """Raises where the vendor's SDK would not send this."""
    assert message["type"] in _CLIENT, f"unknown to the SDK: {message['type']}"
    _walk(_CLIENT[message["type"]].model_validate(message, strict=True), "")


def check_server_event(message: Mapping[str, Any]) -> None:
    """Raises where the vendor's SDK would not understand this fully."""
    assert message["type"] in _SERVER, f"unknown to the SDK: {message['type']}"
    _walk(_SERVER[message["type"]].model_validate(message, strict=True), "")


def _walk(value: object, path: str) -> None:
    if isinstance(value, BaseModel):
        assert not value.model_extra, f"unknown to the SDK: {path}{sorted(value.model_extra)}"
        for name, field in type(value).model_fields.items():
            member = getattr(value, name)
            named = _named(field.annotation)
            wrong = named and member is not None and member not in named and name not in _OPEN
            assert not wrong, f"{path}{name}: {member!r} is none of {named}"
            _walk(member, f"{path}{name}.")
    elif isinstance(value, list):
        for entry in value:
            _walk(entry, path)


def _named(annotation: Any) -> tuple[Any, ...]:
    """The values that an annotation names, however deep in unions."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if isinstance(annotation, type):
        return ()
    parts = [_named(part) for part in get_args(annotation)]
    return tuple(value for part in parts for value in part) if get_origin(annotation) is not list else ()
