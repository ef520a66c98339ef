"""xAI's Grok voice agent, simulated: the OpenAI model (GA) with the vendor's session object and its own events.

From the vendor's "Voice Agent API"; where that leaves something open, the stricter reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar

from sipbridge.simulator.model import Connection, Opening
from sipbridge.simulator.openai_check import ANY, GA, NULLABLE, NUMBER, Refusal, Tables, check_message
from sipbridge.simulator.openai_reply import Json
from sipbridge.simulator.openai_server import OpenAIModel
from sipbridge.simulator.script import Script

_FORMAT = {
    "type": frozenset({"audio/pcm", "audio/pcmu", "audio/pcma"}),
    "rate": frozenset({8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000}),
}
_SESSION = {
    "instructions": str,
    "voice": str,
    "turn_detection": {
        NULLABLE: None,
        "type": frozenset({"server_vad"}),
        "threshold": NUMBER,
        "prefix_padding_ms": int,
        "silence_duration_ms": int,
        "idle_timeout_ms": (int, type(None)),
    },
    "audio": {
        "input": {
            "format": _FORMAT,
            "transport": frozenset({"binary"}),
            "transcription": {NULLABLE: None, "model": str, "language_hint": str, "keyterms": [str]},
        },
        "output": {"format": _FORMAT, "transport": frozenset({"binary"}), "speed": NUMBER},
    },
    "tools": [
        {
            "type": frozenset({"function", "web_search", "x_search", "file_search", "mcp"}),
            "name": str,
            "description": str,
            "parameters": ANY,
            "vector_store_ids": [str],
        }
    ],
    "reasoning": ANY,
    "resumption": {"enabled": bool},
    "replace": ANY,
}
_RESPONSE = {
    "instructions": str,
    "modalities": [frozenset({"text", "audio"})],
    "tool_choice": (str, dict),
    "tools": _SESSION["tools"],
    "metadata": ANY,
}
_RANGES = (("threshold", 0.1, 0.9), ("speed", 0.7, 1.5))


def _check_session(session: Mapping[str, Any]) -> Refusal | None:
    detection = session.get("turn_detection") or {}
    values = detection | session.get("audio", {}).get("output", {})
    for name, low, high in _RANGES:
        if name in values and not low <= values[name] <= high:
            return Refusal("invalid_value", f"Invalid value for '{name}': not within {low}..{high}.", name)
    return None


_TABLES = Tables(
    {
        **GA.messages,
        "session.update": ({"session": _SESSION}, ("session",)),
        "response.create": ({"response": _RESPONSE}, ()),
    },
    GA.items,
    _check_session,
)


def check_xai(message: Mapping[str, Any]) -> Refusal | None:
    return check_message(message, _TABLES)


class XaiModel(OpenAIModel):
    tables: ClassVar[Tables] = _TABLES

    def __init__(self, connection: Connection, script: Script, opening: Opening) -> None:
        super().__init__(connection, script, opening)
        self._shown: Json = {"voice": "eve", "turn_detection": {"type": "server_vad"}}
        """The session as this wire has it."""

    def opened(self) -> None:
        super()._emit("conversation.created", conversation={"id": "conv_1", "object": "realtime.conversation"})
        super().opened()
        super()._emit("ping", timestamp=0)

    def _read_session(self, session: Json) -> Json:
        self._shown |= deepcopy(session)
        newer: Json = {"audio": deepcopy(session.get("audio", {}))}
        if "turn_detection" in session:
            newer["audio"].setdefault("input", {})["turn_detection"] = session["turn_detection"]
        if "voice" in session:
            newer["audio"].setdefault("output", {})["voice"] = session["voice"]
        return newer

    def _read_response(self, response: Json) -> Json:
        newer = dict(response)
        if modalities := newer.pop("modalities", None):
            newer["output_modalities"] = ["audio"] if "audio" in modalities else ["text"]
        return newer

    def _emit(self, kind: str, **fields: Any) -> None:
        """Items are only added, and what was understood so far is told as a whole."""
        if kind == "conversation.item.done":
            return
        if kind.endswith("input_audio_transcription.delta"):
            kind = kind.replace("delta", "updated")
            fields["transcript"] = fields.pop("delta")
        if "session" in fields:
            fields["session"] = {"id": fields["session"]["id"], "model": fields["session"]["model"], **self._shown}
        super()._emit(kind, **fields)
