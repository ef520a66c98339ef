"""Cartesia's voice in memory, with time as a number; all that it sends goes past the vendor's types."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from sipbridge.agent import AgentOptions
from sipbridge.audio import PCM_16K, PCM_24K, PCMA, PCMU, AudioFormat
from sipbridge.errors import ConfigError
from sipbridge.providers import WebSocketEndpoint
from sipbridge.providers.speech.cartesia import CartesiaVoice
from sipbridge.providers.speech.part import PartFailed
from sipbridge.providers.speech.voice import VoiceAudio, VoiceDone, VoiceFailed, VoiceWords
from tests.providers.cartesia_sdk import check_client_event, check_server_event

Json = dict[str, Any]
SECTION: Json = {"provider": "cartesia", "api_key": "sk_car_0123456789", "voice": "voice-1"}


class Socket:
    """A voice and what it sent."""

    def __init__(self, section: Json | None = None, audio: AudioFormat = PCMU, **options: Any) -> None:
        self.voice = CartesiaVoice(section or SECTION, AgentOptions(output_format=audio, **options))
        self.voice.opened(0.0)

    def sent(self) -> list[Json]:
        messages = [json.loads(message.data) for message in self.voice.messages_to_send()]
        for message in messages:
            check_client_event(message)
        return messages

    def said(self) -> list[tuple[str, str, bool]]:
        """(context, transcript, continue) of what was sent; ("...", "cancel", True) for a cancel."""
        return [(m["context_id"], m.get("transcript", "cancel"), m.get("continue", True)) for m in self.sent()]

    def server(self, *messages: Json, now: float = 0.0) -> list[Any]:
        for message in messages:
            check_server_event(message)
            self.voice.receive(json.dumps(message), now)
        return self.events()

    def events(self) -> list[Any]:
        events = []
        while (event := self.voice.next_event()) is not None:
            events.append(event)
        return events


def chunk(context: str, pcm: bytes) -> Json:
    data = b64encode(pcm).decode()
    return {
        "type": "chunk",
        "context_id": context,
        "data": data,
        "done": False,
        "status_code": 206,
        "step_time": 1.5,
    }


def words(context: str, *timed: tuple[str, float, float]) -> Json:
    told = {"words": [w for w, _, _ in timed], "start": [s for _, s, _ in timed], "end": [e for _, _, e in timed]}
    place: Json = {"context_id": context, "done": False, "status_code": 206}
    return {"type": "timestamps", "word_timestamps": told, **place}


def done(context: str) -> Json:
    return {"type": "done", "context_id": context, "done": True, "status_code": 200}


def failure(status: int, code: str, context: str | None = "ctx-1") -> Json:
    place = {} if context is None else {"context_id": context}
    return {
        "type": "error",
        "done": True,
        "status_code": status,
        "error_code": code,
        "message": f"about {code}",
    } | place


@pytest.mark.parametrize(
    ("audio", "encoding", "rate"),
    [
        (PCMU, "pcm_mulaw", 8000),
        (PCMA, "pcm_alaw", 8000),
        (PCM_16K, "pcm_s16le", 16000),
        (PCM_24K, "pcm_s16le", 24000),
    ],
)
def test_the_call_s_own_format_is_asked_for(audio: AudioFormat, encoding: str, rate: int) -> None:
    socket = Socket(audio=audio, language="en-GB")
    endpoint = socket.voice.endpoint()
    assert isinstance(endpoint, WebSocketEndpoint)
    assert endpoint.url == "wss://api.cartesia.ai/tts/websocket?cartesia_version=2026-08-14"
    assert endpoint.headers == {"Authorization": "Bearer sk_car_0123456789"}
    assert "sk_car" not in repr(endpoint)
    socket.voice.speak("a", "Hotel Aster. ", 0.0)
    (message,) = socket.sent()
    assert message == {
        "model_id": "sonic-3.5",
        "voice": {"mode": "id", "id": "voice-1"},
        "output_format": {"container": "raw", "encoding": encoding, "sample_rate": rate},
        "add_timestamps": True,
        "max_buffer_delay_ms": 0,
        "language": "en",
        "context_id": "ctx-1",
        "transcript": "Hotel Aster. ",
        "continue": True,
    }


def test_a_context_from_its_first_piece_to_its_end() -> None:
    socket = Socket()
    socket.voice.speak("a", "Hotel Aster, ", 0.0)
    socket.voice.speak("a", "how can I help?", 0.1)
    socket.voice.finish("a", 0.2)
    socket.voice.finish("a", 0.2)
    assert socket.said() == [
        ("ctx-1", "Hotel Aster, ", True),
        ("ctx-1", "how can I help?", True),
        ("ctx-1", "", False),
    ]
    told = socket.server(chunk("ctx-1", b"\x55" * 160), words("ctx-1", ("Hotel", 0.0, 0.4), ("Aster,", 0.4, 0.9)))
    assert told == [VoiceAudio("a", b"\x55" * 160), VoiceWords("a", (("Hotel", 0, 400), ("Aster,", 400, 900)))]
    assert socket.server(done("ctx-1"), done("ctx-1")) == [VoiceDone("a")]
    assert not socket.voice.counters["malformed"]


def test_after_a_cancel_nothing_of_the_context_is_told() -> None:
    socket = Socket()
    socket.voice.speak("a", "A long story. ", 0.0)
    socket.voice.cancel("a", 0.1)
    socket.voice.cancel("a", 0.1)
    socket.voice.finish("a", 0.1)
    socket.voice.speak("b", "Yes? ", 0.2)
    assert socket.said() == [("ctx-1", "A long story. ", True), ("ctx-1", "cancel", True), ("ctx-2", "Yes? ", True)]
    assert socket.server(chunk("ctx-1", b"\x55" * 160), done("ctx-1")) == []
    assert socket.voice.counters["late_audio_bytes"] == 162


def test_a_context_that_expired_while_the_model_thought_goes_on_in_another_one() -> None:
    socket = Socket()
    socket.voice.speak("a", "One moment. ", 0.0)
    socket.server(chunk("ctx-1", b"\x55" * 8000), words("ctx-1", ("One", 0.0, 0.4), ("moment.", 0.4, 0.9)), now=0.2)
    socket.voice.speak("a", "Here it is. ", 2.0)
    socket.voice.finish("a", 2.1)
    assert socket.said() == [
        ("ctx-1", "One moment. ", True),
        ("ctx-2", "Here it is. ", True),
        ("ctx-2", "", False),
    ]
    assert socket.server(done("ctx-1")) == []
    told = socket.server(chunk("ctx-2", b"\x55" * 80), words("ctx-2", ("Here", 0.0, 0.25)), done("ctx-2"), now=2.3)
    assert told[1:] == [VoiceWords("a", (("Here", 1000, 1250),)), VoiceDone("a")], "times go on where they were"


def test_a_context_that_the_vendor_has_ended_needs_no_last_piece() -> None:
    socket = Socket()
    socket.voice.speak("a", "Bye.", 0.0)
    socket.server(chunk("ctx-1", b"\x55"), words("ctx-1", ("Bye.", 0.0, 0.4)), done("ctx-1"))
    socket.sent()
    socket.voice.finish("a", 0.5)
    assert socket.sent() == []
    assert socket.events() == [VoiceDone("a")]


def test_too_many_at_once_is_tried_again_while_nothing_was_heard() -> None:
    socket = Socket()
    socket.voice.speak("a", "One. ", 0.0)
    assert socket.server(failure(429, "concurrency_limited")) == []
    socket.voice.speak("a", "Two.", 0.1)
    socket.voice.finish("a", 0.1)
    assert socket.voice.get_timer() == 0.5
    socket.sent()
    socket.voice.handle_timer(0.5)
    assert socket.said() == [("ctx-2", "One. Two.", False)]
    assert socket.server(failure(429, "concurrency_limited", "ctx-2"), now=0.5) == []
    socket.voice.handle_timer(socket.voice.get_timer() or 0)
    last = socket.server(failure(429, "concurrency_limited", "ctx-3"), now=2.0)
    assert last == [VoiceFailed("a", "about concurrency_limited", "concurrency_limited")]
    assert socket.voice.get_timer() is None


def test_errors_that_no_retry_helps() -> None:
    socket = Socket()
    socket.voice.speak("a", "One. ", 0.0)
    assert socket.server(failure(400, "bad_request")) == [VoiceFailed("a", "about bad_request", "bad_request")]
    assert socket.server(failure(400, "bad_request", None)) == []
    assert socket.server(failure(402, "quota_exceeded", None)) == [
        PartFailed("voice: about quota_exceeded", "quota_exceeded", again=False)
    ]


def test_an_idle_socket_s_end_is_none_and_what_met_it_is_asked_again() -> None:
    socket = Socket()
    socket.voice.closed(1000, "idle", 300.0)
    assert socket.events() == []
    socket.voice.speak("a", "Hello. ", 400.0)
    socket.voice.closed(1006, "gone just then", 400.0)
    socket.sent()
    socket.voice.handle_timer(400.0)
    assert socket.said() == [("ctx-2", "Hello. ", True)]
    socket.voice.closed(1006, "and still gone", 400.1)
    (failed,) = socket.events()
    assert isinstance(failed, PartFailed)
    assert failed.again


def test_a_socket_lost_in_mid_word_is_lost() -> None:
    socket = Socket()
    socket.voice.speak("a", "Hello. ", 0.0)
    socket.server(chunk("ctx-1", b"\x55"))
    socket.voice.closed(1011, "oops", 0.1)
    assert socket.events() == [PartFailed("voice: the connection closed: 1011 oops", "closed", again=True)]


@pytest.mark.parametrize(
    "rubbish",
    [
        "",
        "[]",
        b"\xff",
        '{"type":7}',
        '{"type":"chunk","context_id":"ctx-1","data":5}',
        '{"type":"timestamps","context_id":"ctx-1","word_timestamps":{"words":["a"],"start":[1e999],"end":[1]}}',
        '{"type":"timestamps","context_id":"ctx-1","word_timestamps":{"words":["a"],"start":[],"end":[]}}',
        '{"type":"error","status_code":{}}',
    ],
)
def test_rubbish_is_passed_over(rubbish: str | bytes) -> None:
    socket = Socket()
    socket.voice.speak("a", "Hello. ", 0.0)
    socket.voice.receive(rubbish, 0.0)
    assert socket.events() == []


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match=r"voice_provider.voice"):
        CartesiaVoice({"api_key": "k"}, AgentOptions())
    with pytest.raises(ConfigError, match=r"voice_provider.api_key"):
        CartesiaVoice({"voice": "v"}, AgentOptions())
    with pytest.raises(ConfigError, match="this voice gives"):
        CartesiaVoice(SECTION, AgentOptions(output_format=AudioFormat("pcm16", 32000)))
