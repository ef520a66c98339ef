"""OpenAI's Live service (GPT-Live), simulated: one connection's conversation.

Full duplex: once started it sends sound without end, at the pace of speech whatever the script's `speed`: all zeros
while it is quiet, apart from a short tick at the beginning. It goes quiet by itself when the caller speaks, answers
when he stops, and says what it is told by `session.commentary.append`. Its tools are called by the text model that the
session delegates to.
"""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections import deque
from collections.abc import Callable
from copy import deepcopy
from typing import Any, ClassVar

from sipbridge.audio import PCM_24K, AudioFormat
from sipbridge.simulator.model import Connection, Faulty, Opening
from sipbridge.simulator.openai_check import Refusal
from sipbridge.simulator.openai_live_check import check_message
from sipbridge.simulator.script import Fault, Script, ToolUse, Utterance
from sipbridge.simulator.talker import Talk, Talker
from sipbridge.simulator.voice import audio_format, speech, spread

Json = dict[str, Any]

_TICK_AT_MS = 200
_TICK = Utterance(seconds=0.02, tone_hz=1000)
_NO_BACKEND = Refusal("invalid_request", "The session delegates to no Responses model.")


class LiveModel(Talker):
    path: ClassVar[str] = "/v1/live/sessions"

    def __init__(self, connection: Connection, script: Script, opening: Opening) -> None:
        super().__init__(connection, script)
        self._session: Json = {}
        self._audio = PCM_24K
        self._stream: asyncio.Task[None] | None = None
        self._pieces: deque[tuple[int, str, bytes]] = deque()
        """Speech that waits for its moment: number, words, sound."""
        self._spoken = asyncio.Event()
        self._sent_ms = 0
        self._last_id = 0
        self._later: list[str] = []
        self._muted = False
        self._delegations: set[str] = set()
        """Those that the client is to take care of."""
        self._response = ""
        """The text model's, while it is under way."""
        self._asked_backend = False

    # --- sending ------------------------------------------------------------------------------------------------------

    def _new_id(self, kind: str) -> str:
        self._last_id += 1
        return f"{kind}_{self._last_id:04d}"

    def _emit(self, kind: str, answered: Json | None = None, **fields: Any) -> None:
        event: Json = {"type": kind, "event_id": self._new_id("event"), **fields}
        if answered is not None and "event_id" in answered:
            event["client_event_id"] = answered["event_id"]
        self.connection.send(event)

    def _now(self) -> Json:
        return {"start_ms": self._sent_ms, "end_ms": self._sent_ms}

    def _error(self, refusal: Refusal, message: Json, kind: str = "invalid_request_error") -> None:
        error = {"type": kind, "code": refusal.code, "message": refusal.message, "param": refusal.param}
        self._emit("error", message, error=error | {"client_event_id": message.get("event_id")})

    def _wrong(self, refusal: Refusal, message: Json) -> None:
        self.connection.record.violations.append((refusal.code, refusal.message))
        self._error(refusal, message)

    # --- receiving ----------------------------------------------------------------------------------------------------

    def opened(self) -> None:
        """The client speaks first."""

    def closed(self) -> None:
        super().closed()
        if self._stream is not None:
            self._stream.cancel()

    def receive(self, data: str | bytes) -> None:
        try:
            message = json.loads(data) if isinstance(data, str) else None
        except ValueError:
            message = None
        if not isinstance(message, dict):
            return self._wrong(Refusal("invalid_json", "The message is not a JSON object in a text frame."), {})
        self.connection.record.add(message)
        refusal = check_message(message)
        if refusal is None and (message["type"] == "session.start") == bool(self._session):
            refusal = Refusal("invalid_request", "session.start is the first message, once.", "type")
        if refusal is None:
            refusal = self._handlers()[message["type"]](message)
        if refusal is not None:
            self._wrong(refusal, message)
        return None

    def _handlers(self) -> dict[str, Callable[[Json], Refusal | None]]:
        return {
            "session.start": self._on_start,
            "session.update": self._on_update,
            "session.close": self._on_close,
            "session.input_audio.append": self._on_audio,
            "session.input_audio.mute": self._on_mute,
            "session.input_audio.unmute": self._on_mute,
            "session.output_audio.fixture.play": self._on_fixture,
            "session.instructions.append": self._on_append,
            "session.thinking.append": self._on_append,
            "session.commentary.append": self._on_append,
            "response.item.create": self._on_item,
            "response.create": self._on_create,
            "decision.create": self._on_decision,
            "decision.item.create": self._on_decision,
            "decision.item.delete": self._on_decision,
        }

    def _on_start(self, message: Json) -> Refusal | None:
        fault = self.script.fault
        if fault and fault.name == "no_update":
            return None
        if fault and fault.name == "refuse_setup":
            self._error(Refusal("invalid_value", "Invalid value: the simulator was told to refuse."), message)
            return None
        session = deepcopy(message["session"])
        audio = session.setdefault("audio", {})
        audio.setdefault("format", {"type": "audio/pcm", "rate": 24000})
        audio.setdefault("output", {}).setdefault("voice", "marin")
        self._session = session | {"id": "live_sim", "expires_at": int(time.time()) + 3600, "status": "active"}
        self._audio = audio_format(audio["format"])
        self.listen(self._audio)
        self._emit("session.started", message, session=self._session)
        self._stream = asyncio.create_task(self._flow())
        if fault and fault.name == "stall":
            self.connection.stall()
        return None

    def _on_update(self, message: Json) -> Refusal | None:
        update, delegation = message["session"], self._session.get("delegation")
        if new := update.get("delegation"):
            if (delegation or {"type": "client"})["type"] != new["type"]:
                return Refusal("invalid_value", "The delegation's type can't be changed.", "session.delegation.type")
            if delegation is not None:
                delegation.get("responses", {}).update(new.get("responses", {}))
        self._emit("session.updated", message, session=self._session)
        return None

    def _on_close(self, message: Json) -> None:
        usage = {"seconds": self._sent_ms / 1000}
        self._emit("session.closed", message, reason="close_requested", session=self._session, usage=usage)
        self.connection.close_soon(Fault("close", "1000"))

    def _on_audio(self, message: Json) -> Refusal | None:
        try:
            audio = b64decode(message["audio"], validate=True)
        except Base64Error:
            return Refusal("invalid_value", "Invalid 'audio': not base64.", "audio")
        if not self._muted:
            self.hear(audio)
        return None

    def _on_mute(self, message: Json) -> None:
        self._muted = message["type"].endswith(".mute")
        self._emit(message["type"] + "d", message)

    def _on_fixture(self, message: Json) -> Refusal | None:
        return Refusal("unsupported", "The simulator plays no fixtures.", "type")

    def _on_decision(self, message: Json) -> Refusal | None:
        return Refusal("invalid_request", "The session delegates to no Decisions model.", "type")

    def _on_append(self, message: Json) -> Refusal | None:
        what, content, delegation = message["type"].split(".")[1], message["content"], message["delegation_id"]
        if delegation is not None and delegation not in self._delegations:
            return Refusal("invalid_value", "No such delegation of the client's.", "delegation_id")
        self._emit(f"session.{what}.appended", message, **self._now())
        if what == "thinking":
            self.ask(content)
        elif what == "commentary":
            self._soon(content.rpartition("\n\n")[2] if "\n\n" in content else "")
        return None

    def _soon(self, text: str) -> None:
        """Say this, after what is being said; "": whatever comes next in the script."""
        if self.talk is None:
            self.answer(text)
        else:
            self._later.append(text)

    # --- the text model -----------------------------------------------------------------------------------------------

    @property
    def _backend(self) -> Json | None:
        delegation = self._session.get("delegation") or {}
        backend: Json | None = delegation.get("responses")
        return backend

    def _on_item(self, message: Json) -> Refusal | None:
        item = message["item"]
        if self._backend is None:
            return _NO_BACKEND
        if item.get("type") == "function_call_output":
            calls = self.connection.record.open_calls
            if item["call_id"] not in calls:
                return Refusal("invalid_value", "No such call waits for an output.", "item.call_id")
            calls.remove(item["call_id"])
            self.ask(f"The tool said: {item['output']}")
        else:
            content = item["content"]
            self.ask(content if isinstance(content, str) else " ".join(part.get("text", "") for part in content))
        return None

    def _on_create(self, message: Json) -> Refusal | None:
        if self._backend is None:
            return _NO_BACKEND
        if self.connection.record.open_calls:
            return Refusal("unanswered_function_call", "Not all function calls of the session are answered.")
        if self._response:
            return Refusal("conversation_already_has_active_response", "A response is under way.")
        self._asked_backend = True
        self._soon("")
        return None

    def _inner(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "sequence_number": 0, **fields}
        self._emit("response.event", event=event, delegation_id=None)

    def _snapshot(self, status: str) -> Json:
        assert self._backend is not None
        body = {"id": self._response, "object": "response", "created_at": 0.0, "model": self._backend["model"]}
        body |= {"output": [], "tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "status": status}
        if status == "completed":
            body["usage"] = {
                "input_tokens": 100,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": 10,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 110,
            }
        return body

    def _begin_response(self) -> None:
        self._response = self._new_id("resp")
        self._inner("response.created", response=self._snapshot("in_progress"))

    def _end_response(self) -> None:
        if self._response:
            self._inner("response.completed", response=self._snapshot("completed"))
            self._response = ""

    def _delegate(self, target: str) -> str:
        delegation: Json = {"id": self._new_id("delegation"), "type": "delegation", "target": target}
        if target == "responses":
            delegation["response_id"] = self._response
        self._emit("session.delegation.created", delegation=delegation, offset_ms=self._sent_ms)
        return str(delegation["id"])

    # --- what the talker tells ----------------------------------------------------------------------------------------

    def voice_format(self) -> AudioFormat:
        return self._audio

    def tell_heard(self, text: str) -> None:
        for words in spread(text, 3):
            if words:
                self._emit("session.input_transcript.delta", delta=words, **self._now())

    def tell_reply(self, talk: Talk) -> None:
        asked, self._asked_backend = self._asked_backend, False
        if asked and talk.tool is None:
            self._begin_response()
            self._end_response()

    def tell_call(self, talk: Talk, call_id: str, tool: ToolUse) -> None:
        if self._backend is None:
            self.connection.record.open_calls.remove(call_id)
            self._delegations.add(self._delegate("client"))
            return
        if not self._response:
            self._begin_response()
            self._delegate("responses")
        item = {"type": "function_call", "id": self._new_id("fc"), "call_id": call_id, "name": tool.name}
        item |= {"arguments": tool.arguments, "status": "completed"}
        self._inner("response.output_item.done", output_index=0, item=item)

    def tell_end(self, talk: Talk, *, cut: bool) -> None:
        self._pieces.clear()
        self._end_response()
        self._emit(
            "session.usage.updated", usage={"seconds": self._sent_ms / 1000}, context_window={"usage_ratio": 0.1}
        )
        if cut:
            self._later.clear()
        elif self._later:
            self.answer(self._later.pop(0))

    # --- the stream ---------------------------------------------------------------------------------------------------

    async def _speak(self, talk: Talk) -> None:
        fault, script = self.script.fault, self.script
        if fault and fault.name == "rate_limit" and talk.number < (fault.number or 1):
            self._error(Refusal("rate_limit_exceeded", "Rate limit reached."), {}, "rate_limit_error")
            return
        audio = speech(script.utterances[talk.number % len(script.utterances)], self._audio)
        size = self._delta_size
        sounds = [audio[start : start + size] for start in range(0, len(audio), size)] or [b""]
        self._pieces.extend(zip(range(len(sounds)), spread(talk.text, len(sounds)), sounds, strict=True))
        self._spoken.clear()
        await self._spoken.wait()

    @property
    def _delta_size(self) -> int:
        return self._audio.bytes_per_ms * self.script.delta_ms

    async def _flow(self) -> None:
        """Sound without end, by absolute deadlines."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            while True:
                self._next_delta()
                self._sent_ms += self.script.delta_ms
                await asyncio.sleep(max(0.0, began + self._sent_ms / 1000 - clock()))
        except Faulty as faulty:
            await self.connection.break_off(faulty.fault)

    def _next_delta(self) -> None:
        sound = b""
        if self._pieces:
            number, words, sound = self._pieces.popleft()
            self._misbehave(number)
            if words:
                self._emit("session.output_transcript.delta", delta=words, **self._now())
            if not self._pieces:
                self._spoken.set()
        elif self._sent_ms <= _TICK_AT_MS < self._sent_ms + self.script.delta_ms:
            sound = speech(_TICK, self._audio)
        missing = (self._delta_size - len(sound)) // self._audio.bytes_per_sample
        sound += self._audio.silence * missing
        delta = b64encode(sound[: self._delta_size]).decode("ascii")
        self.connection.send({"type": "session.output_audio.delta", "delta": delta})

    def tell_error(self, code: str) -> None:
        self._error(Refusal(code, "The simulator was told to fail."), {}, "server_error")
