"""Who said what and when, from events with times as numbers."""

from __future__ import annotations

import pytest

from sipbridge.audio import Played
from sipbridge.conversation.spoken import Spoken, last_sound
from sipbridge.history.facts import Turn
from sipbridge.outcome import Latency

BEGAN = 100.0


class Bench:
    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.waited: dict[int, Latency] = {}
        self.left: dict[str, float] = {}
        self.spoken = Spoken(BEGAN, self.turns.append, self.waited.__setitem__, self.left.get)

    def reply(self, name: str, at: float, text: str = "Hello.", ms: float = 1000, *, left: float | None = None) -> str:
        """Generated at once."""
        item = f"{name}-item"
        self.spoken.reply_began(name, "main")
        self.spoken.plays(name, item, ms, at)
        if left is not None:
            self.left[item] = left
        self.spoken.agent_said(name, text, at, final=True)
        self.spoken.reply_ended(name)
        return item


def test_a_question_and_its_answer_with_what_it_waited_for() -> None:
    bench = Bench()
    bench.spoken.caller_began(101.0, "u1")
    bench.spoken.caller_ended(103.5, 103.0)
    item = bench.reply("r1", 103.9, left=103.95)
    bench.spoken.caller_said("Where is it?", 104.0, final=True, item_id="u1")
    bench.spoken.heard_out(item, 105.0)
    assert bench.turns == [
        Turn(1, "caller", "Where is it?", 1.0, 3.0),
        Turn(2, "agent", "Hello.", 3.95, 5.0, agent="main", heard_ms=1000, latency=Latency(500, 400, 50)),
    ]
    assert bench.waited == {2: Latency(500, 400, 50)}


def test_a_greeting_answers_nobody() -> None:
    bench = Bench()
    bench.spoken.heard_out(bench.reply("r1", 100.5), 101.5)
    assert bench.turns[0].latency is None
    assert bench.waited == {}


def test_an_answer_that_is_cut_has_all_its_words_and_how_much_was_heard() -> None:
    bench = Bench()
    bench.reply("r1", 101.0, "It is on its way to you.", 4000, left=101.0)
    bench.spoken.discarded((Played("r1", "r1-item", 1200),), 102.2)
    assert bench.turns == [
        Turn(1, "agent", "It is on its way to you.", 1.0, 2.2, agent="main", interrupted=True, heard_ms=1200)
    ]


def test_a_reply_that_is_cut_while_it_is_generated_is_told_when_its_words_are_there() -> None:
    bench = Bench()
    bench.spoken.reply_began("r1", "main")
    bench.spoken.plays("r1", "i1", 500, 101.0)
    bench.spoken.agent_said("r1", "It is ", 101.0, final=False)
    bench.spoken.discarded((Played("r1", "i1", 200),), 101.2)
    assert bench.turns == []
    bench.spoken.agent_said("r1", "on its", 101.25, final=False)
    bench.spoken.reply_ended("r1")
    assert [(turn.text, turn.heard_ms, turn.interrupted) for turn in bench.turns] == [("It is on its", 200, True)]


def test_what_was_heard_to_its_end_before_is_not_interrupted() -> None:
    bench = Bench()
    bench.spoken.heard_out(bench.reply("r1", 101.0), 102.0)
    bench.reply("r2", 103.0, "More.", 2000)
    bench.spoken.discarded((Played("r2", "r2-item", 0),), 103.0)
    assert [(turn.number, turn.interrupted, turn.heard_ms) for turn in bench.turns] == [(1, False, 1000), (2, True, 0)]


def test_a_reply_that_only_calls_tools_is_no_turn_and_the_next_one_is_the_answer() -> None:
    bench = Bench()
    bench.spoken.caller_began(101.0)
    bench.spoken.caller_ended(102.0, None)
    bench.spoken.reply_began("r1", "main")
    bench.spoken.reply_ended("r1")
    bench.spoken.heard_out(bench.reply("r2", 104.0, left=104.02), 105.0)
    assert [turn.latency for turn in bench.turns] == [Latency(None, 2000, 20)]


def test_interim_results_have_the_number_of_what_they_become() -> None:
    bench = Bench()
    bench.spoken.caller_began(101.0, "u1")
    bench.spoken.caller_said("Where", 101.3, final=False, item_id="u1", interim=True)
    bench.spoken.caller_said("Where is", 101.5, final=False, item_id="u1", interim=True)
    bench.spoken.caller_said(" it", 101.7, final=False, item_id="u1", interim=True)
    bench.spoken.caller_ended(102.5, 102.0)
    bench.spoken.caller_said("Where is it?", 102.8, final=True, item_id="u1")
    assert [(turn.number, turn.text, turn.final) for turn in bench.turns] == [
        (1, "Where", False),
        (1, "Where is", False),
        (1, "Where is it", False),
        (1, "Where is it?", True),
    ]
    assert bench.turns[-1].ended == 2.0


