from __future__ import annotations

import pytest

from sipbridge.simulator.caller_report import CallReport, TimelineEntry
from sipbridge.simulator.caller_stopwatch import Stopwatch


class Watched:
    """Invited at 100.0 on the clock, answered at 101.0."""

    def __init__(self) -> None:
        self.report = CallReport()
        self.entries: list[TimelineEntry] = []
        self.watch = Stopwatch(self.report, 100.0, self.entries.append)
        self.watch.note("INVITE", 100.0)
        self.watch.answered(200, "OK", 101.0)

    @property
    def figures(self) -> dict[str, float]:
        return {name: self.report.figures[name] for name in self.report.figures if name != "connect"}


def test_ringing_counts_once_and_the_call_from_its_answer() -> None:
    report = CallReport()
    watch = Stopwatch(report, 100.0, lambda entry: None)
    watch.ringing(180, "Ringing", 100.25)
    watch.ringing(183, "Session Progress", 100.5)
    watch.answered(200, "OK", 101.0)
    watch.ended("hang up", 1234, 104.5)
    assert report.figures == {"ringing": 250, "connect": 1000, "duration": 3500, "heard": 1234}
    assert [str(entry) for entry in report.timeline][-1] == "   4.500 s  hang up"


def test_a_call_that_was_never_answered_has_no_duration() -> None:
    report = CallReport()
    Stopwatch(report, 100.0, lambda entry: None).ended("480 Temporarily Unavailable", 0, 101.0)
    assert report.figures == {}


def test_the_greeting_is_timed_from_the_answer_and_only_its_first_sound() -> None:
    call = Watched()
    call.watch.speech_started(80)
    call.watch.speech_ended(900)
    call.watch.speech_started(1400)
    assert call.figures == {"greeting": 80}
    assert call.entries[-1].text == "greeting heard after 80 ms"
    assert call.entries[-1].at == pytest.approx(1.08)


def test_the_answer_is_timed_from_the_last_sound_of_the_sentence() -> None:
    call = Watched()
    call.watch.says(2000, (100, 3000), over=False)
    call.watch.speech_started(3000)  # the other side talks into our sentence
    call.watch.speech_started(5650)
    assert call.figures == {"reply": 650}
    assert [entry.text for entry in call.entries[2:]] == [
        "caller speaks",
        "speech heard while the caller speaks",
        "answer heard after 650 ms",
    ]


def test_of_two_answers_the_slower_counts() -> None:
    call = Watched()
    for start, answer in ((2000, 3700), (8000, 9400)):
        call.watch.says(start, (0, 1000), over=False)
        call.watch.speech_started(answer)
    assert call.figures == {"reply": 700}


def test_an_interruption_is_timed_from_its_first_sound_to_the_last_old_one() -> None:
    call = Watched()
    call.watch.says(2000, (150, 900), over=True)
    call.watch.speech_ended(2290)
    call.watch.speech_ended(2800)
    assert call.figures == {"flush": 140}
    assert [entry.text for entry in call.entries[2:]] == ["caller interrupts", "barge-in flushed in 140 ms"]


def test_speech_that_ended_before_the_interruption_was_not_interrupted() -> None:
    call = Watched()
    call.watch.says(2000, (150, 900), over=True)
    call.watch.speech_ended(2100)
    assert call.figures == {}
    assert call.entries[-1].text == "the answer was over before the caller interrupted"


def test_a_key_is_timed_from_its_press() -> None:
    call = Watched()
    call.watch.presses("5", 3000)
    call.watch.speech_started(3180)
    assert call.figures == {"key": 180}


def test_the_time_line_is_in_order_at_the_end() -> None:
    call = Watched()
    call.watch.note("re-INVITE", 101.3)
    call.watch.speech_started(80)
    call.watch.ended("BYE received", 0, 102.0)
    assert [entry.at for entry in call.report.timeline] == sorted(entry.at for entry in call.report.timeline)
