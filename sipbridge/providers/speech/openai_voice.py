"""Text-to-speech over HTTP as OpenAI has it (`POST /v1/audio/speech`), which many servers speak.

Source: the vendor's SDK 3.54, `SpeechCreateParams`: `pcm` is 24 kHz, 16 bits, mono. One request for what there is to
say, one at a time; what the model writes meanwhile is the next one. Words are not timed: what was heard is told from
the length of each answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx  # noqa: F401 - here and not by the first call that asks over HTTP, which it would hold up

from sipbridge.agent import AgentOptions
from sipbridge.audio import PCM_24K
from sipbridge.providers import Endpoint, HttpEnd, Outgoing
from sipbridge.providers.access import REQUESTS, url_and_key
from sipbridge.providers.speech.part import http_endpoint
from sipbridge.providers.speech.voice import Voice, VoiceAudio, VoiceDone, VoiceFailed, VoiceWords
from sipbridge.providers.speech.words import spread
from sipbridge.providers.wire import WholeSamples

URL = "https://api.openai.com/v1/audio/speech"
DEFAULT_MODEL, DEFAULT_VOICE = "gpt-4o-mini-tts", "marin"
_LONGEST = 4000
"""Characters in one request; the vendor takes 4096."""


@dataclass(slots=True)
class _Context:
    name: str
    unsent: str = ""
    received: int = 0
    timed: int = 0
    finished: bool = False


class OpenAIVoice(Voice):
    output_format = PCM_24K

    def __init__(self, section: Mapping[str, Any], options: AgentOptions, place: str = "voice_provider") -> None:
        super().__init__(section, options, place)
        self._url, self._key = url_and_key(section, URL, place, REQUESTS)
        self._request = {
            "model": self.model,
            "voice": str(section.get("voice") or options.voice or DEFAULT_VOICE),
            "response_format": "pcm",
            **(section.get("extra") or {}),
        }
        self._contexts: deque[_Context] = deque()
        self._asked: deque[tuple[_Context, str] | None] = deque()
        """Requests whose end has not come: for whom, and what is said; None: nobody any more."""
        self._samples = WholeSamples(PCM_24K.bytes_per_sample)

    @property
    def model(self) -> str:
        return str(self._section.get("model") or DEFAULT_MODEL)

    def endpoint(self) -> Endpoint:
        return http_endpoint(self._url, self._key)

    # --- what is to be said -------------------------------------------------------------------------------------------

    def speak(self, context: str, text: str, now: float) -> None:
        found = self._find(context)
        if found is None:
            found = _Context(context)
            self._contexts.append(found)
        found.unsent += text
        self._go_on()

    def finish(self, context: str, now: float) -> None:
        if (found := self._find(context)) is not None:
            found.finished = True
            self._go_on()

    def cancel(self, context: str, now: float) -> None:
        found = self._find(context)
        if found is None:
            return
        self._contexts.remove(found)
        if any(asked is not None and asked[0] is found for asked in self._asked):
            self._asked = deque([None] * len(self._asked))
            self._outbox.append(Outgoing("", b""))
        self._go_on()

    def _find(self, name: str) -> _Context | None:
        return next((context for context in self._contexts if context.name == name), None)

    def _go_on(self) -> None:
        while self._contexts and not any(self._asked):
            first = self._contexts[0]
            text, first.unsent = first.unsent[:_LONGEST], first.unsent[_LONGEST:]
            if text.strip():
                self._asked.append((first, text))
                self._send({**self._request, "input": text})
            elif first.finished:
                self._contexts.popleft()
                self._events.append(VoiceDone(first.name))
            else:
                return

    # --- what comes in ------------------------------------------------------------------------------------------------

    def on_message(self, message: str | bytes, now: float) -> None:
        asked = self._asked[0] if self._asked else None
        if (end := HttpEnd.parse(message)) is not None:
            if self._asked:
                self._asked.popleft()
            self._samples.forget()
            if asked is not None:
                self._on_end(*asked, end)
            self._go_on()
        elif isinstance(message, str):
            raise TypeError("speech is no event stream")
        elif asked is None:
            self.counters["late_audio_bytes"] += len(message)
        else:
            pcm = self._samples.feed(message)
            asked[0].received += len(pcm)
            if pcm:
                self._events.append(VoiceAudio(asked[0].name, pcm))

    def _on_end(self, context: _Context, text: str, end: HttpEnd) -> None:
        if end.code == "400":
            self._contexts.remove(context)
            self._events.append(VoiceFailed(context.name, end.message, end.code))
        elif end.code:
            self._fail(end.message, end.code, again=end.again)
        else:
            per_ms = PCM_24K.bytes_per_ms
            words = spread(text, context.timed // per_ms, context.received // per_ms)
            context.timed = context.received
            self._events.append(VoiceWords(context.name, words))

    def closed(self, code: int, reason: str, now: float) -> None:
        """Nobody is there any more, found out when it was to be asked."""
        if self._contexts:
            self._fail(f"can't be reached: {reason or code}", "closed", again=True)
        self._asked.clear()
