"""The seam of a transcriber: who hears the caller and writes down what was said; and the table of those there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from sipbridge.agent import AgentOptions, Capabilities, TurnDetectionType
from sipbridge.audio import PCM_16K, AudioFormat
from sipbridge.providers import Outgoing
from sipbridge.providers.speech.part import Part, service_class


@dataclass(frozen=True, slots=True)
class Ready:
    """It can hear."""

    session_id: str = ""


@dataclass(frozen=True, slots=True)
class SpeechBegan:
    at_ms: int | None = None
    """On the stream, where it says so."""


@dataclass(frozen=True, slots=True)
class SpeechOver:
    at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Words:
    """What the caller says. Not final: all of this turn so far. Final: the turn, once; "" where nothing was
    understood."""

    text: str
    final: bool
    item_id: str = ""


TranscriberEvent: TypeAlias = Ready | SpeechBegan | SpeechOver | Words


class Transcriber(Part[TranscriberEvent]):
    """`push` all of the caller's audio, without gaps. Where it finds turns itself a final `Words` is a turn's end;
    where it was told not to (`finds_turns`), that follows `commit`."""

    name = "stt"
    input_format: ClassVar[AudioFormat] = PCM_16K
    input_rates: ClassVar[tuple[int, ...]] = ()
    native_formats: ClassVar[frozenset[AudioFormat]] = frozenset()
    turn_detection: ClassVar[frozenset[TurnDetectionType]] = frozenset({"server_vad", "none"})
    turn_settings: ClassVar[frozenset[tuple[TurnDetectionType, str]]] = Capabilities().turn_settings
    tells_interim: ClassVar[bool] = True
    has_session: ClassVar[bool] = True
    """It listens over a connection of its own; else it is asked, turn by turn."""
    session_seconds: ClassVar[float | None] = None
    """How long one session of it may last."""

    def __init__(self, section: Mapping[str, Any], options: AgentOptions) -> None:
        super().__init__(section)
        self._options = options
        self._format = options.input_format
        self.finds_turns = options.turn_detection.type in ("server_vad", "semantic_vad")

    def push(self, pcm: bytes, now: float) -> None:
        """As binary messages, where not overridden."""
        self._outbox.append(Outgoing("", pcm, len(pcm) / self._format.bytes_per_ms))

    def commit(self, now: float) -> None:
        """The caller's turn is over, says somebody else."""

    def finish(self) -> None:
        """A goodbye, where the vendor knows one."""


_TRANSCRIBERS = {
    "deepgram": "sipbridge.providers.speech.deepgram_ear:deepgram_ear",
    "openai": "sipbridge.providers.speech.openai_ear:openai_ear",
    "openai_compatible": "sipbridge.providers.speech.openai_ear:openai_ear",
}


def transcriber_class(section: Mapping[str, Any]) -> type[Transcriber]:
    """Raises `UnknownProviderError`, which names those that there are."""
    choose: Any = service_class(_TRANSCRIBERS, section, "stt")
    found: type[Transcriber] = choose(section)
    return found
