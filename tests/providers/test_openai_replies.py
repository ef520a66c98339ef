"""What the openai dialect asks for, and when: replies, tool results, cancels and truncations."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sipbridge.agent import (
    AgentError,
    AssistantAudio,
    AssistantInterrupted,
    AssistantTurnEnd,
    AssistantTurnStarted,
    ToolCall,
    ToolCallCancelled,
    ToolCallDelta,
    TurnDetection,
    UserSpeechStarted,
)
from sipbridge.audio import Played
from sipbridge.providers.phrases import CANCELLED_OUTPUT
from tests.providers.openai_driver import (
    Driver,
    audio,
    call,
    created,
    done,
    error,
    options,
    speech_started,
)
from tests.providers.size import deep_size

CREATE = {"type": "response.create"}
LEAVE_IT_TO_US = options(turn_detection=TurnDetection(interrupt_response=False))


def output(call_id: str, text: str) -> dict[str, Any]:
    item = {"type": "function_call_output", "call_id": call_id, "output": text}
    return {"type": "conversation.item.create", "item": item}


def truncated(item_id: str, at_ms: int) -> dict[str, Any]:
    return {"type": "conversation.item.truncate", "item_id": item_id, "content_index": 0, "audio_end_ms": at_ms}


def cancelled(reply_id: str) -> dict[str, Any]:
    return {"type": "response.cancel", "response_id": reply_id}


# --- asking for replies -----------------------------------------------------------------------------------------------


def test_what_is_to_be_said_waits_until_the_reply_before_it_is_done() -> None:
    driver = Driver().open()
    driver.command("say", "Welcome.")
    driver.command("say", "One moment.")
    assert [message["response"]["instructions"][-8:] for message in driver.take_sent()] == ["Welcome."]
    driver.server(created("r1"))
    assert driver.take_sent() == []
    driver.server(done("r1"))
    assert [message["response"]["instructions"][-11:] for message in driver.take_sent()] == ["One moment."]


def test_words_to_say_never_make_the_model_call_a_tool_instead() -> None:
    driver = Driver().open()
    driver.command("say", "Goodbye.")
    assert driver.take_sent()[0]["response"]["tool_choice"] == "none"


def test_two_plain_requests_that_wait_are_one() -> None:
    driver = Driver().open()
    driver.server(created("r1"))
    driver.command("create_response")
    driver.command("create_response")
    driver.server(done("r1"))
    assert driver.take_sent() == [CREATE]
    driver.server(created("r2"), done("r2"))
    assert driver.take_sent() == []


def test_a_request_refused_because_the_caller_s_turn_came_first_is_made_again_after_that_reply() -> None:
    driver = Driver().open()
    driver.command("say", "Welcome.")
    ours = driver.sent[-1]["event_id"]
    first = driver.take_sent()
    driver.server(created("vad"), error("conversation_already_has_active_response", ours))
    assert driver.take_sent() == []
    driver.server(done("vad"))
    assert driver.take_sent() == first
    assert not [event for event in driver.events if isinstance(event, AgentError)]


def test_a_refusal_that_cannot_be_explained_is_not_answered_by_a_storm() -> None:
    driver = Driver().open()
    driver.command("create_response")
    for _ in range(3):
        ours = driver.sent[-1]["event_id"]
        driver.take_sent()
        driver.server(error("conversation_already_has_active_response", ours))
        assert driver.take_sent() == []
        driver.advance(1.0)
        assert len(driver.sent) == 1


def test_a_request_the_server_rejects_is_told_and_does_not_block_the_next() -> None:
    driver = Driver().open()
    driver.command("say", "Welcome.")
    ours = driver.sent[-1]["event_id"]
    driver.command("create_response")
    driver.take_sent()
    driver.server(error("invalid_value", ours))
    assert driver.take_events() == [AgentError("about invalid_value", "invalid_value", fatal=False)]
    assert driver.take_sent() == [CREATE]


def test_a_reply_that_failed_for_its_rate_is_asked_for_twice_more_and_later_each_time() -> None:
    driver = Driver().open()
    driver.command("create_response")
    limited = {"type": "failed", "error": {"type": "tokens", "code": "rate_limit_exceeded", "message": "slow down"}}
    waits = []
    for number in range(3):
        driver.take_sent()
        driver.server(created(f"r{number}"), done(f"r{number}", "failed", status_details=limited))
        due = driver.dialect.get_timer()
        if due is not None:
            waits.append(due - driver.now)
            driver.advance(due - driver.now)
            assert driver.take_sent() == [CREATE]
    assert waits == [1.0, 2.0]
    assert driver.take_sent() == []


def test_a_request_refused_for_its_rate_is_made_again_too() -> None:
    driver = Driver().open()
    driver.command("say", "Welcome.")
    for wait in (1.0, 2.0):
        ours = driver.sent[-1]["event_id"]
        first = driver.take_sent()
        driver.server(error("rate_limit_exceeded", ours))
        assert driver.take_sent() == []
        driver.advance(wait)
        assert [message["type"] for message in driver.sent] == ["response.create"]
        assert driver.sent[0]["response"] == first[0]["response"]
    ours = driver.sent[-1]["event_id"]
    driver.take_sent()
    driver.server(error("rate_limit_exceeded", ours))
    driver.advance(60.0)
    assert driver.take_sent() == []
    assert driver.dialect.counters["rate_limited"] == 2


def test_a_request_that_nobody_answers_does_not_hold_up_the_next_for_ever() -> None:
    driver = Driver().open()
    driver.command("create_response")
    assert driver.take_sent() == [CREATE]
    driver.command("say", "Still there?")
    driver.advance(9.0)
    assert driver.take_sent() == []
    driver.advance(1.0)
    assert [message["type"] for message in driver.take_sent()] == ["response.create"]
    driver.server(created("r1"), done("r1"))
    assert driver.take_sent() == []


# --- tools ------------------------------------------------------------------------------------------------------------


def test_the_model_goes_on_once_when_all_results_are_in_and_the_reply_is_done() -> None:
    driver = Driver().open()
    driver.server(created("r1"), call("r1", "a"), call("r1", "b"))
    calls = [event for event in driver.take_events() if isinstance(event, ToolCall)]
    assert calls == [ToolCall("a", "lookup", "{}", "r1"), ToolCall("b", "lookup", "{}", "r1")]
    driver.command("send_tool_result", "a", "1")
    driver.server(done("r1"))
    assert driver.take_sent() == [output("a", "1")]
    driver.command("send_tool_result", "b", "2")
    assert driver.take_sent() == [output("b", "2"), CREATE]


def test_results_that_are_quicker_than_the_reply_wait_for_its_end() -> None:
    driver = Driver().open()
    driver.server(created("r1"), call("r1", "a"))
    driver.command("send_tool_result", "a", "1")
    assert driver.take_sent() == [output("a", "1")]
    driver.server(done("r1"))
    assert driver.take_sent() == [CREATE]


def test_a_call_named_three_times_on_the_wire_is_one_call() -> None:
    driver = Driver().open()
    item = {"id": "i", "type": "function_call", "name": "lookup", "call_id": "a", "arguments": "{}"}
    item["status"] = "completed"
    item_done = {"type": "response.output_item.done", "response_id": "r1", "output_index": 0, "item": item}
    driver.server(created("r1"), call("r1", "a"), item_done, done("r1", output=[item]))
    assert len([event for event in driver.take_events() if isinstance(event, ToolCall)]) == 1


def test_a_call_cut_short_is_no_call() -> None:
    driver = Driver().open()
    delta = {"type": "response.function_call_arguments.delta", "response_id": "r1", "call_id": "a", "delta": '{"n'}
    item = {"id": "i", "type": "function_call", "name": "lookup", "call_id": "a", "arguments": '{"n'}
    item["status"] = "incomplete"
    driver.server(created("r1"), delta, call("r1", "a", '{"n'), done("r1", "cancelled", "turn_detected", output=[item]))
    assert driver.take_events() == [
        AssistantTurnStarted("r1"),
        ToolCallDelta("a", '{"n'),
        AssistantInterrupted("r1"),
        ToolCallCancelled("a"),
        AssistantTurnEnd("r1", "cancelled"),
    ]


def test_a_whole_call_of_a_cancelled_reply_is_answered_but_the_caller_s_turn_decides_how_it_goes_on() -> None:
    driver = Driver().open()
    driver.server(created("r1"), call("r1", "a"), speech_started(), done("r1", "cancelled", "turn_detected"))
    driver.command("send_tool_result", "a", "1")
    assert driver.take_sent() == [output("a", "1")]


def test_arguments_that_are_no_json_are_handed_on_when_the_server_calls_them_complete() -> None:
    driver = Driver().open()
    item = {"type": "function_call", "name": "lookup", "call_id": "a", "arguments": "{oops", "status": "completed"}
    driver.server(created("r1"), call("r1", "a", "{oops"), done("r1", output=[item]))
    assert ToolCall("a", "lookup", "{oops", "r1") in driver.take_events()


def test_a_result_nobody_asked_for_or_a_second_one_is_not_sent() -> None:
    driver = Driver().open()
    driver.server(created("r1"), call("r1", "a"), done("r1"))
    driver.command("send_tool_result", "a", "1")
    driver.take_sent()
    driver.command("send_tool_result", "a", "again")
    driver.command("send_tool_result", "stranger", "1")
    assert driver.take_sent() == []
    assert driver.dialect.counters["tool_result_unexpected"] == 2


def test_a_turn_answered_with_all_results_known_leaves_nothing_to_go_on_with() -> None:
    """What waited was held up by the second call; the server's own reply to the caller has seen all there is."""
    driver = Driver().open()
    driver.server(created("r1"), call("r1", "a"), call("r1", "b"), done("r1"))
    driver.command("create_response")
    driver.command("send_tool_result", "a", "1")
    item = {"id": "i", "type": "function_call_output", "call_id": "a", "output": "1"}
    driver.server({"type": "conversation.item.added", "item": item}, created("vad"), done("vad"))
    assert driver.take_sent() == [output("a", "1")]


