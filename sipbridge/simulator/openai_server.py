"""The OpenAI Realtime service (GA), simulated: one connection's conversation.

Takes client messages as the service does: checks them, refuses what it would refuse, hears the caller's turns in the
audio, answers them faster than realtime, lets itself be interrupted and truncated.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, ClassVar

from sipbridge.audio import AudioFormat
from sipbridge.simulator.model import Connection, Faulty, Opening
from sipbridge.simulator.openai_check import GA, Refusal, Tables, check_message
from sipbridge.simulator.openai_reply import Json, Plan, Reply, SpokenItem
from sipbridge.simulator.script import Fault, Script, ToolUse
from sipbridge.simulator.voice import Ear, audio_format, speech, spread

_SEMANTIC_SILENCE_MS = {"low": 1500, "medium": 800, "high": 400, "auto": 800}
_GARBAGE: tuple[str | bytes, ...] = ('{"type":', "[]", b"\x00\xff", '{"type":7}', '{"type":"of.the.future"}')
_DEFAULTS: Json = {
    "type": "realtime",
    "object": "realtime.session",
    "instructions": "You are a helpful model.",
    "output_modalities": ["audio"],
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "transcription": None,
            "noise_reduction": None,
            "turn_detection": {
                "type": "server_vad",
                "threshold": 0.5,
                "prefix_padding_ms": 300,
                "silence_duration_ms": 500,
                "idle_timeout_ms": None,
                "create_response": True,
                "interrupt_response": True,
            },
        },
        "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "alloy", "speed": 1.0},
    },
    "tools": [],
    "tool_choice": "auto",
    "max_output_tokens": "inf",
    "truncation": "auto",
}


class OpenAIModel:
    """Fed with `receive`; everything it says goes out by `connection.send`."""

    path: ClassVar[str] = "/v1/realtime"
    tables: ClassVar[Tables] = GA
    defaults: ClassVar[Json] = _DEFAULTS
    """The session before the client has asked for anything, in this shape; a relative translates at its edges."""

    def __init__(self, connection: Connection, script: Script, opening: Opening) -> None:
        self._connection = connection
        self._script = script
        self._session = deepcopy(self.defaults) | {
            "model": opening.parameter("model", "simulated"),
            "id": "sess_sim",
            "expires_at": 4102444800,
        }
        self._ear: Ear | None = None
        self._last_id = 0
        self._reply: Reply | None = None
        self._items: dict[str, SpokenItem | None] = {}
        self._asked: str | None = None
        """The user's last words in text, or a tool's result, to which the next reply answers."""
        self._user_item = ""
        self._turns = 0
        self._replies = 0
        self._configured = False
        self._event_ids: set[str] = set()
        self._spoken = False
        self._buffered = 0
        self._expiry: asyncio.Task[None] | None = None

    # --- sending ------------------------------------------------------------------------------------------------------

    def _new_id(self, kind: str) -> str:
        self._last_id += 1
        return f"{kind}_{self._last_id:04d}"

    def _emit(self, kind: str, **fields: Any) -> None:
        self._connection.send({"type": kind, "event_id": self._new_id("event"), **fields})

    def _refuse(self, refusal: Refusal, message: Mapping[str, Any]) -> None:
        self._connection.record.violations.append((refusal.code, refusal.message))
        self._error(refusal, message.get("event_id"))

    def _error(self, refusal: Refusal, event_id: object = None, kind: str = "invalid_request_error") -> None:
        error = {
            "type": kind,
            "code": refusal.code,
            "message": refusal.message,
            "param": refusal.param,
            "event_id": event_id if isinstance(event_id, str) else None,
        }
        self._emit("error", error=error)

    # --- receiving ----------------------------------------------------------------------------------------------------

    def opened(self) -> None:
        self._emit("session.created", session=deepcopy(self._session))

    def closed(self) -> None:
        for task in (self._expiry, self._reply.task if self._reply else None):
            if task is not None:
                task.cancel()

    def receive(self, data: str | bytes) -> None:
        try:
            message = json.loads(data)
        except ValueError:
            message = None
        if not isinstance(message, dict) or isinstance(data, bytes):
            self._refuse(Refusal("invalid_json", "The message is not a JSON object in a text frame."), {})
            return
        self._connection.record.add(message)
        if refusal := check_message(message, self.tables):
            self._refuse(refusal, message)
            return
        if (event_id := message.get("event_id")) in self._event_ids:
            self._refuse(Refusal("invalid_value", f"There was an event {event_id} already.", "event_id"), message)
            return
        if event_id is not None:
            self._event_ids.add(event_id)
        handler = self._handlers().get(message["type"])
        if handler is not None and (refusal := handler(message)):
            self._refuse(refusal, message)

    def _handlers(self) -> dict[str, Callable[[Json], Refusal | None]]:
        return {
            "session.update": self._on_update,
            "input_audio_buffer.append": self._on_audio,
            "input_audio_buffer.commit": self._on_commit,
            "input_audio_buffer.clear": self._on_clear,
            "conversation.item.create": self._on_item,
            "conversation.item.delete": self._on_delete,
            "conversation.item.truncate": self._on_truncate,
            "response.create": self._on_create,
            "response.cancel": self._on_cancel,
        }

    def _read_session(self, session: Json) -> Json:
        """A relative's session object as one of this shape."""
        return session

    def _read_response(self, response: Json) -> Json:
        """The same of what `response.create` asks for."""
        return response

    def _on_update(self, message: Json) -> Refusal | None:
        session, fault = self._read_session(message["session"]), self._script.fault
        if fault and fault.name == "no_update":
            return None
        if fault and fault.name == "refuse_setup":
            self._error(
                Refusal("invalid_value", "Invalid value: the simulator was told to refuse."), message.get("event_id")
            )
            return None
        voice = session.get("audio", {}).get("output", {}).get("voice")
        if self._spoken and voice not in (None, self._session["audio"]["output"]["voice"]):
            return Refusal("cannot_update_voice", "Cannot update a conversation's voice if assistant audio is present.")
        first, self._configured = not self._configured, True
        _merge(self._session, session)
        if "turn_detection" in session.get("audio", {}).get("input", {}) or self._ear is None:
            self._listen()
        self._emit("session.updated", session=deepcopy(self._session))
        if first and fault and fault.name == "stall":
            self._connection.stall()
        if first and fault and fault.name == "expire" and fault.argument:
            self._expiry = asyncio.create_task(self._expire(fault))
        return None

    # --- the caller ---------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        heard = self._session["audio"]["input"]
        detection = heard["turn_detection"] or {}
        silence = detection.get("silence_duration_ms", 500)
        if detection.get("type") == "semantic_vad":
            silence = _SEMANTIC_SILENCE_MS[detection.get("eagerness", "auto")]
        self._ear = Ear(
            audio_format(heard["format"]),
            rms=self._script.vad_rms,
            prefix_ms=detection.get("prefix_padding_ms", 300),
            silence_ms=silence,
        )
        self._buffered = 0

    def _on_audio(self, message: Json) -> Refusal | None:
        try:
            audio = b64decode(message["audio"], validate=True)
        except Base64Error:
            return Refusal("invalid_value", "Invalid 'audio': not base64.", "audio")
        size = audio_format(self._session["audio"]["input"]["format"]).bytes_per_sample
        if not audio or len(audio) % size:
            return Refusal("invalid_value", "Invalid 'audio': no whole samples.", "audio")
        self._connection.record.audio += audio
        if self._ear is None:
            self._listen()
        assert self._ear is not None
        self._buffered += len(audio)
        changes = self._ear.feed(audio)
        if self._session["audio"]["input"]["turn_detection"] is not None:
            for speaking, at_ms in changes:
                self._on_speech_started(at_ms) if speaking else self._on_speech_stopped(at_ms)
        return None

    def _on_speech_started(self, at_ms: int) -> None:
        self._user_item = self._new_id("item")
        self._emit("input_audio_buffer.speech_started", audio_start_ms=at_ms, item_id=self._user_item)
        if self._reply and self._session["audio"]["input"]["turn_detection"].get("interrupt_response", True):
            self._cut("turn_detected")

    def _on_speech_stopped(self, at_ms: int) -> None:
        self._emit("input_audio_buffer.speech_stopped", audio_end_ms=at_ms, item_id=self._user_item)
        self._commit()
        if self._session["audio"]["input"]["turn_detection"].get("create_response", True) and self._reply is None:
            self._begin({})

    def _on_commit(self, message: Json) -> Refusal | None:
        bytes_per_ms = audio_format(self._session["audio"]["input"]["format"]).bytes_per_ms
        if self._ear is None or self._buffered < 100 * bytes_per_ms:
            return Refusal("input_audio_buffer_commit_empty", "Error committing input audio buffer: buffer too small.")
        self._user_item = self._new_id("item")
        self._commit()
        return None

    def _on_clear(self, message: Json) -> Refusal | None:
        self._buffered = 0
        self._emit("input_audio_buffer.cleared")
        return None

    def _commit(self) -> None:
        item_id, self._buffered = self._user_item, 0
        self._emit("input_audio_buffer.committed", item_id=item_id, previous_item_id=None)
        content = [{"type": "input_audio", "transcript": None}]
        item = {"id": item_id, "object": "realtime.item", "type": "message", "status": "completed", "role": "user"}
        self._emit("conversation.item.added", previous_item_id=None, item=item | {"content": content})
        self._emit("conversation.item.done", previous_item_id=None, item=item | {"content": content})
        self._items[item_id] = None
        text = self._script.transcripts[self._turns % len(self._script.transcripts)]
        self._turns += 1
        if self._session["audio"]["input"]["transcription"] is None:
            return
        kind = "conversation.item.input_audio_transcription"
        self._emit(f"{kind}.delta", item_id=item_id, content_index=0, delta=text)
        usage = {"type": "duration", "seconds": 1.0}
        self._emit(f"{kind}.completed", item_id=item_id, content_index=0, transcript=text, usage=usage)

    def _on_item(self, message: Json) -> Refusal | None:
        item = {"object": "realtime.item", "status": "completed"} | message["item"]
        item.setdefault("id", self._new_id("item"))
        if item["id"] in self._items:
            return Refusal("item_create_duplicate_item_id", "There is such an item already.", "item.id")
        if (before := message.get("previous_item_id", "root")) != "root" and before not in self._items:
            return Refusal("item_create_invalid_previous_item_id", "There is no such item.", "previous_item_id")
        if item["type"] == "function_call":
            self._connection.record.open_calls.append(item.setdefault("call_id", self._new_id("call")))
        elif item["type"] == "function_call_output":
            if item["call_id"] not in self._connection.record.open_calls:
                return Refusal("item_create_invalid_call_id", "No such call waits for an output.", "item.call_id")
            self._connection.record.open_calls.remove(item["call_id"])
            self._asked = f"The tool said: {item['output']}"
        elif item["type"] == "message" and item["role"] == "user":
            self._asked = " ".join(part.get("text", "") for part in item["content"])
        elif item["type"] == "message" and item["role"] == "assistant":
            self._asked = None  # it was answered, in a session before this one
        self._items[item["id"]] = None
        self._emit("conversation.item.added", previous_item_id=None, item=item)
        self._emit("conversation.item.done", previous_item_id=None, item=item)
        return None

    def _on_delete(self, message: Json) -> Refusal | None:
        item_id = message["item_id"]
        if item_id not in self._items:
            return Refusal("item_delete_invalid_item_id", "There is no such item.", "item_id")
        if self._reply and self._reply.item and self._reply.item.id == item_id:
            return Refusal("item_delete_in_progress", "The item is still being generated.", "item_id")
        del self._items[item_id]
        self._emit("conversation.item.deleted", item_id=item_id)
        return None

    # --- replies ------------------------------------------------------------------------------------------------------

    def _on_create(self, message: Json) -> Refusal | None:
        if self._reply is not None:
            return Refusal("conversation_already_has_active_response", "Conversation already has an active response.")
        self._begin(self._read_response(message.get("response") or {}))
        return None

    def _on_cancel(self, message: Json) -> Refusal | None:
        if self._reply is None or message.get("response_id", self._reply.id) != self._reply.id:
            return Refusal("response_cancel_not_active", "Cancellation failed: no active response found.")
        self._cut("client_cancelled")
        return None

    def _on_truncate(self, message: Json) -> Refusal | None:
        item, at_ms = self._items.get(message["item_id"]), message["audio_end_ms"]
        if item is None or not item.sent:
            return Refusal(
                "item_truncate_invalid_item_id", "Only model output audio messages can be truncated.", "item_id"
            )
        if message["content_index"] != 0:
            return Refusal("invalid_value", "Invalid 'content_index'.", "content_index")
        if at_ms < 0:
            return Refusal("integer_below_min_value", "Invalid 'audio_end_ms': below minimum value.", "audio_end_ms")
        length_ms = item.sent // self._output_format().bytes_per_ms
        if item.truncated_ms is not None:
            length_ms = min(length_ms, item.truncated_ms)
        if at_ms > length_ms:
            words = f"Audio content of {length_ms}ms is already shorter than {at_ms}ms"
            return Refusal("invalid_value", words, "audio_end_ms")
        item.truncated_ms = at_ms
        self._emit("conversation.item.truncated", item_id=item.id, content_index=0, audio_end_ms=at_ms)
        return None

    def _output_format(self) -> AudioFormat:
        return audio_format(self._session["audio"]["output"]["format"])

    def _begin(self, wanted: Mapping[str, Any]) -> None:
        plan, number = self._plan(wanted), self._replies
        self._replies += 1
        reply = Reply(self._new_id("resp"), plan, self._output_format(), self._new_id, self._emit)
        self._reply = reply
        self._emit("response.created", response=reply.describe())
        limits = [{"name": "requests", "limit": 1000, "remaining": 999, "reset_seconds": 0.06}]
        self._emit("rate_limits.updated", rate_limits=limits)
        fault = self._script.fault
        if fault and fault.name == "rate_limit" and number < (fault.number or 1):
            error = {"type": "tokens", "code": "rate_limit_exceeded", "message": "Rate limit reached."}
            self._reply = None
            reply.finish("failed", error=error)
            return
        reply.task = asyncio.create_task(self._perform(reply))

    def _plan(self, wanted: Mapping[str, Any]) -> Plan:
        modalities = tuple(wanted.get("output_modalities") or self._session["output_modalities"])
        utterance = self._script.utterances[self._replies % len(self._script.utterances)]
        tool, text = self._script.tools.get(self._replies), utterance.text
        asked, self._asked = self._asked or "", None
        if asked.startswith("call:"):
            name, _, arguments = asked.removeprefix("call:").partition(" ")
            tool = ToolUse(name, arguments or "{}")
        elif asked.startswith("The tool said: "):
            text = asked
        if wanted.get("tool_choice") == "none":
            tool = None
        if instructions := wanted.get("instructions"):
            text = instructions.rpartition("\n\n")[2]  # "say this:", an empty line, and this
        silent = tool is not None and not tool.spoken
        audio = b"" if silent or "audio" not in modalities else speech(utterance, self._output_format())
        return Plan("" if silent else text, audio, tool, modalities, wanted.get("metadata"))

    async def _perform(self, reply: Reply) -> None:
        """Generate: speech in deltas at the script's pace, then the calls, then the end."""
        plan = reply.plan
        if self._script.think_ms:
            await asyncio.sleep(self._script.think_ms / 1000)
        if plan.text:
            try:
                await self._speak(reply)
            except Faulty as faulty:
                await self._connection.break_off(faulty.fault)
                return
        reply.end_speech(whole=True)
        for _ in range(plan.tool.times if plan.tool else 0):
            assert plan.tool is not None
            self._connection.record.open_calls.append(reply.call(plan.tool))
            self._items[reply.output[-1]["id"]] = None
        self._reply = None
        reply.finish("completed")

    async def _speak(self, reply: Reply) -> None:
        plan, script, clock = reply.plan, self._script, asyncio.get_running_loop().time
        item = reply.begin_speech()
        self._items[item.id] = item
        size = reply.audio_format.bytes_per_ms * script.delta_ms
        deltas = [plan.audio[i : i + size] for i in range(0, len(plan.audio), size)] or [b""]
        started = clock()
        for number, (words, audio) in enumerate(zip(spread(plan.text, len(deltas)), deltas, strict=True)):
            self._spoken = self._spoken or bool(audio)
            self._misbehave(number)
            reply.say(words, audio)
            due = started + (number + 1) * script.delta_ms / 1000 / script.speed if script.speed > 0 else 0.0
            await asyncio.sleep(max(0.0, due - clock()))

    def _cut(self, reason: str) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            if reply.task:
                reply.task.cancel()
            reply.finish("cancelled", reason=reason)

    def _misbehave(self, number: int) -> None:
        fault = self._script.fault
        if fault is None:
            return
        if fault.name == "garbage":
            self._connection.send_raw(_GARBAGE[number % len(_GARBAGE)])
        elif number == fault.after:
            self._break(fault)

    def _break(self, fault: Fault) -> None:
        if fault.name == "error":
            self._error(
                Refusal(fault.argument or "server_error", "The simulator was told to fail."), None, "server_error"
            )
        elif fault.name in ("close", "drop", "hang"):
            raise Faulty(fault)
        elif fault.name == "expire" and not fault.argument:
            self._tell_expired()
            raise Faulty(fault)

    def _tell_expired(self) -> None:
        self._error(Refusal("session_expired", "Your session hit the maximum duration of 60 minutes."))

    async def _expire(self, fault: Fault) -> None:
        await asyncio.sleep(fault.number / 1000)
        self._tell_expired()
        await self._connection.break_off(fault)


def _merge(base: Json, update: Mapping[str, Any]) -> None:
    """Updates are partial; turn detection, transcription and formats are replaced as a whole."""
    for key, value in update.items():
        whole = key in ("turn_detection", "transcription", "noise_reduction", "format")
        if isinstance(value, Mapping) and isinstance(base.get(key), dict) and not whole:
            _merge(base[key], value)
        else:
            base[key] = deepcopy(value)
