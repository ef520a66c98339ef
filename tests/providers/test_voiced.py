"""A model that writes with a separate voice: OpenAI's with Cartesia's, without sockets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sipbridge.agent import (
    AgentError,
    AssistantAudio,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    SessionClosed,
    ToolCall,
    Usage,
    UserSpeechStarted,
)
from sipbridge.audio import PCM_24K, PCMA, PCMU, Played
from sipbridge.errors import ConfigError, UnknownProviderError
from sipbridge.providers import capabilities_of, new_dialect
from tests.providers.openai_driver import call, created, done, speech_started
from tests.providers.order import audio_of
from tests.providers.test_cartesia import chunk, failure, words
from tests.providers.test_cartesia import done as voice_done
from tests.providers.voiced_driver import CREDENTIAL, OPTIONS, Driver, text_delta, text_done

TEXT = "Hotel Aster. How can I help?"
SECOND = b"\x55" * 8000


def kinds(driver: Driver) -> list[str]:
    return [type(event).__name__ for event in driver.take_events()]


def spoken_reply(reply_id: str = "resp_1", context: str = "ctx-1", item_id: str = "item_1") -> Driver:
    """A reply that is written and spoken: two seconds."""
    driver = Driver().open()
    write(driver, reply_id, item_id)
    speak(driver, context)
    return driver


def write(driver: Driver, reply_id: str = "resp_1", item_id: str = "item_1") -> None:
    driver.from_model(
        created(reply_id),
        text_delta(reply_id, "Hotel Aster. How ", item_id),
        text_delta(reply_id, "can I help?", item_id),
        text_done(reply_id, TEXT, item_id),
        done(reply_id),
    )


def speak(driver: Driver, context: str = "ctx-1") -> None:
    timed = [("Hotel", 0.0, 0.4), ("Aster.", 0.4, 1.0), ("How", 1.0, 1.2), ("can", 1.2, 1.4), ("I", 1.4, 1.5)]
    driver.from_voice(chunk(context, SECOND), words(context, *timed, ("help?", 1.5, 2.0)), chunk(context, SECOND))
    driver.from_voice(voice_done(context))


def test_the_model_is_asked_for_words_and_the_voice_for_the_call_s_format() -> None:
    driver = Driver()
    driver.from_model({"type": "session.created", "session": {"id": "sess_1"}})
    (update,) = driver.take_model()
    assert update["session"]["output_modalities"] == ["text"]
    assert "voice" not in update["session"]["audio"].get("output", {})
    assert driver.dialect.endpoints().keys() == {"realtime", "voice"}
    capabilities = driver.dialect.capabilities
    assert capabilities.native_formats == {PCMU, PCMA}
    assert capabilities.output_format == PCM_24K
    assert capabilities_of("openai", CREDENTIAL).output_rates == capabilities.output_rates


def test_phrases_are_spoken_while_the_model_still_writes() -> None:
    driver = Driver().open()
    driver.from_model(created("resp_1"), text_delta("resp_1", "Hotel Aster. How "))
    assert driver.take_voice() == [("ctx-1", "Hotel Aster. ")]
    driver.from_voice(chunk("ctx-1", SECOND))
    first = AssistantAudio("resp_1", "speech-1", SECOND)
    assert driver.take_events() == [
        AssistantTurnStarted("resp_1"),
        AssistantText("resp_1", "Hotel Aster. How ", final=False),
        first,
    ]
    driver.from_model(text_delta("resp_1", "can I help?"), text_done("resp_1", TEXT), done("resp_1"))
    assert driver.take_voice() == [("ctx-1", "How can I help?"), ("ctx-1", "|")]
    assert kinds(driver) == ["AssistantText", "AssistantText"], "the reply is not over before it is spoken"
    driver.from_voice(chunk("ctx-1", SECOND), voice_done("ctx-1"))
    assert driver.take_events() == [
        first,
        Usage("resp_1", {"characters": 28, "output_audio_seconds": 2.0}, "sonic-3.5"),
        AssistantTurnEnd("resp_1"),
    ]


def test_an_interruption_is_told_to_both_and_to_the_model_in_words() -> None:
    driver = spoken_reply()
    assert driver.take_events()[-1] == AssistantTurnEnd("resp_1")
    driver.take_model()
    driver.from_model(speech_started())
    assert driver.take_events() == [UserSpeechStarted(0, "item_user")]
    driver.command("cancel", [Played("resp_1", "speech-1", 700)])
    put, deleted = driver.take_model()
    assert deleted == {"type": "conversation.item.delete", "item_id": "item_1"}
    assert put["item"]["content"] == [{"type": "output_text", "text": "Hotel Aster."}]
    assert put["item"]["role"] == "assistant"
    driver.command("cancel", [])
    assert driver.take_model() == [], "it is told once"


def test_an_interruption_while_the_voice_still_speaks() -> None:
    driver = Driver().open()
    write(driver)
    driver.from_voice(chunk("ctx-1", SECOND), words("ctx-1", ("Hotel", 0.0, 0.4), ("Aster.", 0.4, 1.0)))
    driver.take_model(), driver.take_voice(), driver.take_events()
    driver.command("cancel", [Played("resp_1", "speech-1", 300)])
    assert driver.take_voice() == [("ctx-1", "cancel")]
    put, deleted = driver.take_model()
    assert (deleted["type"], put["item"]["content"][0]["text"]) == ("conversation.item.delete", "Hotel")
    usage, end = driver.take_events()
    assert isinstance(usage, Usage)
    assert usage.counts["characters"] == 28
    assert end == AssistantTurnEnd("resp_1", "cancelled")
    driver.from_voice(chunk("ctx-1", SECOND), voice_done("ctx-1"))
    assert driver.take_events() == []


def test_an_interruption_while_the_model_still_writes() -> None:
    driver = Driver().open()
    driver.from_model(created("resp_1"), text_delta("resp_1", "Hotel Aster. How "))
    driver.from_voice(chunk("ctx-1", SECOND))
    driver.take_events(), driver.take_model(), driver.take_voice()
    driver.command("cancel", [Played("resp_1", "speech-1", 0)])
    assert driver.take_voice() == [("ctx-1", "cancel")]
    assert [message["type"] for message in driver.take_model()] == ["response.cancel"]
    driver.from_model(text_delta("resp_1", "can I help?"), done("resp_1", "cancelled", "client_cancelled"))
    assert driver.take_voice() == [], "what comes after the cut is not spoken"
    assert driver.take_events()[-1] == AssistantTurnEnd("resp_1", "cancelled")
    deleted = driver.take_model()
    assert [message["type"] for message in deleted] == ["conversation.item.delete"], "nothing of it was heard"


def test_of_several_items_the_first_was_heard_and_the_second_cut() -> None:
    driver = Driver().open()
    driver.from_model(created("resp_1"), text_delta("resp_1", "One moment.", "item_1"))
    driver.from_model(text_done("resp_1", "One moment.", "item_1"), text_delta("resp_1", "Here it is.", "item_2"))
    driver.from_model(text_done("resp_1", "Here it is.", "item_2"), done("resp_1"))
    driver.from_voice(
        words("ctx-1", ("One", 0.0, 0.3), ("moment.", 0.3, 0.7)), chunk("ctx-1", SECOND), voice_done("ctx-1")
    )
    driver.from_voice(words("ctx-2", ("Here", 0.0, 0.3), ("it", 0.3, 0.5), ("is.", 0.5, 0.8)), chunk("ctx-2", SECOND))
    driver.take_model()
    driver.command("cancel", [Played("resp_1", "speech-2", 350)])
    put, deleted = driver.take_model()
    assert put["item"]["content"][0]["text"] == "Here"
    assert deleted == {"type": "conversation.item.delete", "item_id": "item_2"}


def test_what_was_never_fetched_was_never_heard() -> None:
    driver = Driver().open()
    write(driver)
    driver.dialect.receive("voice", json.dumps(chunk("ctx-1", SECOND)), driver.now)
    driver.take_model()
    driver.command("cancel", [])
    assert [message["type"] for message in driver.take_model()] == ["conversation.item.delete"]
    assert audio_of(driver.take_events()) == b""
    assert driver.dialect.counters["late_audio_bytes"] == len(SECOND)


def test_a_reply_that_comes_while_another_is_spoken_waits_for_it() -> None:
    driver = Driver().open()
    write(driver)
    write(driver, "resp_2", "item_2")
    assert [text for _, text in driver.take_voice()] == ["Hotel Aster. ", "How can I help?", "|"] * 2
    driver.from_voice(chunk("ctx-2", b"\x66"), chunk("ctx-1", b"\x77"), voice_done("ctx-2"))
    events = driver.take_events()
    assert {event.reply_id for event in events if not isinstance(event, SessionClosed | AgentError)} == {"resp_1"}  # type: ignore[union-attr]
    assert audio_of(events) == b"\x77"
    driver.from_voice(voice_done("ctx-1"))
    events = driver.take_events()
    assert events[1:3] == [AssistantTurnEnd("resp_1"), AssistantTurnStarted("resp_2")]
    assert audio_of(events) == b"\x66"
    assert events[-1] == AssistantTurnEnd("resp_2")


def test_a_tool_runs_while_its_reply_is_still_spoken() -> None:
    driver = Driver().open()
    driver.from_model(created("resp_1"), text_delta("resp_1", "One moment."), text_done("resp_1", "One moment."))
    driver.from_model(call("resp_1", "call_1"), done("resp_1"))
    assert ToolCall("call_1", "lookup", "{}", "resp_1") in driver.take_events()
    driver.take_model()
    driver.command("send_tool_result", "call_1", "{}")
    assert [message["type"] for message in driver.take_model()] == ["conversation.item.create", "response.create"]
    driver.from_model(created("resp_2"), call("resp_2", "call_2"))
    assert driver.take_events() == [], "but the next reply waits"
    driver.command("cancel", [Played("resp_1", "speech-1", 0)])
    assert not any(isinstance(event, ToolCall) for event in driver.take_events()), "its call was never told of"


def test_a_reply_without_words_needs_no_voice() -> None:
    driver = Driver().open()
    driver.from_model(created("resp_1"), call("resp_1", "call_1"), done("resp_1"))
    assert kinds(driver) == ["AssistantTurnStarted", "ToolCall", "AssistantTurnEnd"]
    driver.from_model(created("resp_2"), text_delta("resp_2", " \n"), text_done("resp_2", " \n"), done("resp_2"))
    assert kinds(driver)[-1] == "AssistantTurnEnd"
    assert driver.take_voice() == []


def test_a_text_that_the_voice_refuses_ends_its_reply_and_no_more() -> None:
    driver = Driver().open()
    write(driver)
    driver.take_events()
    driver.from_voice(failure(400, "bad_transcript"))
    error, _, end = driver.take_events()
    assert error == AgentError("voice: about bad_transcript", "bad_transcript", fatal=False)
    assert end == AssistantTurnEnd("resp_1", "failed")
    write(driver, "resp_2", "item_2")
    assert driver.take_voice()[-1] == ("ctx-2", "|")


def test_a_voice_that_is_lost_ends_the_session_which_may_be_resumed() -> None:
    driver = Driver().open()
    write(driver)
    driver.from_voice(chunk("ctx-1", SECOND))
    driver.take_events()
    driver.channel_closed("voice")
    events = driver.take_events()
    assert events[-2:] == [
        AssistantTurnEnd("resp_1", "failed"),
        SessionClosed("voice: the connection closed: 1006", again=True),
    ]
    assert any(isinstance(event, AgentError) and event.fatal for event in events)
    driver.order.done()


def test_a_voice_that_idles_is_no_loss() -> None:
    driver = spoken_reply()
    driver.take_events(), driver.take_voice()
    driver.channel_closed("voice", 1000)
    assert driver.take_events() == []
    write(driver, "resp_2", "item_2")
    assert driver.take_voice()[0] == ("ctx-2", "Hotel Aster. ")


def test_a_model_that_is_lost_while_it_writes() -> None:
    driver = Driver().open()
    driver.from_model(created("resp_1"), text_delta("resp_1", "Hotel Aster. How "))
    driver.from_voice(chunk("ctx-1", SECOND))
    driver.channel_closed("realtime")
    driver.order.done()
    assert driver.take_events()[-2] == AssistantTurnEnd("resp_1", "failed")


def test_closing_ends_what_is_spoken() -> None:
    driver = Driver().open()
    write(driver)
    driver.command("close")
    driver.order.done()
    assert driver.take_events()[-2:] == [
        AssistantTurnEnd("resp_1", "cancelled"),
        SessionClosed("closed", expected=True),
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"provider": "gemini", "api_key": "k"}, "only speak themselves"),
        ({"voice_provider": {"provider": "cartesa", "voice": "v"}}, "did you mean 'cartesia'"),
        ({"voice_provider": {"provider": "cartesia", "api_key": "k"}}, "voice_provider.voice"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], words: str) -> None:
    if change.get("provider") == "gemini":
        pytest.importorskip("sipbridge.providers.gemini")
    with pytest.raises((ConfigError, UnknownProviderError), match=words):
        new_dialect(CREDENTIAL | change, OPTIONS)


def test_a_voice_that_says_nothing_any_more_is_lost() -> None:
    driver = Driver().open()
    write(driver)
    driver.from_voice(chunk("ctx-1", SECOND))
    driver.advance(7.9)
    assert not any(isinstance(event, SessionClosed) for event in driver.take_events())
    driver.advance(0.2)
    assert driver.take_events()[-1] == SessionClosed("voice: says nothing any more", again=True)
    driver.order.done()


def test_a_model_that_pauses_is_no_hung_voice() -> None:
    driver = Driver().open()
    driver.from_model(created("resp_1"), text_delta("resp_1", "One moment. "))
    driver.from_voice(chunk("ctx-1", SECOND), voice_done("ctx-1"))
    assert driver.dialect.get_timer() is None


def test_replies_that_nobody_speaks_are_not_gathered_for_ever() -> None:
    driver = Driver().open()
    for number in range(40):
        write(driver, f"resp_{number}", f"item_{number}")
    assert isinstance(driver.take_events()[-1], SessionClosed)
    driver.order.done()