def test_a_result_that_never_comes_holds_up_other_words_for_a_while_only() -> None:
    driver = Driver().open()
    driver.server(created("r1"), call("r1", "a"), done("r1"))
    driver.command("say", "Still there?")
    assert driver.take_sent() == []
    driver.advance(20.0)
    assert len(driver.take_sent()) == 1


@pytest.mark.parametrize("named", [True, False])
def test_what_a_reply_asked_for_goes_with_it_when_the_caller_cuts_it(named: bool) -> None:
    """Under way, it need not be named; done, it goes if it was still being heard."""
    driver = Driver(LEAVE_IT_TO_US).open()
    driver.server(created("r1"), audio("r1", "i1", 1000), call("r1", "b"), call("r1", "a"))
    if named:
        driver.server(done("r1"))
    driver.take_events()
    driver.command("cancel", [Played("r1", "i1", 340)] if named else [])
    gone = [output("a", CANCELLED_OUTPUT), output("b", CANCELLED_OUTPUT)]
    before = [truncated("i1", 340)] if named else [cancelled("r1")]
    assert driver.take_sent() == [*before, *gone]
    assert driver.take_events() == [ToolCallCancelled("a"), ToolCallCancelled("b")]
    driver.command("send_tool_result", "a", "late")
    if not named:
        driver.server(done("r1", "cancelled", "client_cancelled"))
    assert driver.take_sent() == []


