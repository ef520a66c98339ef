"""What Gemini Live lets us know of the caller's turns, made into events: that they speak, and what they said.

The service reports the beginning of speech only where it interrupts something (`interrupted`), and activity only for
some models and settings. A turn that interrupted nothing is known by the first words of its transcript. However many of
these there are, a turn is told once.
"""

from __future__ import annotations

from collections import deque

from sipbridge.agent import AgentEvent, UserSpeechEnded, UserSpeechStarted, UserTranscript
from sipbridge.providers.gemini_wire import seconds_of
from sipbridge.providers.wire import Json, text_of

_MOST_WORDS = 5000
"""Pieces of one turn; nobody speaks for so long."""


class CallerTurn:
    def __init__(self, events: deque[AgentEvent], *, interim: bool) -> None:
        self._events = events
        self._interim = interim
        self._told = False
        """This turn's `UserSpeechStarted` was told."""
        self._ended = False
        """Its `UserSpeechEnded` too."""
        self._words: list[str] = []
        self._guessed = False
        """Interim transcripts of their own came: the pieces of the final one are not told beside them."""

    def began(self, audio_ms: int | None = None) -> None:
        """The caller speaks, says the service: now, or in other words once more."""
        if not self._told or self._ended:
            self._told, self._ended = True, False
            self._events.append(UserSpeechStarted(audio_ms))

    def ended(self, audio_ms: int | None = None) -> None:
        if self._told and not self._ended:
            self._ended = True
            self._events.append(UserSpeechEnded(audio_ms))

    def activity(self, activity: Json) -> None:
        """A `voiceActivity` (its kind: `type` in the SDK, `voiceActivityType` in the documentation), or its
        older form, a `voiceActivityDetectionSignal`."""
        kinds = [text_of(activity, name) for name in ("type", "voiceActivityType", "vadSignalType")]
        offset = seconds_of(activity.get("audioOffset"))
        audio_ms = None if offset is None else round(offset * 1000)
        if "ACTIVITY_START" in kinds or "VAD_SIGNAL_TYPE_SOS" in kinds:
            self.began(audio_ms)
        elif "ACTIVITY_END" in kinds or "VAD_SIGNAL_TYPE_EOS" in kinds:
            self.ended(audio_ms)

    def heard(self, text: str, *, idle: bool, finished: bool) -> None:
        """A piece of the transcript. In the model's turn (not `idle`) it does not mean that somebody speaks now: pieces
        come late, and speech would interrupt."""
        if text:
            self._spoke(idle)
            self._words.append(text)
            if len(self._words) >= _MOST_WORDS:
                self.flush()
            if self._interim and not self._guessed:
                self._events.append(UserTranscript(text, final=False))
        if finished:
            self.flush()

    def guessed(self, text: str, *, idle: bool) -> None:
        """An interim transcript: what the turn is taken for by now."""
        if text:
            self._spoke(idle)
            self._guessed = True
            if self._interim:
                self._events.append(UserTranscript(text, final=False))

    def _spoke(self, idle: bool) -> None:
        if idle and not self._told:
            self.began()

    def flush(self) -> None:
        """Whatever they said is said."""
        text = "".join(self._words).strip()
        self._words.clear()
        self._guessed = False
        if text:
            self._events.append(UserTranscript(text, final=True))

    def over(self) -> None:
        """The model has begun to answer: the next speech is another turn."""
        self.flush()
        self._told = self._ended = False

    @property
    def speaking(self) -> bool:
        """A turn was told of that the model has not begun to answer."""
        return self._told
