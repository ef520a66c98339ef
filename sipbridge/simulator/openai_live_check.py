"""Is this client message one that OpenAI's Live service would take? As strict as the service, or stricter.

Source: the types of the vendor's SDK (`openai.types.live`, 3.54), read by the rules of `openai_check`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sipbridge.simulator.openai_check import ANY, NULLABLE, Refusal, check_value, missing

_EFFORTS = frozenset({"none", "minimal", "low", "medium", "high", "xhigh"})
_RATES = {"audio/pcm": (16000, 24000), "audio/pcmu": (8000,), "audio/pcma": (8000,)}
VOICES = frozenset(
    ("alloy", "ash", "ballad", "beacon", "bossa", "cedar", "cinder", "coral", "delta", "echo", "gleam", "marin")
    + ("meridian", "quartz", "ripple", "sage", "shida", "shimmer", "stone", "tempo", "verse", "vesper", "willow")
)
_FUNCTION = {"type": str, "name": str, "description": str, "parameters": dict, "strict": bool}
_RESPONSES = {
    "model": str,
    "instructions": str,
    "max_output_tokens": int,
    "parallel_tool_calls": bool,
    "reasoning": {"effort": _EFFORTS, "summary": frozenset({"concise", "detailed", "auto"})},
    "service_tier": str,
    "text": {"verbosity": frozenset({"low", "medium", "high"})},
    "tool_choice": (str, dict),
    "tools": [dict],
}
_DELEGATION = {
    NULLABLE: None,
    "type": frozenset({"client", "responses", "decisions"}),
    "acknowledgement_delay_ms": int,
    "responses": _RESPONSES,
    "decisions": ANY,
}
_HISTORY_ITEM = {
    "type": frozenset({"message"}),
    "role": frozenset({"developer", "user", "assistant"}),
    "content": [{"type": frozenset({"input_text", "text", "output_text"}), "text": str}],
    "id": str,
    "status": frozenset({"incomplete", "completed"}),
}
_SESSION = {
    "model": str,
    "instructions": str,
    "audio": {"format": {"type": frozenset(_RATES), "rate": int}, "output": {"voice": (str, dict)}},
    "client": ANY,
    "delegation": _DELEGATION,
    "input": [_HISTORY_ITEM],
    "safety_identifier": str,
    "store": bool,
    "triggers": [ANY],
}
_APPEND = ({"content": str, "delegation_id": (str, type(None))}, ("content", "delegation_id"))
_ITEM = {
    "function_call_output": (
        {"type": str, "call_id": str, "output": (str, list), "id": str, "status": str},
        ("call_id", "output"),
    ),
    "message": ({"type": str, "role": str, "content": (str, list), "id": str, "status": str}, ("role", "content")),
}
_MESSAGES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "session.start": ({"session": _SESSION}, ("session",)),
    "session.update": ({"session": {"delegation": _DELEGATION, "triggers": [ANY]}}, ("session",)),
    "session.close": ({}, ()),
    "session.input_audio.append": ({"audio": str}, ("audio",)),
    "session.input_audio.mute": ({}, ()),
    "session.input_audio.unmute": ({}, ()),
    "session.output_audio.fixture.play": ({"audio": str}, ("audio",)),
    "session.instructions.append": _APPEND,
    "session.thinking.append": _APPEND,
    "session.commentary.append": _APPEND,
    "response.item.create": ({"item": ANY}, ("item",)),
    "response.create": ({}, ()),
    "decision.create": ({}, ("event_id",)),
    "decision.item.create": ({"item": ANY}, ("item",)),
    "decision.item.delete": ({"item_id": str}, ("item_id",)),
}
_MOST_BYTES = 2000
"""Of what is appended: 500 tokens are rarely more."""


def check_message(message: Mapping[str, Any]) -> Refusal | None:
    """The first thing wrong with a client message; None: it is well formed. What it refers to is not looked at here."""
    kind = message.get("type")
    if not isinstance(kind, str) or kind not in _MESSAGES:
        return Refusal("invalid_value", f"Invalid value: {kind!r}. Unknown type of client event.", "type")
    fields, required = _MESSAGES[kind]
    for name in required:
        if name not in message:
            return missing(name)
    refusal = check_value(message, {"type": str, "event_id": str, **fields}, "")
    if refusal is None and kind == "session.start":
        refusal = _check_session(message["session"])
    if refusal is None and kind == "response.item.create":
        refusal = _check_item(message["item"])
    if refusal is None and fields is _APPEND[0] and len(message["content"].encode()) > _MOST_BYTES:
        refusal = Refusal("string_above_max_length", "Invalid 'content': more than 500 tokens.", "content")
    return refusal


def _check_session(session: Mapping[str, Any]) -> Refusal | None:
    if "model" not in session:
        return missing("session.model")
    audio = session.get("audio", {})
    if (described := audio.get("format")) is not None:
        if described.keys() != {"type", "rate"}:
            return missing("session.audio.format.rate" if "type" in described else "session.audio.format.type")
        if described["rate"] not in _RATES[described["type"]]:
            return Refusal("invalid_value", f"Invalid rate: {described['rate']}.", "session.audio.format.rate")
    voice = audio.get("output", {}).get("voice")
    if (isinstance(voice, str) and voice not in VOICES) or (isinstance(voice, dict) and voice.keys() != {"id"}):
        return Refusal("invalid_value", f"Invalid voice: {voice!r}.", "session.audio.output.voice")
    if len(session.get("input", ())) > 128:
        return Refusal("array_above_max_length", "Invalid 'session.input': more than 128 messages.", "session.input")
    for item in session.get("input", ()):
        if len(item.get("content", ())) != 1 or "role" not in item or "text" not in item["content"][0]:
            return Refusal("invalid_value", "A message of the history has one text.", "session.input")
    return _check_delegation(session.get("delegation"))


def _check_delegation(delegation: Mapping[str, Any] | None) -> Refusal | None:
    if delegation is None:
        return None
    kind = delegation.get("type")
    if kind is None:
        return missing("session.delegation.type")
    if other := delegation.keys() - {"type", "acknowledgement_delay_ms", kind}:
        name = f"session.delegation.{min(other)}"
        return Refusal("unknown_parameter", f"Unknown parameter: '{name}'.", name)
    if kind != "responses":
        return None
    if "model" not in delegation.get("responses", {}):
        return missing("session.delegation.responses.model")
    for tool in delegation["responses"].get("tools", ()):
        if "type" not in tool:
            return missing("session.delegation.responses.tools.type")
        if tool["type"] == "function" and "name" not in tool:
            return missing("session.delegation.responses.tools.name")
        place = "session.delegation.responses.tools."
        if tool["type"] == "function" and (refusal := check_value(tool, _FUNCTION, place)):
            return refusal
    return None


def _check_item(item: object) -> Refusal | None:
    kind = item.get("type", "message") if isinstance(item, dict) else None
    if not isinstance(item, dict) or kind not in _ITEM:
        return Refusal("invalid_value", f"Invalid value: {kind!r}.", "item.type")
    fields, required = _ITEM[str(kind)]
    for name in required:
        if name not in item:
            return missing(f"item.{name}")
    return check_value(item, fields, "item.")
