"""The transcribers in memory; what they send, and the vendors' events in tests, go past the vendors' types."""

from __future__ import annotations

import json
from dataclasses import replace
from email.parser import BytesParser
from typing import Any

import pytest

from sipbridge.agent import AgentOptions, TurnDetection
from sipbridge.audio import PCM_16K, PCM_24K, PCMA, PCMU, AudioFormat
from sipbridge.providers import HttpEnd, HttpEndpoint, WebSocketEndpoint
from sipbridge.providers.speech.part import PartFailed
from sipbridge.providers.speech.transcriber import (
    Ready,
    SpeechBegan,
    SpeechOver,
    Transcriber,
    Words,
    transcriber_class,
)
from sipbridge.simulator.script import Utterance
from sipbridge.simulator.voice import speech
from tests.providers import openai_sdk
from tests.providers.cascade_driver import turn_info
from tests.providers.speech_sdk import check_heard, check_listen, check_transcription_form

Json = dict[str, Any]
NOVA: Json = {"provider": "deepgram", "api_key": "dg-0123456789", "model": "nova-3"}
FLUX: Json = {"provider": "deepgram", "api_key": "dg-0123456789"}
OPENAI: Json = {"provider": "openai", "api_key": "sk-0123456789"}
HTTP: Json = {"provider": "openai_compatible", "url": "http://127.0.0.1:9/v1/audio/transcriptions", "model": "whisper"}


def ear(section: Json, audio: AudioFormat = PCM_16K, **changes: Any) -> Transcriber:
    made = transcriber_class(section)(section, replace(AgentOptions(input_format=audio), **changes))
    made.opened(0.0)
    return made


def told(made: Transcriber, *messages: Json | str) -> list[Any]:
    for message in messages:
        made.receive(json.dumps(message) if isinstance(message, dict) else message, 0.0)
    events = []
    while (event := made.next_event()) is not None:
        events.append(event)
    return events


def sent(made: Transcriber) -> list[Any]:
    return [json.loads(m.data) if isinstance(m.data, str) else m.data for m in made.messages_to_send()]


def url_of(made: Transcriber) -> str:
    endpoint = made.endpoint()
    assert isinstance(endpoint, WebSocketEndpoint | HttpEndpoint)
    assert "0123456789" not in repr(endpoint)
    return endpoint.url


# --- Deepgram ---------------------------------------------------------------------------------------------------------


def test_flux_knows_turns() -> None:
    section = {**FLUX, "model": "flux-general-multi", "extra": {"eot_threshold": 0.8}}
    made = ear(section, PCMA, language="de-DE")
    query = "model=flux-general-multi&encoding=alaw&sample_rate=8000&language_hint=de&eot_threshold=0.8"
    assert url_of(made) == f"wss://api.deepgram.com/v2/listen?{query}"
    start, end = turn_info("StartOfTurn", "two"), turn_info("EndOfTurn", "two nights", trigger="model")
    update = turn_info("Update", "two nights")
    for message in (start, update, end):
        check_heard(message)
    assert told(made, start, update, end) == [
        SpeechBegan(200),
        Words("two", final=False, item_id="turn-0"),
        Words("two nights", final=False, item_id="turn-0"),
        SpeechOver(1400),
        Words("two nights", final=True, item_id="turn-0"),
    ]
    made.push(b"\xd5" * 160, 0.0)
    (frame,) = made.messages_to_send()
    assert (frame.data, frame.audio_ms) == (b"\xd5" * 160, 20.0)


def results(text: str, *, is_final: bool = False, speech_final: bool = False, finalize: bool | None = None) -> Json:
    information = {"name": "nova-3", "version": "1", "arch": "nova-3"}
    message: Json = {
        "type": "Results",
        "channel_index": [0, 1],
        "start": 0.5,
        "duration": 1.0,
        "is_final": is_final,
        "speech_final": speech_final,
        "channel": {"alternatives": [{"transcript": text, "confidence": 0.9, "words": []}]},
        "metadata": {"request_id": "r", "model_info": information, "model_uuid": "u"},
    }
    message |= {} if finalize is None else {"from_finalize": finalize}
    check_heard(message)
    return message


