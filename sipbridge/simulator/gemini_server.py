"""Gemini Live, simulated: one connection's conversation, by the Developer API's path or Vertex's.

JSON in text frames comes in, JSON in binary frames goes out. Whatever the service would refuse closes the connection,
which is its only way to report an error. It generates faster than realtime and then waits for as long as its speech
takes to be heard before it says `turnComplete`; the caller's speech interrupts both. Sessions can be resumed by their
handles as long as the program runs.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, ClassVar, TypeAlias

from sipbridge.audio import PCM_24K, AudioFormat
from sipbridge.simulator.gemini_check import Session, camel_case, check_message
from sipbridge.simulator.model import Connection, Opening, SessionRecord
from sipbridge.simulator.script import Script, ToolUse
from sipbridge.simulator.talker import Talk, Talker

Json: TypeAlias = dict[str, Any]

_DEVELOPER = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
_STABLE = "/ws/google.ai.generativelanguage.v1.GenerativeService.BidiGenerateContent"
_EPHEMERAL = "/ws/google.ai.generativelanguage.v1alpha.GenerativeService.BidiGenerateContentConstrained"
_VERTEX = "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent"
_MOST_KEPT = 1000
_REFUSALS = {
    "key": (1007, "API key not valid. Please pass a valid API key."),
    "quota": (1011, "You exceeded your current quota, please check your plan and billing details."),
    "": (1007, "Request contains an invalid argument."),
}
"""What `refuse_setup:WHAT` says."""


@dataclass(slots=True)
class _Kept:
    """What a handle stands for."""

    record: SessionRecord
    replies: int
    turns: int


class GeminiModel(Talker):
    path: ClassVar[str] = _DEVELOPER
    vertex_path: ClassVar[str] = _VERTEX
    _kept: ClassVar[dict[str, _Kept]] = {}
    _handles: ClassVar[count[int]] = count(1)

    def __init__(self, connection: Connection, script: Script, opening: Opening) -> None:
        super().__init__(connection, script)
        self._opening = opening
        self._session = Session(vertex=opening.path == _VERTEX)
        self._blocking: set[str] = set()
        """Calls for whose results the model is silent; the turn is not over before."""
        self._calls_of_turn: list[Json] = []
        self._names: dict[str, str] = {}
        self._complete: asyncio.TimerHandle | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self._closed = False
        self._rate = 0
        self._heard_something = False
        self._wants_to_answer = False
        """When its turn is over."""

    @classmethod
    def forget(cls) -> None:
        """All handles: as if they had expired."""
        cls._kept.clear()

    # --- the wire -----------------------------------------------------------------------------------------------------

    def _emit(self, **fields: Any) -> None:
        self.connection.send(fields, binary=True)

    def _content(self, **fields: Any) -> None:
        self._emit(serverContent=fields)

    def _close(self, code: int, reason: str, *, violation: str = "invalid_argument") -> None:
        self._closed = True
        self.connection.record.violations.append((violation, reason))
        self.connection.close_with(code, reason[:120])

    def opened(self) -> None:
        """The client speaks first."""
        opening, headers = self._opening, {name.lower(): value for name, value in self._opening.headers.items()}
        token = headers.get("authorization", "")
        key = bool(headers.get("x-goog-api-key") or opening.parameter("key"))
        allowed = {
            _DEVELOPER: key,
            _STABLE: key,
            _EPHEMERAL: token.startswith("Token auth_tokens/"),
            _VERTEX: token.startswith("Bearer "),
        }
        if opening.path not in allowed:
            self._close(1008, "no such method", violation="path")
        elif not allowed[opening.path]:
            self._close(1008, "Method doesn't allow unregistered callers.", violation="unauthenticated")

    def receive(self, data: str | bytes) -> None:
        if self._closed:
            return None
        try:
            message = json.loads(data)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            return self._close(1007, "Invalid JSON payload received.")
        message = camel_case(message)
        self.connection.record.add(message)
        if refusal := check_message(message, self._session):
            code = 1008 if refusal.code == "model_not_found" else 1007
            return self._close(code, refusal.message, violation=refusal.code)
        kind = next(iter(message))
        handlers: dict[str, Callable[[Json], None]] = {
            "setup": self._on_setup,
            "realtimeInput": self._on_realtime,
            "clientContent": self._on_client_content,
            "toolResponse": self._on_tool_response,
        }
        if handler := handlers.get(kind):
            handler(message[kind])
        if kind != "setup":
            self._session.took(message)
        return None

    def closed(self) -> None:
        super().closed()
        for timer in (self._complete, self._leaving):
            if timer is not None:
                timer.cancel()

    # --- the setup ----------------------------------------------------------------------------------------------------

    def _on_setup(self, setup: Json) -> None:
        fault = self.script.fault
        if fault and fault.name == "refuse_setup":
            return self.connection.close_with(*_REFUSALS.get(fault.argument, _REFUSALS[""]))
        if fault and fault.name == "no_update":
            return None
        handle = setup.get("sessionResumption", {}).get("handle", "")
        if handle and not self._resume(handle):
            return None
        self._session.took({"setup": setup})
        self._emit(setupComplete={"sessionId": "session_sim"})
        if fault and fault.name == "stall":
            self.connection.stall()
        return None

    def _go_away(self) -> None:
        fault = self.script.fault
        if fault and fault.name == "go_away" and self._leaving is None and "handle" not in self._resumption:
            left = fault.number / 1000
            self._emit(goAway={"timeLeft": f"{left:g}s"})
            words = "The operation was aborted."
            self._leaving = asyncio.get_running_loop().call_later(left, self.connection.close_with, 1008, words)

    @property
    def _resumption(self) -> Json:
        resumption: Json = self._session.setup.get("sessionResumption", {})
        return resumption

    def _resume(self, handle: str) -> bool:
        kept = self._kept.get(handle)
        if kept is None:
            # An old handle is nothing that a client could know better: refused, but no violation.
            self.connection.close_with(1008, "Session handle not found or expired.")
        elif not kept.record.closed.is_set():
            self._close(1011, "The session is still in use.", violation="resumed_too_early")
        else:
            self._replies, self._turns = kept.replies, kept.turns
            return True
        return False

    def _tell_handle(self, *, resumable: bool) -> None:
        if "sessionResumption" not in self._session.setup:
            return
        if not resumable:
            return self._emit(sessionResumptionUpdate={"resumable": False})
        handle = f"handle_{next(self._handles):06d}"
        while len(self._kept) >= _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[handle] = _Kept(self.connection.record, self._replies, self._turns)
        return self._emit(sessionResumptionUpdate={"newHandle": handle, "resumable": True})

    # --- the caller ---------------------------------------------------------------------------------------------------

    def _on_realtime(self, realtime: Json) -> None:
        if "audio" in realtime:
            self._on_audio(realtime["audio"])
        elif "text" in realtime:
            self.ask(realtime["text"])
            if not self._session.by_hand:
                self._interrupt()
                self._answer()
        elif "activityStart" in realtime:
            self._interrupt()
        elif "activityEnd" in realtime:
            if self._heard_something:
                self._heard_something = False
                self._tell_transcript()
            if self._rate:
                self.listen(AudioFormat("pcm16", self._rate))
            self._answer()
        elif "audioStreamEnd" in realtime and self._ear is not None and self._ear.speaking:
            self.listen(AudioFormat("pcm16", self._rate), silence_ms=self._silence_ms())
            self._tell_transcript()
            self._answer()

    def _on_audio(self, blob: Json) -> None:
        try:
            audio = b64decode(blob["data"], altchars=b"-_" if set(blob["data"]) & {"-", "_"} else None, validate=True)
        except (Base64Error, KeyError):
            return self._close(1007, "Invalid value at 'realtime_input.audio.data'.")
        rate = int(blob["mimeType"].rpartition("=")[2])
        if rate != self._rate:
            self._rate = rate
            self.listen(AudioFormat("pcm16", rate), silence_ms=self._silence_ms())
        record = self.connection.record
        record.audio += audio
        record.notify()
        assert self._ear is not None
        for speaking, _ in self._ear.feed(audio):
            self._heard_something = True
            if self._session.by_hand:
                continue
            if speaking:
                self._interrupt()
            else:
                self._tell_transcript()
                self._answer()
        return None

    def _silence_ms(self) -> int:
        heard = self._session.setup.get("realtimeInputConfig", {})
        silence: int = heard.get("automaticActivityDetection", {}).get("silenceDurationMs", 500)
        return silence

    def _tell_transcript(self) -> None:
        text = self.script.transcripts[self._turns % len(self.script.transcripts)]
        self._turns += 1
        if "inputAudioTranscription" in self._session.setup:
            middle = text.find(" ", len(text) // 2)
            for piece in (text[:middle], text[middle:]) if middle > 0 else (text,):
                self._content(inputTranscription={"text": piece})

    def _on_client_content(self, content: Json) -> None:
        text = " ".join(part.get("text", "") for turn in content.get("turns", ()) for part in turn["parts"])
        if self._session.history == "expected":
            return
        self._interrupt(always=True)
        if text:
            self.ask(text)
        if content.get("turnComplete"):
            self._answer()

    # --- interrupting -------------------------------------------------------------------------------------------------

    def _interrupt(self, *, always: bool = False) -> None:
        """Whatever the model does: it generates, waits for a result, or waits until it was heard."""
        handling = self._session.setup.get("realtimeInputConfig", {}).get("activityHandling")
        if handling == "NO_INTERRUPTION" and not always:
            return
        calls, self._blocking = sorted(self._blocking), set()
        if self.talk is None and not calls and self._complete is None:
            return
        self.cut()
        if calls:
            for call_id in calls:
                self.connection.record.open_calls.remove(call_id)
            self._emit(toolCallCancellation={"ids": calls})
        if self._complete is not None:
            self._complete.cancel()
        self._content(interrupted=True)
        self._turn_complete()

    # --- replies ------------------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        """Words to say come behind an empty line. What the model may not be interrupted for waits."""
        self._wants_to_answer = self.talk is not None or self._complete is not None
        if self._wants_to_answer:
            return
        words = self._asked.rpartition("\n\n")
        self.answer(words[2] if words[1] else "")

    def voice_format(self) -> AudioFormat:
        return PCM_24K

    def tell_reply(self, talk: Talk) -> None:
        self._tell_handle(resumable=False)

    def tell_words(self, talk: Talk, words: str, audio: bytes) -> None:
        if audio:
            blob = {"mimeType": "audio/pcm;rate=24000", "data": b64encode(audio).decode("ascii")}
            self._content(modelTurn={"role": "model", "parts": [{"inlineData": blob}]})
        if words and "outputAudioTranscription" in self._session.setup:
            self._content(outputTranscription={"text": words})

    def tell_heard(self, text: str) -> None:
        """Told by `_tell_transcript`."""

    def tell_call(self, talk: Talk, call_id: str, tool: ToolUse) -> None:
        """All calls of a turn go out in one frame; arguments are an object, so they can't be broken JSON."""
        try:
            arguments = json.loads(tool.arguments)
        except ValueError:
            arguments = {"broken": tool.arguments}
        self._names[call_id] = tool.name
        self._calls_of_turn.append({"id": call_id, "name": tool.name, "args": arguments})

    def tell_end(self, talk: Talk, *, cut: bool) -> None:
        """What is cut is told by who cuts."""
        calls, self._calls_of_turn = self._calls_of_turn, []
        if cut:
            return
        if calls:
            self._emit(toolCall={"functionCalls": calls}, usageMetadata=self._usage(talk))
            self._blocking.update(call["id"] for call in calls if self._blocks(call["name"]))
        if self._blocking:
            return
        self._content(generationComplete=True)
        loop = asyncio.get_running_loop()
        self._complete = loop.call_at(max(loop.time(), self._heard_until), self._turn_complete, talk)

    def _blocks(self, name: str) -> bool:
        for tool in self._session.setup.get("tools", ()):
            for function in tool.get("functionDeclarations", ()):
                if function["name"] == name and "behavior" in function:
                    return bool(function["behavior"] == "BLOCKING")
        return not self._session.new

    def _turn_complete(self, talk: Talk | None = None) -> None:
        self._complete = None
        self._heard_until = 0.0
        complete: Json = {"turnComplete": True}
        if self._session.new:
            complete["interactionStatus"] = "IDLE"
        if talk is None:
            self._content(**complete)
        else:
            self._emit(serverContent=complete, usageMetadata=self._usage(talk))
        self._tell_handle(resumable=not self.connection.record.open_calls)
        self._go_away()
        if self._wants_to_answer:
            self._answer()

    def _usage(self, talk: Talk) -> Json:
        said, name = max(1, len(talk.said) // 4), "candidates" if self._session.vertex else "response"
        return {
            "promptTokenCount": 100,
            f"{name}TokenCount": said,
            "totalTokenCount": 100 + said,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 60},
                {"modality": "AUDIO", "tokenCount": 40},
            ],
            f"{name}TokensDetails": [{"modality": "AUDIO", "tokenCount": said}],
        }

    # --- tools --------------------------------------------------------------------------------------------------------

    def _on_tool_response(self, answer: Json) -> None:
        calls = self.connection.record.open_calls
        for response in answer["functionResponses"]:
            of_name = [call_id for call_id in calls if self._names[call_id] == response["name"]]
            call_id = response.get("id") or next(iter(of_name), "")
            if call_id not in of_name:
                return self._close(1008, "Requested entity was not found.", violation="unknown_call")
            self._blocking.discard(call_id)
            calls.remove(call_id)
            if response.get("scheduling") != "SILENT":
                result = response["response"].get("output", response["response"])
                self.ask(f"The tool said: {result if isinstance(result, str) else json.dumps(result)}")
                if not calls:
                    self._answer()
        return None
