"""The service of an imaginary vendor, which docs/providers/adding-one.md writes a dialect for.

One WebSocket, JSON text. It hears the caller's turns, stops when it is interrupted, and goes on after a tool's
result only when it is asked to. As strict as the real ones: what it does not know it refuses and records.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from typing import Any, ClassVar

from sipbridge.audio import PCM_16K, PCM_24K
from sipbridge.simulator.model import Connection, Opening
from sipbridge.simulator.script import Script, ToolUse
from sipbridge.simulator.voice import Ear, speech

Json = dict[str, Any]

_FIELDS: dict[str, dict[str, type]] = {
    "start": {"instructions": str, "voice": str, "tools": list},
    "sound": {"data": str},
    "instructions": {"text": str},
    "text": {"text": str},
    "say": {"text": str},
    "answer": {},
    "stop": {},
    "result": {"call": str, "output": str},
}


class ParrotModel:
    path: ClassVar[str] = "/talk"

    def __init__(self, connection: Connection, script: Script, opening: Opening) -> None:
        self._connection = connection
        self._script = script
        self._key = {name.lower(): value for name, value in opening.headers.items()}.get("x-parrot-key")
        self._ear = Ear(PCM_16K, rms=script.vad_rms, prefix_ms=0, silence_ms=500)
        self._started = False
        self._replies = self._turns = 0
        self._calls: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._reply = ""

    def opened(self) -> None:
        if not self._key:
            self._refuse("no key")

    def closed(self) -> None:
        if self._task:
            self._task.cancel()

    def _tell(self, kind: str, **fields: Any) -> None:
        self._connection.send({"type": kind, **fields})

    def _refuse(self, why: str) -> None:
        self._connection.record.violations.append(("refused", why))
        self._tell("error", message=why)

    def receive(self, data: str | bytes) -> None:
        message: Json = json.loads(data)
        self._connection.record.add(message)
        kind = message.pop("type", None)
        fields = _FIELDS.get(str(kind))
        if fields is None or {name: type(value) for name, value in message.items()} != fields:
            self._refuse(f"{kind} with {sorted(message)}")
        elif self._started == (kind == "start"):
            self._refuse(f"{kind} at this moment")
        else:
            getattr(self, f"_on_{kind}")(**message)
        message["type"] = kind

    def _on_start(self, instructions: str, voice: str, tools: list[Json]) -> None:
        self._started = True
        self._tell("ready", session="session-1")

    def _on_sound(self, data: str) -> None:
        audio = b64decode(data)
        self._connection.record.audio += audio
        for speaking, _ in self._ear.feed(audio):
            self._tell("caller", speaks=speaking)
            if speaking:
                self._cut()
            else:
                said = self._script.transcripts[self._turns % len(self._script.transcripts)]
                self._turns += 1
                self._tell("heard", text=said)
                self._begin()

    def _on_instructions(self, text: str) -> None:
        pass

    def _on_text(self, text: str) -> None:
        pass

    def _on_say(self, text: str) -> None:
        self._begin(text)

    def _on_answer(self) -> None:
        self._begin()

    def _on_stop(self) -> None:
        self._cut()

    def _on_result(self, call: str, output: str) -> None:
        if call not in self._calls:
            self._refuse(f"nobody waits for {call}")
        self._calls.discard(call)

    # --- replies ------------------------------------------------------------------------------------------------------

    def _begin(self, text: str = "") -> None:
        self._cut()
        number, self._replies = self._replies, self._replies + 1
        self._reply = f"r{number}"
        self._tell("reply", id=self._reply)
        self._task = asyncio.create_task(self._perform(number, text))

    async def _perform(self, number: int, text: str) -> None:
        script = self._script
        utterance, tool = script.utterances[number % len(script.utterances)], script.tools.get(number)
        if tool is None or tool.spoken:
            self._tell("words", text=text or utterance.text)
            sound, size = speech(utterance, PCM_24K), script.delta_ms * PCM_24K.bytes_per_ms
            for start in range(0, len(sound), size):
                self._tell("sound", data=b64encode(sound[start : start + size]).decode())
                await asyncio.sleep(script.delta_ms / 1000 / script.speed if script.speed else 0)
        if isinstance(tool, ToolUse):
            self._calls.add(f"c{number}")
            self._tell("call", id=f"c{number}", name=tool.name, arguments=json.loads(tool.arguments))
        self._end(cut=False)

    def _cut(self) -> None:
        if self._reply:
            assert self._task is not None
            self._task.cancel()
            self._end(cut=True)

    def _end(self, *, cut: bool) -> None:
        self._reply = ""
        self._tell("end", cut=cut)