def test_nova_s_pieces_make_a_turn() -> None:
    made = ear(NOVA, turn_detection=TurnDetection(silence_ms=300), language="en")
    assert "endpointing=300" in url_of(made)
    assert "/v1/listen?model=nova-3&encoding=linear16&sample_rate=16000" in url_of(made)
    assert told(made) == [Ready()]
    pieces = (
        {"type": "SpeechStarted", "channel": [0, 1], "timestamp": 0.4},
        results("two"),
        results("two nights", is_final=True),
        results("please", is_final=True, speech_final=True),
    )
    assert told(made, *pieces) == [
        SpeechBegan(400),
        Words("two", final=False, item_id="turn-0"),
        Words("two nights", final=False, item_id="turn-0"),
        Words("two nights please", final=False, item_id="turn-0"),
        SpeechOver(1500),
        Words("two nights please", final=True, item_id="turn-0"),
    ]
    assert told(made, {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 1.4}) == [], "it was told already"
    assert told(made, results("and", is_final=True), {"type": "UtteranceEnd", "last_word_end": 2.5})[-1] == Words(
        "and", final=True, item_id="turn-1"
    )


@pytest.mark.parametrize(("section", "kind"), [(FLUX, "ForceEndTurn"), (NOVA, "Finalize")])
def test_a_turn_that_somebody_else_has_found(section: Json, kind: str) -> None:
    made = ear(section, turn_detection=TurnDetection(type="none"))
    made.commit(0.0)
    made.finish()
    messages = sent(made)
    assert [message["type"] for message in messages] == [kind, "CloseStream"]
    for message in messages:
        check_listen(message)
    if kind == "Finalize":
        assert told(made, results("yes", is_final=True, finalize=True))[-1] == Words("yes", True, "turn-0")


# --- OpenAI's realtime transcription ----------------------------------------------------------------------------------


def openai_event(kind: str, **fields: Any) -> Json:
    message = {"type": kind, "event_id": "e", **fields}
    openai_sdk.check_server_event(message)
    return message


def test_a_transcription_session() -> None:
    made = ear(OPENAI, PCMU, language="en-GB", turn_detection=TurnDetection(silence_ms=400))
    assert url_of(made) == "wss://api.openai.com/v1/realtime?intent=transcription"
    assert told(made, {"type": "session.created", "session": {"type": "transcription", "id": "sess_1"}}) == []
    (update,) = sent(made)
    openai_sdk.check_client_event(update)
    assert update["session"] == {
        "type": "transcription",
        "audio": {
            "input": {
                "format": {"type": "audio/pcmu"},
                "transcription": {"model": "gpt-transcribe", "language": "en"},
                "turn_detection": {"type": "server_vad", "silence_duration_ms": 400},
            }
        },
    }
    assert told(made, {"type": "session.updated", "session": {"type": "transcription"}}) == [Ready("sess_1")]
    kind = "conversation.item.input_audio_transcription"
    usage = {"type": "duration", "seconds": 1.0}
    place = {"item_id": "i", "content_index": 0}
    assert told(
        made,
        openai_event("input_audio_buffer.speech_started", audio_start_ms=100, item_id="i"),
        openai_event("input_audio_buffer.speech_stopped", audio_end_ms=900, item_id="i"),
        openai_event("input_audio_buffer.committed", item_id="i", previous_item_id=None),
        openai_event(f"{kind}.delta", delta="two ", **place),
        openai_event(f"{kind}.delta", delta="nights", **place),
        openai_event(f"{kind}.completed", transcript=" two nights", usage=usage, **place),
    ) == [
        SpeechBegan(100),
        SpeechOver(900),
        Words("two ", final=False, item_id="i"),
        Words("two nights", final=False, item_id="i"),
        Words("two nights", final=True, item_id="i"),
    ]
    assert not made.counters["unknown"]
    made.push(b"\xff" * 160, 0.0)
    made.commit(0.0)
    for message in made.messages_to_send():
        openai_sdk.check_client_event(json.loads(message.data))


def test_a_transcription_that_failed_is_a_turn_without_words() -> None:
    made = ear(OPENAI, PCM_24K)
    failure = {"type": "conversation.item.input_audio_transcription.failed", "item_id": "i", "error": {}}
    assert told(made, failure) == [Words("", final=True, item_id="i")]