def test_a_silent_reply_s_calls_go_on_when_the_caller_cuts_another() -> None:
    driver = Driver(LEAVE_IT_TO_US).open()
    driver.server(created("r1"), call("r1", "a"), done("r1"), created("vad"), audio("vad", "i1", 100))
    driver.take_events()
    driver.command("cancel", [Played("vad", "i1", 50)])
    assert driver.take_events() == []
    driver.take_sent()
    driver.server(done("vad", "cancelled", "client_cancelled"))
    driver.command("send_tool_result", "a", "1")
    assert driver.take_sent() == [output("a", "1"), CREATE]


def test_a_call_that_comes_after_the_cut_is_answered_and_told_to_nobody() -> None:
    driver = Driver().open()
    delta = {"type": "response.function_call_arguments.delta", "response_id": "r1", "call_id": "a", "delta": "{"}
    driver.server(created("r1"), audio("r1", "i1", 100), delta, speech_started())
    driver.command("cancel", [Played("r1", "i1", 100)])
    driver.take_sent()
    driver.take_events()
    item = {"type": "function_call", "name": "lookup", "call_id": "a", "arguments": "{}", "status": "completed"}
    driver.server(call("r1", "a"), done("r1", "cancelled", "turn_detected", output=[item]))
    assert driver.take_sent() == [output("a", CANCELLED_OUTPUT)]
    assert driver.take_events() == [
        AssistantInterrupted("r1"),
        ToolCallCancelled("a"),
        AssistantTurnEnd("r1", "cancelled"),
    ]


