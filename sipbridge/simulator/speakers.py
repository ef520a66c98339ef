"""Deepgram's text-to-speech, simulated: texts gathered until they are flushed, sound in binary messages."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from sipbridge.audio import AudioFormat
from sipbridge.simulator.conversation import Conversation, Part
from sipbridge.simulator.model import Connection, Opening
from sipbridge.simulator.script import Script

_ENCODINGS = {"linear16": "pcm16", "mulaw": "pcmu", "alaw": "pcma"}
_QUERY = frozenset({"model", "encoding", "sample_rate", "speed", "mip_opt_out"})
_FIELDS = {"Speak": {"type", "text"}, "Flush": {"type"}, "Clear": {"type"}, "Close": {"type"}}


class DeepgramSpeakModel(Part):
    key: ClassVar[str] = "Token"
    path: ClassVar[str] = "/v1/speak"

    def __init__(
        self, connection: Connection, script: Script, opening: Opening, conversation: Conversation | None = None
    ) -> None:
        super().__init__(connection, script, opening, conversation)
        self._text = ""
        self._flushed: list[str] = []
        self._sequence = 0
        self._sent = 0
        self._task: asyncio.Task[None] | None = None
        encoding, rate = opening.parameter("encoding"), opening.parameter("sample_rate", "0")
        if encoding not in _ENCODINGS or not rate.isdigit() or set(opening.query) - _QUERY:
            connection.record.violations.append(("INVALID_QUERY_PARAMETER", str(sorted(opening.query))))
        self.audio = AudioFormat(_ENCODINGS.get(encoding, "pcm16"), int(rate) or 24000)  # type: ignore[arg-type]

    def opened(self) -> None:
        versions = {"model_name": "aura-2", "model_version": "1", "model_uuid": "uuid"}
        self._connection.send({"type": "Metadata", "request_id": "req_sim", **versions})

    def closed(self) -> None:
        if self._task:
            self._task.cancel()

    def receive(self, data: str | bytes) -> None:
        message = self.read(data)
        kind = message.get("type", "")
        if set(message) != _FIELDS.get(kind) or isinstance(data, bytes):
            self._connection.record.violations.append(("INVALID_MESSAGE", str(message)[:100]))
        elif kind == "Speak":
            self._text += message["text"]
        elif kind == "Flush":
            self._flushed.append(self._text)
            self._text = ""
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._speak())
        elif kind == "Clear":
            self._clear()

    def _clear(self) -> None:
        if self._task:
            self._task.cancel()
            self._task = None
        self._text = ""
        self._flushed.clear()
        self._answer("Cleared")

    def _answer(self, kind: str) -> None:
        self._connection.send({"type": kind, "sequence_id": self._sequence})
        self._sequence += 1

    async def _speak(self) -> None:
        script, audio = self._script, self.audio
        if script.think_ms:
            await asyncio.sleep(script.think_ms / 1000)
        while self._flushed:
            sound = self._conversation.part_of_sound(self._flushed[0], audio)
            size = audio.bytes_per_ms * script.delta_ms
            for start in range(0, len(sound), size):
                if (fault := script.fault) and self._sent == fault.after and fault.name in ("close", "drop", "hang"):
                    await self._connection.break_off(fault)
                    return
                self._sent += 1
                self._connection.send_raw(sound[start : start + size])
                await asyncio.sleep(script.delta_ms / 1000 / script.speed if script.speed > 0 else 0)
            self._flushed.pop(0)
            self._answer("Flushed")
