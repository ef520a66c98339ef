"""Who has the floor, in virtual time."""

from __future__ import annotations

import pytest

from sipbridge.turn import FLOOR, Floor, Input, Rule, Turn, Verdict


def speaking(turn: Turn, reply: str = "r1", item: str = "i1", now: float = 0.0) -> Turn:
    turn.reply_started(reply)
    assert turn.may_play(reply, item, 480, now)
    return turn


def test_a_reply_is_over_when_its_last_item_was_heard() -> None:
    turn = speaking(Turn())
    assert not turn.silent
    assert turn.reply_ended("r1") == ("i1",)
    assert not turn.silent
    assert not turn.generating
    turn.item_heard("i1")
    assert turn.silent


def test_items_heard_before_generation_ends_need_no_finish() -> None:
    turn = speaking(Turn())
    turn.item_heard("i1")
    assert turn.may_play("r1", "i2", 480, 0.1)
    assert turn.reply_ended("r1") == ("i2",)


def test_an_interruption_cuts_all_that_was_not_heard() -> None:
    turn = speaking(Turn())
    turn.reply_ended("r1")
    speaking(turn, "r2", "i2")
    assert turn.interrupt(1.0) is Verdict.DISCARD
    assert turn.silent
    assert not turn.may_play("r2", "i2", 960, 1.1)
    assert turn.dropped_bytes == 960
    assert turn.interrupt(1.2) is Verdict.IGNORE


def test_after_an_interruption_the_next_reply_plays() -> None:
    turn = speaking(Turn())
    turn.interrupt(1.0)
    turn.reply_ended("r1")
    assert turn.may_play("r2", "i2", 480, 2.0)
    assert turn.dropped_bytes == 0


def test_a_reply_that_has_no_audio_yet_can_be_interrupted() -> None:
    turn = Turn()
    turn.reply_started("r1")
    assert turn.interrupt(0.0) is Verdict.DISCARD
    assert not turn.may_play("r1", "i1", 10, 0.1)


def test_nothing_to_interrupt() -> None:
    assert Turn().interrupt(0.0) is Verdict.IGNORE


def test_the_greeting_is_protected_from_its_first_audio_on() -> None:
    turn = Turn(Rule(protect_greeting_ms=1500))
    speaking(turn, now=10.0)
    assert turn.interrupt(11.4) is Verdict.IGNORE
    assert turn.cut("r1", 11.4) is Verdict.IGNORE
    assert turn.interrupt(11.6) is Verdict.DISCARD


def test_barge_in_may_be_switched_off() -> None:
    turn = speaking(Turn(Rule(enabled=False)))
    assert turn.interrupt(9.0) is Verdict.IGNORE
    assert turn.may_play("r1", "i1", 480, 9.1)


def test_the_model_may_cut_a_reply_by_itself() -> None:
    turn = speaking(Turn())
    assert turn.cut("unknown", 1.0) is Verdict.IGNORE
    assert turn.cut("r1", 1.0) is Verdict.DISCARD
    assert turn.cut("r1", 1.0) is Verdict.IGNORE
    assert not turn.may_play("r1", "i1", 480, 1.1)


def test_a_goodbye_is_not_interrupted() -> None:
    turn = speaking(Turn())
    turn.close_floor()
    assert turn.interrupt(1.0) is Verdict.IGNORE
    assert turn.cut("r1", 1.0) is Verdict.IGNORE
    assert not turn.silent


def test_whether_a_reply_spoke_and_how_many_there_were() -> None:
    turn = Turn()
    turn.reply_started("r1")
    assert not turn.spoke("r1")
    speaking(turn)
    turn.item_heard("i1")
    assert turn.spoke("r1")
    assert turn.replies == 1
    assert turn.reply_ended("unknown") == ()


def test_when_the_model_is_lost_what_is_queued_is_still_heard() -> None:
    turn = speaking(Turn())
    turn.reply_started("r2")
    assert turn.model_lost() == ("i1",)
    assert not turn.silent
    turn.item_heard("i1")
    assert turn.silent