def test_interim_results_are_left_out_where_nobody_wants_them() -> None:
    bench = Bench()
    bench.spoken.caller_said("Where", 101.3, final=False)
    bench.spoken.caller_said("  ", 101.4, final=True)
    assert bench.turns == []


def test_words_without_a_name_are_those_of_the_latest_speech() -> None:
    bench = Bench()
    for began in (101.0, 103.0):
        bench.spoken.caller_began(began)
        bench.spoken.caller_ended(began + 1, began + 0.5)
    bench.spoken.caller_said("Yes.", 104.5, final=True)
    bench.spoken.caller_said("And more.", 104.6, final=True)
    assert [(turn.number, turn.began) for turn in bench.turns] == [(2, 3.0), (1, 1.0)]


def test_a_model_that_tells_nothing_of_speech() -> None:
    bench = Bench()
    bench.spoken.caller_said("Yes.", 104.5, final=True)
    bench.spoken.heard_out(bench.reply("r1", 105.0), 106.0)
    assert bench.turns[0] == Turn(1, "caller", "Yes.", 4.5, 4.5)
    assert bench.turns[1].latency is None


def test_what_was_no_turn_is_waited_for_by_nobody() -> None:
    bench = Bench()
    bench.spoken.caller_began(101.0)
    bench.spoken.caller_ended(101.3, 101.1)
    bench.spoken.no_turn()
    bench.spoken.heard_out(bench.reply("r1", 105.0), 106.0)
    assert bench.turns[0].latency is None


def test_a_turn_that_our_ear_ends_is_over_when_the_model_is_asked() -> None:
    bench = Bench()
    bench.spoken.caller_began(101.0)
    bench.spoken.caller_ended(102.15, 102.0)
    bench.spoken.asked(102.5)
    bench.spoken.heard_out(bench.reply("r1", 103.0, left=103.0), 104.0)
    assert bench.turns[0].latency == Latency(500, 500, 0)


def test_the_end_of_the_call_ends_every_turn() -> None:
    bench = Bench()
    bench.reply("r1", 101.0, "A long story.", 9000, left=101.0)
    bench.spoken.reply_began("r2", "main")
    bench.spoken.close((Played("r1", "r1-item", 2500),), 103.5)
    assert [(turn.text, turn.heard_ms, turn.ended, turn.interrupted) for turn in bench.turns] == [
        ("A long story.", 2500, 3.5, True)
    ]


def test_another_agent_says_nothing_more_and_what_it_said_is_heard() -> None:
    bench = Bench()
    bench.spoken.reply_began("r1", "first")
    bench.spoken.plays("r1", "i1", 500, 101.0)
    bench.spoken.agent_said("r1", "One moment.", 101.0, final=True)
    bench.spoken.nothing_more()
    assert bench.turns == []
    bench.spoken.heard_out("i1", 101.6)
    assert [(turn.agent, turn.interrupted) for turn in bench.turns] == [("first", False)]


def test_strangers_cannot_make_it_grow() -> None:
    bench = Bench()
    for number in range(1000):
        bench.spoken.caller_began(101.0, f"u{number}")
        bench.spoken.reply_began(f"r{number}", "main")
        bench.spoken.plays(f"r{number}", f"i{number}", 100, 101.0)
        bench.spoken.agent_said(f"r{number}", "x" * 1000, 101.0, final=False)
    assert len(bench.spoken._speeches) <= 16
    assert len(bench.spoken._replies) <= 17
    bench.spoken.agent_said("r999", "y" * 1_000_000, 101.0, final=True)
    bench.spoken.close((), 102.0)
    assert max(len(turn.text) for turn in bench.turns) <= 110_000


@pytest.mark.parametrize(
    ("ear", "lag", "silence", "ago"),
    [
        (9.2, 0.3, 0.5, 0.8),  # our own ear knows it best
        (11.0, None, None, 0.0),
        (None, 0.6, 0.5, 0.6),  # the place is the last sound
        (None, 0.1, 0.5, 0.6),  # it is the end of the silence
        (None, -0.2, 0.5, 0.5),  # it can't be true
        (None, 90.0, 0.5, 0.5),
        (None, 0.3, None, 0.3),
        (None, None, 0.5, 0.5),
        (None, None, None, None),
    ],
)
def test_the_callers_last_sound(ear: float | None, lag: float | None, silence: float | None, ago: float | None) -> None:
    found = last_sound(10.0, ear=ear, lag=lag, silence=silence)
    assert found == (None if ago is None else pytest.approx(10.0 - ago))
