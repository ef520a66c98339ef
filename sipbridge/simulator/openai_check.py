"""Is this client message one that the OpenAI Realtime service (GA) would take? As strict as the service, or stricter.

Its relatives have tables of their own (`Tables`), read by the same rules.

Tables of what each message may contain. A value is described by a type or a tuple of types, a frozenset of the values
allowed, a dict (an object with these members, null where the first member is `NULLABLE`), or a list of one description.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ANY = object
NULLABLE = "?"
NUMBER = (int, float)


@dataclass(frozen=True, slots=True)
class Refusal:
    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Tables:
    """What the client messages of one wire may contain."""

    messages: Mapping[str, tuple[dict[str, Any], tuple[str, ...]]]
    """Type -> its members beside `type` and `event_id`, and those of them that are required."""
    items: Mapping[str, dict[str, Any]]
    """What `conversation.item.create` takes, by the item's type."""
    check_session: Callable[[Mapping[str, Any]], Refusal | None]
    """What the tables can't say of a `session.update`."""


_TOOL_NAME = re.compile("[a-zA-Z0-9_-]{1,64}")
_FORMAT = {"type": frozenset({"audio/pcm", "audio/pcmu", "audio/pcma"}), "rate": frozenset({24000})}
_TURN_DETECTION = {
    "server_vad": {
        "type": str,
        "threshold": NUMBER,
        "prefix_padding_ms": int,
        "silence_duration_ms": int,
        "idle_timeout_ms": (int, type(None)),
        "create_response": bool,
        "interrupt_response": bool,
    },
    "semantic_vad": {
        "type": str,
        "eagerness": frozenset({"low", "medium", "high", "auto"}),
        "create_response": bool,
        "interrupt_response": bool,
    },
}
_TOOL = {
    "type": frozenset({"function"}),
    "name": str,
    "description": str,
    "parameters": ANY,
}
_TOOL_CHOICE = (str, dict)
_TOKENS = (int, str)
_OUTPUT = {"format": _FORMAT, "voice": (str, dict), "speed": NUMBER}
_SESSION = {
    "type": frozenset({"realtime"}),
    "model": str,
    "instructions": str,
    "output_modalities": [frozenset({"audio", "text"})],
    "audio": {
        "input": {
            "format": _FORMAT,
            "noise_reduction": {
                NULLABLE: None,
                "type": frozenset({"near_field", "far_field"}),
                "strength": NUMBER,
            },
            "transcription": {
                NULLABLE: None,
                "model": str,
                "language": str,
                "languages": [str],
                "prompt": str,
                "keywords": [str],
                "delay": str,
            },
            "turn_detection": ANY,  # checked by its type
        },
        "output": _OUTPUT,
    },
    "tools": [_TOOL],
    "tool_choice": _TOOL_CHOICE,
    "max_output_tokens": _TOKENS,
    "parallel_tool_calls": bool,
    "prompt": ANY,
    "reasoning": ANY,
    "tracing": ANY,
    "truncation": (str, dict),
    "include": [str],
}
_RESPONSE = {
    "audio": {"output": _OUTPUT},
    "conversation": str,
    "input": [ANY],
    "instructions": str,
    "max_output_tokens": _TOKENS,
    "metadata": ANY,
    "output_modalities": [frozenset({"audio", "text"})],
    "parallel_tool_calls": bool,
    "prompt": ANY,
    "reasoning": ANY,
    "tool_choice": _TOOL_CHOICE,
    "tools": [_TOOL],
}
_ITEM: dict[str, dict[str, Any]] = {
    "message": {
        "id": str,
        "object": str,
        "type": str,
        "status": str,
        "role": frozenset({"user", "assistant", "system"}),
        "content": [
            {
                "type": frozenset({"input_text", "input_audio", "input_image", "output_text", "output_audio"}),
                "text": str,
                "audio": str,
                "transcript": str,
                "image_url": str,
                "detail": frozenset({"auto", "low", "high"}),
            }
        ],
    },
    "function_call": {
        "id": str,
        "object": str,
        "type": str,
        "status": str,
        "call_id": str,
        "name": str,
        "arguments": str,
    },
    "function_call_output": {"id": str, "object": str, "type": str, "status": str, "call_id": str, "output": str},
}
_MESSAGES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "session.update": ({"session": _SESSION}, ("session",)),
    "input_audio_buffer.append": ({"audio": str}, ("audio",)),
    "input_audio_buffer.commit": ({}, ()),
    "input_audio_buffer.clear": ({}, ()),
    "conversation.item.create": ({"item": ANY, "previous_item_id": str}, ("item",)),
    "conversation.item.delete": ({"item_id": str}, ("item_id",)),
    "conversation.item.retrieve": ({"item_id": str}, ("item_id",)),
    "conversation.item.truncate": (
        {"item_id": str, "content_index": int, "audio_end_ms": int},
        ("item_id", "content_index", "audio_end_ms"),
    ),
    "response.create": ({"response": _RESPONSE}, ()),
    "response.cancel": ({"response_id": str}, ()),
}