def test_a_server_that_never_shows_results_as_items_is_not_asked_twice() -> None:
    driver = Driver().open()
    driver.server(created("r1"), call("r1", "a"), done("r1"))
    driver.command("send_tool_result", "a", "1")
    driver.server(created("r2"), done("r2"))
    driver.take_sent()
    driver.server(created("r3"))
    driver.command("create_response")
    driver.server(done("r3"))
    assert driver.take_sent() == [CREATE]
    driver.server(created("vad"))
    driver.command("create_response")
    driver.server(done("vad"))
    assert driver.take_sent() == [CREATE]


# --- words that another voice speaks ----------------------------------------------------------------------------------


def written(reply_id: str, item_id: str, text: str, kind: str = "done") -> dict[str, Any]:
    place = {"response_id": reply_id, "item_id": item_id, "output_index": 0, "content_index": 0}
    return {"type": f"response.output_text.{kind}", "text" if kind == "done" else "delta": text, **place}


def replaced(item_id: str, text: str) -> list[dict[str, Any]]:
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    gone = {"type": "conversation.item.delete", "item_id": item_id}
    made = {"type": "conversation.item.create", "previous_item_id": item_id, "item": item}
    return [made, gone] if text else [gone]


def test_words_that_were_not_heard_are_taken_out_of_the_conversation() -> None:
    driver = Driver(options(modalities=("text",))).open()
    driver.server(created("r1"), written("r1", "i1", "One. "), written("r1", "i2", "Two, three. "))
    driver.server(written("r1", "i3", "Four."), done("r1"))
    driver.command("cancel", [])
    driver.command("heard", "r1", "One. Two,")
    assert driver.take_sent() == [*replaced("i2", "Two,"), *replaced("i3", "")]
    driver.command("heard", "r1", "")
    assert driver.take_sent() == []


def test_words_of_a_reply_under_way_are_taken_out_when_it_is_done() -> None:
    driver = Driver(replace(LEAVE_IT_TO_US, modalities=("text",))).open()
    driver.server(created("r1"), written("r1", "i1", "One, ", "delta"), written("r1", "i1", "two", "delta"))
    driver.command("cancel", [])
    driver.command("heard", "r1", "One,")
    assert driver.take_sent() == [cancelled("r1")]
    driver.server(done("r1", "cancelled", "client_cancelled"))
    assert driver.take_sent() == replaced("i1", "One,")


def test_words_that_were_all_heard_are_left_alone() -> None:
    driver = Driver(options(modalities=("text",))).open()
    driver.server(created("r1"), written("r1", "i1", "One, two. "), done("r1"))
    driver.command("heard", "r1", "One, two.")
    driver.command("heard", "unknown", "")
    assert driver.take_sent() == []