def test_after_the_last_word_nothing_is_played() -> None:
    turn = speaking(Turn())
    turn.reply_ended("r1")
    turn.item_heard("i1")
    turn.finish()
    assert not turn.may_play("r2", "i2", 480, 1.0)
    assert turn.dropped_bytes == 480


# --- what becomes of speech while the agent speaks ----------------------------------------------------------------

RECOVERING = Rule(recover=True, words_ms=800)


def paused(rule: Rule = RECOVERING) -> Turn:
    turn = speaking(Turn(rule))
    assert turn.speech_started(1.0) is Verdict.PAUSE
    return turn


def test_speech_interrupts_at_once_where_nothing_is_waited_for() -> None:
    turn = speaking(Turn())
    assert turn.speech_started(1.0) is Verdict.DISCARD
    assert turn.silent
    assert turn.due is None
    assert not turn.false_alarm


def test_speech_shorter_than_the_debounce_interrupts_nothing() -> None:
    turn = speaking(Turn(Rule(debounce_ms=300, silence_ms=100)))
    assert turn.speech_started(1.0) is Verdict.IGNORE
    assert turn.judging
    assert turn.speech_ended(1.25) is Verdict.IGNORE
    assert turn.false_alarm
    assert turn.due is None
    assert not turn.silent


def test_a_second_ear_may_say_that_it_was_short() -> None:
    turn = speaking(Turn(Rule(debounce_ms=300)))
    turn.speech_started(1.0)
    assert turn.fell_quiet(1.2) is Verdict.IGNORE
    assert turn.false_alarm
    assert turn.handle_timer(1.3) is Verdict.IGNORE
    assert paused().fell_quiet(1.3) is Verdict.IGNORE


def test_speech_that_lasts_interrupts_after_the_debounce() -> None:
    turn = speaking(Turn(Rule(debounce_ms=300)))
    turn.speech_started(1.0)
    assert turn.due == 1.3
    assert turn.handle_timer(1.29) is Verdict.IGNORE
    assert turn.handle_timer(1.3) is Verdict.DISCARD
    assert turn.silent


def test_who_goes_on_after_the_protected_greeting_interrupts_then() -> None:
    turn = speaking(Turn(Rule(protect_greeting_ms=1500)), now=10.0)
    assert turn.speech_started(11.0) is Verdict.IGNORE
    assert turn.words("Stop, please.", True, 11.2) is Verdict.IGNORE
    assert turn.due == 11.5
    assert turn.handle_timer(11.5) is Verdict.DISCARD


def test_who_spoke_only_during_the_protected_greeting_is_answered_all_the_same() -> None:
    turn = speaking(Turn(Rule(protect_greeting_ms=1500)), now=10.0)
    turn.speech_started(10.2)
    assert turn.speech_ended(11.4) is Verdict.IGNORE
    assert not turn.false_alarm


@pytest.mark.parametrize(
    ("text", "final", "verdict"),
    [
        ("Mm-hm.", True, Verdict.RESUME),
        ("", True, Verdict.RESUME),
        ("Yeah, okay", True, Verdict.RESUME),
        ("Yeah, but wait", False, Verdict.DISCARD),
        ("Stop!", True, Verdict.DISCARD),
        ("Ja, genau", False, Verdict.IGNORE),
    ],
)
def test_words_decide(text: str, final: bool, verdict: Verdict) -> None:
    turn = paused()
    turn.speech_ended(1.6)
    assert turn.words(text, final, 1.9) is verdict
    assert turn.false_alarm is (verdict is Verdict.RESUME)
    assert turn.silent is (verdict is Verdict.DISCARD)


@pytest.mark.parametrize(
    ("pieces", "verdict"),
    [
        (("Ok", "ay", ", I", " see."), Verdict.IGNORE),
        (("Ok", "Okay", "Okay, I see"), Verdict.IGNORE),
        (("Yes", ", but", " that"), Verdict.DISCARD),
        (("Yes", "Yes, but"), Verdict.DISCARD),
        (("Un", "derstood"), Verdict.DISCARD),
    ],
)
def test_words_that_are_still_coming_are_new_ones_or_all_so_far(pieces: tuple[str, ...], verdict: Verdict) -> None:
    turn = paused()
    assert {turn.words(piece, False, 1.2) for piece in pieces} | {Verdict.IGNORE} == {Verdict.IGNORE, verdict}