def check_message(message: Mapping[str, Any], tables: Tables | None = None) -> Refusal | None:
    """The first thing wrong with a client message; None: it is well formed. What it refers to is not looked at here."""
    tables, kind = tables or GA, message.get("type")
    if not isinstance(kind, str) or kind not in tables.messages:
        return Refusal("invalid_value", f"Invalid value: {kind!r}. Unknown type of client event.", "type")
    fields, required = tables.messages[kind]
    for name in required:
        if name not in message:
            return missing(name)
    refusal = check_value(message, {"type": str, "event_id": str, **fields}, "")
    if refusal is None and kind == "session.update":
        refusal = tables.check_session(message["session"]) or _check_tools(message["session"].get("tools") or ())
    if refusal is None and kind == "conversation.item.create":
        refusal = _check_item(message["item"], tables.items)
    return refusal


def _check_session(session: Mapping[str, Any]) -> Refusal | None:
    if "type" not in session:
        return missing("session.type")
    if set(session.get("output_modalities", ())) == {"audio", "text"}:
        return Refusal("invalid_value", "Invalid modalities: audio and text together.", "session.output_modalities")
    detection = session.get("audio", {}).get("input", {}).get("turn_detection")
    if detection is None:
        return None
    param = "session.audio.input.turn_detection"
    kind = detection.get("type") if isinstance(detection, dict) else None
    if kind not in _TURN_DETECTION:
        return Refusal("invalid_value", f"Invalid value: {kind!r}.", f"{param}.type")
    return check_value(detection, _TURN_DETECTION[kind], f"{param}.")


def _check_tools(tools: Sequence[Mapping[str, Any]]) -> Refusal | None:
    """Functions are called by their names: well formed, and one each. Some relatives nest what they are."""
    seen: set[str] = set()
    for number, tool in enumerate(tools):
        if tool.get("type") != "function":
            continue
        name, param = tool.get("function", tool).get("name", ""), f"session.tools[{number}].name"
        if not _TOOL_NAME.fullmatch(name):
            return Refusal("invalid_value", f"Invalid '{param}': does not match '{_TOOL_NAME.pattern}'.", param)
        if name in seen:
            return Refusal("invalid_value", f"Invalid '{param}': there are two of {name}.", param)
        seen.add(name)
    return None


GA = Tables(_MESSAGES, _ITEM, _check_session)


def _check_item(item: object, items: Mapping[str, dict[str, Any]]) -> Refusal | None:
    kind = item.get("type") if isinstance(item, dict) else None
    if not isinstance(item, dict) or kind not in items:
        return Refusal("invalid_value", f"Invalid value: {kind!r}.", "item.type")
    if len(str(item.get("id", ""))) > 32:
        return Refusal("string_above_max_length", "Invalid 'item.id': string too long.", "item.id")
    required = {"message": ("role", "content"), "function_call": ("name", "arguments")}
    for name in required.get(str(kind), ("call_id", "output")):
        if name not in item:
            return missing(f"item.{name}")
    refusal = check_value(item, items[str(kind)], "item.")
    for number, part in enumerate(item["content"] if kind == "message" and refusal is None else ()):
        if str(part.get("type")).startswith("input_") != (item["role"] != "assistant"):
            param = f"item.content[{number}].type"
            return Refusal("invalid_value", f"Invalid value: {part.get('type')!r} from {item['role']}.", param)
    return refusal


def missing(param: str) -> Refusal:
    return Refusal("missing_required_parameter", f"Missing required parameter: '{param}'.", param)


def check_value(value: Any, description: Any, path: str = "") -> Refusal | None:
    """The first thing wrong with a value, by such a table. `path`: where the value is, with a dot at its end."""
    name = path.rstrip(".")
    if isinstance(description, dict):
        return _check_object(value, description, path)
    if isinstance(description, list):
        if not isinstance(value, list):
            return Refusal("invalid_type", f"Invalid type for '{name}': expected an array.", name)
        refusals = (check_value(entry, description[0], f"{name}[{i}].") for i, entry in enumerate(value))
        return next((refusal for refusal in refusals if refusal), None)
    if isinstance(description, frozenset):
        if not isinstance(value, (str, int)) or value not in description:
            return Refusal("invalid_value", f"Invalid value: {value!r} for '{name}'.", name)
        return None
    if not isinstance(value, description) or (isinstance(value, bool) and description not in (bool, object)):
        return Refusal("invalid_type", f"Invalid type for '{name}'.", name)
    return None


def _check_object(value: Any, description: Mapping[str, Any], path: str) -> Refusal | None:
    if value is None and NULLABLE in description:
        return None
    if not isinstance(value, Mapping):
        name = path.rstrip(".")
        return Refusal("invalid_type", f"Invalid type for '{name}': expected an object.", name)
    for key, member in value.items():
        if key not in description:
            return Refusal("unknown_parameter", f"Unknown parameter: '{path}{key}'.", f"{path}{key}")
        if refusal := check_value(member, description[key], f"{path}{key}."):
            return refusal
    return None
