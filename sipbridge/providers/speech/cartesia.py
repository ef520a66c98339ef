"""Cartesia's text-to-speech over a WebSocket: one socket, a context for each thing that is said.

Sources: the vendor's SDK 4.2 (`GenerationRequest`, `CancelContextRequest`, `WebsocketResponse`) and its documentation
of contexts: all fields but the transcript stay the same within a context, pieces are joined as they are, and a context
expires one second after its last audio. A socket that idles for five minutes is closed; the next word opens another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sipbridge.agent import AgentOptions
from sipbridge.audio import PCM_24K, PCMA, PCMU
from sipbridge.errors import ConfigError
from sipbridge.providers import Endpoint, WebSocketEndpoint
from sipbridge.providers.access import authorization, url_and_key, with_query
from sipbridge.providers.base import REFUSALS
from sipbridge.providers.speech.part import FATAL_STATUS, short_language
from sipbridge.providers.speech.voice import Voice, VoiceAudio, VoiceDone, VoiceFailed, VoiceWords
from sipbridge.providers.wire import Json, WholeSamples, decode_audio, json_object, merged, number_of, text_of

URL = "wss://api.cartesia.ai/tts/websocket"
VERSION = "2026-08-14"
DEFAULT_MODEL = "sonic-3.5"
_ENCODINGS = {"pcm16": "pcm_s16le", "pcmu": "pcm_mulaw", "pcma": "pcm_alaw"}
_EXPIRY = 0.8
"""Seconds without a word in which a context that has said everything is taken to be over: before the vendor's one."""
RETRIES = 2
RETRY_AFTER = 0.5


@dataclass(slots=True)
class _Context:
    """One text. It may take several contexts of the vendor's, where the model writes slower than the voice speaks."""

    name: str
    wire_id: str = ""
    """"": none is open; the next piece begins one."""
    text: str = ""
    """Since the wire's context began."""
    words_told: int = 0
    began_at: int = 0
    """Octets of audio before the wire's context began: its word times count from there."""
    received: int = 0
    last_audio: float = 0.0
    finished: bool = False
    attempts: int = 0
    retry_at: float | None = None


