"""Journalist: has an ear for everything in a conversation, and notes it in the call's journal.

What the parts do by themselves they note themselves (`CallContext.journal`, `CallRecord`); here is what takes putting
together, which is turns and how long they took (`spoken.py`), and what models tell of themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from sipbridge import agent as model
from sipbridge.agent import AgentEvent
from sipbridge.audio import Played
from sipbridge.conversation.agents import Agents
from sipbridge.conversation.context import CallContext
from sipbridge.conversation.speaker import Speaker
from sipbridge.conversation.spoken import Spoken, last_sound
from sipbridge.history.facts import Noted
from sipbridge.media.events import SpeechEnded, SpeechStarted
from sipbridge.turn_taking import QUIET_MS

_MOST_DETAIL = 500
"""Characters of what others say of themselves."""


class Journalist:
    """An `Observer`; the rest it is told."""

    def __init__(self, call: CallContext, agents: Agents) -> None:
        self._call = call
        self._agents = agents
        self._spoken = Spoken(call.record.began, call.journal.note, call.record.turn_answered, self._started_at)
        self._ear_heard_at: float | None = None
        """When our own ear, where there is one, heard the caller last; None: it does now."""
        self._told_by_ear = False
        call.on_discard = self._discarded
        agents.followed = self._spoken.nothing_more  # of the one before nobody hears any more
        self._tell_watch, agents.asked = agents.asked, self._asked

    def note(self, what: str, detail: str = "") -> None:
        self._call.journal.note(Noted(what, detail[:_MOST_DETAIL]))

    # --- what the agent in use tells ----------------------------------------------------------------------------------

    def agent_event(self, event: AgentEvent) -> None:
        speaker = self._agents.current
        if speaker is None:
            return
        spoken, now = self._spoken, self._call.clock()
        match event:
            case model.AssistantAudio():
                pass  # see `plays`
            case model.AssistantText(reply_id, text, final):
                spoken.agent_said(reply_id, text, now, final=final, agent=speaker.name)
            case model.AssistantTurnStarted(reply_id):
                spoken.reply_began(reply_id, speaker.name)
            case model.AssistantTurnEnd(reply_id):
                spoken.reply_ended(reply_id)
            case model.UserSpeechStarted(item_id=item_id):
                spoken.caller_began(now, item_id)
            case model.UserSpeechEnded(audio_ms):
                spoken.caller_ended(now, self._last_sound(speaker, audio_ms, now))
            case model.UserTranscript(text, final, item_id):
                interim = speaker.config.transcripts.interim
                spoken.caller_said(text, now, final=final, item_id=item_id, interim=interim)
            case model.Reconnecting(attempt):
                self.note("reconnecting", f"attempt {attempt}")
            case model.Resumed(context_kept):
                self.note("resumed", "with what was said before" if context_kept else "without what was said before")
            case model.AgentError(message, code, fatal):
                self.note("agent_error", f"{code}: {message}" + (" (fatal)" if fatal else ""))
            case model.SessionClosed():
                spoken.nothing_more()
            case _:
                pass

    def plays(self, speaker: Speaker, reply_id: str, item_id: str, pcm: bytes) -> None:
        """What an agent says is about to be heard."""
        ms = speaker.downlink.duration_ms(pcm)
        self._spoken.plays(reply_id, item_id, ms, self._call.clock(), speaker.name)

    # --- what the leg tells, and what is done about it --------------------------------------------------------------

    def heard_out(self, item_id: str) -> None:
        self._spoken.heard_out(item_id, self._call.clock())

    def _discarded(self, played: Sequence[Played]) -> None:
        self._spoken.discarded(played, self._call.clock())

    def ear_heard(self, event: SpeechStarted | SpeechEnded) -> None:
        """Our own ear, whoever finds the turns."""
        self._told_by_ear = True
        self._ear_heard_at = self._call.clock() - QUIET_MS / 1000 if isinstance(event, SpeechEnded) else None

    def no_turn(self) -> None:
        """What interrupted the agent was nothing."""
        self._spoken.no_turn()
        self.note("false_alarm")

    def _asked(self, call_id: str) -> None:
        """The agent is given something to answer: where nothing else ends the caller's turns, this does."""
        self._tell_watch(call_id)
        speaker = self._agents.current
        if not call_id and speaker is not None and (speaker.turns.asks or speaker.turns.ends_turns):
            self._spoken.asked(self._call.clock())

    def _last_sound(self, speaker: Speaker, audio_ms: int | None, now: float) -> float | None:
        lag = None if audio_ms is None else (speaker.pushed_ms - audio_ms) / 1000
        silence = None if speaker.turns.detection.type == "semantic_vad" else speaker.turns.silence_ms / 1000
        return last_sound(now, ear=self._ear_heard_at if self._told_by_ear else None, lag=lag, silence=silence)

    def _started_at(self, item_id: str) -> float | None:
        stream = self._call.stream
        return None if stream is None else stream.started_at(item_id)

    def close(self) -> None:
        """The call is over; what is heard now is not heard any further."""
        stream = self._call.stream
        self._spoken.close(() if stream is None else stream.played(), self._call.clock())
