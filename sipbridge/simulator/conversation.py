"""Which utterance of the script comes next, where a language model and a voice are two servers of one conversation."""

from __future__ import annotations

from dataclasses import dataclass

from sipbridge.simulator.script import Script, Utterance


@dataclass(slots=True)
class Conversation:
    script: Script
    replies: int = 0
    """Begun so far."""

    def next_reply(self) -> int:
        """The number of a reply that begins now."""
        number = self.replies
        self.replies += 1
        return number

    def utterance(self, number: int) -> Utterance:
        return self.script.utterances[number % len(self.script.utterances)]

    def sound_of(self, text: str) -> Utterance:
        """What speaks a text that begins like this: the utterance whose words they are; a text of somebody else's
        counts as a reply of its own."""
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


def _same(text: str, whole: str) -> bool:
    text, whole = text.strip(), whole.strip()
    return bool(text) and (whole.startswith(text) or text.startswith(whole))
