"""ElevenLabs Agents, simulated: the agent's side of one conversation, and the signed URL before it.

Takes what the vendor's SDK 2.78 sends and refuses everything else by closing with 1008, as the service does with
overrides that its agent does not permit. `?input=ulaw_8000&output=pcm_24000` in the URL are the agent's formats,
`first=...` its own first message.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from typing import Any, ClassVar

from sipbridge.audio import PCM_8K, PCM_16K, PCM_24K, PCMU, AudioFormat
from sipbridge.simulator.http import HttpAnswer, HttpRequest
from sipbridge.simulator.model import Connection, ModelServer, Opening
from sipbridge.simulator.script import Fault, Script, ToolUse
from sipbridge.simulator.talker import Talk, Talker

Json = dict[str, Any]

_FORMATS = {
    "pcm_8000": PCM_8K,
    "pcm_16000": PCM_16K,
    "pcm_24000": PCM_24K,
    "pcm_48000": AudioFormat("pcm16", 48000),
    "ulaw_8000": PCMU,
}
_SIGNED_URL = "/v1/convai/conversation/get-signed-url"
_FIELDS: dict[str, dict[str, type]] = {
    "pong": {"event_id": int},
    "client_tool_result": {"tool_call_id": str, "result": str, "is_error": bool},
    "contextual_update": {"text": str},
    "user_message": {"text": str},
    "user_activity": {},
}
"""Of the client's messages, all of them required."""
_OVERRIDES = {"agent": {"prompt", "first_message", "language"}, "tts": {"voice_id", "stability", "speed"}}
_SETUP = {
    "type",
    "conversation_config_override",
    "custom_llm_extra_body",
    "dynamic_variables",
    "source_info",
    "user_id",
}


