"""A cascade in memory: who says what to whom, and when."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sipbridge.agent import (
    AgentError,
    AssistantAudio,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    Said,
    SessionClosed,
    ToolCall,
    ToolCallCancelled,
    ToolDeclaration,
    ToolUsed,
    TurnDetection,
    Usage,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import PCM_16K, PCM_24K, PCMA, PCMU, Played
from sipbridge.errors import ConfigError, UnknownProviderError
from sipbridge.providers import HttpEnd, HttpEndpoint, WebSocketEndpoint, capabilities_of, new_dialect
from tests.providers.cascade_driver import CREDENTIAL, OPTIONS, Driver, tool_delta, turn_info
from tests.providers.order import audio_of

SYSTEM = {"role": "system", "content": "You run a hotel."}
TOOL = ToolDeclaration("price", "What a stay costs.", {"type": "object", "properties": {"nights": {"type": "integer"}}})


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def test_what_is_opened() -> None:
    endpoints = Driver().dialect.endpoints()
    assert endpoints.keys() == {"stt", "llm", "voice"}
    ear, model = endpoints["stt"], endpoints["llm"]
    assert isinstance(ear, WebSocketEndpoint)
    assert ear.url == "wss://api.deepgram.com/v2/listen?model=flux-general-en&encoding=mulaw&sample_rate=8000"
    assert ear.headers == {"Authorization": "Token dg-0123456789"}
    assert isinstance(model, HttpEndpoint)
    assert model.url == "https://api.openai.com/v1/chat/completions"
    assert "sk-" not in repr(endpoints)


def test_what_it_can_do_is_what_its_parts_can() -> None:
    capabilities = capabilities_of("cascade", CREDENTIAL)
    assert capabilities.native_formats == {PCMU, PCMA}
    assert capabilities.input_format == PCM_16K
    assert capabilities.output_format == PCM_24K
    assert capabilities.says_verbatim
    over_http = {**CREDENTIAL["stt"], "provider": "openai", "url": "http://127.0.0.1:8000/v1/audio/transcriptions"}
    assert capabilities_of("cascade", {**CREDENTIAL, "stt": over_http}).native_formats == frozenset()


def test_a_turn_from_the_first_word_heard_to_the_last_one_spoken() -> None:
    driver = Driver(interim_transcripts=True, temperature=0.4, tools=(TOOL,)).open()
    driver.command("push_audio", b"\xff" * 8000)
    assert driver.heard == [b"\xff" * 8000]
    driver.turn("two nights please")
    began, interim, ended, usage, final, reply = driver.take_events()
    assert (began, ended) == (UserSpeechStarted(200), UserSpeechEnded(1400))
    assert interim == UserTranscript("two", final=False, item_id="turn-0")
    assert usage == Usage("", {"input_audio_seconds": 1.0}, "flux-general-en")
    assert final == UserTranscript("two nights please", final=True, item_id="turn-0")
    assert reply == AssistantTurnStarted("reply-1")
    (body,) = driver.take_asked()
    assert body["messages"] == [SYSTEM, user("two nights please")]
    assert body["temperature"] == 0.4
    assert body["tools"][0]["function"]["name"] == "price"
    driver.model("With pleasure. That", end=None)
    assert driver.take_spoken() == [("ctx-1", "With pleasure. ")], "spoken while the model still writes"
    driver.voice("ctx-1", 0.5, done=False)
    assert audio_of(driver.take_events())
    driver.model(" is 240 euros.")
    assert driver.take_spoken() == [("ctx-1", "That is 240 euros."), ("ctx-1", "")]
    driver.voice("ctx-1", 1.0)
    events = driver.take_events()
    assert AssistantText("reply-1", "With pleasure. That is 240 euros.", final=True) in events
    assert events[-1] == AssistantTurnEnd("reply-1")
    driver.turn("thank you", 1)
    assert driver.question()[1:] == [
        user("two nights please"),
        assistant("With pleasure. That is 240 euros."),
        user("thank you"),
    ]


def test_a_cough_is_no_question() -> None:
    driver = Driver().open()
    driver.turn("")
    assert driver.take_asked() == []
    assert not any(isinstance(event, UserTranscript) for event in driver.take_events())


def test_where_we_judge_turns_an_answer_waits_for_the_words_and_for_nobody_else() -> None:
    driver = Driver(turn_detection=TurnDetection(create_response=False)).open()
    driver.turn("mm-hm")
    assert driver.take_asked() == [], "it was not asked to"
    driver.ear(turn_info("StartOfTurn", "stop", 1))
    driver.command("create_response")
    assert driver.take_asked() == [], "what he says is not written down yet"
    driver.ear(turn_info("EndOfTurn", "stop please", 1, trigger="model"))
    assert driver.question()[1:] == [user("mm-hm stop please")]
    driver.model("Yes.")
    driver.take_asked()
    driver.ear(turn_info("StartOfTurn", "", 2))
    driver.command("create_response")
    driver.ear(turn_info("EndOfTurn", "", 2, trigger="model"))
    assert driver.take_asked() == [], "a cough is no question"


def test_an_eager_end_is_no_end() -> None:
    driver = Driver().open()
    driver.ear(turn_info("StartOfTurn", "two"), turn_info("EagerEndOfTurn", "two"), turn_info("TurnResumed", "two"))
    assert driver.take_asked() == []


def test_an_interruption_stops_model_and_voice_and_cuts_the_history() -> None:
    driver = Driver().open()
    driver.turn("tell me a story")
    driver.model("Once upon a time. There was a", end=None)
    driver.voice("ctx-1", 2.0, done=False, words="Once upon a time.")
    driver.take_asked(), driver.take_spoken(), driver.take_events()
    driver.ear(turn_info("StartOfTurn", "stop", 1))
    driver.command("cancel", [Played("reply-1", "speech-1", 1100)])
    assert driver.take_asked() == [None]
    assert driver.take_spoken() == [("ctx-1", "cancel")]
    assert driver.take_events()[-1] == AssistantTurnEnd("reply-1", "cancelled")
    driver.model(" princess.", end=HttpEnd("cancelled"))
    driver.voice("ctx-1")
    assert driver.take_events() == []
    driver.ear(turn_info("EndOfTurn", "stop please", 1, trigger="model"))
    assert driver.question()[1:] == [user("tell me a story"), assistant("Once upon"), user("stop please")]


def test_an_interruption_after_all_was_written_but_not_heard() -> None:
    driver = Driver().open()
    driver.turn("tell me a story")
    driver.model("Once upon a time. The end.")
    driver.voice("ctx-1", 2.0, words="Once upon a time. The end.")
    driver.command("cancel", [Played("reply-1", "speech-1", 0)])
    driver.take_asked()
    driver.turn("never mind", 1)
    assert driver.question()[1:] == [user("tell me a story never mind")], "what nobody heard was not said"


def test_a_greeting_is_said_in_its_very_words() -> None:
    driver = Driver().open()
    driver.command("say", "Hotel Aster, how can I help?")
    assert driver.take_asked() == []
    assert "".join(text for _, text in driver.take_spoken()) == "Hotel Aster, how can I help?"
    driver.voice("ctx-1")
    driver.turn("two nights")
    assert driver.question()[1:] == [assistant("Hotel Aster, how can I help?"), user("two nights")]


def test_what_is_to_be_said_while_the_model_writes_is_said_after_it() -> None:
    driver = Driver().open()
    driver.command("create_response")
    driver.command("say", "The line is recorded.")
    driver.model("Hello there, caller.")
    driver.voice("ctx-1")
    driver.voice("ctx-2")
    ended = [event for event in driver.take_events() if isinstance(event, AssistantTurnEnd)]
    assert ended == [AssistantTurnEnd("reply-1"), AssistantTurnEnd("reply-2")]


def test_several_tools_and_then_the_answer() -> None:
    driver = Driver(tools=(TOOL,)).open()
    driver.turn("two nights or three?")
    driver.take_asked()
    pieces = [
        tool_delta(0, "call_a", "price"),
        tool_delta(0, arguments='{"nights"'),
        tool_delta(1, "call_b", "price", '{"nights":3}'),
        tool_delta(0, arguments=":2}"),
    ]
    driver.model("Let me see.", *pieces)
    driver.voice("ctx-1")
    calls = [event for event in driver.take_events() if isinstance(event, ToolCall)]
    assert calls == [
        ToolCall("call_a", "price", '{"nights":2}', "reply-1"),
        ToolCall("call_b", "price", '{"nights":3}', "reply-1"),
    ]
    driver.command("send_tool_result", "call_b", "360")
    assert driver.take_asked() == [], "the other one is still out"
    driver.command("send_tool_result", "call_a", "240")
    driver.command("send_tool_result", "call_a", "240")
    _, _, asked, *results = driver.question()
    assert asked["content"] == "Let me see."
    assert [call["id"] for call in asked["tool_calls"]] == ["call_a", "call_b"]
    assert [(result["tool_call_id"], result["content"]) for result in results] == [("call_a", "240"), ("call_b", "360")]
    assert driver.dialect.counters["tool_result_unexpected"] == 1


def test_a_question_while_a_tool_is_out() -> None:
    driver = Driver(tools=(TOOL,)).open()
    driver.turn("two nights")
    driver.model(tool_delta(0, "call_a", "price", "{}"))
    driver.take_asked()
    driver.turn("are you there?", 1)
    *_, call, result, question = driver.question()
    assert call["tool_calls"][0]["id"] == "call_a"
    assert result["tool_call_id"] == "call_a"
    assert question == user("are you there?")


def test_a_tool_cancelled_by_an_interruption() -> None:
    driver = Driver(tools=(TOOL,)).open()
    driver.turn("two nights")
    driver.model("One moment.", tool_delta(0, "call_a", "price", "{}"))
    driver.voice("ctx-1", done=False)
    driver.take_asked(), driver.take_events()
    driver.command("cancel", [Played("reply-1", "speech-1", 500)])
    assert ToolCallCancelled("call_a") in driver.take_events()
    driver.command("send_tool_result", "call_a", "240")
    assert driver.take_asked() == []
    driver.turn("three nights", 1)
    results = [message for message in driver.question() if message["role"] == "tool"]
    assert "cancelled" in results[0]["content"]


def test_a_session_that_goes_on_with_another_one() -> None:
    past = (Said("user", "two nights"), ToolUsed("call_a", "price", "{}", "240"), Said("assistant", "240 euros."))
    driver = Driver(history=past).open()
    assert driver.take_asked() == []
    driver.turn("and three?")
    roles = [message["role"] for message in driver.question()]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]


def test_a_tool_that_was_called_in_a_session_that_is_gone() -> None:
    driver = Driver(history=(Said("user", "two nights"), ToolUsed("call_a", "price", "{}"))).open()
    driver.command("send_tool_result", "call_a", "240")
    assert driver.question()[-1] == {"role": "tool", "tool_call_id": "call_a", "content": "240"}
    assert not driver.dialect.counters["tool_result_unexpected"]


def test_instructions_keys_and_turns_found_by_somebody_else() -> None:
    driver = Driver(turn_detection=TurnDetection(type="none")).open()
    driver.command("update_instructions", "You run a bakery.")
    driver.command("send_text", "The caller pressed 5.")
    assert driver.take_asked() == []
    driver.command("commit_input_audio")
    assert driver.heard[-1] == {"type": "ForceEndTurn"}
    driver.ear(turn_info("EndOfTurn", "bread", trigger="manual"))
    messages = driver.question()
    assert messages == [{"role": "system", "content": "You run a bakery."}, user("The caller pressed 5. bread")]


def test_a_model_that_is_busy_is_asked_again() -> None:
    driver = Driver().open()
    driver.turn("hello")
    driver.take_asked()
    driver.model(end=HttpEnd("429", "too many"))
    assert driver.take_asked() == []
    driver.advance(0.5)
    assert driver.question()[-1] == user("hello")
    driver.model("Yes?")
    driver.voice("ctx-1")
    assert driver.take_events()[-1] == AssistantTurnEnd("reply-1")


@pytest.mark.parametrize(
    ("end", "again", "tries"),
    [
        (HttpEnd("401", "no such key"), False, 1),
        (HttpEnd("404", "no such model"), False, 1),
        (HttpEnd("503", "overloaded"), True, 3),
        (HttpEnd("timeout", "no answer"), True, 3),
    ],
)
def test_a_model_that_fails_is_named(end: HttpEnd, again: bool, tries: int) -> None:
    driver = Driver().open()
    driver.turn("hello")
    for _ in range(tries):
        driver.model(end=end)
        driver.advance(2.0)
    error, ended, closed = driver.take_events()[-3:]
    assert error == AgentError(f"llm: {end.message}", end.code, fatal=True)
    assert ended == AssistantTurnEnd("reply-1", "failed")
    assert isinstance(closed, SessionClosed)
    assert closed.again is again
    driver.order.done()


def test_a_model_that_breaks_off_in_mid_sentence_is_not_asked_for_the_same_again() -> None:
    driver = Driver().open()
    driver.turn("hello")
    driver.model("Good morning. How", end=HttpEnd("closed", "gone"))
    closed = driver.take_events()[-1]
    assert isinstance(closed, SessionClosed)
    assert closed.again


@pytest.mark.parametrize("part", ["stt", "voice"])
def test_a_part_that_is_lost_is_named(part: str) -> None:
    driver = Driver().open()
    driver.turn("hello")
    driver.model("Good morning. How", end=None)
    driver.voice("ctx-1", done=False)
    driver.channel_closed(part, 1011)
    errors = [event for event in driver.take_events() if isinstance(event, AgentError)]
    assert errors[0].message.startswith({"stt": "stt:", "voice": "tts:"}[part])
    closed = driver.order.seen[-1]
    assert isinstance(closed, SessionClosed)
    assert closed.again
    driver.order.done()


def test_closing_says_goodbye() -> None:
    driver = Driver().open()
    driver.turn("hello")
    driver.command("close")
    assert driver.heard[-1] == {"type": "CloseStream"}
    assert driver.take_asked()[-1] is None
    driver.order.done()


def test_usage_of_every_part() -> None:
    driver = Driver().open()
    driver.command("push_audio", b"\xff" * 16000)
    driver.turn("hello")
    driver.model("Hi.", end=None)
    usage = {"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23}
    base: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
    driver.dialect.receive("llm", "data:" + json.dumps(base | {"usage": usage}), 0.0)
    driver.model()
    driver.voice("ctx-1", 0.5)
    told = [event for event in driver.take_events() if isinstance(event, Usage)]
    assert told == [
        Usage("", {"input_audio_seconds": 2.0}, "flux-general-en"),
        Usage("reply-1", {"input_tokens": 20, "output_tokens": 3}, "gpt-test"),
        Usage("reply-1", {"characters": 3, "output_audio_seconds": 0.5}, "sonic-3.5"),
    ]


@pytest.mark.parametrize(
    "rubbish", ["data:", "data:{", "data:[]", "data:7", 'data:{"choices":[{"delta":{"tool_calls":[7]}}]}', "x"]
)
def test_rubbish_is_passed_over(rubbish: str) -> None:
    driver = Driver().open()
    driver.turn("hello")
    driver.dialect.receive("llm", rubbish, 0.0)
    driver.dialect.receive("stt", rubbish, 0.0)
    driver.model("Hi there.")
    driver.voice("ctx-1")
    assert driver.take_events()[-1] == AssistantTurnEnd("reply-1")


def test_audio_that_nobody_asked_for_is_none() -> None:
    driver = Driver().open()
    driver.voice("ctx-9")
    assert not any(isinstance(event, AssistantAudio) for event in driver.take_events())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"llm": None}, "has no llm"),
        ({"stt": {"provider": "deepgrm"}}, r"stt.provider: .*did you mean 'deepgram'"),
        ({"llm": {"provider": "anything"}}, r"llm.provider"),
        ({"llm": {"provider": "openai", "model": "m"}}, r"llm.api_key"),
        ({"llm": {"provider": "openai", "api_key": "k"}}, r"llm.model"),
        ({"tts": {"provider": "cartesia", "api_key": "k"}}, r"tts.voice"),
        ({"tts": {"provider": "nobody"}}, r"tts.provider"),
    ],
)
def test_what_is_missing_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises((ConfigError, UnknownProviderError), match=words):
        new_dialect(CREDENTIAL | change, replace(OPTIONS))
