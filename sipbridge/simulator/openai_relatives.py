"""Servers that speak OpenAI's protocol at other addresses: Azure's, and those that people run themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from sipbridge.audio import PCM_16K, AudioFormat
from sipbridge.simulator.model import Connection, Opening
from sipbridge.simulator.openai_beta import BetaModel
from sipbridge.simulator.openai_check import ANY, GA, NULLABLE, NUMBER, Refusal, Tables, check_value
from sipbridge.simulator.openai_reply import Json
from sipbridge.simulator.openai_server import OpenAIModel
from sipbridge.simulator.script import Script

# --- the older shape --------------------------------------------------------------------------------------------------

_FORMATS: dict[str, Json] = {
    "pcm16": {"type": "audio/pcm", "rate": 24000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
_TURN_DETECTION: Json = {
    NULLABLE: None,
    "type": frozenset({"server_vad", "semantic_vad"}),
    "threshold": NUMBER,
    "prefix_padding_ms": int,
    "silence_duration_ms": int,
    "eagerness": frozenset({"low", "medium", "high", "auto"}),
    "create_response": bool,
    "interrupt_response": bool,
}
_SETTINGS: Json = {
    "modalities": [frozenset({"audio", "text"})],
    "instructions": str,
    "voice": str,
    "output_audio_format": frozenset(_FORMATS),
    "tools": [{"type": frozenset({"function"}), "name": str, "description": str, "parameters": ANY}],
    "tool_choice": (str, dict),
    "temperature": NUMBER,
}
_SESSION = _SETTINGS | {
    "input_audio_format": frozenset(_FORMATS),
    "input_audio_transcription": {NULLABLE: None, "model": str, "language": str, "prompt": str},
    "input_audio_noise_reduction": {NULLABLE: None, "type": frozenset({"near_field", "far_field"})},
    "turn_detection": _TURN_DETECTION,
    "speed": NUMBER,
    "max_response_output_tokens": (int, str),
}
_RESPONSE = _SETTINGS | {
    "conversation": str,
    "metadata": ANY,
    "input": [ANY],
    "max_output_tokens": (int, str),
}
_ITEMS: dict[str, Json] = dict(GA.items) | {
    "message": GA.items["message"]
    | {
        "content": [
            {
                "type": frozenset({"input_text", "input_audio", "item_reference", "text"}),
                "text": str,
                "audio": str,
                "transcript": str,
            }
        ]
    }
}
_NEW_VOICES = frozenset({"marin", "cedar"})


def _check_session(session: Mapping[str, Any]) -> Refusal | None:
    if session.get("modalities") == ["audio"]:
        return Refusal("invalid_value", "Invalid modalities: ['audio'].", "session.modalities")
    if session.get("voice") in _NEW_VOICES:
        return Refusal("invalid_value", f"Invalid value: '{session['voice']}'.", "session.voice")
    if not 0.6 <= session.get("temperature", 0.8) <= 1.2:
        return Refusal("decimal_below_min_value", "Invalid 'session.temperature'.", "session.temperature")
    detection = session.get("turn_detection") or {}
    if detection.get("type") == "semantic_vad":
        allowed = {key: _TURN_DETECTION[key] for key in ("type", "eagerness", "create_response", "interrupt_response")}
        return check_value(detection, allowed, "session.turn_detection.")
    return None


class OlderModel(BetaModel):
    """What OpenAI's beta was, and what its relatives still are."""

    tables: ClassVar[Tables] = Tables(
        dict(GA.messages)
        | {"session.update": ({"session": _SESSION}, ("session",)), "response.create": ({"response": _RESPONSE}, ())},
        _ITEMS,
        _check_session,
    )
    flat_defaults: ClassVar[Json] = {
        "object": "realtime.session",
        "modalities": ["text", "audio"],
        "instructions": "You are a helpful model.",
        "voice": "alloy",
        "input_audio_format": "pcm16",
        "output_audio_format": "pcm16",
        "input_audio_transcription": None,
        "turn_detection": OpenAIModel.defaults["audio"]["input"]["turn_detection"],
        "tools": [],
        "tool_choice": "auto",
        "temperature": 0.8,
        "max_response_output_tokens": "inf",
    }

    def formats_in(self, session: Json) -> tuple[Json | None, Json | None]:
        heard, spoken = session.get("input_audio_format"), session.get("output_audio_format")
        return (_FORMATS[heard] if heard else None), (_FORMATS[spoken] if spoken else None)


# --- Azure ------------------------------------------------------------------------------------------------------------


class AzureGAModel(OpenAIModel):
    def __init__(self, connection: Connection, script: Script, opening: Opening) -> None:
        super().__init__(connection, script, opening)
        check_opening(connection, opening, "model")


class AzurePreviewModel(OlderModel):
    def __init__(self, connection: Connection, script: Script, opening: Opening) -> None:
        super().__init__(connection, script, opening)
        check_opening(connection, opening, "deployment", "api-version")


class AzureModels:
    """Which of them it is says the path."""

    path = "/openai/v1/realtime"
    preview_path = "/openai/realtime"

    def __call__(self, connection: Connection, script: Script, opening: Opening) -> OpenAIModel:
        preview = opening.path == self.preview_path
        return (AzurePreviewModel if preview else AzureGAModel)(connection, script, opening)


azure = AzureModels()


def check_opening(connection: Connection, opening: Opening, deployment: str, *others: str) -> None:
    """The service would answer these at the handshake; here they are written down."""
    for name in (deployment, *others):
        if not opening.parameter(name):
            connection.record.violations.append(("missing_query_parameter", f"no {name} in the URL's query"))
    headers = {name.lower() for name in opening.headers}
    if not headers & {"api-key", "authorization"}:
        connection.record.violations.append(("401", "neither api-key nor Authorization"))
    if "openai-beta" in headers:
        connection.record.violations.append(("beta_header", "OpenAI-Beta is not for this service"))


# --- one's own --------------------------------------------------------------------------------------------------------


class CompatibleModel(OpenAIModel):
    """A server of the plainer kind: PCM at 16 kHz whatever it is asked for, no word more than is needed, and nothing
    can be truncated."""

    def _emit(self, kind: str, **fields: Any) -> None:
        if kind.startswith(("conversation.item.added", "conversation.item.done", "response.content_part")):
            return
        if kind != "rate_limits.updated":
            fields.pop("response_id", None)
            super()._emit(kind, **fields)

    def _output_format(self) -> AudioFormat:
        return PCM_16K

    def _on_truncate(self, message: Json) -> Refusal | None:
        refusal = Refusal("unknown_event", f"Unknown event: {message['type']}")
        self._error(refusal, message.get("event_id"))
        return None
