"""Is this client message one that Qwen's realtime service (DashScope) would take from this model?

From the vendor's reference of client events (2026-09) and what its SDK (dashscope 2.0.2) sends; where they leave
something open, the stricter reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sipbridge.providers.dashscope import family_of
from sipbridge.simulator.openai_check import ANY, NULLABLE, NUMBER, Refusal, Tables

_TEXT_OR_NULL = (str, type(None))
_RATES = frozenset({8000, 16000, 24000, 48000})
_FORMAT = {"format": {"type": frozenset({"pcm", "wav"}), "sample_rate": _RATES}}
_FORMAT_NAMES = frozenset({"pcm", "pcm16"})
_TURN_DETECTION = {
    NULLABLE: None,
    "type": frozenset({"server_vad", "semantic_vad", "smart_turn"}),
    "threshold": NUMBER,
    "prefix_padding_ms": int,
    "silence_duration_ms": int,
    "idle_timeout_ms": int,
    "create_response": bool,
    "interrupt_response": bool,
}
_FUNCTION = {"name": str, "description": str, "parameters": ANY}
_SESSION = {
    "modalities": [frozenset({"text", "audio"})],
    "voice": _TEXT_OR_NULL,
    "instructions": str,
    "input_audio_format": _FORMAT_NAMES,
    "output_audio_format": _FORMAT_NAMES,
    "audio": {"input": _FORMAT, "output": _FORMAT},
    "input_audio_transcription": {NULLABLE: None, "model": _TEXT_OR_NULL, "language": str, "corpus": ANY},
    "turn_detection": _TURN_DETECTION,
    "temperature": NUMBER,
    "top_p": NUMBER,
    "top_k": int,
    "max_tokens": int,
    "seed": int,
    "repetition_penalty": NUMBER,
    "presence_penalty": NUMBER,
    "smooth_output": bool,
    "enable_search": bool,
    "search_options": ANY,
    "max_history_turns": int,
    "enable_speech_emotion": bool,
    "tools": [{"type": frozenset({"function"}), "function": _FUNCTION}],
}
_ITEMS: dict[str, dict[str, Any]] = {
    "message": {
        "id": str,
        "type": str,
        "role": frozenset({"user", "assistant", "system"}),
        "content": [{"type": frozenset({"input_text", "output_text"}), "text": str}],
    },
    "function_call": {"id": str, "type": str, "call_id": str, "name": str, "arguments": str},
    "function_call_output": {"id": str, "type": str, "call_id": str, "output": str},
}
_RESPONSE = {"instructions": _TEXT_OR_NULL, "modalities": [frozenset({"text", "audio"})], "voice": str}
_MESSAGES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "session.update": ({"session": _SESSION}, ("session",)),
    "session.finish": ({}, ()),
    "input_audio_buffer.append": ({"audio": str}, ("audio",)),
    "input_audio_buffer.commit": ({}, ()),
    "input_audio_buffer.clear": ({}, ()),
    "input_image_buffer.append": ({"image": str}, ("image",)),
    "conversation.item.create": ({"item": ANY, "previous_item_id": str}, ("item",)),
    "response.create": ({"response": _RESPONSE}, ()),
    "response.cancel": ({}, ()),
}


def _check_session(session: Mapping[str, Any]) -> Refusal | None:
    """What holds for every model."""
    modalities = session.get("modalities")
    if modalities is not None and sorted(modalities) not in (["text"], ["audio", "text"]):
        words = f"Invalid modalities: {modalities}. Supported combinations are: ['text'] and ['audio', 'text']."
        return Refusal("invalid_value", words, "session.modalities")
    if "audio" in session and {"input_audio_format", "output_audio_format"} & set(session):
        return Refusal("invalid_value", "Conflicting audio formats: by name and as objects.", "session.audio")
    if session.get("tools") and session.get("enable_search"):
        return Refusal("invalid_value", "tools and enable_search exclude each other.", "session.tools")
    detection = session.get("turn_detection") or {}
    ranges = (
        ("session.temperature", session.get("temperature"), 0, 1.999),
        ("session.top_p", session.get("top_p"), 0.001, 1),
        ("session.turn_detection.threshold", detection.get("threshold"), -1, 1),
        ("session.turn_detection.silence_duration_ms", detection.get("silence_duration_ms"), 200, 6000),
        ("session.turn_detection.idle_timeout_ms", detection.get("idle_timeout_ms"), 5000, 30000),
    )
    for param, value, low, high in ranges:
        if value is not None and not low <= value <= high:
            return Refusal("invalid_value", f"Invalid value: {value} for '{param}'.", param)
    return None


TABLES = Tables(_MESSAGES, _ITEMS, _check_session)


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """What depends on the model."""

    model: str

    def session(self, session: Mapping[str, Any]) -> Refusal | None:
        family = family_of(self.model)
        voice = session.get("voice")
        if voice is not None and voice not in family.voices:
            return Refusal("invalid_value", f"Voice '{voice}' is not supported.", "session.voice")
        if session.get("tools") and not family.tools:
            return Refusal("invalid_value", f"{self.model} takes no tools.", "session.tools")
        if "audio" in session and not family.format_objects:
            return Refusal("invalid_value", f"{self.model} takes formats by name only.", "session.audio")
        if session.get("temperature") is not None and not family.temperature:
            return Refusal("invalid_value", f"{self.model} takes no temperature.", "session.temperature")
        kind = (session.get("turn_detection") or {}).get("type", "server_vad")
        if kind not in ("server_vad", family.semantic_vad):
            return Refusal("invalid_value", f"Unsupported turn detection: {kind}.", "session.turn_detection.type")
        return None

    def item(self, item: Mapping[str, Any]) -> Refusal | None:
        family = family_of(self.model)
        if item["type"] == "function_call_output":
            return None
        param = "conversation.item.create"
        if not family.texts:
            return Refusal("invalid_value", f"{self.model} takes no {item['type']} items.", param)
        if family.instructs_responses and item.get("role") != "user":
            return Refusal("invalid_value", f"{self.model} takes user messages and tool outputs only.", param)
        wanted = "output_text" if item.get("role") == "assistant" else "input_text"
        if any(part.get("type") != wanted for part in item.get("content", ())):
            return Refusal("invalid_value", f"Expected {wanted}.", param)
        return None

    def response(self, response: Mapping[str, Any]) -> Refusal | None:
        if response.get("instructions") and not family_of(self.model).instructs_responses:
            return Refusal("invalid_value", f"{self.model}: no instructions for a response.", "response.instructions")
        return None
