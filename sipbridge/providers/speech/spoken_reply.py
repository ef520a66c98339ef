"""A reply of a model that writes, as a voice speaks it: its items, what of them is still to come, what was heard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sipbridge.agent import AgentEvent
from sipbridge.providers.base import Status
from sipbridge.providers.speech.words import Sentences, Spoken


@dataclass(slots=True)
class Speech:
    """One item: a text that the model writes, a context of the voice."""

    context: str
    sentences: Sentences = field(default_factory=Sentences)
    spoken: Spoken = field(default_factory=Spoken)
    waiting: list[bytes] = field(default_factory=list)
    """Audio that has to wait for what is said before it."""
    received: int = 0
    handed_on: int = 0
    """Octets of audio."""
    written: bool = False
    """The model has finished it."""
    done: bool = False
    """Nothing more comes of it."""
    complete: bool = False
    """The voice has spoken all of it."""


@dataclass(slots=True)
class Reply:
    id: str
    speeches: list[Speech] = field(default_factory=list)
    status: Status | None = None
    """Set when the model has ended it."""
    cut: bool = False
    told: bool = False
    """The model knows what was heard of it."""
    failed: bool = False
    pending: list[AgentEvent] = field(default_factory=list)
    """What the model did in it while an earlier reply was still being spoken."""

    @property
    def speaking(self) -> Speech | None:
        return next((speech for speech in self.speeches if not speech.done), None)

    def heard(self, at: Mapping[str, int], bytes_per_ms: int) -> tuple[str, bool]:
        """The words that were heard, by how many milliseconds of each item were, and whether that is all that the model
        has written. An item that is not told of was heard as far as it was handed on."""
        words = ""
        for speech in self.speeches:
            handed_ms = speech.handed_on / bytes_per_ms
            all_ms = speech.received / bytes_per_ms if speech.complete else None
            text = speech.spoken.heard(min(at.get(speech.context, handed_ms), handed_ms), all_ms)
            words += text
            if len(text) < len(speech.spoken.text.rstrip()) or not speech.written:
                return words.strip(), False
        return words.strip(), not self.cut