def test_a_vendor_gone_mad_is_not_remembered_without_end() -> None:
    driver = Driver(options(modalities=("text",))).open()
    for number in range(200):
        driver.server(created(f"r{number}"), call(f"r{number}", f"c{number}"), done(f"r{number}"))
    driver.server(created("r"))
    for number in range(300):
        driver.server(call("r", f"d{number}"), written("r", f"i{number}", "x" * 4096, "delta"))
    driver.server(written("r", "i0", "x" * 4096), done("r"))
    calls = [event for event in driver.take_events() if isinstance(event, ToolCall)]
    assert len(calls) == 200 + 128
    assert deep_size(driver.dialect) < 400_000


# --- barge-in ---------------------------------------------------------------------------------------------------------


def test_our_cancel_stops_the_reply_and_cuts_it_where_it_was_heard() -> None:
    driver = Driver(LEAVE_IT_TO_US).open()
    driver.server(created("r1"), audio("r1", "i1", 1000))
    driver.command("cancel", [Played("r1", "i1", 340)])
    assert driver.take_sent() == [cancelled("r1"), truncated("i1", 340)]
    driver.take_events()
    driver.server(audio("r1", "i1", 500), done("r1", "cancelled", "client_cancelled"))
    assert driver.take_events() == [AssistantTurnEnd("r1", "cancelled")]
    assert driver.dialect.counters["late_audio"] == 1


def test_a_reply_that_the_server_cuts_by_itself_is_only_truncated() -> None:
    driver = Driver().open()
    driver.server(created("r1"), audio("r1", "i1", 1000), speech_started(2000))
    driver.command("cancel", [Played("r1", "i1", 340)])
    assert driver.take_sent() == [truncated("i1", 340)]
    driver.server(done("r1", "cancelled", "turn_detected"))
    assert driver.take_events()[-3:] == [
        UserSpeechStarted(2000, "item_user"),
        AssistantInterrupted("r1"),
        AssistantTurnEnd("r1", "cancelled"),
    ]
    assert driver.take_sent() == []


def test_a_server_that_said_it_would_cut_and_does_not_is_told_to() -> None:
    driver = Driver().open()
    driver.server(created("r1"), audio("r1", "i1", 1000), speech_started())
    driver.command("cancel", [Played("r1", "i1", 340)])
    driver.take_sent()
    driver.now = 1.5
    driver.server(audio("r1", "i1", 100), audio("r1", "i1", 100))
    assert driver.take_sent() == [cancelled("r1")]


def test_a_reply_generated_to_its_end_is_truncated_as_well() -> None:
    driver = Driver().open()
    driver.server(created("r1"), audio("r1", "i1", 1000), audio("r1", "i2", 1000), done("r1"))
    driver.command("cancel", [Played("r1", "i1", 1000), Played("r1", "i2", 20)])
    assert driver.take_sent() == [truncated("i2", 20)], "what was heard to its end is left alone"


def test_what_was_never_heard_is_cut_to_nothing() -> None:
    driver = Driver().open()
    driver.server(created("r1"), audio("r1", "i1", 1000), done("r1"))
    driver.command("cancel", [Played("r1", "i1", 0)])
    assert driver.take_sent() == [truncated("i1", 0)]


def test_a_truncation_is_never_beyond_what_was_sent() -> None:
    driver = Driver(LEAVE_IT_TO_US).open()
    driver.server(created("r1"), audio("r1", "i1", 200))
    driver.command("cancel", [Played("r1", "i1", 5000), Played("r0", "unknown", 10)])
    assert driver.take_sent() == [cancelled("r1"), truncated("i1", 200)]


def test_a_second_cancel_says_nothing_new() -> None:
    driver = Driver(LEAVE_IT_TO_US).open()
    driver.server(created("r1"), audio("r1", "i1", 1000))
    driver.command("cancel", [Played("r1", "i1", 340)])
    driver.take_sent()
    driver.command("cancel", [Played("r1", "i1", 340)])
    assert driver.take_sent() == []


