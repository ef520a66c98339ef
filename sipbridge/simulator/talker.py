"""A simulated model with one reply at a time, in no vendor's words: it hears the caller, thinks, speaks at its pace,
calls tools and can be interrupted. A vendor's model derives from it and says how each of that looks on the wire."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sipbridge.audio import AudioFormat
from sipbridge.simulator.model import Connection, Faulty
from sipbridge.simulator.script import Fault, Script, ToolUse
from sipbridge.simulator.voice import Ear, speech, spread

GARBAGE: tuple[str | bytes, ...] = ('{"type":', "[]", '{"type":7}', '{"type":"of.the.future"}', '"word"')
_TOOL_SAID = "The tool said: "


@dataclass(slots=True)
class Talk:
    """One reply."""

    number: int
    text: str
    """Empty: nothing is spoken."""
    tool: ToolUse | None = None
    task: asyncio.Task[None] | None = None
    said: str = ""
    """As far as it has got."""


class Talker:
    """Derive, and implement what begins with `tell_`; call `hear` with the caller's sound."""

    def __init__(self, connection: Connection, script: Script) -> None:
        self.connection = connection
        self.script = script
        self.talk: Talk | None = None
        self._ear: Ear | None = None
        self._asked = ""
        self._turns = 0
        self._replies = 0
        self._calls = 0
        self._heard_until = 0.0
        """Until when a client that plays what it gets as it comes will have something to play."""

    # --- what the vendor's model is told to tell ----------------------------------------------------------------------

    def tell_speech(self, speaking: bool) -> None:
        """The caller began or stopped to speak. Stopping is followed by `tell_heard`."""

    def tell_heard(self, text: str) -> None:
        """What the caller is said to have said."""
        raise NotImplementedError

    def tell_reply(self, talk: Talk) -> None:
        """A reply begins."""

    def tell_words(self, talk: Talk, words: str, audio: bytes) -> None:
        """A piece of speech; the words may be empty."""
        raise NotImplementedError

    def tell_spoken(self, talk: Talk) -> None:
        """All that the reply says has been said."""

    def tell_call(self, talk: Talk, call_id: str, tool: ToolUse) -> None:
        raise NotImplementedError

    def tell_end(self, talk: Talk, *, cut: bool) -> None:
        """The reply is over; cut: because the caller began to speak, or the client wanted it."""

    def tell_late_cut(self) -> None:
        """The caller began to speak while what is generated already is still being heard."""

    def tell_error(self, code: str) -> None:
        """An error that the session survives, where the vendor has such."""

    # --- the caller ---------------------------------------------------------------------------------------------------

    def listen(self, audio: AudioFormat, *, silence_ms: int = 500) -> None:
        self.connection.record.audio_format = audio
        self._ear = Ear(audio, rms=self.script.vad_rms, prefix_ms=0, silence_ms=silence_ms)

    def hear(self, audio: bytes) -> None:
        assert self._ear is not None, "nobody listens"
        self.connection.record.audio += audio
        self.connection.record.notify()
        for speaking, _ in self._ear.feed(audio):
            self.tell_speech(speaking)
            if speaking:
                self._interrupted()
            else:
                self.tell_heard(self.script.transcripts[self._turns % len(self.script.transcripts)])
                self._turns += 1
                self.answer()

    def _interrupted(self) -> None:
        heard, self._heard_until = self._heard_until, 0.0
        if self.talk is not None:
            self.cut()
        elif asyncio.get_running_loop().time() < heard:
            self.tell_late_cut()

    def ask(self, text: str) -> None:
        """A user's words in text: what the next reply answers."""
        self._asked = text

    def tool_said(self, call_id: str, output: str, *, answer: bool = True) -> bool:
        """False where no such call waits. When all are answered, the reply to the results begins, if it is to."""
        calls = self.connection.record.open_calls
        if call_id not in calls:
            return False
        calls.remove(call_id)
        self._asked = _TOOL_SAID + output if answer else ""
        if answer and not calls and not (self._ear is not None and self._ear.speaking):
            self.answer()
        return True

    # --- replies ------------------------------------------------------------------------------------------------------

    def voice_format(self) -> AudioFormat:
        """Of the audio that `tell_words` is given."""
        raise NotImplementedError

    def answer(self, text: str = "") -> None:
        """Begin a reply, cutting one that is under way; `text`: these words."""
        self.cut()
        number, self._replies = self._replies, self._replies + 1
        asked, self._asked = self._asked, ""
        utterance = self.script.utterances[number % len(self.script.utterances)]
        tool = None if text else self.script.tools.get(number)
        words = text or (asked if asked.startswith(_TOOL_SAID) else utterance.text)
        if asked.startswith("call:"):
            name, _, arguments = asked.removeprefix("call:").partition(" ")
            tool = ToolUse(name, arguments or "{}")
        silent = tool is not None and not tool.spoken
        self.talk = Talk(number, "" if silent else words, tool)
        self.tell_reply(self.talk)
        self.talk.task = asyncio.create_task(self._perform(self.talk))

    def cut(self) -> None:
        talk, self.talk = self.talk, None
        if talk is not None:
            if talk.task is not None:
                talk.task.cancel()
            self.tell_end(talk, cut=True)

    def closed(self) -> None:
        if self.talk is not None and self.talk.task is not None:
            self.talk.task.cancel()

    async def _perform(self, talk: Talk) -> None:
        if self.script.think_ms:
            await asyncio.sleep(self.script.think_ms / 1000)
        if talk.text:
            try:
                await self._speak(talk)
            except Faulty as faulty:
                await self.connection.break_off(faulty.fault)
                return
            self.tell_spoken(talk)
        for _ in range(talk.tool.times if talk.tool else 0):
            assert talk.tool is not None
            self._calls += 1
            call_id = f"call_{self._calls}"
            self.connection.record.open_calls.append(call_id)
            self.tell_call(talk, call_id, talk.tool)
        self.talk = None
        self.tell_end(talk, cut=False)

    async def _speak(self, talk: Talk) -> None:
        script, clock = self.script, asyncio.get_running_loop().time
        audio_format = self.voice_format()
        audio = speech(script.utterances[talk.number % len(script.utterances)], audio_format)
        size = audio_format.bytes_per_ms * script.delta_ms
        pieces = [audio[i : i + size] for i in range(0, len(audio), size)] or [b""]
        started = clock()
        for number, (words, piece) in enumerate(zip(spread(talk.text, len(pieces)), pieces, strict=True)):
            self._misbehave(number)
            talk.said += words
            now = clock()
            self._heard_until = max(now, self._heard_until) + len(piece) / audio_format.bytes_per_ms / 1000
            self.tell_words(talk, words, piece)
            due = started + (number + 1) * script.delta_ms / 1000 / script.speed if script.speed > 0 else 0.0
            await asyncio.sleep(max(0.0, due - clock()))

    def _misbehave(self, number: int) -> None:
        fault = self.script.fault
        if fault is None:
            return
        if fault.name == "garbage":
            self.connection.send_raw(GARBAGE[number % len(GARBAGE)])
        elif number == fault.after and fault.name == "error":
            self.tell_error(fault.argument or "server_error")
        elif number == fault.after and fault.name in ("close", "drop", "expire", "hang"):
            raise Faulty(fault)

    def refuse(self, code: str, message: str) -> None:
        """Note that the client did wrong, and close as the vendors of this kind do."""
        self.connection.record.violations.append((code, message))
        self.connection.close_soon(Fault("close", "1008"))
