"""Deepgram's text-to-speech over a WebSocket: one text after another, `Flush` to have it spoken, `Clear` to stop.

Sources: the vendor's SDK 7.17 (`SpeakV1Text`, `SpeakV1Flush`, `SpeakV1Clear` and their answers) and its documentation:
at most 20 flushes a minute, audio in binary messages. It times no words: what was heard is told from the length of what
was spoken between two flushes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sipbridge.agent import AgentOptions
from sipbridge.audio import PCM_24K, PCMA, PCMU
from sipbridge.providers import Endpoint, WebSocketEndpoint
from sipbridge.providers.access import authorization, url_and_key, with_query
from sipbridge.providers.base import REFUSALS
from sipbridge.providers.deepgram_names import ENCODINGS
from sipbridge.providers.speech.voice import Voice, VoiceAudio, VoiceDone, VoiceFailed, VoiceWords
from sipbridge.providers.speech.words import spread
from sipbridge.providers.wire import Json, WholeSamples, json_object, text_of

URL = "wss://api.deepgram.com/v1/speak"
DEFAULT_VOICE = "aura-2-thalia-en"
_FLUSHES, _WITHIN = 18, 60.0
"""Fewer than the vendor allows in that many seconds."""
_WORTH_A_FLUSH = 120
"""Characters; the first phrase is worth one in any case."""


@dataclass(slots=True)
class _Context:
    name: str
    unsent: str = ""
    """Of a context that has to wait for its turn."""
    unflushed: str = ""
    flushed: deque[str] = field(default_factory=deque)
    """Texts whose `Flushed` has not come yet."""
    received: int = 0
    timed: int = 0
    """Octets of audio whose words were told."""
    finished: bool = False


class DeepgramVoice(Voice):
    output_format = PCM_24K
    output_rates = (8000, 16000, 24000, 48000)
    native_formats = frozenset({PCMU, PCMA})

    def __init__(self, section: Mapping[str, Any], options: AgentOptions, place: str = "voice_provider") -> None:
        super().__init__(section, options, place)
        self._samples = WholeSamples(self._format.bytes_per_sample)
        self._url, self._key = url_and_key(section, URL, place)
        self._voice = str(section.get("voice") or section.get("model") or options.voice or DEFAULT_VOICE)
        self._contexts: deque[_Context] = deque()
        self._clearing = 0
        self._flush_times: deque[float] = deque(maxlen=_FLUSHES)
        self._flush_at: float | None = None
        self._given_again = False
        """What was being said when the connection closed, and nothing came of it since."""

    @property
    def model(self) -> str:
        return self._voice

    def endpoint(self) -> Endpoint:
        query = {"model": self._voice, "encoding": ENCODINGS[self._format.encoding], "sample_rate": self._format.rate}
        query |= self._section.get("extra") or {}
        return WebSocketEndpoint(with_query(self._url, query), authorization(self._key, "Token"))

    # --- what is to be said -------------------------------------------------------------------------------------------

    def speak(self, context: str, text: str, now: float) -> None:
        found = self._find(context)
        if found is None:
            found = _Context(context)
            self._contexts.append(found)
        found.unsent += text
        self._go_on(now)

    def finish(self, context: str, now: float) -> None:
        if (found := self._find(context)) is not None:
            found.finished = True
            self._go_on(now)

    def cancel(self, context: str, now: float) -> None:
        found = self._find(context)
        if found is None:
            return
        if found.unflushed or found.flushed:
            self._send({"type": "Clear"})
            self._clearing += 1
        self._contexts.remove(found)
        self._go_on(now)

    def _find(self, name: str) -> _Context | None:
        return next((context for context in self._contexts if context.name == name), None)

    def _go_on(self, now: float) -> None:
        """Send what the first context has; end it where all of it was spoken."""
        while self._contexts:
            first = self._contexts[0]
            if first.unsent:
                self._send({"type": "Speak", "text": first.unsent})
                first.unflushed, first.unsent = first.unflushed + first.unsent, ""
            long = not first.received and not first.flushed or len(first.unflushed) >= _WORTH_A_FLUSH
            if first.unflushed and (long or first.finished):
                self._flush(first, now)
            if not first.finished or first.unflushed or first.flushed:
                return
            self._contexts.popleft()
            self._events.append(VoiceDone(first.name))

    def _flush(self, context: _Context, now: float) -> None:
        times = self._flush_times
        if len(times) == _FLUSHES and times[0] > now - _WITHIN:
            self._flush_at = times[0] + _WITHIN
            return
        self._flush_at = None
        times.append(now)
        self._send({"type": "Flush"})
        context.flushed.append(context.unflushed)
        context.unflushed = ""

    def get_timer(self) -> float | None:
        return self._flush_at if self._contexts else None

    def handle_timer(self, now: float) -> None:
        self._flush_at = None
        self._go_on(now)

    # --- what comes in ------------------------------------------------------------------------------------------------

    def on_message(self, message: str | bytes, now: float) -> None:
        if isinstance(message, bytes):
            self._on_audio(message)
            return
        event = json_object(message)
        kind = event.get("type")
        if kind == "Flushed":
            self._on_flushed(now)
        elif kind == "Cleared":
            self._clearing = max(0, self._clearing - 1)
        elif kind == "Warning":
            self.counters["warnings"] += 1
            self._log_once(text_of(event, "code"), "the voice warns", message=text_of(event, "description")[:200])
        elif kind == "Error":
            self._on_error(event, now)
        elif kind != "Metadata":
            self._unknown(kind)

    def _on_audio(self, pcm: bytes) -> None:
        pcm = self._samples.feed(pcm, self._contexts[0].name if self._contexts else "")
        if self._clearing or not self._contexts:
            self.counters["late_audio_bytes"] += len(pcm)
        elif pcm:
            self._contexts[0].received += len(pcm)
            self._given_again = False
            self._events.append(VoiceAudio(self._contexts[0].name, pcm))

    def _on_flushed(self, now: float) -> None:
        if self._clearing or not self._contexts or not self._contexts[0].flushed:
            return
        first = self._contexts[0]
        text, per_ms = first.flushed.popleft(), self._format.bytes_per_ms
        words = spread(text, first.timed // per_ms, first.received // per_ms)
        first.timed = first.received
        self._events.append(VoiceWords(first.name, words))
        self._go_on(now)

    def _on_error(self, event: Json, now: float) -> None:
        words = text_of(event, "description") or text_of(event, "message") or "error"
        code = text_of(event, "code") or "error"
        if self._contexts:
            self._events.append(VoiceFailed(self._contexts.popleft().name, words, code))
            self._go_on(now)
        else:
            self.counters["errors"] += 1
            self._log_once(code, "the voice reports an error", code=code, message=words[:200])

    def closed(self, code: int, reason: str, now: float) -> None:
        """Idle connections are closed, which is nobody's fault. What was asked for just then is asked again."""
        self._clearing = 0
        if not self._contexts:
            return
        if self._given_again or any(context.received for context in self._contexts) or code in REFUSALS:
            self._lost(code, reason)
            return
        self._given_again = True
        for context in self._contexts:
            context.unsent = "".join(context.flushed) + context.unflushed + context.unsent
            context.unflushed = ""
            context.flushed.clear()
        self._go_on(now)
