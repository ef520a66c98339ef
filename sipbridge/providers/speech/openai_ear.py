"""Transcription as OpenAI has it: a realtime session of type `transcription` over a WebSocket, and, where the URL is
http(s), `POST /v1/audio/transcriptions`, one utterance at a time, found by the voice activity detector of ours.

Sources: the vendor's SDK 3.54 (`RealtimeTranscriptionSessionCreateRequest` and its events,
`TranscriptionCreateParams`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx  # noqa: F401 - here and not by the first call that asks over HTTP, which it would hold up

from sipbridge.agent import AgentOptions
from sipbridge.audio import PCM_16K, PCM_24K, PCMA, PCMU, AudioFormat
from sipbridge.providers import Endpoint, HttpEnd, Outgoing, WebSocketEndpoint
from sipbridge.providers.access import REQUESTS, authorization, url_and_key, with_query
from sipbridge.providers.offline_ear import Ear, Utterance
from sipbridge.providers.openai_wire import append_audio, ga_format, turn_finding
from sipbridge.providers.speech.part import http_endpoint, short_language
from sipbridge.providers.speech.transcriber import Ready, SpeechBegan, SpeechOver, Transcriber, Words
from sipbridge.providers.wire import Json, json_object, merged, number_of, text_of

URL = "wss://api.openai.com/v1/realtime"
DEFAULT_MODEL = "gpt-transcribe"
_EXPIRED = "session_expired"
_FATAL = frozenset({"insufficient_quota", "invalid_api_key", "account_deactivated", "billing_hard_limit_reached"})
_BOUNDARY = "sipbridge-3c9d1f0a7be24c58-part"
_MOST_ANSWER = 256 * 1024
_IGNORED = frozenset(
    {
        "conversation.created",
        "conversation.item.added",
        "conversation.item.created",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.segment",
        "input_audio_buffer.cleared",
        "input_audio_buffer.committed",
        "rate_limits.updated",
        "transcription_session.created",
    }
)


def openai_ear(section: Mapping[str, Any]) -> type[Transcriber]:
    over_http = urlsplit(str(section.get("url") or URL)).scheme in REQUESTS
    return HttpEar if over_http else RealtimeEar


class RealtimeEar(Transcriber):
    input_format = PCM_24K
    native_formats = frozenset({PCMU, PCMA})
    turn_detection = frozenset({"server_vad", "semantic_vad", "none"})
    session_seconds = 3600.0

    def __init__(self, section: Mapping[str, Any], options: AgentOptions) -> None:
        super().__init__(section, options)
        self._url, self._key = url_and_key(section, URL, "stt")
        transcription: Json = {"model": self.model}
        if language := short_language(section.get("language") or options.language):
            transcription["language"] = language
        heard: Json = {
            "format": ga_format(self._format),
            "transcription": transcription,
            "turn_detection": turn_finding(options.turn_detection),
        }
        session = {"type": "transcription", "audio": {"input": heard}}
        self._session = merged(session, section.get("extra") or {})
        self._ready = False
        self._session_id = ""
        self._said: dict[str, str] = {}
        """Item -> what is known of it before it is final."""

    @property
    def model(self) -> str:
        return str(self._section.get("model") or DEFAULT_MODEL)

    def endpoint(self) -> Endpoint:
        query = {"intent": "transcription"}
        if self._url != URL:  # others choose the model by the URL
            query["model"] = self.model
        return WebSocketEndpoint(with_query(self._url, query), authorization(self._key), text=True)

    def push(self, pcm: bytes, now: float) -> None:
        self._outbox.append(Outgoing("", append_audio(pcm), len(pcm) / self._format.bytes_per_ms))

    def commit(self, now: float) -> None:
        self._send({"type": "input_audio_buffer.commit"})

    def on_message(self, message: str | bytes, now: float) -> None:
        event = json_object(message)
        kind = text_of(event, "type")
        match kind:
            case "session.created":
                self._session_id = text_of(event["session"], "id")
                self._send({"type": "session.update", "session": self._session})
            case "session.updated":
                if not self._ready:
                    self._ready = True
                    self._events.append(Ready(self._session_id))
            case "input_audio_buffer.speech_started":
                self._events.append(SpeechBegan(number_of(event, "audio_start_ms")))
            case "input_audio_buffer.speech_stopped":
                self._events.append(SpeechOver(number_of(event, "audio_end_ms")))
            case "conversation.item.input_audio_transcription.delta":
                self._on_delta(event)
            case "conversation.item.input_audio_transcription.completed":
                self._on_final(event, text_of(event, "transcript").strip())
            case "conversation.item.input_audio_transcription.failed":
                self.counters["transcription_failed"] += 1
                self._on_final(event, "")
            case "error":
                self._on_error(event["error"])
            case _ if kind not in _IGNORED:
                self._unknown(kind)

    def _on_delta(self, event: Json) -> None:
        item_id = text_of(event, "item_id")
        if len(self._said) > 16:
            self._said.clear()  # items that are never finished
        self._said[item_id] = (self._said.get(item_id, "") + text_of(event, "delta"))[:10_000]
        self._events.append(Words(self._said[item_id], final=False, item_id=item_id))

    def _on_final(self, event: Json, text: str) -> None:
        item_id = text_of(event, "item_id")
        self._said.pop(item_id, None)
        self._events.append(Words(text, final=True, item_id=item_id))

    def _on_error(self, error: Json) -> None:
        code = text_of(error, "code") or text_of(error, "type") or "error"
        words = text_of(error, "message") or code
        if not self._ready or code in _FATAL or code == _EXPIRED:
            self._fail(words, code, again=code == _EXPIRED or text_of(error, "type") == "server_error")
            return
        self.counters["errors"] += 1
        self._log_once(code, "the transcriber reports an error", code=code, message=words[:200])

    def closed(self, code: int, reason: str, now: float) -> None:
        self._lost(code, reason)


class HttpEar(Transcriber):
    input_format = PCM_16K
    input_rates = (8000, 16000, 24000, 48000)
    tells_interim = False
    has_session = False

    def __init__(self, section: Mapping[str, Any], options: AgentOptions) -> None:
        super().__init__(section, options)
        self._url, self._key = url_and_key(section, URL, "stt", REQUESTS)
        self._ear = Ear(self._format.rate, options.turn_detection)
        self._fields = {"model": self.model, "response_format": "json"}
        if language := short_language(section.get("language") or options.language):
            self._fields["language"] = language
        self._fields |= {key: str(value) for key, value in (section.get("extra") or {}).items()}
        self._answer = b""
        self._heard = 0

    @property
    def model(self) -> str:
        return str(self._section.get("model") or DEFAULT_MODEL)

    def endpoint(self) -> Endpoint:
        return http_endpoint(self._url, self._key, f"multipart/form-data; boundary={_BOUNDARY}")

    def opened(self, now: float) -> None:
        self._events.append(Ready())

    def push(self, pcm: bytes, now: float) -> None:
        for heard in self._ear.feed(pcm):
            if isinstance(heard, Utterance):
                self._events.append(SpeechOver(heard.ended_ms))
                self._ask(heard)
            else:
                self._events.append(SpeechBegan(heard.at_ms))

    def commit(self, now: float) -> None:
        if (utterance := self._ear.take()) is not None:
            self._ask(utterance)
        else:
            self._events.append(Words("", final=True))

    def _ask(self, utterance: Utterance) -> None:
        self._outbox.append(Outgoing("", _form(self._fields, wav(utterance.pcm, self._format))))

    def on_message(self, message: str | bytes, now: float) -> None:
        if (end := HttpEnd.parse(message)) is None:
            piece = message.removeprefix("data:").encode() if isinstance(message, str) else message
            self._answer = (self._answer + piece)[:_MOST_ANSWER]
            return
        answer, self._answer = self._answer, b""
        self._heard += 1
        if end.code == "400":  # this one is not understood, the next one may be
            self.counters["transcription_failed"] += 1
            self._events.append(Words("", final=True, item_id=f"turn-{self._heard}"))
        elif end.code:
            self._fail(end.message, end.code, again=end.again)
        else:
            text = text_of(json_object(answer), "text").strip()
            self._events.append(Words(text, final=True, item_id=f"turn-{self._heard}"))

    def closed(self, code: int, reason: str, now: float) -> None:
        self._fail(f"can't be reached: {reason or code}", "closed", again=True)


def _form(fields: Mapping[str, str], audio: bytes) -> bytes:
    """RFC 7578."""
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="speech.wav"\r\n'
        "Content-Type: audio/wav\r\n\r\n"
    )
    return b"".join([*parts, head.encode(), audio, f"\r\n--{_BOUNDARY}--\r\n".encode()])


def wav(pcm: bytes, audio: AudioFormat) -> bytes:
    """PCM16 mono with a header before it."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, audio.rate, audio.rate * 2, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", 36 + len(pcm), b"WAVE") + form + struct.pack("<4sI", b"data", len(pcm)) + pcm