def error(code: str, kind: str = "invalid_request_error") -> Json:
    return {"type": "error", "error": {"type": kind, "code": code, "message": f"about {code}"}}


def test_errors_before_and_after_it_is_ready() -> None:
    assert told(ear(OPENAI, PCM_24K), error("invalid_value")) == [
        PartFailed("stt: about invalid_value", "invalid_value", again=False)
    ]
    made = ear(OPENAI, PCM_24K)
    told(made, {"type": "session.updated", "session": {}})
    assert told(made, error("invalid_value")) == []
    assert told(made, error("session_expired")) == [PartFailed("stt: about session_expired", "session_expired", True)]


# --- transcriptions over HTTP -----------------------------------------------------------------------------------------


def spoken(audio: AudioFormat) -> bytes:
    return speech(Utterance(seconds=0.6), audio) + bytes(audio.bytes_per_ms * 800)


def test_an_utterance_is_found_and_posted_as_a_form() -> None:
    made = ear(HTTP, language="en")
    assert told(made) == [Ready()]
    endpoint = made.endpoint()
    assert isinstance(endpoint, HttpEndpoint)
    made.push(bytes(32 * 300) + spoken(PCM_16K), 0.0)
    began, ended = told(made)
    assert isinstance(began, SpeechBegan)
    assert isinstance(ended, SpeechOver)
    assert ended.at_ms == pytest.approx(900, abs=30)
    (body,) = sent(made)
    form = BytesParser().parsebytes(f"Content-Type: {endpoint.content_type}\r\n\r\n".encode() + body)
    fields: Json = {
        str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True)  # type: ignore[union-attr]
        for part in form.get_payload()
    }
    audio = fields.pop("file")
    assert audio[:4] + audio[8:12] == b"RIFFWAVE"
    assert len(audio) - 44 == pytest.approx(32 * 950, abs=32 * 100)
    plain = {name: value.decode() for name, value in fields.items()}
    assert plain == {"model": "whisper", "response_format": "json", "language": "en"}
    check_transcription_form(plain | {"file": b""})
    made.receive(b'{"text":" two ni', 0.0)
    made.receive(b'ghts "}', 0.0)
    assert told(made, str(HttpEnd(""))) == [Words("two nights", final=True, item_id="turn-1")]


def test_what_a_server_does_not_understand_costs_one_turn_and_a_server_that_is_gone_all() -> None:
    made = ear(HTTP)
    told(made)
    assert told(made, str(HttpEnd("400", "too short"))) == [Words("", final=True, item_id="turn-1")]
    assert told(made, str(HttpEnd("503", "overloaded"))) == [PartFailed("stt: overloaded", "503", again=True)]
    assert told(made, "data:{", str(HttpEnd(""))) == []
    assert made.counters["malformed"] == 1


def test_a_turn_by_hand_over_http() -> None:
    made = ear(HTTP, turn_detection=TurnDetection(type="none"))
    told(made)
    made.push(spoken(PCM_16K), 0.0)
    assert told(made) == []
    made.commit(0.0)
    assert len(sent(made)) == 1
    made.commit(0.0)
    assert told(made) == [Words("", final=True)], "nothing more was said"


@pytest.mark.parametrize("section", [FLUX, NOVA, OPENAI, HTTP])
@pytest.mark.parametrize(
    "rubbish", ["", "[]", b"\xff\x00", '{"type":7}', '{"type":"TurnInfo"}', '{"type":"Results","channel":1}']
)
def test_rubbish_is_passed_over(section: Json, rubbish: str | bytes) -> None:
    made = ear(section, PCM_24K)
    told(made)
    made.receive(rubbish, 0.0)
    assert told(made) == []


@pytest.mark.parametrize("section", [FLUX, NOVA, OPENAI])
def test_a_connection_that_is_lost(section: Json) -> None:
    made = ear(section, PCM_24K)
    told(made)
    made.closed(1011, "oops", 0.0)
    assert told(made) == [PartFailed("stt: the connection closed: 1011 oops", "closed", again=True)]
