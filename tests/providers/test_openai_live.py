"""The Live dialect: what it sends, and how it finds turns where the vendor has none."""

from __future__ import annotations

import json
import time
from base64 import b64decode
from typing import Any

import pytest

from sipbridge.agent import (
    AgentError,
    AgentOptions,
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
    Usage,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import PCM_16K, PCM_24K, PCMA, PCMU, AudioFormat, Played
from sipbridge.errors import ConfigError
from sipbridge.providers import WebSocketEndpoint, capabilities_of, tools_for_session
from sipbridge.providers.openai_live import OpenAILiveDialect
from sipbridge.providers.openai_live_wire import pieces
from tests.providers.live_driver import CREDENTIAL, LOOKUP, LOUD, QUIET, Driver, call, options, resource, response
from tests.providers.live_sdk import check_client_event
from tests.providers.order import audio_of

# --- the start --------------------------------------------------------------------------------------------------------


def started_with(agent_options: AgentOptions, **credential: Any) -> dict[str, Any]:
    [start] = Driver(agent_options, CREDENTIAL | credential).take_sent()
    assert start["type"] == "session.start"
    session: dict[str, Any] = start["session"]
    return session


def test_the_client_speaks_first_and_names_one_format_for_both_ways() -> None:
    assert started_with(options(instructions="Be brief.", voice="willow")) == {
        "model": "gpt-live-1",
        "instructions": "Be brief.",
        "audio": {"format": {"type": "audio/pcmu", "rate": 8000}, "output": {"voice": "willow"}},
    }


@pytest.mark.parametrize(
    ("audio", "told"),
    [
        (PCMA, {"type": "audio/pcma", "rate": 8000}),
        (PCM_16K, {"type": "audio/pcm", "rate": 16000}),
        (PCM_24K, {"type": "audio/pcm", "rate": 24000}),
    ],
)
def test_formats(audio: AudioFormat, told: dict[str, Any]) -> None:
    session = started_with(AgentOptions(input_format=audio, output_format=audio))
    assert session["audio"] == {"format": told}


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
@pytest.mark.parametrize("native", [None, PCMU, PCMA])
def test_whatever_the_phone_speaks_both_ways_are_alike(native: AudioFormat | None, rate: int) -> None:
    up, down = capabilities_of("openai_live").formats_for(native, rate)
    assert up == down
    started_with(AgentOptions(input_format=up, output_format=down))


def test_two_formats_are_refused_before_anybody_is_asked() -> None:
    with pytest.raises(ConfigError, match="one format"):
        OpenAILiveDialect(CREDENTIAL, AgentOptions(input_format=PCM_16K, output_format=PCM_24K))


def test_where_it_connects_to_and_with_what() -> None:
    endpoint = Driver().dialect.endpoints()["realtime"]
    assert isinstance(endpoint, WebSocketEndpoint)
    assert endpoint.url == "wss://api.openai.com/v1/live/sessions"
    assert endpoint.headers == {"Authorization": "Bearer sk-test-0123456789"}
    assert "sk-test" not in repr(endpoint)
    with pytest.raises(ConfigError, match="api_key"):
        OpenAILiveDialect({"provider": "openai_live"}, options())


def test_tools_belong_to_the_text_model_behind_the_voice() -> None:
    session = started_with(options(instructions="Be brief.", tools=(LOOKUP,)), delegation={"model": "gpt-5.5-mini"})
    [tool] = tools_for_session("openai_live", (LOOKUP,))
    assert session["delegation"] == {
        "type": "responses",
        "responses": {
            "model": "gpt-5.5-mini",
            "instructions": "Be brief.",
            "tools": [tool],
            "tool_choice": "auto",
        },
    }
    assert tool["type"] == "function"


def test_a_text_model_of_its_own_instructions_and_vendor_keys() -> None:
    wanted = {"model": None, "instructions": "Look things up."}
    extra = {"store": True, "delegation": {"responses": {"reasoning": {"effort": "low"}}}}
    session = started_with(options(extra=extra), delegation=wanted)
    assert session["store"] is True
    assert session["delegation"]["responses"] == {
        "model": "gpt-5.5",
        "instructions": "Look things up.",
        "reasoning": {"effort": "low"},
    }


def test_the_text_model_s_own_tools_are_beside_ours() -> None:
    extra = {"delegation": {"responses": {"tools": [{"type": "web_search"}]}}}
    session = started_with(options(tools=(LOOKUP,), extra=extra))
    assert [tool["type"] for tool in session["delegation"]["responses"]["tools"]] == ["function", "web_search"]


def test_history_is_the_sessions_input() -> None:
    history = (
        Said("assistant", "Hello."),
        Said("user", "Two nights."),
        ToolUsed("c1", "price", '{"nights":2}', '{"eur":240}'),
        Said("assistant", "That is 240 euros."),
    )
    items = started_with(options(history=history))["input"]
    assert [(item["role"], item["content"][0]["type"]) for item in items] == [
        ("assistant", "output_text"),
        ("user", "input_text"),
        ("developer", "input_text"),
        ("assistant", "output_text"),
    ]
    assert "240" in items[2]["content"][0]["text"]


def test_of_a_long_history_the_newest_is_kept_within_the_services_bounds() -> None:
    items = started_with(options(history=tuple(Said("user", f"Number {i}.") for i in range(500))))["input"]
    assert len(items) == 128
    assert items[-1]["content"][0]["text"] == "Number 499."
    long = tuple(Said("user", "word " * 1000) for _ in range(20))
    assert len(started_with(options(history=long))["input"]) == 4


def test_when_it_has_to_end_is_known_from_the_start() -> None:
    driver = Driver().open(expires_at=int(time.time()) + 3600)
    lifetime = driver.dialect.lifetime
    assert lifetime is not None
    assert lifetime.expires_at - driver.now == pytest.approx(3600, abs=3)
    assert lifetime.expires_at - lifetime.rotate_at == pytest.approx(300, abs=1)


@pytest.mark.parametrize("expires_at", [0, 10**400])
def test_an_end_that_can_not_be_reckoned_with(expires_at: int) -> None:
    lifetime = Driver().open(expires_at=expires_at).dialect.lifetime
    assert lifetime is None or lifetime.rotate_at > 1e9


# --- the model's turns ------------------------------------------------------------------------------------------------


def test_a_stretch_of_speech_is_a_reply_and_silence_is_none() -> None:
    driver = Driver().open()
    driver.stream((QUIET, 1000))
    assert driver.take_events() == []
    driver.stream((LOUD, 500), (QUIET, 300), (LOUD, 200), (QUIET, 2000))
    driver.stream((LOUD, 300), (QUIET, 1000))
    kinds = [event for event in driver.take_events() if not isinstance(event, AssistantAudio)]
    assert kinds == [
        AssistantTurnStarted("reply-1"),
        AssistantTurnEnd("reply-1"),
        AssistantTurnStarted("reply-2"),
        AssistantTurnEnd("reply-2"),
    ]
    first = audio_of(driver.order.seen, "reply-1")
    assert first == LOUD * 4000 + QUIET * 2400 + LOUD * 1600 + QUIET * 6400, "a pause is part of it, 0.8 s end it"


@pytest.mark.parametrize("delta_ms", [20, 40, 100, 250])
def test_the_tick_at_the_beginning_is_no_speech(delta_ms: int) -> None:
    driver = Driver().open()
    driver.stream((QUIET, 120), (LOUD, 30), (QUIET, 1350), delta_ms=delta_ms)
    assert driver.take_events() == []
    driver.stream((LOUD, 60), (QUIET, 440), delta_ms=delta_ms)
    assert driver.take_events()[0] == AssistantTurnStarted("reply-1")


@pytest.mark.parametrize("delta_ms", [20, 100])
def test_speech_at_the_very_beginning_is_heard_whole(delta_ms: int) -> None:
    driver = Driver().open()
    driver.stream((QUIET, 100), (LOUD, 300), delta_ms=delta_ms)
    assert audio_of(driver.take_events()) == LOUD * 2400


@pytest.mark.parametrize("audio", [PCMA, PCM_16K, PCM_24K])
def test_silence_is_known_in_every_format(audio: AudioFormat) -> None:
    driver = Driver(AgentOptions(input_format=audio, output_format=audio)).open()
    silence = audio.silence * (audio.rate // 10)
    for _ in range(20):
        driver.advance(0.1)
        driver.told("session.output_audio.delta", delta=_base64(silence))
    loud = b"\x10\x20" * (audio.bytes_per_ms * 50)
    driver.told("session.output_audio.delta", delta=_base64(loud + b"\x01"))
    assert audio_of(driver.take_events()) == loud[: len(loud) // audio.bytes_per_sample * audio.bytes_per_sample] + (
        b"\x01" if audio is PCMA else b""
    )


def _base64(data: bytes) -> str:
    from base64 import b64encode

    return b64encode(data).decode()


def test_what_it_says_in_words() -> None:
    driver = Driver().open()
    driver.stream((QUIET, 500))
    words(driver, "output", "Hotel ")
    driver.stream((LOUD, 200))
    words(driver, "output", "Aster.")
    driver.stream((LOUD, 100), (QUIET, 900))
    texts = [event for event in driver.take_events() if not isinstance(event, AssistantAudio)]
    assert texts == [
        AssistantTurnStarted("reply-1"),
        AssistantText("reply-1", "Hotel ", final=False),
        AssistantText("reply-1", "Aster.", final=False),
        AssistantText("reply-1", "Hotel Aster.", final=True),
        AssistantTurnEnd("reply-1"),
    ]


def words(driver: Driver, way: str, text: str, start_ms: int = 0) -> None:
    driver.told(f"session.{way}_transcript.delta", delta=text, start_ms=start_ms, end_ms=start_ms + 200)


def test_a_stream_that_stops_ends_the_reply_by_the_clock() -> None:
    driver = Driver().open()
    driver.stream((QUIET, 500), (LOUD, 500))
    driver.advance(0.75)
    assert AssistantTurnEnd("reply-1") not in driver.take_events()
    driver.advance(0.2)
    assert driver.take_events() == [AssistantTurnEnd("reply-1")]
    assert driver.dialect.get_timer() is None


def test_what_is_cut_here_is_not_passed_on_and_the_model_is_told_nothing() -> None:
    driver = Driver().open()
    driver.stream((QUIET, 500), (LOUD, 500))
    driver.take_events()
    driver.command("cancel", [Played("reply-1", "reply-1-item", 300)])
    driver.stream((LOUD, 300), (QUIET, 1000), (LOUD, 200))
    assert driver.take_sent() == []
    started = AssistantTurnStarted("reply-2")
    events = [event for event in driver.take_events() if not isinstance(event, AssistantAudio)]
    assert events == [AssistantTurnEnd("reply-1", "cancelled"), started]
    assert driver.dialect.counters["late_audio_bytes"] == 8 * (300 + 800)


# --- the caller's turns -----------------------------------------------------------------------------------------------


def test_the_callers_turn_is_a_run_of_fragments() -> None:
    driver = Driver(options(interim_transcripts=True)).open()
    words(driver, "input", "Two ", start_ms=3120)
    driver.advance(0.6)
    words(driver, "input", "nights.")
    driver.advance(0.7)
    assert driver.take_events() == [
        UserSpeechStarted(3120),
        UserTranscript("Two ", final=False, item_id="user-1"),
        UserTranscript("nights.", final=False, item_id="user-1"),
    ]
    driver.advance(0.2)
    assert driver.take_events() == [
        UserSpeechEnded(),
        UserTranscript("Two nights.", final=True, item_id="user-1"),
    ]
    words(driver, "input", "Please.")
    driver.advance(1)
    assert driver.take_events()[-1] == UserTranscript("Please.", final=True, item_id="user-2")


def test_it_goes_on_while_the_caller_is_heard_but_not_for_ever() -> None:
    driver = Driver().open()
    words(driver, "input", "Well, ")
    for _ in range(100):
        driver.command("push_audio", LOUD * 160)
        driver.advance(0.02)
    words(driver, "input", "two.")
    driver.advance(1)
    assert driver.take_events()[-1] == UserTranscript("Well, two.", final=True, item_id="user-1")
    words(driver, "input", "Noise")
    for _ in range(200):
        driver.command("push_audio", LOUD * 160)
        driver.advance(0.02)
    assert driver.take_events()[-1] == UserTranscript("Noise", final=True, item_id="user-2")


def test_a_turn_without_an_end_is_bounded() -> None:
    driver = Driver().open()
    for _ in range(30):
        words(driver, "input", "word " * 200)
    finals = [event for event in driver.take_events() if isinstance(event, UserTranscript)]
    assert [len(final.text) > 10_000 for final in finals] == [True]


def test_both_may_speak_at_once() -> None:
    driver = Driver().open()
    driver.stream((QUIET, 500), (LOUD, 300))
    words(driver, "input", "Yes.")
    driver.stream((LOUD, 1200))
    events = driver.take_events()
    assert UserTranscript("Yes.", final=True, item_id="user-1") in events
    assert not any(isinstance(event, AssistantTurnEnd) for event in events)


def test_what_the_caller_said_comes_before_the_answer_and_its_words_may_come_after() -> None:
    driver = Driver().open()
    driver.stream((QUIET, 500))
    words(driver, "input", "Two ")
    driver.advance(0.3)
    words(driver, "output", "For ")
    words(driver, "input", "nights?")
    driver.advance(0.85)
    events = driver.take_events()
    assert events == [
        UserSpeechStarted(0),
        UserSpeechEnded(),
        AssistantTurnStarted("reply-1"),
        AssistantText("reply-1", "For ", final=False),
        AssistantText("reply-1", "For ", final=True),
        AssistantTurnEnd("reply-1"),
        UserTranscript("Two nights?", final=True, item_id="user-1"),
    ]


# --- commands ---------------------------------------------------------------------------------------------------------


def test_audio_up() -> None:
    driver = Driver().open()
    driver.dialect.push_audio(b"\x55" * 160, driver.now)
    [message] = driver.dialect.messages_to_send()
    assert message.audio_ms == 20
    data = json.loads(message.data)
    check_client_event(data)
    assert b64decode(data["audio"]) == b"\x55" * 160


def test_all_that_is_told_is_appended() -> None:
    driver = Driver().open()
    driver.command("say", "Hello!")
    driver.command("send_text", "The caller pressed 5.")
    driver.command("create_response")
    driver.command("update_instructions", "Be formal.")
    driver.command("commit_input_audio")
    sent = driver.take_sent()
    assert [message["type"] for message in sent] == [
        "session.commentary.append",
        "session.thinking.append",
        "session.commentary.append",
        "session.instructions.append",
    ]
    assert sent[0]["content"].endswith("\n\nHello!")
    assert sent[3]["content"].endswith("\n\nBe formal.")
    for kind in ("commentary", "thinking", "instructions"):
        driver.told(f"session.{kind}.appended", start_ms=1, end_ms=1)
    assert driver.take_events() == []
    assert not driver.dialect.counters


def test_what_is_too_long_for_one_message_goes_in_several() -> None:
    driver = Driver().open()
    text = " ".join(f"Rule {i}." for i in range(1000))
    driver.command("update_instructions", text)
    sent = driver.take_sent()
    assert len(sent) > 3
    joined = " ".join(message["content"] for message in sent)
    assert joined.endswith(text)
    assert driver.dialect.counters["text_split"] == 1
    driver.command("say", "word " * 1000)
    assert all("word for word" in message["content"] for message in driver.take_sent())
    assert [len(part) for part in pieces("汉" * 1200)] == [500, 500, 200]
    assert pieces("  ") == []


# --- tools ------------------------------------------------------------------------------------------------------------


def backend(driver: Driver, inner: dict[str, Any]) -> None:
    driver.told("response.event", event=inner, delegation_id="del_1")


def delegated(*calls: str) -> Driver:
    driver = Driver(options(tools=(LOOKUP,))).open()
    delegation = {"id": "del_1", "target": "responses", "type": "delegation", "response_id": "resp_1"}
    driver.told("session.delegation.created", delegation=delegation, offset_ms=900)
    backend(driver, response("response.created"))
    for call_id in calls:
        backend(driver, call(call_id, '{"n":1}'))
    return driver


def test_a_call_that_is_told_twice_is_handed_out_and_answered_once() -> None:
    driver = delegated("c1")
    driver.command("send_tool_result", "c1", "one")
    driver.take_sent()
    driver.take_events()
    backend(driver, call("c1", '{"n":1}'))
    assert driver.take_events() == [], "not even an empty reply"
    driver.command("send_tool_result", "c1", "two")
    assert driver.take_sent() == []


def test_the_text_model_goes_on_when_all_its_calls_are_answered_and_it_is_done() -> None:
    driver = delegated("c1", "c2")
    told = [event for event in driver.take_events() if isinstance(event, ToolCall)]
    assert [(event.call_id, event.name, event.arguments) for event in told] == [
        ("c1", "lookup", '{"n":1}'),
        ("c2", "lookup", '{"n":1}'),
    ]
    driver.command("send_tool_result", "c1", "one")
    driver.command("send_tool_result", "c2", "two")
    outputs = driver.take_sent()
    assert [(message["type"], message["item"]["output"]) for message in outputs] == [
        ("response.item.create", "one"),
        ("response.item.create", "two"),
    ]
    backend(driver, response("response.completed"))
    assert driver.take_sent() == [{"type": "response.create"}]
    backend(driver, response("response.created", 2))
    backend(driver, response("response.completed", 2))
    assert driver.take_sent() == []


def test_results_that_come_later() -> None:
    driver = delegated("c1", "c2")
    backend(driver, response("response.completed"))
    driver.command("send_tool_result", "c2", "two")
    driver.command("send_tool_result", "c2", "again")
    assert [message["type"] for message in driver.take_sent()] == ["response.item.create"]
    driver.command("send_tool_result", "c1", "one")
    assert [message["type"] for message in driver.take_sent()] == ["response.item.create", "response.create"]
    assert driver.dialect.counters["tool_result_unexpected"] == 1


def test_asked_too_soon_it_is_asked_again() -> None:
    driver = delegated("c1")
    backend(driver, response("response.completed"))
    driver.command("send_tool_result", "c1", "one")
    asked = driver.sent[-1]
    assert asked["type"] == "response.create"
    driver.take_sent()
    refused = {"code": "conversation_already_has_active_response", "type": "invalid_request_error", "message": "busy"}
    driver.told("error", error=refused | {"client_event_id": asked["event_id"]})
    backend(driver, response("response.completed", 7))
    assert driver.take_sent() == [{"type": "response.create"}]


def test_a_call_in_silence_is_a_reply_of_its_own_and_over_at_once() -> None:
    driver = delegated("c1")
    assert driver.take_events() == [
        AssistantTurnStarted("reply-1"),
        ToolCall("c1", "lookup", '{"n":1}', "reply-1"),
        AssistantTurnEnd("reply-1"),
    ]
    driver.command("cancel", [])
    assert driver.take_events() == [], "it was silent and complete: it goes on"


def test_a_call_while_it_speaks_belongs_to_what_it_says_and_is_cut_with_it() -> None:
    driver = Driver(options(tools=(LOOKUP,))).open()
    driver.stream((QUIET, 500), (LOUD, 300))
    backend(driver, call("c1"))
    assert ToolCall("c1", "lookup", "{}", "reply-1") in driver.take_events()
    driver.command("cancel", [Played("reply-1", "reply-1-item", 300)])
    assert driver.take_events() == [ToolCallCancelled("c1")]
    [message] = driver.take_sent()
    assert message["type"] == "response.item.create", "it is answered, or the next one could not go on"


def test_work_that_nobody_can_do_is_answered() -> None:
    driver = Driver().open()
    delegation = {"id": "del_9", "target": "client", "type": "delegation"}
    driver.told("session.delegation.created", delegation=delegation, offset_ms=900)
    [message] = driver.take_sent()
    assert (message["type"], message["delegation_id"]) == ("session.commentary.append", "del_9")


# --- usage, errors, the end -------------------------------------------------------------------------------------------


def test_usage_is_told_as_differences() -> None:
    driver = Driver(options(tools=(LOOKUP,))).open()
    driver.told("session.usage.updated", usage={"seconds": 10.5}, context_window={"usage_ratio": 0.1})
    driver.told("session.usage.updated", usage={"seconds": 12.0})
    tokens = {
        "input_tokens": 90,
        "output_tokens": 7,
        "total_tokens": 97,
        "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    backend(driver, response("response.completed", usage=tokens))
    driver.told("session.closed", reason="expired", session=resource(), usage={"seconds": 12.5})
    usage = [event for event in driver.take_events() if isinstance(event, Usage)]
    assert usage == [
        Usage("", {"session_seconds": 10.5}),
        Usage("", {"session_seconds": 1.5}),
        Usage("", {"input_tokens": 90, "output_tokens": 7, "input_cached_tokens": 64}, model="gpt-5.5"),
        Usage("", {"session_seconds": 0.5}),
    ]


@pytest.mark.parametrize(
    ("reason", "again"),
    [("expired", True), ("connection_lost", True), ("content", False), ("remote_hangup", False)],
)
def test_the_services_end(reason: str, again: bool) -> None:
    driver = Driver().open()
    driver.stream((QUIET, 500), (LOUD, 100))
    words(driver, "input", "But")
    driver.take_events()
    driver.told("session.closed", reason=reason, session=resource(), usage={"seconds": 3})
    events = driver.take_events()
    assert events[-1] == SessionClosed(reason, expected=False, again=again)
    assert UserTranscript("But", final=True, item_id="user-1") in events
    assert AssistantTurnEnd("reply-1", "failed") in events
    driver.order.done()


def error(driver: Driver, code: str, kind: str = "invalid_request_error") -> None:
    driver.told("error", error={"code": code, "type": kind, "message": f"about {code}", "client_event_id": "c1"})


def test_an_error_that_is_not_fatal() -> None:
    driver = Driver().open()
    error(driver, "unknown_parameter")
    assert driver.take_events() == [AgentError("about unknown_parameter", "unknown_parameter", fatal=False)]


@pytest.mark.parametrize(
    ("code", "again"), [("forbidden", False), ("insufficient_quota", False), ("session_expired", True)]
)
def test_an_error_that_is(code: str, again: bool) -> None:
    driver = Driver().open()
    error(driver, code)
    assert driver.take_events() == [
        AgentError(f"about {code}", code, fatal=True),
        SessionClosed(code, expected=False, again=again),
    ]


def test_a_start_that_is_refused() -> None:
    driver = Driver()
    error(driver, "invalid_value")
    assert isinstance(driver.take_events()[-1], SessionClosed)
    driver.order.done()


def test_goodbye() -> None:
    driver = Driver().open()
    driver.stream((QUIET, 500), (LOUD, 100))
    words(driver, "input", "Bye.")
    driver.take_events()
    driver.command("close")
    assert driver.take_sent() == [{"type": "session.close"}]
    assert driver.take_events() == [
        UserSpeechEnded(),
        UserTranscript("Bye.", final=True, item_id="user-1"),
        AssistantTurnEnd("reply-1", "cancelled"),
        SessionClosed("closed", expected=True),
    ]
    driver.drop(1000)
    driver.order.done()


def test_nobody_says_goodbye_to_a_session_that_never_began() -> None:
    driver = Driver()
    driver.take_sent()
    driver.command("close")
    assert driver.take_sent() == []


@pytest.mark.parametrize(
    "data",
    [
        "{",
        "[]",
        b"\x00\xff",
        '{"type":7}',
        '{"type":"session.output_audio.delta","delta":"%"}',
        '{"type":"session.output_audio.delta"}',
        '{"type":"response.event","event":{"type":"response.output_item.done","item":{"type":"function_call"}}}',
        '{"type":"session.usage.updated","usage":null}',
        '{"type":"session.delegation.created"}',
        '{"type":"error"}',
    ],
)
def test_what_can_not_be_read_is_counted_and_passed_over(data: str | bytes) -> None:
    driver = Driver().open()
    driver.raw(data)
    assert driver.take_events() == []
    assert driver.dialect.counters["malformed"] + driver.dialect.counters["unknown"] == 1
    words(driver, "input", "Still there?")
    driver.advance(1)
    assert UserTranscript("Still there?", final=True, item_id="user-1") in driver.take_events()


def test_a_tool_without_parameters_is_an_object() -> None:
    session = started_with(options(tools=(ToolDeclaration("ping", "", {}),)))
    assert session["delegation"]["responses"]["tools"][0]["parameters"] == {"type": "object", "properties": {}}
