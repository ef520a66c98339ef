"""Azure Voice Live, simulated: the older shape of the OpenAI protocol with Azure's additions."""

from __future__ import annotations

from typing import Any, ClassVar

from sipbridge.simulator.model import Connection, Opening
from sipbridge.simulator.openai_beta import BetaModel
from sipbridge.simulator.openai_check import Refusal, Tables
from sipbridge.simulator.openai_relatives import check_opening
from sipbridge.simulator.openai_reply import Json
from sipbridge.simulator.openai_server import OpenAIModel
from sipbridge.simulator.script import Script
from sipbridge.simulator.voice_live_check import TABLES

_G711 = {"g711_ulaw": {"type": "audio/pcmu"}, "g711_alaw": {"type": "audio/pcma"}}
_OUTPUT_RATES = {"pcm16": 24000, "pcm16_8000hz": 8000, "pcm16_16000hz": 16000}


class VoiceLiveModel(BetaModel):
    path: ClassVar[str] = "/voice-live/realtime"
    tables: ClassVar[Tables] = TABLES
    flat_defaults: ClassVar[Json] = {
        "modalities": ["text", "audio"],
        "instructions": "",
        "voice": "alloy",
        "input_audio_format": "pcm16",
        "input_audio_sampling_rate": 24000,
        "output_audio_format": "pcm16",
        "input_audio_transcription": None,
        "turn_detection": OpenAIModel.defaults["audio"]["input"]["turn_detection"],
        "tools": [],
        "temperature": 0.7,
    }
    unspoken = BetaModel.unspoken | {"rate_limits.updated"}
    unknown_fields: ClassVar[dict[str, frozenset[str]]] = {
        "conversation.item.input_audio_transcription.completed": frozenset({"usage"})
    }

    def __init__(self, connection: Connection, script: Script, opening: Opening) -> None:
        super().__init__(connection, script, opening)
        self.flat["turn_detection"] = {"type": "server_vad", "silence_duration_ms": 500}
        by_agent = opening.parameter("agent-name") and opening.parameter("agent-project-name")
        check_opening(connection, opening, "api-version", *(() if by_agent else ("model",)))

    def formats_in(self, session: Json) -> tuple[Json | None, Json | None]:
        heard, spoken = session.get("input_audio_format"), session.get("output_audio_format")
        rate = session.get("input_audio_sampling_rate", 24000)
        return (
            heard and _G711.get(heard, {"type": "audio/pcm", "rate": rate}),
            spoken and _G711.get(spoken, {"type": "audio/pcm", "rate": _OUTPUT_RATES.get(spoken, 24000)}),
        )

    def _read_response(self, response: Json) -> Json:
        """What is to be said word for word stands where the base looks for what a reply is asked to say."""
        newer = super()._read_response(response)
        if written := newer.pop("pre_generated_assistant_message", None):
            newer["instructions"] = " ".join(part["text"] for part in written["content"])
        return newer

    def _on_create(self, message: Json) -> Refusal | None:
        written = (message.get("response") or {}).get("pre_generated_assistant_message")
        if written and (written.get("role") != "assistant" or not written.get("content")):
            return Refusal("invalid_value", "A message of the assistant's is expected.", "response")
        return super()._on_create(message)

    def _emit(self, kind: str, **fields: Any) -> None:
        """By the SDK's types a caller's item can't do without its sound, which is not sent back, and a tool's output
        has no status."""
        item = fields.get("item") or {}
        if item.get("type") == "function_call_output":
            fields["item"] = {key: value for key, value in item.items() if key != "status"}
        if item.get("role") == "user":
            parts = [part | ({"audio": ""} if part["type"] == "input_audio" else {}) for part in item["content"]]
            fields["item"] = item | {"content": parts}
        super()._emit(kind, **fields)

    def describe_response(self, newer: Json) -> Json:
        described: dict[str, Any] = {"output_audio_format": self.flat["output_audio_format"]}
        return super().describe_response(newer) | described
