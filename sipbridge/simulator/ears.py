"""Transcribers, simulated: Deepgram's Flux and Nova, OpenAI's realtime transcription. They hear loudness and understand
what the script says."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from typing import Any, ClassVar

from sipbridge.audio import PCM_24K, PCMA, PCMU, AudioFormat
from sipbridge.simulator.conversation import Conversation, Part
from sipbridge.simulator.model import Connection, Opening
from sipbridge.simulator.openai_check import NULLABLE, check_value
from sipbridge.simulator.script import Script
from sipbridge.simulator.voice import Ear

Json = dict[str, Any]
FORMATS = {"audio/pcm": PCM_24K, "audio/pcmu": PCMU, "audio/pcma": PCMA}
_ENCODINGS = {"linear16": "pcm16", "mulaw": "pcmu", "alaw": "pcma"}
_COMMON = (
    "model",
    "encoding",
    "sample_rate",
    "keyterm",
    "mip_opt_out",
    "numerals",
    "profanity_filter",
    "redact",
    "tag",
)
_LISTEN_QUERY = {
    "/v2/listen": {*_COMMON, "eager_eot_threshold", "eot_threshold", "eot_timeout_ms", "language_hint"},
    "/v1/listen": {
        *_COMMON,
        "channels",
        "endpointing",
        "interim_results",
        "language",
        "punctuate",
        "smart_format",
        "utterance_end_ms",
        "vad_events",
    },
}


class _DeepgramListen(Part):
    key: ClassVar[str] = "Token"
    path: ClassVar[str] = ""
    messages: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self, connection: Connection, script: Script, opening: Opening, conversation: Conversation | None = None
    ) -> None:
        super().__init__(connection, script, opening, conversation)
        self._opening = opening
        self._heard = 0
        for key in opening.query:
            if key not in _LISTEN_QUERY[self.path]:
                self._refuse("INVALID_QUERY_PARAMETER", key)
        encoding, rate = opening.parameter("encoding"), opening.parameter("sample_rate", "0")
        if encoding not in _ENCODINGS or not rate.isdigit():
            self._refuse("INVALID_QUERY_PARAMETER", f"encoding={encoding}, sample_rate={rate}")
        self.audio = AudioFormat(_ENCODINGS.get(encoding, "pcm16"), int(rate) or 16000)  # type: ignore[arg-type]
        silence = opening.parameter("endpointing", "500")
        self._ear = Ear(self.audio, rms=script.vad_rms, prefix_ms=0, silence_ms=int(silence))

    def _refuse(self, code: str, message: str) -> None:
        self._connection.record.violations.append((code, message))

    def receive(self, data: str | bytes) -> None:
        if isinstance(data, bytes):
            self._connection.record.audio += data
            for speaking, at_ms in self._ear.feed(data):
                self.began(at_ms) if speaking else self.ended(at_ms, "model")
            return
        message = self.read(data)
        if message.get("type") not in self.messages or set(message) != {"type"}:
            self._refuse("INVALID_MESSAGE", str(message)[:100])
        elif message["type"] in ("ForceEndTurn", "Finalize"):
            self.ended(self._ear.heard_ms, "manual")

    def began(self, at_ms: int) -> None:
        raise NotImplementedError

    def ended(self, at_ms: int, why: str) -> None:
        raise NotImplementedError


class FluxModel(_DeepgramListen):
    path: ClassVar[str] = "/v2/listen"
    messages: ClassVar[frozenset[str]] = frozenset({"CloseStream", "ForceEndTurn"})

    def opened(self) -> None:
        self._sequence = 0
        self._turn = 0
        self._began_ms = 0
        self._tell("Connected")

    def _tell(self, kind: str, **more: Any) -> None:
        self._connection.send({"type": kind, "request_id": "req_sim", "sequence_id": self._sequence, **more})
        self._sequence += 1

    def _turn_info(self, event: str, at_ms: int, text: str, **more: Any) -> None:
        words = [
            {"word": word, "confidence": 0.9, "start": self._began_ms / 1000, "end": at_ms / 1000}
            for word in text.split()
        ]
        window = {"audio_window_start": self._began_ms / 1000, "audio_window_end": at_ms / 1000}
        said = {"transcript": text, "words": words, "end_of_turn_confidence": 0.9 if event == "EndOfTurn" else 0.1}
        self._tell("TurnInfo", event=event, turn_index=self._turn, **window, **said, **more)

    def began(self, at_ms: int) -> None:
        self._began_ms = at_ms
        text = self._script.transcripts[self._conversation.turns % len(self._script.transcripts)]
        self._turn_info("StartOfTurn", at_ms, text.split()[0])
        self._turn_info("Update", at_ms, text)

    def ended(self, at_ms: int, why: str) -> None:
        self._turn_info("EndOfTurn", at_ms, self._conversation.next_transcript(), trigger=why)
        self._turn += 1


class NovaModel(_DeepgramListen):
    path: ClassVar[str] = "/v1/listen"
    messages: ClassVar[frozenset[str]] = frozenset({"CloseStream", "Finalize", "KeepAlive"})

    def opened(self) -> None:
        self._began_ms = 0

    def began(self, at_ms: int) -> None:
        self._began_ms = at_ms
        self._connection.send({"type": "SpeechStarted", "channel": [0, 1], "timestamp": at_ms / 1000})
        text = self._script.transcripts[self._conversation.turns % len(self._script.transcripts)]
        self._results(text.split()[0], at_ms, is_final=False, speech_final=False)

    def ended(self, at_ms: int, why: str) -> None:
        self._results(
            self._conversation.next_transcript(),
            at_ms,
            is_final=True,
            speech_final=why == "model",
            from_finalize=why == "manual",
        )

    def _results(self, text: str, at_ms: int, **more: Any) -> None:
        information = {"name": "nova-3", "version": "1", "arch": "nova-3"}
        alternative = {"transcript": text, "confidence": 0.9, "words": []}
        self._connection.send(
            {
                "type": "Results",
                "channel_index": [0, 1],
                "start": self._began_ms / 1000,
                "duration": max(0, at_ms - self._began_ms) / 1000,
                "channel": {"alternatives": [alternative]},
                "metadata": {"request_id": "req_sim", "model_info": information, "model_uuid": "uuid"},
                **more,
            }
        )


_SESSION = {
    "type": frozenset({"transcription"}),
    "include": [str],
    "audio": {
        "input": {
            "format": {"type": frozenset(FORMATS), "rate": frozenset({24000})},
            "noise_reduction": {NULLABLE: None, "type": str, "strength": (int, float)},
            "transcription": {
                "model": str,
                "language": str,
                "prompt": str,
                "keywords": [str],
                "languages": [str],
                "delay": str,
            },
            "turn_detection": {
                NULLABLE: None,
                "type": frozenset({"server_vad", "semantic_vad"}),
                "threshold": (int, float),
                "prefix_padding_ms": int,
                "silence_duration_ms": int,
                "eagerness": str,
            },
        }
    },
}
_MESSAGES = {
    "session.update": {"type": str, "event_id": str, "session": _SESSION},
    "input_audio_buffer.append": {"type": str, "event_id": str, "audio": str},
    "input_audio_buffer.commit": {"type": str, "event_id": str},
    "input_audio_buffer.clear": {"type": str, "event_id": str},
}


class TranscriptionModel(Part):
    """OpenAI's, GA: a session of type transcription."""

    path: ClassVar[str] = "/v1/realtime"

    def __init__(
        self, connection: Connection, script: Script, opening: Opening, conversation: Conversation | None = None
    ) -> None:
        super().__init__(connection, script, opening, conversation)
        self._heard: Json = {"turn_detection": {"type": "server_vad"}}
        self._ear: Ear | None = None
        self._ids = 0
        self._item = ""
        if opening.parameter("intent") != "transcription":
            connection.record.violations.append(("intent", "not transcription"))

    def _id(self, kind: str) -> str:
        self._ids += 1
        return f"{kind}_{self._ids:04d}"

    def _emit(self, kind: str, **fields: Any) -> None:
        self._connection.send({"type": kind, "event_id": self._id("event"), **fields})

    def opened(self) -> None:
        self._emit("session.created", session=self._session())

    def _session(self) -> Json:
        return {"type": "transcription", "id": "sess_sim", "object": "realtime.transcription_session"}

    def _refuse(self, code: str, message: str) -> None:
        self._connection.record.violations.append((code, message))
        error = {"type": "invalid_request_error", "code": code, "message": message, "param": None, "event_id": None}
        self._emit("error", error=error)

    def receive(self, data: str | bytes) -> None:
        message = self.read(data)
        kind = message.get("type")
        if kind not in _MESSAGES or isinstance(data, bytes):
            self._refuse("invalid_value", f"unknown message {kind!r}")
        elif refusal := check_value(message, _MESSAGES[kind]):
            self._refuse(refusal.code, refusal.message)
        elif kind == "session.update":
            self._update(message["session"])
        elif kind == "input_audio_buffer.append":
            self._hear(message["audio"])
        elif kind == "input_audio_buffer.commit":
            self._commit()

    def _update(self, session: Json) -> None:
        fault = self._script.fault
        if fault and fault.name == "no_update":
            return
        if fault and fault.name == "refuse_setup":
            error = {"type": "invalid_request_error", "code": "invalid_value", "message": "refused", "param": None}
            self._emit("error", error=error | {"event_id": None})
            return
        self._heard |= session.get("audio", {}).get("input", {})
        detection = self._heard["turn_detection"] or {}
        self._ear = Ear(
            FORMATS[self._heard["format"]["type"]] if "format" in self._heard else PCM_24K,
            rms=self._script.vad_rms,
            prefix_ms=detection.get("prefix_padding_ms", 300),
            silence_ms=detection.get("silence_duration_ms", 500),
        )
        self._emit("session.updated", session=self._session())

    def _hear(self, text: str) -> None:
        try:
            audio = b64decode(text, validate=True)
        except Base64Error:
            self._refuse("invalid_value", "not base64")
            return
        self._connection.record.audio += audio
        if self._ear is None:
            self._refuse("invalid_value", "audio before session.update")
            return
        for speaking, at_ms in self._ear.feed(audio) if self._heard["turn_detection"] else ():
            if speaking:
                self._item = self._id("item")
                self._emit("input_audio_buffer.speech_started", audio_start_ms=at_ms, item_id=self._item)
            else:
                self._emit("input_audio_buffer.speech_stopped", audio_end_ms=at_ms, item_id=self._item)
                self._commit()

    def _commit(self) -> None:
        item_id = self._item or self._id("item")
        self._item = ""
        self._emit("input_audio_buffer.committed", item_id=item_id, previous_item_id=None)
        text = self._conversation.next_transcript()
        kind = "conversation.item.input_audio_transcription"
        for word in text.split():
            self._emit(f"{kind}.delta", item_id=item_id, content_index=0, delta=word + " ")
        usage = {"type": "duration", "seconds": 1.0}
        self._emit(f"{kind}.completed", item_id=item_id, content_index=0, transcript=text, usage=usage)