def test_an_item_that_begins_after_the_cancel_is_cut_to_nothing_when_the_reply_ends() -> None:
    driver = Driver().open()
    driver.server(created("r1"), audio("r1", "i1", 1000), speech_started())
    driver.command("cancel", [Played("r1", "i1", 340)])
    driver.take_sent()
    driver.server(audio("r1", "i2", 100), done("r1", "cancelled", "turn_detected"))
    assert driver.take_sent() == [truncated("i2", 0)]


def test_audio_that_nobody_has_taken_yet_is_not_handed_out_after_the_cancel() -> None:
    driver = Driver(LEAVE_IT_TO_US).open()
    dialect = driver.dialect
    for message in (created("r1"), audio("r1", "i1", 100)):
        driver.server(message)
    heard = [event for event in driver.take_events() if isinstance(event, AssistantAudio)]
    assert len(heard) == 1
    dialect.receive("realtime", json.dumps(audio("r1", "i2", 100)), 0.0)
    driver.command("cancel", [Played("r1", "i1", 40)])
    assert not [event for event in driver.take_events() if isinstance(event, AssistantAudio)]
    assert driver.take_sent() == [cancelled("r1"), truncated("i1", 40), truncated("i2", 0)]


def test_a_reply_cancelled_before_it_was_created_stays_silent() -> None:
    driver = Driver(LEAVE_IT_TO_US).open()
    driver.command("say", "Welcome.")
    driver.take_sent()
    driver.command("cancel", [])
    assert driver.take_sent() == [{"type": "response.cancel"}]
    driver.server(created("r1"), audio("r1", "i1", 100), done("r1", "cancelled", "client_cancelled"))
    assert driver.take_events() == [AssistantTurnStarted("r1"), AssistantTurnEnd("r1", "cancelled")]


def test_nothing_is_cancelled_where_nothing_is_going_on() -> None:
    driver = Driver().open()
    driver.command("cancel", [])
    assert driver.take_sent() == []
    driver.server(error("response_cancel_not_active"))
    assert driver.take_events() == []


def test_the_caller_s_interruption_settles_what_only_asked_to_go_on() -> None:
    driver = Driver(LEAVE_IT_TO_US).open()
    driver.server(created("r1"), audio("r1", "i1", 100))
    driver.command("create_response")
    driver.command("say", "By the way.")
    driver.command("cancel", [Played("r1", "i1", 40)])
    driver.take_sent()
    driver.server(done("r1", "cancelled", "client_cancelled"))
    assert [message["response"]["instructions"][-11:] for message in driver.take_sent()] == ["By the way."]


@pytest.mark.parametrize("late", ["audio", "text", "call"])
def test_what_comes_after_the_end_of_a_reply_is_not_heard(late: str) -> None:
    driver = Driver().open()
    driver.server(created("r1"), done("r1"))
    driver.take_events()
    text = {"type": "response.output_audio_transcript.done", "response_id": "r1", "item_id": "i", "transcript": "x"}
    driver.server({"audio": audio("r1", "i1", 100), "text": text, "call": call("r1", "a")}[late])
    assert driver.take_events() == []


@pytest.mark.parametrize("with_item", [True, False])
def test_a_call_that_names_no_tool_is_handed_out_to_be_answered(with_item: bool) -> None:
    """Its name may still come with the item; where none does, the model waits for an answer all the same."""
    driver = Driver().open()
    item = {"type": "function_call", "id": "i", "call_id": "a", "name": "", "arguments": "{}", "status": "completed"}
    driver.server(created("r1"), call("r1", "a", name=""))
    assert driver.take_events() == [AssistantTurnStarted("r1")]
    driver.server(done("r1", output=[item] * with_item))
    assert driver.take_events() == [ToolCall("a", "", "{}", "r1"), AssistantTurnEnd("r1", "completed")]
    driver.command("send_tool_result", "a", "there is no such tool")
    assert driver.take_sent() == [output("a", "there is no such tool"), CREATE]
