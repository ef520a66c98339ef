"""The older shape of the OpenAI Realtime protocol, simulated: what the GA model does, said in the older words.

Vendors that speak it for good are subclasses with tables of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar

from sipbridge.simulator.model import Connection, Opening
from sipbridge.simulator.openai_reply import Json
from sipbridge.simulator.openai_server import OpenAIModel
from sipbridge.simulator.script import Script

_NAMES = {
    "conversation.item.added": "conversation.item.created",
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
}
_CONTENTS = {"output_audio": "audio", "output_text": "text"}


class BetaModel(OpenAIModel):
    flat_defaults: ClassVar[Json] = {}
    """The session as this wire shows it, before the client has asked for anything."""
    unspoken: ClassVar[frozenset[str]] = frozenset({"conversation.item.done"})
    """Events of the newer shape that have no counterpart here."""
    unknown_fields: ClassVar[Mapping[str, frozenset[str]]] = {
        "response.function_call_arguments.done": frozenset({"name"})
    }
    """Event -> members that only the newer shape has."""

    def __init__(self, connection: Connection, script: Script, opening: Opening) -> None:
        super().__init__(connection, script, opening)
        self.flat = deepcopy(self.flat_defaults) | {"id": self._session["id"], "model": self._session["model"]}
        self._wanted: Json = {}

    # --- reading ------------------------------------------------------------------------------------------------------

    def formats_in(self, session: Json) -> tuple[Json | None, Json | None]:
        """Of a flat session: the input's and the output's format in the newer shape; None: not mentioned."""
        raise NotImplementedError

    def _read_session(self, session: Json) -> Json:
        self._wanted = session
        heard: Json = {}
        spoken: Json = {}
        for name, place, key in (
            ("input_audio_transcription", heard, "transcription"),
            ("turn_detection", heard, "turn_detection"),
            ("voice", spoken, "voice"),
        ):
            if name in session:
                place[key] = session[name]
        for described, place in zip(self.formats_in(session), (heard, spoken), strict=True):
            if described is not None:
                place["format"] = described
        newer: Json = {"audio": {"input": heard, "output": spoken}}
        if "modalities" in session:
            newer["output_modalities"] = _newer_modalities(session["modalities"])
        return newer

    def _read_response(self, response: Json) -> Json:
        newer = {key: value for key, value in response.items() if value is not None and key != "modalities"}
        if response.get("modalities"):
            newer["output_modalities"] = _newer_modalities(response["modalities"])
        return newer

    # --- writing ------------------------------------------------------------------------------------------------------

    def _emit(self, kind: str, **fields: Any) -> None:
        if kind in self.unspoken:
            return
        kind = _NAMES.get(kind, kind)
        if kind == "session.updated":
            self.flat |= deepcopy(self._wanted)
        if "session" in fields:
            fields["session"] = self.describe_session()
        if "response" in fields:
            fields["response"] = self.describe_response(fields["response"])
        if "item" in fields:
            fields["item"] = _older_item(fields["item"])
        left_out = self.unknown_fields.get(kind, frozenset())
        super()._emit(kind, **{name: value for name, value in fields.items() if name not in left_out})

    def describe_session(self) -> Json:
        return deepcopy(self.flat)

    def describe_response(self, newer: Json) -> Json:
        older = {key: newer[key] for key in ("object", "id", "status", "status_details", "conversation_id", "usage")}
        spoken = "audio" in newer["output_modalities"]
        return older | {
            "modalities": ["text", "audio"] if spoken else ["text"],
            "voice": self.flat.get("voice"),
            "output": [_older_item(item) for item in newer["output"]],
        }


def _newer_modalities(modalities: list[str]) -> list[str]:
    return ["audio"] if "audio" in modalities else ["text"]


def _older_item(item: Json) -> Json:
    if "content" not in item:
        return item
    return item | {"content": [part | {"type": _CONTENTS.get(part["type"], part["type"])} for part in item["content"]]}
