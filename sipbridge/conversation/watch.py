"""Is there still somebody? The deadlines of whoever has the line (`deadlines.py`), kept by one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sipbridge.agent import AgentEvent
from sipbridge.conversation.agents import Agents
from sipbridge.conversation.context import CallContext
from sipbridge.conversation.deadlines import Deadlines, Phase, Turns
from sipbridge.conversation.speaker import Speaker


class Watch:
    def __init__(self, call: CallContext, agents: Agents) -> None:
        self._call = call
        self._agents = agents
        self.missed: Callable[[Phase], None] = lambda phase: None
        """Told when the agent in use has let a deadline pass; not while a goodbye is being said."""
        self._speaker: Speaker | None = None
        self._deadlines: Deadlines | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0
        agents.asked = self._asked

    @property
    def deadlines(self) -> Deadlines:
        """Of the agent that has the line; somebody must."""
        speaker = self._agents.current
        assert speaker is not None
        if self._deadlines is None or speaker is not self._speaker:
            times = self._call.tenant.config.deadlines
            self._speaker = speaker
            self._deadlines = Deadlines(
                speaker.downlink,
                first_audio_seconds=times.first_audio_seconds,
                reply_seconds=times.reply_seconds,
                turns=_turns(speaker),
            )
        return self._deadlines

    @property
    def out(self) -> bool:
        """Whoever has the line tries to get another session."""
        return self._agents.current is not None and self.deadlines.phase is Phase.OUT

    @property
    def owes(self) -> bool:
        """The caller waits for a word of whoever has the line."""
        return self._agents.current is not None and self.deadlines.owes

    def agent_event(self, event: AgentEvent) -> None:
        if self._agents.current is None:
            return  # nobody speaks for us any more: the caller talks to somebody else
        self.deadlines.observe(event, self._call.clock())
        self._arm()

    def discarded(self) -> None:
        """What was waiting to be heard never will be."""
        if self._agents.current is not None:
            self.deadlines.discarded(self._call.clock())

    def no_turn(self) -> None:
        """What the caller has said takes no turn."""
        if self._agents.current is not None:
            self.deadlines.no_turn(self._call.clock())
            self._arm()

    def again(self) -> None:
        """What was missed may come yet."""
        self.deadlines.again(self._call.clock())
        self._arm()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _asked(self, call_id: str) -> None:
        if call_id:
            self.deadlines.answered(call_id, self._call.clock())
        else:
            self.deadlines.asked(self._call.clock())
        self._arm()

    def _arm(self) -> None:
        """Early rather than moved with every packet: who rings too soon is set again."""
        due = None if self._deadlines is None else self._deadlines.get_timer()
        if due is None or (self._timer is not None and self._rings_at <= due):
            return
        self.close()
        self._rings_at = due
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self._call.clock()), self._ring)

    def _ring(self) -> None:
        self._timer = None
        call = self._call
        if call.record.outcome is not None or self._agents.current is None:
            return
        phase = self.deadlines.ring(call.clock())
        if phase is not None and not call.turn.closing:
            self.missed(phase)
        self._arm()


def _turns(speaker: Speaker) -> Turns:
    """A model that listens while it speaks answers when it likes; so does one that nothing tells when to, and one that
    waits to be asked."""
    can, turns = speaker.capabilities, speaker.turns
    if can.full_duplex or turns.asks or turns.detection.type == "none":
        return "none"
    return "speech" if can.speech_events else "words"
