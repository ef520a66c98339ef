"""BargeIn: acts on what `Turn` says of the caller's speech, and sees to it that his turns are answered.

What tells of speech is the model, our own ear on the leg, or both (`turn_taking.py`). A pause keeps what waits to be
heard; a resumption goes on with it; what is discarded the model is told of, item by item, as it was really sent as RTP.
Where false alarms are judged here the model answers nothing by itself: it is asked to when the caller's turn is over
and was one.
"""

from __future__ import annotations

import asyncio

from sipbridge import agent as model
from sipbridge.agent import AgentEvent
from sipbridge.conversation.agents import Agents
from sipbridge.conversation.context import CallContext
from sipbridge.conversation.journalist import Journalist
from sipbridge.conversation.watch import Watch
from sipbridge.media.events import SpeechEnded, SpeechStarted
from sipbridge.turn import Verdict
from sipbridge.turn_taking import QUIET_MS, TurnTaking

_ITS_ANSWER_S = 2.0
"""A "yes" that was taken for a backchannel, and after which the agent had finished within this time, was its answer."""


class BargeIn:
    """An `Observer` of the agent's events; the rest is told by `CallSession`."""

    def __init__(self, call: CallContext, agents: Agents, watch: Watch, journalist: Journalist) -> None:
        self._call = call
        self._journalist = journalist
        self._watch = watch
        self._turn = call.turn
        self._agents = agents
        self._unanswered = False
        """A turn of the caller's is over that the model was not asked to answer."""
        self._said = False
        """There were words in it."""
        self._went_on_at = 0.0
        self._item = ""
        """The model's name for what the caller says, or said last,"""
        self._item_over_at: float | None = None
        """and when that was over."""
        self._spoke_at = 0.0
        self._verdict_due: asyncio.TimerHandle | None = None
        self._turn_ends: asyncio.TimerHandle | None = None

    @property
    def _turns(self) -> TurnTaking | None:
        return None if self._agents.current is None else self._agents.current.turns

    def close(self) -> None:
        """No verdict follows any more."""
        for timer in (self._verdict_due, self._turn_ends):
            if timer is not None:
                timer.cancel()
        self._verdict_due = self._turn_ends = None

    # --- what the model says ------------------------------------------------------------------------------------------

    def agent_event(self, event: AgentEvent) -> None:
        turns, now = self._turns, self._call.clock()
        if turns is None:
            return
        match event:
            case model.UserSpeechStarted(item_id=item_id):
                self._item, self._item_over_at = item_id, None
                if turns.heeds_model:
                    self._speech_started()
            case model.UserSpeechEnded():
                self._item_over_at = now
                if turns.heeds_model and not turns.leads:
                    self._act(self._turn.speech_ended(now))
                if turns.asks:
                    self._turn_is_over()
            case model.UserTranscript(text, final, item_id) if turns.words:
                if not self._is_of_before(item_id):
                    self._said = self._said or bool(text.strip())
                    self._act(self._turn.words(text, final, now))
            case model.AssistantAudio() if self._turn.paused and self._call.stream is not None:
                self._call.stream.pause()  # the end of a sound that looped has ended the pause as well
            case model.AssistantInterrupted(reply_id):
                self._act(self._turn.cut(reply_id, now))
            case _:
                pass

    def _is_of_before(self, item_id: str) -> bool:
        """Words of an earlier turn: transcripts come when they are done, perhaps in the middle of the answer."""
        if not item_id or not self._item:
            return False
        over_at = self._item_over_at
        return item_id != self._item or (over_at is not None and over_at < self._spoke_at)

    # --- what our own ear says, and keys ------------------------------------------------------------------------------

    def ear_heard(self, event: SpeechStarted | SpeechEnded) -> AgentEvent | None:
        """Returns what the other parts are to be told, where the model will not say it."""
        turns = self._turns
        if turns is None or self._agents.deaf:
            return None
        began = isinstance(event, SpeechStarted)
        if began:
            self._ear_heard_speech(turns)
        else:
            self._ear_heard_quiet(turns)
        if not turns.alone:
            return None
        return model.UserSpeechStarted() if began else model.UserSpeechEnded()

    def _ear_heard_speech(self, turns: TurnTaking) -> None:
        if turns.ends_turns and self._turn_ends is not None:
            self._turn_ends.cancel()  # a breath, no end
            self._turn_ends = None
        if turns.leads or turns.ends_turns:
            self._speech_started()

    def _ear_heard_quiet(self, turns: TurnTaking) -> None:
        now = self._call.clock()
        self._act(self._turn.speech_ended(now) if turns.leads else self._turn.fell_quiet(now))
        if turns.ends_turns:
            wait_s = max(0, turns.silence_ms - QUIET_MS) / 1000
            self._turn_ends = asyncio.get_running_loop().call_later(wait_s, self._turn_is_over)

    def key_pressed(self) -> None:
        self._act(self._turn.interrupt(self._call.clock()))

    def _speech_started(self) -> None:
        now = self._call.clock()
        if not self._turn.judging:
            self._spoke_at, self._unanswered, self._said = now, False, False
        self._act(self._turn.speech_started(now))

    # --- verdicts -----------------------------------------------------------------------------------------------------

    def _act(self, verdict: Verdict) -> None:
        stream = self._call.stream
        match verdict:
            case Verdict.PAUSE if stream is not None:
                stream.pause()
            case Verdict.RESUME if stream is not None:
                self._went_on_at = self._call.clock()
                if self._turn.false_alarm:
                    self._call.record.false_alarms += 1
                    self._journalist.no_turn()
                stream.resume()
            case Verdict.DISCARD:
                self._call.record.barge_ins += 1
                self._journalist.note("interrupted")
                self._agents.cancel(self._call.discard())
                self._watch.discarded()
            case _:
                pass
        self._wait_for_verdict()
        self._answer()
        self._call.floor.moved()

    def _wait_for_verdict(self) -> None:
        if self._verdict_due is not None:
            self._verdict_due.cancel()
            self._verdict_due = None
        if (due := self._turn.due) is not None:
            wait_s = max(0.0, due - self._call.clock())
            self._verdict_due = asyncio.get_running_loop().call_later(wait_s, self._time_is_up)

    def _time_is_up(self) -> None:
        self._act(self._turn.handle_timer(self._call.clock()))

    # --- answers ------------------------------------------------------------------------------------------------------

    def _turn_is_over(self) -> None:
        self._turn_ends = None
        self._unanswered = True
        self._answer()

    def heard_out(self) -> None:
        """An item was heard to its end."""
        self._answer()

    def _answer(self) -> None:
        """Ask for the answer to the caller's turn, where nobody has, and it was one."""
        turn, speaker = self._turn, self._agents.current
        if not self._unanswered or speaker is None or turn.judging or turn.closing:
            return
        if turn.false_alarm and not self._was_its_answer:
            self._watch.no_turn()
            return
        self._unanswered = False
        if speaker.turns.ends_turns:
            speaker.commit_input_audio()
        else:
            speaker.create_response()

    @property
    def _was_its_answer(self) -> bool:
        soon = self._call.clock() - self._went_on_at < _ITS_ANSWER_S
        return self._said and soon and self._turn.silent
