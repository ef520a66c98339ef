"""Two machines that go round in circles are told from people who repeat themselves."""

from __future__ import annotations

import pytest

from sipbridge.conversation.loops import LoopDetector

MENU = "For sales press one, for service press two, to hear this again press nine."


def converse(detector: LoopDetector, *turns: tuple[str, str]) -> str:
    for caller, agent in turns:
        detector.caller_said(caller)
        detector.agent_said(agent)
    return detector.found


def test_the_same_on_both_sides() -> None:
    detector = LoopDetector(5)
    assert converse(detector, *[(MENU, "Sorry, could you say that again?")] * 5) == ""
    assert converse(detector, (MENU.upper(), "Sorry... could you say that again!")) == "nothing new was said in 5 turns"


def test_in_turns_of_several_sentences() -> None:
    circle = [(MENU, "I need the service."), ("I did not get that, please repeat.", "Service, please.")]
    assert converse(LoopDetector(6), *circle * 4) == "nothing new was said in 6 turns"


def test_an_agent_that_varies_its_words_against_a_machine() -> None:
    turns = [(MENU, f"{word} {word}ly {word}ness") for word in "abcdefghijkl"]
    assert converse(LoopDetector(5), *turns[:10]) == ""
    assert converse(LoopDetector(5), *turns[:11]) == "nothing new was said in 10 turns"


@pytest.mark.parametrize("turns", [3, 10])
def test_short_answers_to_different_questions_are_a_conversation(turns: int) -> None:
    questions = [f"Question {word}: {word} or {word * 2}?" for word in "abcdefghi"]
    assert converse(LoopDetector(turns), *[("Yes.", question) for question in questions][: 2 * turns]) == ""


def test_something_new_begins_it_anew() -> None:
    detector = LoopDetector(5)
    converse(detector, *[(MENU, "Again?")] * 5)
    assert converse(detector, ("Hello, this is Bob speaking", "Good day.")) == ""
    assert converse(detector, *[(MENU, "Again?")] * 3) == ""


def test_what_has_no_words_says_nothing() -> None:
    assert converse(LoopDetector(3), *[("...", "")] * 20) == ""


@pytest.mark.parametrize(("pause", "found"), [(0.4, True), (1.9, True), (2.5, False)])
def test_turns_at_a_machines_pace(pause: float, found: bool) -> None:
    detector, now = LoopDetector(4), 0.0
    for _ in range(20):
        assert detector.found == ""
        now += 3
        detector.agent_heard(now)
        now += pause
        detector.caller_began(now)
    assert detector.found == ("20 turns at a machine's pace" if found else "")


def test_one_thought_in_between_is_a_persons() -> None:
    detector = LoopDetector(4)
    for number in range(39):
        detector.agent_heard(number * 10)
        detector.caller_began(number * 10 + (3 if number == 19 else 0.3))
    assert detector.found == ""


def test_who_interrupts_is_a_person() -> None:
    detector = LoopDetector(4)
    for number in range(39):
        if number != 19:
            detector.agent_heard(number * 10)
        detector.caller_began(number * 10 + 0.3)
    assert detector.found == ""


def test_what_is_kept_has_a_bound() -> None:
    detector = LoopDetector(3)
    for number in range(1000):
        detector.caller_said(f"{number} " * 10_000)
    assert len(detector._caller._said) == 3
