"""The seam of a voice: what a text-to-speech service is to the rest, and the table of those there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from sipbridge.agent import AgentOptions
from sipbridge.audio import PCM_24K, AudioFormat
from sipbridge.providers.base import check_output_format
from sipbridge.providers.speech.part import Part, service_class


@dataclass(frozen=True, slots=True)
class VoiceAudio:
    context: str
    pcm: bytes
    """In `AgentOptions.output_format`."""


@dataclass(frozen=True, slots=True)
class VoiceWords:
    """When words are heard, in the time of the context's audio; in order, each once."""

    context: str
    words: tuple[tuple[str, int, int], ...]
    """(word, from ms, until ms)"""


@dataclass(frozen=True, slots=True)
class VoiceDone:
    """All that the context was given has been spoken. Comes after `finish`, once, and nothing of it afterwards."""

    context: str


@dataclass(frozen=True, slots=True)
class VoiceFailed:
    """This context is not spoken (any further); others may be. Counts as its `VoiceDone`."""

    context: str
    message: str
    code: str


VoiceEvent: TypeAlias = VoiceAudio | VoiceWords | VoiceDone | VoiceFailed


class Voice(Part[VoiceEvent]):
    """Speaks texts, each in a context: one for each thing that the model says. Contexts are spoken in the order in
    which they were begun, or at the same time; the audio of one is in order.

    `speak(context, text)` any number of times, then `finish(context)`; or `cancel(context)` at any time: nothing more
    comes of it. The pieces of a context make one text when put together: their spaces are in them.
    """

    output_format: ClassVar[AudioFormat] = PCM_24K
    output_rates: ClassVar[tuple[int, ...]] = ()
    native_formats: ClassVar[frozenset[AudioFormat]] = frozenset()
    voices: ClassVar[tuple[str, ...]] = ()

    def __init__(self, section: Mapping[str, Any], options: AgentOptions, place: str = "voice_provider") -> None:
        """`place`: the section's name in the file. Raises `ConfigError`."""
        super().__init__(section)
        self.name = "tts" if place == "tts" else "voice"
        check_output_format(self.output_format, self.output_rates, self.native_formats, options.output_format)
        self._format = options.output_format

    def speak(self, context: str, text: str, now: float) -> None:
        raise NotImplementedError

    def finish(self, context: str, now: float) -> None:
        raise NotImplementedError

    def cancel(self, context: str, now: float) -> None:
        """Nothing where the context is unknown, or done."""
        raise NotImplementedError


_VOICES = {
    "cartesia": "sipbridge.providers.speech.cartesia:CartesiaVoice",
    "deepgram": "sipbridge.providers.speech.deepgram_voice:DeepgramVoice",
    "openai": "sipbridge.providers.speech.openai_voice:OpenAIVoice",
    "openai_compatible": "sipbridge.providers.speech.openai_voice:OpenAIVoice",
}


VOICES = tuple(_VOICES)
"""Whose voices there are."""


def voice_class(section: Mapping[str, Any], place: str = "voice_provider") -> type[Voice]:
    """Raises `UnknownProviderError`, which names the voices that there are."""
    found: type[Voice] = service_class(_VOICES, section, place)
    return found
