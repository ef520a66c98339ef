"""Ultravox, simulated: `POST /api/calls`, and the call's WebSocket.

Checks the request and each message against the vendor's documentation: a field that is not there, or a wrong type, is a
violation; it is answered with 400, or by closing with 1008.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from sipbridge.audio import AudioFormat
from sipbridge.simulator.http import HttpAnswer, HttpRequest
from sipbridge.simulator.model import Connection, ModelServer, Opening
from sipbridge.simulator.script import Fault, Script, ToolUse
from sipbridge.simulator.talker import Talk, Talker
from sipbridge.simulator.ultravox_check import check_call, check_message

Json = dict[str, Any]


class UltravoxModel(Talker):
    path: ClassVar[str] = "/calls"
    ROOM: ClassVar[int] = 10
    """Calls that may wait to be joined."""

    def __init__(self, connection: Connection, script: Script, opening: Opening) -> None:
        super().__init__(connection, script)
        waiting: dict[str, Json] = opening.created
        self._call_id = opening.parameter("call")
        self._call = waiting.pop(self._call_id, None)
        self._state = ""
        self._ordinal = 0
        self._started = False

    @staticmethod
    async def answer_http(request: HttpRequest, server: ModelServer) -> HttpAnswer:
        if request.method != "POST" or request.path != "/api/calls":
            return HttpAnswer.of({"detail": "Not found."}, 404)
        if not request.headers.get("x-api-key"):
            return HttpAnswer.of({"detail": "Authentication credentials were not provided."}, 401)
        wrong = check_call(request.json())
        if wrong or len(server.created) >= UltravoxModel.ROOM:
            return HttpAnswer.of({"detail": wrong or "Too many calls."}, 400 if wrong else 429)
        call_id = f"call-{len(server.asked)}"
        server.created[call_id] = request.json()
        return HttpAnswer.of({"callId": call_id, "joinUrl": f"{server.url}?call={call_id}"}, 201)

    # --- the wire -----------------------------------------------------------------------------------------------------

    def opened(self) -> None:
        if self._call is None:
            return self.refuse("no_call", "there is no such call to be joined")
        self.connection.record.add({"type": "call", **self._call})
        fault = self.script.fault
        if fault and fault.name == "no_update":
            return None
        if fault and fault.name == "refuse_setup":
            return self.connection.close_soon(Fault("close", "1008"))
        self._started = True
        medium = self._call["medium"]["serverWebSocket"]
        self._output = AudioFormat("pcm16", medium.get("outputSampleRate", medium["inputSampleRate"]))
        self.listen(AudioFormat("pcm16", medium["inputSampleRate"]))
        self.connection.send({"type": "call_started", "callId": self._call_id})
        self._tell_state("idle")
        self._tell_state("listening")
        if text := self._call.get("firstSpeakerSettings", {}).get("agent", {}).get("text"):
            self.answer(text)
        if fault and fault.name == "stall":
            self.connection.stall()
        return None

    def receive(self, data: str | bytes) -> None:
        if isinstance(data, bytes):
            if not self._started or len(data) % 2:
                return self.refuse("invalid_audio", "not now, or half a sample")
            return self.hear(data)
        try:
            message = json.loads(data)
        except ValueError:
            message = None
        if wrong := check_message(message):
            return self.refuse("invalid_message", wrong)
        self.connection.record.add(message)
        kind = message["type"]
        if kind == "client_tool_result":
            self._on_result(message)
        elif kind == "forced_agent_message":
            self.answer(message["content"])
        elif kind == "user_text_message":
            self.ask(message["text"])
            if message.get("urgency", "soon") != "later":
                self.answer()
        elif kind == "hang_up":
            self.connection.close_soon(Fault("close", "1000"))
        elif kind == "ping":
            self.connection.send({"type": "pong", "timestamp": message["timestamp"]})
        return None

    def _on_result(self, message: Json) -> None:
        quietly = message.get("agentReaction") == "listens"
        if not self.tool_said(message["invocationId"], message.get("result", ""), answer=not quietly):
            self.refuse("unknown_invocation", message["invocationId"])

    # --- what it tells ------------------------------------------------------------------------------------------------

    def _tell_state(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self.connection.send({"type": "state", "state": state})

    def _transcript(self, role: str, *, final: bool, text: str | None = None, delta: str | None = None) -> None:
        message = {"type": "transcript", "role": role, "medium": "voice", "text": text, "delta": delta}
        self.connection.send({**message, "final": final, "ordinal": self._ordinal})

    def voice_format(self) -> AudioFormat:
        return self._output

    def tell_heard(self, text: str) -> None:
        self._ordinal += 1
        self._transcript("user", final=True, text=text)

    def tell_reply(self, talk: Talk) -> None:
        self._ordinal += 1
        self._tell_state("thinking")

    def tell_words(self, talk: Talk, words: str, audio: bytes) -> None:
        self._tell_state("speaking")
        if words:
            self._transcript("agent", final=False, delta=words)
        middle = len(audio) // 4 * 2 + 1
        for piece in (audio[:middle], audio[middle:]):  # a sample is cut in two
            self.connection.send_audio(piece)

    def tell_call(self, talk: Talk, call_id: str, tool: ToolUse) -> None:
        try:
            parameters = json.loads(tool.arguments)
        except ValueError:
            parameters = tool.arguments  # wrong on purpose
        invocation = {"toolName": tool.name, "invocationId": call_id, "parameters": parameters}
        self.connection.send({"type": "client_tool_invocation", **invocation})

    def tell_end(self, talk: Talk, *, cut: bool) -> None:
        if cut:
            self.connection.send({"type": "playback_clear_buffer"})
        self._tell_state("listening")
        if talk.said:
            self._transcript("agent", final=True, text=talk.said)

    def tell_late_cut(self) -> None:
        self.connection.send({"type": "playback_clear_buffer"})

    def tell_error(self, code: str) -> None:
        self.connection.close_soon(Fault("close", "1011"))
