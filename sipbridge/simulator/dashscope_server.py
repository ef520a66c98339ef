"""Qwen's realtime service (DashScope), simulated: the older shape of the OpenAI protocol with the vendor's own gaps."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from copy import deepcopy
from typing import Any, ClassVar

from sipbridge.providers.dashscope import family_of
from sipbridge.simulator.dashscope_check import TABLES, ModelCheck
from sipbridge.simulator.model import Connection, Opening
from sipbridge.simulator.openai_beta import BetaModel
from sipbridge.simulator.openai_check import Refusal, Tables
from sipbridge.simulator.openai_reply import Json
from sipbridge.simulator.openai_server import OpenAIModel
from sipbridge.simulator.script import Script

_LARGEST_IMAGE = 256 * 1024
_TRANSCRIBER = {"model": "qwen3-asr-flash-realtime"}
_TURN_DETECTION = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 800,
    "create_response": True,
    "interrupt_response": True,
}


class DashScopeModel(BetaModel):
    path: ClassVar[str] = "/api-ws/v1/realtime"
    tables: ClassVar[Tables] = TABLES
    defaults: ClassVar[Json] = OpenAIModel.defaults | {
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 16000},
                "transcription": _TRANSCRIBER,
                "turn_detection": _TURN_DETECTION,
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": ""},
        },
    }
    flat_defaults: ClassVar[Json] = {
        "object": "realtime.session",
        "modalities": ["text", "audio"],
        "input_audio_format": "pcm",
        "output_audio_format": "pcm",
        "input_audio_transcription": _TRANSCRIBER,
        "turn_detection": _TURN_DETECTION,
        "tools": [],
        "temperature": 0.8,
    }
    unspoken = BetaModel.unspoken | {"rate_limits.updated"}
    unknown_fields: ClassVar[dict[str, frozenset[str]]] = {}

    def __init__(self, connection: Connection, script: Script, opening: Opening) -> None:
        super().__init__(connection, script, opening)
        model = opening.parameter("model")
        self._model_check = ModelCheck(model)
        self.flat["voice"] = self._session["audio"]["output"]["voice"] = family_of(model).voices[0]

    def _handlers(self) -> dict[str, Callable[[Json], Refusal | None]]:
        handlers = super()._handlers() | {
            "input_image_buffer.append": self._on_image,
            "session.finish": self._on_finish,
        }
        del handlers["conversation.item.truncate"]
        return handlers

    # --- reading ------------------------------------------------------------------------------------------------------

    def _on_update(self, message: Json) -> Refusal | None:
        return self._model_check.session(message["session"]) or super()._on_update(message)

    def formats_in(self, session: Json) -> tuple[Json | None, Json | None]:
        """By name nothing can be chosen."""
        described = []
        for direction in ("input", "output"):
            wanted = session.get("audio", {}).get(direction, {}).get("format")
            described.append(wanted and {"type": "audio/pcm", "rate": wanted["sample_rate"]})
        return described[0], described[1]

    def _on_item(self, message: Json) -> Refusal | None:
        """Ids of the client's are replaced."""
        item = {key: value for key, value in message["item"].items() if key != "id"}
        return self._model_check.item(item) or super()._on_item(message | {"item": item})

    def _on_image(self, message: Json) -> Refusal | None:
        if not self._connection.record.audio:
            return Refusal("invalid_value", "Error append image before append audio.", "input_image_buffer.append")
        try:
            image = b64decode(message["image"], validate=True)
        except Base64Error:
            return Refusal("invalid_value", "Invalid 'image': not base64.", "image")
        if not image.startswith(b"\xff\xd8") or len(message["image"]) > _LARGEST_IMAGE:
            return Refusal("invalid_value", "Invalid 'image': no JPEG of at most 256 KB.", "image")
        return None

    def _on_create(self, message: Json) -> Refusal | None:
        if self._ear is not None and self._ear.speaking and self._session["audio"]["input"]["turn_detection"]:
            return Refusal("invalid_value", "Cannot create response while user is speaking.", "response.create")
        refusal = self._model_check.response(message.get("response") or {}) or super()._on_create(message)
        if refusal is not None and refusal.code == "conversation_already_has_active_response":
            words = "Cannot create response while another response is in progress."
            return Refusal("invalid_value", words, "response.create")
        return refusal

    def _on_cancel(self, message: Json) -> Refusal | None:
        if super()._on_cancel(message) is not None:
            return Refusal("invalid_value", "Cannot cancel response, no active response found.", "response.cancel")
        return None

    def _on_finish(self, message: Json) -> Refusal | None:
        self._emit("session.finished")
        return None

    # --- writing ------------------------------------------------------------------------------------------------------

    def _emit(self, kind: str, **fields: Any) -> None:
        if kind == "conversation.item.input_audio_transcription.delta":
            fields |= {"text": fields.pop("delta"), "stash": ""}
        super()._emit(kind, **fields)

    def _error(self, refusal: Refusal, event_id: object = None, kind: str = "invalid_request_error") -> None:
        """Does not name the event that it is about; what the gateway has to say ("Throttling") has a shape of its
        own."""
        if refusal.code[:1].isupper():
            answer = {"code": refusal.code, "message": refusal.message, "request_id": self._new_id("request")}
            self._connection.send(answer)
            return
        error = {"type": kind, "code": refusal.code, "message": refusal.message, "param": refusal.param}
        self._emit("error", error=error)

    def describe_session(self) -> Json:
        """Turn detection that is off is left out."""
        session = deepcopy(self.flat)
        if session["turn_detection"] is None:
            del session["turn_detection"]
        if "audio" in session:
            del session["input_audio_format"], session["output_audio_format"]
        return session

    def describe_response(self, newer: Json) -> Json:
        response = super().describe_response(newer)
        details = response.pop("status_details") or {}
        if error := details.get("error"):
            response["status_details"] = {"error": error | {"code": "Throttling.RateQuota"}}
        if usage := response.pop("usage"):
            response["usage"] = {
                "total_tokens": usage["total_tokens"],
                "input_tokens": usage["input_tokens"],
                "output_tokens": usage["output_tokens"],
                "input_tokens_details": {
                    "text_tokens": usage["input_token_details"]["text_tokens"],
                    "audio_tokens": usage["input_token_details"]["audio_tokens"],
                },
                "output_tokens_details": usage["output_token_details"],
            }
        return response
