"""Who has the floor, in virtual time."""

from __future__ import annotations

from sipbridge.turn import Turn, Verdict


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
    turn = Turn(protect_greeting_ms=1500)
    speaking(turn, now=10.0)
    assert turn.interrupt(11.4) is Verdict.IGNORE
    assert turn.cut("r1", 11.4) is Verdict.IGNORE
    assert turn.interrupt(11.6) is Verdict.DISCARD


def test_barge_in_may_be_switched_off() -> None:
    turn = speaking(Turn(barge_in=False))
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
