"""Quiet moments, and what is owed to the caller, in virtual time."""

from __future__ import annotations

from sipbridge.agent import (
    AgentEvent,
    AgentOptions,
    AssistantAudio,
    AssistantTurnEnd,
    AssistantTurnStarted,
    Capabilities,
    ToolCall,
    ToolCallCancelled,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import PCMU
from sipbridge.providers.activity import CALM, PATIENCE, Activity

OPTIONS = AgentOptions(output_format=PCMU)
SECOND = bytes(8000)


def activity(*events: tuple[float, AgentEvent], capabilities: Capabilities | None = None) -> Activity:
    it = Activity(OPTIONS, capabilities or Capabilities())
    for now, event in events:
        it.observe(event, now)
    return it


SPOKEN = (
    (1.0, AssistantTurnStarted("r1")),
    (1.1, AssistantAudio("r1", "i", SECOND * 4)),
    (1.2, AssistantTurnEnd("r1")),
)


def test_at_the_beginning_it_is_quiet() -> None:
    assert activity().quiet_at() == 0.0
    assert not activity().owes_reply(0.0)


def test_a_reply_that_is_generated_is_still_being_heard() -> None:
    assert activity(*SPOKEN[:2]).quiet_at() is None
    it = activity(*SPOKEN)
    assert it.quiet_at() == 5.1
    it.cancelled(2.0)
    assert it.quiet_at() == 2.0 + CALM


def test_after_a_result_that_came_before_its_reply_had_ended_the_model_still_has_to_go_on() -> None:
    asked = ((1.0, AssistantTurnStarted("r1")), (1.1, ToolCall("c1", "a", "{}", "r1")))
    it = activity(*asked)
    it.answered("c1", 1.2)
    it.observe(AssistantTurnEnd("r1"), 1.3)
    assert it.owes_reply(2.0)
    it.observe(AssistantTurnStarted("r2"), 2.1)
    it.observe(AssistantTurnEnd("r2"), 2.2)
    assert not it.owes_reply(2.3)
    it = activity(*asked)
    it.answered("c1", 1.2)
    it.cancelled(1.25)
    it.observe(AssistantTurnEnd("r1", "cancelled"), 1.3)
    assert not it.owes_reply(2.0), "his turn settles it"


def test_the_caller_speaks_and_waits_for_an_answer() -> None:
    it = activity((1.0, UserSpeechStarted()))
    assert it.quiet_at() is None
    assert it.speaking
    assert not it.owes_reply(1.5), "as long as he speaks, nobody has to answer"
    it.observe(UserSpeechEnded(), 2.0)
    assert it.quiet_at() == 2.0 + PATIENCE
    assert it.owes_reply(3.0)
    assert not it.owes_reply(2.0 + PATIENCE), "that was no question"
    it.observe(AssistantTurnStarted("r1"), 3.0)
    it.observe(AssistantTurnEnd("r1"), 3.5)
    assert not it.owes_reply(3.6)
    assert it.quiet_at() == 5.0, "his words may still come"
    it.observe(UserTranscript("Yes.", final=True), 4.0)
    assert it.quiet_at() == 4.0 + CALM


def test_vendors_that_do_not_say_when_speech_ends_or_begins() -> None:
    it = activity((1.0, UserSpeechStarted()), (2.0, AssistantTurnStarted("r1")))
    assert not it.speaking
    it = activity((1.0, UserTranscript("Well?", final=True)), capabilities=Capabilities(speech_events=False))
    assert it.owes_reply(1.1)
    it = activity((1.0, UserTranscript("Well?", final=True)))
    assert not it.owes_reply(1.1), "the answer may have been given before the words came"


def test_a_tool_that_runs_is_neither_quiet_nor_a_reason_to_ask() -> None:
    it = activity(
        (1.0, AssistantTurnStarted("r1")), (1.1, ToolCall("c1", "a", "{}", "r1")), (1.2, AssistantTurnEnd("r1"))
    )
    assert it.quiet_at() is None
    assert it.calls_of({"r1"}) == ["c1"]
    assert not it.owes_reply(1.3)
    it.answered("c1", 2.0)
    assert it.owes_reply(2.0)
    it = activity((1.0, ToolCall("c1", "a", "{}", "r1")), (1.2, ToolCallCancelled("c1")))
    assert it.owed_calls == {}


def test_a_reply_that_is_lost_is_owed_unless_the_caller_had_cut_it() -> None:
    it = activity(*SPOKEN[:2])
    assert it.owes_reply(1.2)
    assert it.lost(1.3) == ["r1"]
    assert it.owes_reply(1.3)
    assert it.lost(1.3) == []
    it = activity(*SPOKEN[:2])
    it.cancelled(1.2)
    it.lost(1.3)
    assert not it.owes_reply(1.3)
    it = activity(*SPOKEN[:2], (1.2, AssistantTurnEnd("r1", "failed")))
    assert it.owes_reply(1.3), "dialects end what was open when they are lost"


def test_what_the_agent_was_asked_to_say_and_has_not_begun_to() -> None:
    it = activity()
    it.asked_to_say("Hello.", 1.0)
    it.asked_to_say("And welcome.", 1.1)
    assert it.quiet_at() == 1.1 + PATIENCE
    assert it.unsaid(2.0) == ["Hello.", "And welcome."]
    it.observe(AssistantTurnStarted("r1"), 2.0)
    assert it.unsaid(2.0) == ["And welcome."]
    assert it.unsaid(20.0) == []


def test_a_reply_that_was_asked_for() -> None:
    it = activity()
    it.asked(1.0)
    assert it.owes_reply(1.1)
    it.cancelled(1.2)
    assert not it.owes_reply(1.3)
