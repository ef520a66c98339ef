"""The voices that are not Cartesia's, in memory: Deepgram's over a WebSocket, OpenAI's over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sipbridge.agent import AgentOptions
from sipbridge.audio import PCM_24K, PCMU, AudioFormat
from sipbridge.errors import ConfigError
from sipbridge.providers import HttpEnd, HttpEndpoint, WebSocketEndpoint
from sipbridge.providers.speech.part import PartFailed
from sipbridge.providers.speech.voice import Voice, VoiceAudio, VoiceDone, VoiceFailed, VoiceWords, voice_class
from tests.providers.speech_sdk import check_speak, check_speech, check_spoken

Json = dict[str, Any]
DEEPGRAM: Json = {"provider": "deepgram", "api_key": "dg-0123456789"}
OPENAI: Json = {"provider": "openai", "api_key": "sk-0123456789", "voice": "cedar"}


def voice(section: Json, audio: AudioFormat = PCM_24K) -> Voice:
    return voice_class(section)(section, AgentOptions(output_format=audio))


def events(made: Voice, *messages: Json | str | bytes, now: float = 0.0) -> list[Any]:
    for message in messages:
        if isinstance(message, dict):
            check_spoken(message)
        made.receive(json.dumps(message) if isinstance(message, dict) else message, now)
    found = []
    while (event := made.next_event()) is not None:
        found.append(event)
    return found


# --- Deepgram ---------------------------------------------------------------------------------------------------------


def told(made: Voice) -> list[str]:
    """Texts, and the names of the other messages in brackets."""
    messages = [json.loads(message.data) for message in made.messages_to_send()]
    for message in messages:
        check_speak(message)
    return [message.get("text", f"[{message['type']}]") for message in messages]


FLUSHED: Json = {"type": "Flushed", "sequence_id": 0}
CLEARED: Json = {"type": "Cleared", "sequence_id": 1}


def test_deepgram_speaks_the_first_phrase_at_once_and_the_rest_when_it_is_worth_it() -> None:
    made = voice(DEEPGRAM, PCMU)
    endpoint = made.endpoint()
    assert isinstance(endpoint, WebSocketEndpoint)
    assert endpoint.url == "wss://api.deepgram.com/v1/speak?model=aura-2-thalia-en&encoding=mulaw&sample_rate=8000"
    made.speak("a", "Hotel Aster. ", 0.0)
    made.speak("a", "How can ", 0.1)
    assert told(made) == ["Hotel Aster. ", "[Flush]", "How can "]
    made.finish("a", 0.2)
    assert told(made) == ["[Flush]"]
    assert events(made, b"\x55" * 8000, FLUSHED) == [
        VoiceAudio("a", b"\x55" * 8000),
        VoiceWords("a", (("Hotel", 0, 462), ("Aster.", 462, 1000))),
    ]
    assert events(made, b"\x55" * 4000, FLUSHED)[-1] == VoiceDone("a")


def test_after_clear_deepgram_s_late_audio_is_none() -> None:
    made = voice(DEEPGRAM, PCMU)
    made.speak("a", "A long story. ", 0.0)
    made.cancel("a", 0.1)
    made.speak("b", "Yes?", 0.2)
    made.finish("b", 0.2)
    assert told(made) == ["A long story. ", "[Flush]", "[Clear]", "Yes?", "[Flush]"]
    assert events(made, b"\x55" * 80, FLUSHED, CLEARED) == []
    assert made.counters["late_audio_bytes"] == 80
    assert events(made, b"\x66" * 80, FLUSHED)[0] == VoiceAudio("b", b"\x66" * 80)


def test_deepgram_s_texts_are_spoken_one_after_another() -> None:
    made = voice(DEEPGRAM, PCMU)
    for context in ("a", "b"):
        made.speak(context, "Yes. ", 0.0)
        made.finish(context, 0.0)
    assert told(made) == ["Yes. ", "[Flush]"]
    done, *rest = events(made, FLUSHED)[1:]
    assert (done, rest) == (VoiceDone("a"), [])
    assert told(made) == ["Yes. ", "[Flush]"]


def test_deepgram_is_not_flushed_more_often_than_it_allows() -> None:
    made = voice(DEEPGRAM, PCMU)
    for number in range(18):
        made.speak(f"c{number}", "Yes.", number)
        made.finish(f"c{number}", number)
        events(made, FLUSHED)
    told(made)
    made.speak("late", "And?", 18.0)
    made.finish("late", 18.0)
    assert told(made) == ["And?"]
    assert made.get_timer() == 60.0
    made.handle_timer(60.0)
    assert told(made) == ["[Flush]"]


def test_a_deepgram_socket_that_idles_and_one_that_is_lost() -> None:
    made = voice(DEEPGRAM, PCMU)
    made.closed(1000, "", 0.0)
    assert events(made) == []
    made.speak("a", "Yes. ", 1.0)
    made.finish("a", 1.0)
    told(made)
    made.closed(1006, "gone just then", 1.0)
    assert told(made) == ["Yes. ", "[Flush]"], "given again"
    assert events(made, b"\x55") == [VoiceAudio("a", b"\x55")]
    made.closed(1011, "oops", 1.1)
    assert events(made) == [PartFailed("voice: the connection closed: 1011 oops", "closed", again=True)]


def test_a_deepgram_socket_that_can_t_be_opened_again() -> None:
    made = voice(DEEPGRAM, PCMU)
    made.speak("a", "Yes. ", 1.0)
    made.closed(1006, "refused", 1.0)
    made.closed(1006, "refused", 1.1)
    assert events(made) == [PartFailed("voice: the connection closed: 1006 refused", "closed", again=True)]


# --- OpenAI, over HTTP ------------------------------------------------------------------------------------------------


def asked(made: Voice) -> list[str]:
    """The inputs; "" for a cancel."""
    bodies = [json.loads(message.data) if message.data else {"input": ""} for message in made.messages_to_send()]
    for body in bodies:
        if body["input"]:
            check_speech(body)
            assert (body["response_format"], body["voice"]) == ("pcm", "cedar")
    return [body["input"] for body in bodies]


WELL = str(HttpEnd(""))


def test_openai_is_asked_for_one_thing_at_a_time() -> None:
    made = voice(OPENAI)
    endpoint = made.endpoint()
    assert isinstance(endpoint, HttpEndpoint)
    assert endpoint.url == "https://api.openai.com/v1/audio/speech"
    made.speak("a", "Hotel Aster. ", 0.0)
    made.speak("a", "How can I help? ", 0.1)
    made.speak("a", "We are open.", 0.2)
    made.finish("a", 0.2)
    assert asked(made) == ["Hotel Aster. "]
    assert events(made, b"\x01\x02\x03", b"\x04", WELL) == [
        VoiceAudio("a", b"\x01\x02"),
        VoiceAudio("a", b"\x03\x04"),
        VoiceWords("a", (("Hotel", 0, 0), ("Aster.", 0, 0))),
    ]
    assert asked(made) == ["How can I help? We are open."]
    told = events(made, bytes(48000), WELL)
    assert told[-1] == VoiceDone("a")
    assert told[1].words[-1][2] == 1000


def test_a_cancelled_text_of_openai_s_is_not_heard() -> None:
    made = voice(OPENAI)
    made.speak("a", "A long story. ", 0.0)
    made.cancel("a", 0.1)
    made.speak("b", "Yes?", 0.1)
    made.finish("b", 0.1)
    assert asked(made) == ["A long story. ", "", "Yes?"]
    assert events(made, b"\x01\x02", str(HttpEnd("cancelled"))) == []
    assert [type(event) for event in events(made, b"\x01\x02", WELL)] == [VoiceAudio, VoiceWords, VoiceDone]


@pytest.mark.parametrize(
    ("end", "event"),
    [
        (HttpEnd("400", "bad text"), VoiceFailed("a", "bad text", "400")),
        (HttpEnd("401", "no key"), PartFailed("voice: no key", "401", again=False)),
        (HttpEnd("429", "too many"), PartFailed("voice: too many", "429", again=True)),
    ],
)
def test_what_openai_refuses(end: HttpEnd, event: Any) -> None:
    made = voice(OPENAI)
    made.speak("a", "Yes.", 0.0)
    assert events(made, str(end)) == [event]


def test_openai_s_voice_has_one_format() -> None:
    with pytest.raises(ConfigError, match="24000"):
        voice(OPENAI, PCMU)


@pytest.mark.parametrize("section", [DEEPGRAM, OPENAI])
@pytest.mark.parametrize("rubbish", ["", "[]", '{"type":7}', '{"type":"Flushed"}', "data:x"])
def test_rubbish_is_passed_over(section: Json, rubbish: str) -> None:
    made = voice(section)
    made.speak("a", "Yes.", 0.0)
    made.receive(rubbish, 0.0)
    assert not any(isinstance(event, PartFailed | VoiceFailed) for event in events(made))
