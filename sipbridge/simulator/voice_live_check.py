"""Is this client message one that Azure Voice Live would take?

By the types of the vendor's SDK (azure-ai-voicelive 1.3.1) and the ranges that they state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sipbridge.simulator.openai_check import ANY, GA, NULLABLE, NUMBER, Refusal, Tables, check_value

_OUTPUT_FORMATS = frozenset({"pcm16", "pcm16_8000hz", "pcm16_16000hz", "g711_ulaw", "g711_alaw"})
_OPENAI_VOICES = frozenset({"alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"})
_VOICE = {
    "type": frozenset({"openai", "azure-standard", "azure-custom", "azure-personal", "azure-realtime-native"}),
    "name": str,
    "endpoint_id": str,
    "model": str,
    "temperature": NUMBER,
    "custom_lexicon_url": str,
    "custom_text_normalization_url": str,
    "prefer_locales": [str],
    "locale": str,
    "style": str,
    "pitch": str,
    "rate": str,
    "volume": str,
}
_SERVER_VAD = {
    "type": str,
    "threshold": NUMBER,
    "prefix_padding_ms": int,
    "silence_duration_ms": int,
    "end_of_utterance_detection": ANY,
    "auto_truncate": bool,
    "create_response": bool,
    "interrupt_response": bool,
}
_AZURE_VAD = _SERVER_VAD | {"speech_duration_ms": int, "remove_filler_words": bool, "languages": [str]}
_TURN_DETECTION = {
    "server_vad": _SERVER_VAD,
    "azure_semantic_vad": _AZURE_VAD,
    "azure_semantic_vad_en": {key: value for key, value in _AZURE_VAD.items() if key != "languages"},
    "azure_semantic_vad_multilingual": _AZURE_VAD,
}
_MODALITIES = [frozenset({"text", "audio", "animation", "avatar"})]
_TOOL = {"type": frozenset({"function"}), "name": str, "description": str, "parameters": ANY}
_TOKENS = (int, str)
_SESSION = {
    "model": str,
    "modalities": _MODALITIES,
    "animation": ANY,
    "voice": ANY,  # looked at below: a name or an object
    "instructions": str,
    "input_audio_sampling_rate": frozenset({8000, 16000, 24000}),
    "input_audio_format": frozenset({"pcm16", "g711_ulaw", "g711_alaw"}),
    "output_audio_format": _OUTPUT_FORMATS,
    "turn_detection": ANY,  # by its type
    "input_audio_noise_reduction": {
        NULLABLE: None,
        "type": frozenset({"azure_deep_noise_suppression", "near_field", "far_field"}),
    },
    "input_audio_echo_cancellation": ANY,
    "avatar": ANY,
    "input_audio_transcription": {
        NULLABLE: None,
        "model": str,
        "language": str,
        "custom_speech": ANY,
        "phrase_list": [str],
    },
    "output_audio_timestamp_types": [str],
    "tools": [_TOOL],
    "tool_choice": (str, dict),
    "parallel_tool_calls": bool,
    "temperature": NUMBER,
    "max_response_output_tokens": _TOKENS,
    "reasoning_effort": str,
    "interim_response": ANY,
    "include": [str],
    "metadata": ANY,
}
_CONTENT = [{"type": frozenset({"input_text", "input_audio", "text"}), "text": str, "audio": str, "transcript": str}]
_ITEMS: dict[str, dict[str, Any]] = {
    "message": {
        "id": str,
        "type": frozenset({"message"}),
        "role": frozenset({"user", "assistant", "system"}),
        "content": _CONTENT,
        "status": str,
    },
    "function_call": {"id": str, "type": str, "name": str, "call_id": str, "arguments": str, "status": str},
    "function_call_output": {"id": str, "type": str, "call_id": str, "output": str, "status": str},
}
_RESPONSE = {
    "commit": bool,
    "cancel_previous": bool,
    "append_input_items": [ANY],
    "input_items": [ANY],
    "modalities": _MODALITIES,
    "instructions": str,
    "voice": ANY,
    "output_audio_format": _OUTPUT_FORMATS,
    "tools": [_TOOL],
    "tool_choice": str,
    "temperature": NUMBER,
    "max_output_tokens": _TOKENS,
    "pre_generated_assistant_message": _ITEMS["message"],
    "reasoning_effort": str,
    "metadata": ANY,
    "interim_response": ANY,
}
_MESSAGES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = dict(GA.messages) | {
    "session.update": ({"session": _SESSION}, ("session",)),
    "response.create": ({"response": _RESPONSE, "additional_instructions": str}, ()),
}


def _check_session(session: Mapping[str, Any]) -> Refusal | None:
    temperature, form = session.get("temperature"), session.get("input_audio_format", "pcm16")
    if temperature is not None and not 0 <= temperature <= 1:
        return Refusal("invalid_value", "Invalid 'temperature': not between 0 and 1.", "session.temperature")
    if form != "pcm16" and session.get("input_audio_sampling_rate", 8000) != 8000:
        return Refusal("invalid_value", f"{form} is sampled at 8000 Hz.", "session.input_audio_sampling_rate")
    return _check_voice(session.get("voice")) or _check_turn_detection(session.get("turn_detection"))


def _check_voice(voice: object) -> Refusal | None:
    if voice is None or (isinstance(voice, str) and voice in _OPENAI_VOICES):
        return None
    if not isinstance(voice, dict) or "type" not in voice or "name" not in voice:
        return Refusal("invalid_value", f"Invalid voice: {voice!r}.", "session.voice")
    return check_value(voice, _VOICE, "session.voice.")


def _check_turn_detection(detection: object) -> Refusal | None:
    if detection is None:
        return None
    kind = detection.get("type") if isinstance(detection, dict) else None
    if kind not in _TURN_DETECTION:
        return Refusal("invalid_value", f"Invalid value: {kind!r}.", "session.turn_detection.type")
    return check_value(detection, _TURN_DETECTION[str(kind)], "session.turn_detection.")


TABLES = Tables(_MESSAGES, _ITEMS, _check_session)
