"""By when an agent has to be heard of: every phase, what ends it and when it has lasted too long."""

from __future__ import annotations

from typing import Any

import pytest

from sipbridge.agent import (
    AgentEvent,
    AssistantAudio,
    AssistantInterrupted,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    Reconnecting,
    Resumed,
    ToolCall,
    ToolCallCancelled,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import PCM_24K
from sipbridge.conversation.deadlines import TABLE, Deadlines, Input, Phase

BEGINS, ENDS = AssistantTurnStarted("r"), AssistantTurnEnd("r")
TOOL = ToolCall("c", "lookup", "{}", "r")


def speech(seconds: float = 1.0) -> AssistantAudio:
    return AssistantAudio("r", "i", bytes(int(seconds * 48000)))


def after(*events: AgentEvent, at: float = 0.0, **options: Any) -> Deadlines:
    deadlines = Deadlines(PCM_24K, **{"first_audio_seconds": 5, "reply_seconds": 10, **options})
    for event in events:
        deadlines.observe(event, at)
    return deadlines


@pytest.mark.parametrize(
    ("events", "phase", "due"),
    [
        ([], Phase.FREE, None),
        ([UserSpeechStarted()], Phase.CALLER, None),
        ([UserSpeechStarted(), UserSpeechEnded()], Phase.ASKED, 5),
        ([BEGINS, ENDS, UserSpeechStarted(), UserSpeechEnded()], Phase.ASKED, 5),
        ([BEGINS, speech(), ENDS, UserSpeechStarted(), UserSpeechEnded()], Phase.ASKED, 11),
        ([BEGINS], Phase.REPLYING, 5),
        ([BEGINS, AssistantText("r", "Well", final=False)], Phase.REPLYING, 5),
        ([BEGINS, speech(3)], Phase.REPLYING, 8),
        ([BEGINS, speech(3), ENDS], Phase.FREE, None),
        ([BEGINS, speech(3), UserSpeechStarted()], Phase.CALLER, None),
        ([UserSpeechEnded(), BEGINS, ENDS], Phase.ASKED, 5),
        ([UserSpeechEnded(), BEGINS, ENDS, BEGINS, speech(), ENDS], Phase.FREE, None),
        ([UserSpeechEnded(), BEGINS, AssistantText("r", "Well", final=True), ENDS], Phase.FREE, None),
        ([UserSpeechEnded(), BEGINS, AssistantTurnEnd("r", "cancelled")], Phase.FREE, None),
        ([UserSpeechEnded(), UserTranscript(" ", True), BEGINS, ENDS], Phase.FREE, None),
        ([BEGINS, speech(3), AssistantInterrupted("r"), ENDS], Phase.CALLER, None),
        ([BEGINS, speech(3), UserSpeechStarted(), speech(), UserSpeechEnded()], Phase.ASKED, 14),
        ([BEGINS, TOOL], Phase.REPLYING, 5),
        ([BEGINS, TOOL, ENDS], Phase.WORKING, None),
        ([BEGINS, TOOL, ENDS, ToolCallCancelled("c")], Phase.FREE, None),
        ([BEGINS, TOOL, ENDS, UserSpeechStarted(), UserSpeechEnded()], Phase.WORKING, None),
        ([BEGINS, AssistantTurnEnd("r", "failed")], Phase.BROKEN, 0.6),
        ([BEGINS, AssistantTurnEnd("other", "failed")], Phase.REPLYING, 5),
        ([BEGINS, speech(3), AssistantTurnEnd("r", "failed"), Reconnecting(1)], Phase.OUT, 1),
        ([BEGINS, speech(3), AssistantTurnEnd("r", "failed"), Reconnecting(1), Resumed(True)], Phase.ASKED, 13),
        ([BEGINS, speech(3), ENDS, Reconnecting(1), Reconnecting(2)], Phase.OUT, 1),
        ([BEGINS, speech(3), ENDS, Reconnecting(1), Resumed(True)], Phase.FREE, None),
        ([BEGINS, TOOL, ENDS, Reconnecting(1), Resumed(True)], Phase.WORKING, None),
        ([UserSpeechEnded(), UserTranscript(" ", True)], Phase.FREE, None),
        ([UserSpeechEnded(), UserTranscript("Hello", True)], Phase.ASKED, 5),
    ],
)
def test_phases(events: list[AgentEvent], phase: Phase, due: float | None) -> None:
    deadlines = after(*events)
    assert (deadlines.phase, deadlines.get_timer()) == (phase, due)


def test_every_phase_has_its_row_and_nothing_leads_nowhere() -> None:
    assert set(TABLE) == set(Phase)
    for row in TABLE.values():
        assert set(row) <= set(Input)
        assert set(row.values()) <= set(Phase)


def test_what_was_missed_is_told_once_unless_it_is_given_the_time_again() -> None:
    deadlines = after()
    deadlines.asked(1.0)
    assert deadlines.ring(5.9) is None
    assert deadlines.ring(6.0) is Phase.ASKED
    assert deadlines.ring(60.0) is None
    deadlines.again(7.0)
    assert deadlines.get_timer() == 12.0
    deadlines.observe(speech(), 8.0)
    assert deadlines.ring(12.0) is None, "it has come back"
    assert deadlines.ring(14.0) is Phase.REPLYING


def test_a_tool_s_result_is_to_be_followed_by_words() -> None:
    deadlines = after(BEGINS, TOOL, ToolCall("d", "lookup", "{}", "r"), ENDS)
    deadlines.answered("c", 2.0)
    assert deadlines.phase is Phase.WORKING
    deadlines.answered("d", 3.0)
    assert (deadlines.phase, deadlines.get_timer()) == (Phase.ASKED, 8.0)


def test_one_that_comes_while_the_reply_goes_on_is_followed_by_another() -> None:
    deadlines = after(BEGINS, TOOL, speech())
    deadlines.answered("c", 0.5)
    assert deadlines.phase is Phase.REPLYING
    deadlines.observe(ENDS, 0.6)
    assert (deadlines.phase, deadlines.get_timer()) == (Phase.ASKED, 11.0)


def test_nobody_waits_while_there_is_something_to_hear() -> None:
    deadlines = after(BEGINS, speech(8), ENDS)
    deadlines.asked(1.0)
    assert deadlines.get_timer() == 18.0
    deadlines = after(BEGINS, speech(8), ENDS)
    deadlines.discarded(1.0)
    deadlines.asked(1.0)
    assert deadlines.get_timer() == 11.0


def test_who_tells_nothing_of_speech_is_measured_from_the_caller_s_words() -> None:
    deadlines = after(turns="words")
    deadlines.observe(UserTranscript("Hello", True), 10.0)
    assert (deadlines.phase, deadlines.get_timer()) == (Phase.ASKED, 15.0)
    for event in (BEGINS, speech(), ENDS):
        deadlines.observe(event, 11.0)
    deadlines.observe(UserTranscript("there", True), 12.0)
    assert deadlines.phase is Phase.FREE, "late words of a turn that has been answered"


@pytest.mark.parametrize(
    ("meanwhile", "phase", "due"),
    [
        ([], Phase.REPLYING, 10),
        ([speech()], Phase.REPLYING, 11),
        ([ENDS], Phase.FREE, None),
        ([AssistantTurnEnd("r", "failed")], Phase.REPLYING, 10),
        ([UserSpeechEnded(), UserTranscript("", True)], Phase.REPLYING, 10),
    ],
)
def test_after_what_takes_no_turn_the_agent_owes_the_rest_of_what_it_was_saying(
    meanwhile: list[AgentEvent], phase: Phase, due: float | None
) -> None:
    deadlines = after(BEGINS, speech(3), turns="none")
    for event in (UserSpeechStarted(), *meanwhile):
        deadlines.observe(event, 1.0)
    deadlines.no_turn(3.0)  # for two seconds it was not heard
    assert (deadlines.phase, deadlines.get_timer()) == (phase, due)


def test_what_was_asked_for_since_is_still_owed() -> None:
    deadlines = after(UserSpeechStarted(), turns="none")
    deadlines.asked(1.0)
    deadlines.no_turn(2.0)
    assert deadlines.phase is Phase.ASKED


def test_who_answers_when_it_likes_is_measured_only_from_what_it_was_asked_for() -> None:
    deadlines = after(UserSpeechStarted(), UserSpeechEnded(), turns="none")
    assert (deadlines.phase, deadlines.owes) == (Phase.CALLER, False)
    deadlines.asked(1.0)
    assert (deadlines.phase, deadlines.owes) == (Phase.ASKED, True)


@pytest.mark.parametrize(
    ("events", "owes"),
    [
        ([], False),
        ([UserSpeechEnded()], True),
        ([BEGINS, speech()], True),
        ([BEGINS, speech(), ENDS], False),
        ([BEGINS, speech(), AssistantTurnEnd("r", "failed")], True),
        ([BEGINS, speech(), Reconnecting(1)], True),
        ([Reconnecting(1)], False),
        ([BEGINS, TOOL, ENDS], False),
    ],
)
def test_what_somebody_who_stands_in_owes(events: list[AgentEvent], owes: bool) -> None:
    assert after(*events).owes is owes
