"""Deepgram's speech recognition over a WebSocket: Flux (`/v2/listen`: it knows turns) and the older models
(`/v1/listen`: interim results, the end of speech by silence).

Sources: the vendor's SDK 7.17, `listen.v2` (`ListenV2TurnInfo`: Update, StartOfTurn, EagerEndOfTurn, TurnResumed,
EndOfTurn) and `listen.v1` (`ListenV1Results`, `ListenV1SpeechStarted`, `ListenV1UtteranceEnd`). `stt.extra` goes into
the query: keyterm, eot_threshold, eot_timeout_ms, smart_format, ...
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sipbridge.agent import AgentOptions
from sipbridge.audio import PCM_16K, PCMA, PCMU
from sipbridge.providers import Endpoint, WebSocketEndpoint
from sipbridge.providers.access import authorization, url_and_key, with_query
from sipbridge.providers.deepgram_names import ENCODINGS
from sipbridge.providers.speech.part import short_language
from sipbridge.providers.speech.transcriber import Ready, SpeechBegan, SpeechOver, Transcriber, Words
from sipbridge.providers.wire import Json, json_object, text_of

FLUX_URL, NOVA_URL = "wss://api.deepgram.com/v2/listen", "wss://api.deepgram.com/v1/listen"
DEFAULT_MODEL = "flux-general-en"
_SILENCE_MS, _UTTERANCE_END_MS = 500, 1000


def deepgram_ear(section: Mapping[str, Any]) -> type[Transcriber]:
    model = str(section.get("model") or DEFAULT_MODEL)
    return FluxEar if model.startswith("flux") else NovaEar


class _DeepgramEar(Transcriber):
    input_format = PCM_16K
    input_rates = (8000, 16000, 24000, 48000)
    native_formats = frozenset({PCMU, PCMA})
    url = ""

    def __init__(self, section: Mapping[str, Any], options: AgentOptions) -> None:
        super().__init__(section, options)
        self._url, self._key = url_and_key(section, self.url, "stt")
        self._language = section.get("language") or options.language

    @property
    def model(self) -> str:
        return str(self._section.get("model") or DEFAULT_MODEL)

    def endpoint(self) -> Endpoint:
        query: Json = {
            "model": self.model,
            "encoding": ENCODINGS[self._format.encoding],
            "sample_rate": self._format.rate,
            **self._query(),
            **(self._section.get("extra") or {}),
        }
        return WebSocketEndpoint(with_query(self._url, query), authorization(self._key, "Token"))

    def _query(self) -> Json:
        return {}

    def finish(self) -> None:
        self._send({"type": "CloseStream"})

    def on_message(self, message: str | bytes, now: float) -> None:
        event = json_object(message)
        kind = text_of(event, "type")
        if kind == "Error":
            code = text_of(event, "code") or "error"
            self._fail(text_of(event, "description") or code, code, again=True)
        elif kind == "Warning":
            self.counters["warnings"] += 1
        else:
            self.on_event(kind, event)

    def on_event(self, kind: str, event: Json) -> None:
        raise NotImplementedError

    def closed(self, code: int, reason: str, now: float) -> None:
        self._lost(code, reason)


class FluxEar(_DeepgramEar):
    url = FLUX_URL
    turn_detection = frozenset({"server_vad", "semantic_vad", "none"})
    turn_settings = frozenset()

    def _query(self) -> Json:
        hinted = self._language and self.model == "flux-general-multi"
        return {"language_hint": short_language(self._language)} if hinted else {}

    def commit(self, now: float) -> None:
        self._send({"type": "ForceEndTurn"})

    def on_event(self, kind: str, event: Json) -> None:
        if kind == "Connected":
            self._events.append(Ready(text_of(event, "request_id")))
        elif kind == "TurnInfo":
            self._on_turn(event)
        elif kind not in ("ConfigureSuccess", "ConfigureFailure"):
            self._unknown(kind)

    def _on_turn(self, event: Json) -> None:
        """An eager end is no end: it would be answered twice. (We do not ask for eager ones.)"""
        what, text = event["event"], text_of(event, "transcript").strip()
        item_id = f"turn-{event['turn_index']}"
        until_ms = round(float(event["audio_window_end"]) * 1000)
        if what == "StartOfTurn":
            self._events.append(SpeechBegan(self._first_word_ms(event)))
        elif what == "EndOfTurn":
            self._events.append(SpeechOver(until_ms))
            self._events.append(Words(text, final=True, item_id=item_id))
        if what in ("StartOfTurn", "Update") and text:
            self._events.append(Words(text, final=False, item_id=item_id))

    @staticmethod
    def _first_word_ms(event: Json) -> int:
        words = event.get("words") or [{}]
        start = words[0].get("start")
        return round(float(event["audio_window_start"] if start is None else start) * 1000)


class NovaEar(_DeepgramEar):
    url = NOVA_URL
    turn_detection = frozenset({"server_vad", "none"})
    turn_settings = frozenset({("server_vad", "silence_ms")})

    def __init__(self, section: Mapping[str, Any], options: AgentOptions) -> None:
        super().__init__(section, options)
        self._speaking = False
        self._said: list[str] = []
        """Final pieces of the turn under way."""
        self._turns = 0

    def _query(self) -> Json:
        silence = self._options.turn_detection.silence_ms
        query: Json = {
            "channels": 1,
            "interim_results": "true",
            "vad_events": "true",
            "endpointing": _SILENCE_MS if silence is None else silence,
            "utterance_end_ms": _UTTERANCE_END_MS,
            "smart_format": "true",
        }
        return query | ({"language": str(self._language)} if self._language else {})

    def opened(self, now: float) -> None:
        self._events.append(Ready())

    def commit(self, now: float) -> None:
        self._send({"type": "Finalize"})

    def on_event(self, kind: str, event: Json) -> None:
        if kind == "Results":
            self._on_results(event)
        elif kind == "SpeechStarted":
            self._begin(round(float(event["timestamp"]) * 1000))
        elif kind == "UtteranceEnd":
            if self._said:
                self._end(round(float(event["last_word_end"]) * 1000))
        elif kind != "Metadata":
            self._unknown(kind)

    def _on_results(self, event: Json) -> None:
        text = text_of(event["channel"]["alternatives"][0], "transcript").strip()
        until_ms = round((float(event["start"]) + float(event["duration"])) * 1000)
        if text:
            self._begin(round(float(event["start"]) * 1000))
            self._events.append(Words(" ".join([*self._said, text]), final=False, item_id=f"turn-{self._turns}"))
        if event.get("is_final") and text:
            self._said.append(text)
        if event.get("speech_final") or event.get("from_finalize"):
            self._end(until_ms)

    def _begin(self, at_ms: int) -> None:
        if not self._speaking:
            self._speaking = True
            self._events.append(SpeechBegan(at_ms))

    def _end(self, at_ms: int) -> None:
        if self._speaking:
            self._speaking = False
            self._events.append(SpeechOver(at_ms))
        text, self._said = " ".join(self._said), []
        self._events.append(Words(text, final=True, item_id=f"turn-{self._turns}"))
        self._turns += 1
