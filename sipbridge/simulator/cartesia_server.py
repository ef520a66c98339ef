"""Cartesia's text-to-speech, simulated: contexts on one WebSocket, chunks, word timings, expiry.

Each context is one utterance of the script. A piece that begins it as the script has it is spoken at once, as far as it
goes; any other text when the context is finished.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sipbridge.audio import AudioFormat
from sipbridge.simulator.conversation import Conversation, Part
from sipbridge.simulator.model import Connection, Faulty, Opening
from sipbridge.simulator.openai_check import ANY, Refusal, check_value
from sipbridge.simulator.script import Script, Utterance
from sipbridge.simulator.voice import speech

Json = dict[str, Any]
_FORMATS = {"pcm_s16le": "pcm16", "pcm_mulaw": "pcmu", "pcm_alaw": "pcma"}
_RATES = frozenset({8000, 16000, 22050, 24000, 44100, 48000})
_GENERATION = {
    "model_id": str,
    "voice": {"mode": frozenset({"id"}), "id": str},
    "output_format": {"container": frozenset({"raw"}), "encoding": frozenset(_FORMATS), "sample_rate": _RATES},
    "context_id": str,
    "transcript": str,
    "continue": bool,
    "flush": bool,
    "language": str,
    "add_timestamps": bool,
    "add_phoneme_timestamps": bool,
    "use_normalized_timestamps": bool,
    "max_buffer_delay_ms": int,
    "generation_config": ANY,
    "pronunciation_dict_id": str,
    "speed": ANY,
}
_REQUIRED = ("model_id", "voice", "output_format", "context_id", "transcript")
_CANCEL = {"context_id": str, "cancel": bool}
_FREE = ("transcript", "continue", "flush")
"""What may differ between the pieces of a context."""
_EXPIRY_S = 1.0


@dataclass(slots=True)
class _Context:
    settings: Json
    utterance: Utterance
    audio: AudioFormat
    text: str = ""
    finished: bool = False
    sent: int = 0
    words: int = 0
    """Of the text, told so far."""
    idle_since: float | None = None
    """When all that was asked for had been spoken."""
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def due(self) -> int:
        """Octets of sound that the text so far stands for."""
        whole = len(speech(self.utterance, self.audio))
        if self.finished:
            return whole
        share = len(self.text) / len(self.utterance.text) if self.utterance.text.startswith(self.text) else 0
        return min(whole, int(whole * share) // self.audio.bytes_per_sample * self.audio.bytes_per_sample)


class CartesiaModel(Part):
    key: ClassVar[str] = "Bearer"
    path: ClassVar[str] = "/tts/websocket"

    def __init__(
        self, connection: Connection, script: Script, opening: Opening, conversation: Conversation | None = None
    ) -> None:
        super().__init__(connection, script, opening, conversation)
        self._contexts: dict[str, _Context] = {}
        self._gone: set[str] = set()
        self._chunks = 0
        if not opening.parameter("cartesia_version"):
            connection.record.violations.append(("version", "no cartesia_version"))

    def closed(self) -> None:
        for context in self._contexts.values():
            if context.task:
                context.task.cancel()

    # --- what comes in ------------------------------------------------------------------------------------------------

    def receive(self, data: str | bytes) -> None:
        message = self.read(data)
        context_id = message.get("context_id")
        name = context_id if isinstance(context_id, str) else None
        if refusal := self._wrong(message):
            self._refuse(name, refusal.code, refusal.message)
        elif "cancel" in message:
            self._forget(str(name))
        else:
            self._generate(str(name), message)

    def _wrong(self, message: Mapping[str, Any]) -> Refusal | None:
        if "cancel" in message:
            return check_value(message, _CANCEL)
        for key in _REQUIRED:
            if key not in message:
                return Refusal("missing_field", f"{key} is required.")
        context = self._contexts.get(message["context_id"])
        if message["context_id"] in self._gone or (context is not None and context.finished):
            return Refusal("context_closed", "The context is over.")
        if context is not None and context.idle_since is not None and self._clock() - context.idle_since > _EXPIRY_S:
            return Refusal("context_expired", "The context has expired.")
        settings = {key: value for key, value in message.items() if key not in _FREE}
        if context is not None and settings != context.settings:
            return Refusal("context_changed", "Only transcript, continue and flush may change within a context.")
        return check_value(message, _GENERATION)

    def _refuse(self, context_id: str | None, code: str, message: str, status: int = 400) -> None:
        self._connection.record.violations.append((code, message))
        self._error(context_id, code, message, status)

    def _error(self, context_id: str | None, code: str, message: str, status: int) -> None:
        place = {} if context_id is None else {"context_id": context_id}
        error = {"type": "error", "done": True, "status_code": status, "error_code": code, "message": message}
        self._connection.send(error | place)

    @staticmethod
    def _clock() -> float:
        return asyncio.get_running_loop().time()

    # --- what goes out ------------------------------------------------------------------------------------------------

    def _generate(self, name: str, message: Json) -> None:
        context = self._contexts.get(name)
        if context is None:
            wanted = message["output_format"]
            context = self._contexts[name] = _Context(
                {key: value for key, value in message.items() if key not in _FREE},
                self._conversation.sound_of(message["transcript"]),
                AudioFormat(_FORMATS[wanted["encoding"]], wanted["sample_rate"]),  # type: ignore[arg-type]
            )
            fault = self._script.fault
            if fault and fault.name == "rate_limit" and len(self._contexts) + len(self._gone) <= (fault.number or 1):
                self._forget(name)
                self._error(name, "concurrency_limited", "Too many at once.", 429)
                return
        context.text += message["transcript"]
        context.finished = not message.get("continue", False)
        if context.task is None or context.task.done():
            context.idle_since = None
            context.task = asyncio.create_task(self._speak(name, context))

    async def _speak(self, name: str, context: _Context) -> None:
        script, audio = self._script, context.audio
        sound = speech(context.utterance, audio)
        size = audio.bytes_per_ms * script.delta_ms
        if script.think_ms and not context.sent:
            await asyncio.sleep(script.think_ms / 1000)
        try:
            while context.sent < context.due():
                piece = sound[context.sent : min(context.sent + size, context.due())]
                self._misbehave()
                self._tell_words(name, context)
                self._chunk(name, piece)
                context.sent += len(piece)
                seconds = audio.duration_ms(piece) / 1000
                await asyncio.sleep(seconds / script.speed if script.speed > 0 else 0)
        except Faulty as faulty:
            await self._connection.break_off(faulty.fault)
            return
        context.idle_since = self._clock()
        if context.finished:
            self._forget(name)
            self._connection.send({"type": "done", "context_id": name, "done": True, "status_code": 200})

    def _chunk(self, name: str, piece: bytes) -> None:
        message: Json = {"type": "chunk", "context_id": name, "data": b64encode(piece).decode("ascii")}
        self._connection.send(message | {"done": False, "status_code": 206, "step_time": 1.0})

    def _tell_words(self, name: str, context: _Context) -> None:
        """Spread evenly over the utterance, as far as the text goes by now."""
        words = context.text.split()
        if not context.settings.get("add_timestamps") or context.words >= len(words):
            return
        total = max(len(words), len(context.utterance.text.split()) if not context.finished else 0)
        each = context.utterance.seconds / max(1, total)
        timed = range(context.words, len(words))
        told = {
            "words": [words[i] for i in timed],
            "start": [i * each for i in timed],
            "end": [(i + 1) * each for i in timed],
        }
        context.words = len(words)
        place: Json = {"type": "timestamps", "context_id": name, "done": False, "status_code": 206}
        self._connection.send(place | {"word_timestamps": told})

    def _forget(self, name: str) -> None:
        context = self._contexts.pop(name, None)
        self._gone.add(name)
        task = asyncio.current_task()
        if context is not None and context.task is not None and context.task is not task:
            context.task.cancel()

    def _misbehave(self) -> None:
        fault, number = self._script.fault, self._chunks
        self._chunks += 1
        if fault is None:
            return
        if fault.name == "garbage":
            self._connection.send_raw(('{"type":', "[]", '{"type":7}', '{"type":"of.the.future"}')[number % 4])
        elif number == fault.after and fault.name == "error":
            self._error(None, fault.argument or "server_error", "The simulator was told to fail.", 500)
        elif number == fault.after and fault.name in ("close", "drop", "hang"):
            raise Faulty(fault)
