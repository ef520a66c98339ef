"""Which utterance of the script comes next, where a language model and a voice are two servers of one conversation."""

from __future__ import annotations

from dataclasses import dataclass, field

from sipbridge.audio import AudioFormat
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


def _same(text: str, whole: str) -> bool:
    text, whole = text.strip(), whole.strip()
    return bool(text) and (whole.startswith(text) or text.startswith(whole))
