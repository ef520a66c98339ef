"""Which utterance of the script comes next, where a language model and a voice are two servers of one conversation."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sipbridge.audio import AudioFormat
from sipbridge.simulator.model import Connection, Opening
from sipbridge.simulator.script import Script, Utterance
from sipbridge.simulator.voice import speech

_KEPT = 16


@dataclass(slots=True)
class Conversation:
    script: Script
    replies: int = 0
    """Begun so far."""
    turns: int = 0
    """Of the caller's."""
    written: dict[int, str] = field(default_factory=dict)
    """Reply -> what the language model wrote, where that is here too; the latest ones."""

    def next_reply(self) -> int:
        """The number of a reply that begins now."""
        number = self.replies
        self.replies += 1
        return number

    def wrote(self, number: int, text: str) -> None:
        self.written[number] = text
        if len(self.written) > _KEPT:
            del self.written[next(iter(self.written))]

    def next_transcript(self) -> str:
        text = self.script.transcripts[self.turns % len(self.script.transcripts)]
        self.turns += 1
        return text

    def utterance(self, number: int) -> Utterance:
        return self.script.utterances[number % len(self.script.utterances)]

    def sound_of(self, text: str) -> Utterance:
        """What speaks a text that begins like this: the utterance whose words they are; a text of somebody else's
        counts as a reply of its own."""
        for number in reversed(self.written):
            if _same(text, self.written[number]):
                return self.utterance(number)
        utterances = self.script.utterances
        for back in range(1, len(utterances) + 1):
            number = self.replies - back
            if number >= 0 and _same(text, self.utterance(number).text):
                return self.utterance(number)
        number = self.next_reply()
        for ahead in range(len(utterances)):
            if _same(text, self.utterance(number + ahead).text):
                self.replies = number + ahead + 1
                return self.utterance(number + ahead)
        return self.utterance(number)

    def part_of_sound(self, text: str, audio: AudioFormat) -> bytes:
        """The same for a voice that is given a text in pieces without being told that they belong together."""
        for number in reversed(self.written):
            whole, at = self.written[number], self.written[number].find(text)
            if text and at >= 0:
                sound, size = speech(self.utterance(number), audio), audio.bytes_per_sample
                began, ended = (len(sound) * place // len(whole) // size * size for place in (at, at + len(text)))
                return sound[began:ended]
        return speech(self.sound_of(text), audio)


class Part:
    """A server's model that does one part of a conversation: see `sipbridge.simulator.model.Model`."""

    key: ClassVar[str] = ""
    """What its clients' `Authorization` begins with; "": it asks for none."""

    def __init__(
        self, connection: Connection, script: Script, opening: Opening, conversation: Conversation | None = None
    ) -> None:
        self._connection = connection
        self._script = script
        self._conversation = conversation or Conversation(script)
        headers = {name.lower(): value for name, value in opening.headers.items()}
        if self.key and not headers.get("authorization", "").startswith(f"{self.key} "):
            connection.record.violations.append(("key", "no key"))

    def opened(self) -> None:
        """It waits to be asked."""

    def closed(self) -> None:
        """Nothing goes on."""

    def read(self, data: str | bytes) -> dict[str, Any]:
        """A client's message, recorded; {} where it is no JSON object."""
        try:
            message = json.loads(data)
        except ValueError:
            message = None
        message = message if isinstance(message, dict) else {}
        self._connection.record.add(message)
        return message


def _same(text: str, whole: str) -> bool:
    text, whole = text.strip(), whole.strip()
    return bool(text) and (whole.startswith(text) or text.startswith(whole))
