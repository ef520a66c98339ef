from __future__ import annotations

from sipbridge.simulator.caller_script import Action, HangUp, Listen, Press, Say, Script, Step, steps_for


class Call:
    """A script on a clock of numbers; what it does is written down with the time."""

    def __init__(self, steps: list[Step], seconds: float = 60.0) -> None:
        self.script = Script(steps, seconds=seconds)
        self.now = 0.0
        self.acts: list[tuple[float, Action]] = []
        self.script.start(0.0)
        self._take()

    def until(self, now: float) -> None:
        while (due := self.script.get_timer()) is not None and due <= now:
            self.now = max(self.now, due)
            self.script.handle_timer(self.now)
            self._take()
        self.now = now

    def heard(self, began: float, ended: float) -> None:
        """Speech of the other side, known as late as a detector knows it."""
        self.until(began + 0.06)
        self.script.speech_started(began, self.now)
        self._take()
        self.until(ended + 0.3)
        self.script.speech_ended(ended, self.now)
        self._take()

    def sent(self, now: float) -> None:
        self.until(now)
        self.script.done(now)
        self._take()

    def _take(self) -> None:
        while (action := self.script.next_action()) is not None:
            self.acts.append((round(self.now, 3), action))


def test_it_hears_out_the_greeting_says_its_sentence_hears_the_answer_and_hangs_up() -> None:
    call = Call(steps_for(speaks=True))
    call.heard(1.0, 3.0)
    call.until(3.95)
    assert call.acts == [(3.9, Say())]
    call.sent(6.0)
    call.heard(7.0, 9.0)
    call.until(20)
    assert call.acts[1:] == [(9.9, HangUp())]
    assert call.script.get_timer() is None


def test_a_pause_in_the_greeting_is_not_its_end() -> None:
    call = Call(steps_for(speaks=True))
    call.heard(1.0, 2.0)
    call.heard(2.7, 4.0)
    call.until(10)
    assert call.acts == [(4.9, Say())]


def test_it_speaks_where_nobody_greets_and_leaves_where_nobody_answers() -> None:
    call = Call(steps_for(speaks=True, greeting_within_s=2, reply_within_s=3))
    call.until(2.5)
    assert call.acts == [(2.0, Say())]
    call.sent(4.0)
    call.until(10)
    assert call.acts[1:] == [(7.0, HangUp())]


def test_it_interrupts_the_answer_and_hears_the_next() -> None:
    call = Call(steps_for(speaks=True, interrupt_after_s=1.5, greeting_within_s=1))
    call.sent(3.0)
    call.until(4.06)
    call.script.speech_started(4.0, call.now)
    call.until(6.0)
    assert call.acts == [(1.0, Say()), (5.5, Say(interrupting=True))]
    call.script.speech_ended(5.6, 6.0)
    call.sent(8.0)
    call.heard(8.5, 9.5)
    call.until(12)
    assert call.acts[2:] == [(10.4, HangUp())]


def test_an_answer_that_is_over_before_it_is_interrupted() -> None:
    call = Call(steps_for(speaks=True, interrupt_after_s=5, greeting_within_s=1))
    call.sent(3.0)
    call.heard(4.0, 5.0)
    call.until(6.0)
    assert call.acts == [(1.0, Say()), (5.9, Say(interrupting=True))]


def test_keys_are_pressed_one_by_one_each_after_the_last_was_answered() -> None:
    call = Call(steps_for(speaks=False, keys="1#", greeting_within_s=1, reply_within_s=2))
    call.sent(1.2)
    call.heard(1.5, 2.5)
    call.sent(3.6)
    call.until(10)
    assert call.acts == [(1.0, Press("1")), (3.4, Press("#")), (5.6, HangUp())]


def test_speech_that_goes_on_over_the_end_of_the_sentence_is_heard_out() -> None:
    call = Call([Say(), Listen("reply", within_s=1), HangUp()])
    call.until(1.0)
    call.script.speech_started(1.0, 1.0)
    call.sent(2.0)
    call.until(5.0)
    call.script.speech_ended(4.7, 5.0)
    call.until(10)
    assert call.acts == [(0.0, Say()), (5.6, HangUp())]


def test_with_nothing_to_do_it_listens_to_the_end() -> None:
    call = Call(steps_for(speaks=False), seconds=10)
    call.heard(1, 2)
    call.until(9.9)
    assert call.acts == []
    call.until(30)
    assert call.acts == [(10.0, HangUp())]


def test_the_time_limit_ends_it_wherever_it_is() -> None:
    call = Call(steps_for(speaks=True), seconds=1.5)
    call.until(1.0)
    call.script.speech_started(1.0, 1.0)
    call.until(30)
    assert call.acts == [(1.5, HangUp())]
    call.sent(31)
    assert len(call.acts) == 1