class ElevenLabsModel(Talker):
    path: ClassVar[str] = "/v1/convai/conversation"

    def __init__(self, connection: Connection, script: Script, opening: Opening) -> None:
        super().__init__(connection, script)
        self._agent_id = opening.parameter("agent_id")
        self._first_message = opening.parameter("first")
        self._names = opening.parameter("input", "pcm_16000"), opening.parameter("output", "pcm_16000")
        self._started = False
        self._event_id = 0
        self._pings: set[int] = set()

    @staticmethod
    async def answer_http(request: HttpRequest, server: ModelServer) -> HttpAnswer:
        if request.method != "GET" or request.path != _SIGNED_URL or "agent_id" not in request.query:
            return HttpAnswer.of({"detail": "not found"}, 404)
        if not request.headers.get("xi-api-key"):
            return HttpAnswer.of({"detail": {"status": "needs_authorization"}}, 401)
        agent_id = request.query["agent_id"][0]
        return HttpAnswer.of({"signed_url": f"{server.url}?agent_id={agent_id}&conversation_signature=cvtkn_simulated"})

    # --- the wire -----------------------------------------------------------------------------------------------------

    def opened(self) -> None:
        """The client speaks first."""
        if not self._agent_id:
            self.refuse("no_agent", "agent_id is missing")

    def receive(self, data: str | bytes) -> None:
        try:
            message = json.loads(data) if isinstance(data, str) else None
        except ValueError:
            message = None
        if not isinstance(message, dict):
            return self.refuse("invalid_message", "not a JSON object in a text frame")
        self.connection.record.add(message)
        if "user_audio_chunk" in message:
            return self._on_audio(message)
        kind = message.get("type")
        if kind == "conversation_initiation_client_data":
            return self._on_setup(message)
        fields = _FIELDS.get(str(kind))
        if not self._started or fields is None or message.keys() != {"type", *fields}:
            return self.refuse("invalid_message", f"{kind}: not now, or not with these fields")
        if wrong := [name for name, of in fields.items() if not isinstance(message[name], of)]:
            return self.refuse("invalid_message", f"{kind}: {wrong[0]} is of the wrong type")
        if kind == "pong":
            self._on_pong(message)
        elif kind == "client_tool_result":
            if not self.tool_said(message["tool_call_id"], message["result"]):
                self.refuse("unknown_tool_call", message["tool_call_id"])
        elif kind == "user_message":
            self._on_text(message["text"])

    def _on_setup(self, message: Json) -> None:
        override = message.get("conversation_config_override", {})
        unknown = message.keys() - _SETUP or override.keys() - _OVERRIDES.keys()
        for part, fields in _OVERRIDES.items():
            unknown = unknown or override.get(part, {}).keys() - fields
        fault = self.script.fault
        if self._started or unknown or (fault and fault.name == "refuse_setup"):
            return self.refuse(
                "override_not_allowed", f"Override for field {sorted(unknown)} is not allowed by config."
            )
        if fault and fault.name == "no_update":
            return None
        self._started = True
        if self._names[0] in _FORMATS:
            self.listen(_FORMATS[self._names[0]])
        names = {"user_input_audio_format": self._names[0], "agent_output_audio_format": self._names[1]}
        self._tell("conversation_initiation_metadata", {"conversation_id": "conv_sim", **names})
        self._ping()
        if first := override.get("agent", {}).get("first_message", self._first_message):
            self.answer(first)
        if fault and fault.name == "stall":
            self.connection.stall()
        return None

    def _on_audio(self, message: Json) -> None:
        try:
            audio = b64decode(message["user_audio_chunk"], validate=True)
        except (Base64Error, TypeError):
            return self.refuse("invalid_message", "user_audio_chunk: not base64")
        if len(message) != 1 or not self._started:
            return self.refuse("invalid_message", "user_audio_chunk: stands alone, after the setup")
        return self.hear(audio)

    def _on_pong(self, message: Json) -> None:
        if message["event_id"] not in self._pings:
            return self.refuse("unknown_ping", str(message["event_id"]))
        return self._pings.discard(message["event_id"])

    def _on_text(self, text: str) -> None:
        before, _, words = text.rpartition("\n\n")  # "say this:", an empty line, and this
        if before:
            self.answer(words)
        else:
            self.ask(text)
            self.answer()

    # --- what it tells ------------------------------------------------------------------------------------------------

    def _tell(self, kind: str, event: Json, name: str = "") -> None:
        self.connection.send({"type": kind, name or f"{kind}_event": event})

    def _next_id(self) -> int:
        self._event_id += 1
        return self._event_id

    def _ping(self) -> None:
        event_id = self._next_id()
        self._pings.add(event_id)
        self._tell("ping", {"event_id": event_id, "ping_ms": None})

    def voice_format(self) -> AudioFormat:
        return _FORMATS[self._names[1]]

    def tell_heard(self, text: str) -> None:
        self._tell("user_transcript", {"user_transcript": text}, "user_transcription_event")
        self._ping()

    def tell_reply(self, talk: Talk) -> None:
        if talk.text:
            self._tell("agent_response", {"agent_response": f" {talk.text}"})

    def tell_words(self, talk: Talk, words: str, audio: bytes) -> None:
        event = {"audio_base_64": b64encode(audio).decode("ascii"), "event_id": self._next_id()}
        self._tell("audio", event)

    def tell_call(self, talk: Talk, call_id: str, tool: ToolUse) -> None:
        try:
            parameters = json.loads(tool.arguments)
        except ValueError:
            parameters = tool.arguments  # wrong on purpose
        call = {"tool_name": tool.name, "tool_call_id": call_id, "parameters": parameters}
        self._tell("client_tool_call", call, "client_tool_call")

    def tell_end(self, talk: Talk, *, cut: bool) -> None:
        if cut:
            self._tell("interruption", {"event_id": self._event_id})
            correction = {"original_agent_response": talk.text, "corrected_agent_response": talk.said}
            self._tell("agent_response_correction", correction)

    def tell_late_cut(self) -> None:
        self._tell("interruption", {"event_id": self._event_id})

    def tell_error(self, code: str) -> None:
        self.connection.close_soon(Fault("close", "1011"))