def test_speech_longer_than_any_backchannel_is_a_turn() -> None:
    turn = paused()
    assert turn.due == 2.0
    assert turn.handle_timer(2.0) is Verdict.DISCARD


def test_short_speech_without_words_was_nothing() -> None:
    turn = paused()
    assert turn.speech_ended(1.8) is Verdict.IGNORE
    assert turn.due == pytest.approx(2.6)
    assert turn.handle_timer(2.6) is Verdict.RESUME
    assert turn.false_alarm
    assert not turn.silent


def test_long_speech_without_words_was_a_turn() -> None:
    turn = paused(Rule(recover=True, words_ms=800, silence_ms=100))
    assert turn.speech_ended(1.9) is Verdict.IGNORE
    assert turn.due is not None
    assert turn.handle_timer(turn.due) is Verdict.DISCARD


def test_where_nobody_writes_down_what_is_said_the_end_of_speech_decides() -> None:
    rule = Rule(recover=True, words_ms=0, silence_ms=150)
    assert paused(rule).speech_ended(1.5) is Verdict.RESUME
    assert paused(rule).speech_ended(1.95) is Verdict.DISCARD


def test_words_that_come_after_the_agent_went_on_still_interrupt() -> None:
    turn = paused()
    turn.speech_ended(1.8)
    turn.handle_timer(2.6)
    assert turn.words("Stop!", True, 3.0) is Verdict.DISCARD
    assert not turn.false_alarm
    later = paused()
    later.speech_ended(1.8)
    later.handle_timer(2.6)
    assert later.due == pytest.approx(5.6)
    assert later.handle_timer(5.6) is Verdict.IGNORE
    assert later.words("Stop!", True, 5.7) is Verdict.IGNORE


def test_words_that_come_after_the_agent_has_finished_are_no_false_alarm() -> None:
    turn = paused()
    turn.reply_ended("r1")
    turn.speech_ended(1.8)
    turn.handle_timer(2.6)
    turn.item_heard("i1")
    assert turn.words("Stop!", True, 3.0) is Verdict.IGNORE
    assert not turn.false_alarm


def test_who_goes_on_speaking_after_a_breath_is_judged_by_all_of_it() -> None:
    turn = paused(Rule(recover=True, words_ms=800, silence_ms=100))
    turn.speech_ended(1.4)
    assert turn.speech_started(1.6) is Verdict.IGNORE
    assert turn.due == 2.0
    assert turn.handle_timer(2.0) is Verdict.DISCARD


def test_a_key_needs_no_verdict() -> None:
    assert speaking(Turn(RECOVERING)).interrupt(1.0) is Verdict.DISCARD
    assert paused().interrupt(1.1) is Verdict.DISCARD


def test_the_server_s_own_cut_ends_a_pause() -> None:
    turn = paused()
    assert turn.cut("r1", 1.2) is Verdict.DISCARD
    assert turn.due is None


def test_a_goodbye_that_begins_in_a_pause_is_heard() -> None:
    turn = paused()
    turn.close_floor()
    assert turn.due is not None
    assert turn.handle_timer(turn.due) is Verdict.RESUME
    assert not turn.silent


def test_a_pause_in_which_the_last_packet_was_heard_hides_no_answer() -> None:
    turn = paused()
    turn.reply_ended("r1")
    turn.item_heard("i1")
    assert turn.speech_ended(1.6) is Verdict.RESUME
    assert not turn.false_alarm
    assert not turn.judging


def test_every_state_can_be_left() -> None:
    for floor, row in FLOOR.items():
        assert any(target is Floor.OPEN for target, _ in row.values()), floor
        assert Input.CERTAIN in row