class CartesiaVoice(Voice):
    output_format = PCM_24K
    output_rates = (8000, 16000, 24000, 48000)
    native_formats = frozenset({PCMU, PCMA})

    def __init__(self, section: Mapping[str, Any], options: AgentOptions, place: str = "voice_provider") -> None:
        super().__init__(section, options, place)
        self._samples = WholeSamples(self._format.bytes_per_sample)
        self._url, self._key = url_and_key(section, URL, place)
        voice = section.get("voice") or options.voice
        if not voice:
            raise ConfigError(f"{place}.voice: is needed: the id of one of Cartesia's voices")
        self._request: Json = {
            "model_id": self.model,
            "voice": {"mode": "id", "id": str(voice)},
            "output_format": {
                "container": "raw",
                "encoding": _ENCODINGS[self._format.encoding],
                "sample_rate": self._format.rate,
            },
            "add_timestamps": True,
            "max_buffer_delay_ms": 0,  # pieces are whole phrases: there is nothing to wait for
        }
        if language := short_language(section.get("language") or options.language):
            self._request["language"] = language
        self._request = merged(self._request, section.get("extra") or {})
        self._contexts: dict[str, _Context] = {}
        self._by_wire_id: dict[str, _Context] = {}
        self._last_id = 0

    @property
    def model(self) -> str:
        return str(self._section.get("model") or DEFAULT_MODEL)

    def endpoint(self) -> Endpoint:
        url = with_query(self._url, {"cartesia_version": VERSION})
        return WebSocketEndpoint(url, authorization(self._key))

    # --- what is to be said -------------------------------------------------------------------------------------------

    def speak(self, context: str, text: str, now: float) -> None:
        found = self._contexts.setdefault(context, _Context(context))
        if self._expired(found, now):
            self._close(found)
        if not found.wire_id:
            self._begin(found)
        found.text += text
        if found.retry_at is None:
            self._generate(found, text, more=True)

    def finish(self, context: str, now: float) -> None:
        found = self._contexts.get(context)
        if found is None or found.finished:
            return
        found.finished = True
        if not found.wire_id or self._expired(found, now):
            self._done(found)
        elif found.retry_at is None:
            self._generate(found, "", more=False)

    def cancel(self, context: str, now: float) -> None:
        found = self._contexts.pop(context, None)
        if found is not None and found.wire_id:
            del self._by_wire_id[found.wire_id]
            if found.retry_at is None:
                self._send({"context_id": found.wire_id, "cancel": True})

    def _begin(self, context: _Context) -> None:
        self._last_id += 1
        context.wire_id = f"ctx-{self._last_id}"
        context.text, context.words_told, context.began_at = "", 0, context.received
        self._by_wire_id[context.wire_id] = context

    def _generate(self, context: _Context, text: str, *, more: bool) -> None:
        self._send({**self._request, "context_id": context.wire_id, "transcript": text, "continue": more})

    def _expired(self, context: _Context, now: float) -> bool:
        """It has said everything it was given, some time ago: the vendor takes no more of it."""
        silent = context.received > context.began_at and now - context.last_audio > _EXPIRY
        return silent and context.words_told >= len(context.text.split())

    def _close(self, context: _Context) -> None:
        """The wire's context is over; ours may go on in another one."""
        self._by_wire_id.pop(context.wire_id, None)
        context.wire_id = ""

    def _done(self, context: _Context) -> None:
        self._close(context)
        self._contexts.pop(context.name, None)
        self._events.append(VoiceDone(context.name))

    # --- what comes in ------------------------------------------------------------------------------------------------

    def on_message(self, message: str | bytes, now: float) -> None:
        event = json_object(message)
        kind = event.get("type")
        if kind == "error":
            self._on_error(event, now)
            return
        if kind not in ("chunk", "timestamps", "done"):
            if kind not in ("flush_done", "phoneme_timestamps"):
                self._unknown(kind)
            return
        context = self._by_wire_id.get(text_of(event, "context_id"))
        if context is None:
            self.counters["late_audio_bytes"] += len(text_of(event, "data")) * 3 // 4
        elif kind == "chunk":
            self._on_chunk(context, event, now)
        elif kind == "timestamps":
            self._on_timestamps(context, event)
        elif context.finished:
            self._done(context)
        else:
            self._close(context)

    def _on_chunk(self, context: _Context, event: Json, now: float) -> None:
        pcm = self._samples.feed(decode_audio(event["data"]), context.name)
        context.received += len(pcm)
        context.last_audio = now
        if pcm:
            self._events.append(VoiceAudio(context.name, pcm))

    def _on_timestamps(self, context: _Context, event: Json) -> None:
        told = event["word_timestamps"]
        base = context.began_at // self._format.bytes_per_ms
        words = tuple(
            (str(word), base + round(float(start) * 1000), base + round(float(end) * 1000))
            for word, start, end in zip(told["words"], told["start"], told["end"], strict=True)
        )
        context.words_told += len(words)
        self._events.append(VoiceWords(context.name, words))

    def _on_error(self, event: Json, now: float) -> None:
        status = str(number_of(event, "status_code") or "")
        code = text_of(event, "error_code") or status or "error"
        words = text_of(event, "message") or text_of(event, "title") or code
        context = self._by_wire_id.get(text_of(event, "context_id"))
        if status in ("401", "402", "403"):
            self._fail(words, code, again=False)
        elif context is None:
            self.counters["errors"] += 1
            self._log_once(code, "the voice reports an error", code=code, message=words[:200])
        elif status not in FATAL_STATUS and context.received == context.began_at and context.attempts < RETRIES:
            self._retry(context, now + RETRY_AFTER * (1 + context.attempts))
        else:
            self._close(context)
            self._contexts.pop(context.name, None)
            self._events.append(VoiceFailed(context.name, words, code))

    # --- once more ----------------------------------------------------------------------------------------------------

    def _retry(self, context: _Context, at: float) -> None:
        """Too many at once, or a server in trouble, and nothing of it was heard yet."""
        self.counters["voice_retried"] += 1
        text = context.text
        self._close(context)
        self._begin(context)
        context.text, context.attempts, context.retry_at = text, context.attempts + 1, at

    def get_timer(self) -> float | None:
        return min((c.retry_at for c in self._contexts.values() if c.retry_at is not None), default=None)

    def handle_timer(self, now: float) -> None:
        for context in self._contexts.values():
            if context.retry_at is not None and context.retry_at <= now:
                context.retry_at = None
                self._generate(context, context.text, more=not context.finished)

    def closed(self, code: int, reason: str, now: float) -> None:
        """Idle sockets are closed, which is nobody's fault. What was asked for just then is asked again."""
        active = [context for context in self._contexts.values() if context.wire_id]
        if any(context.received > context.began_at or context.attempts for context in active) or code in REFUSALS:
            self._lost(code, reason)
            return
        for context in active:
            self._retry(context, now)
