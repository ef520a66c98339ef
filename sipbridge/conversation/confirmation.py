"""The caller agrees before he is put through (`tools.transfer_call.confirm`).

The model's first request only has the question asked. It is good for the next one, if the caller has had his turn in
between and has not plainly said no. A second no ends the offer of that target for this call. What the model may do
next is in its instructions from then on: a tool's answer is soon far away in a conversation.
"""

from __future__ import annotations

import enum

from sipbridge import agent as model
from sipbridge.agent import AgentEvent
from sipbridge.conversation.agents import Agents
from sipbridge.conversation.context import CallContext
from sipbridge.conversation.speaker import Speaker
from sipbridge.wording import declines

_HOLDS_S = 120.0
"""Older questions have to be asked again."""
_WORDS_S = 1.0
"""A model answers what it hears; what that was in words may come a little later."""
_REFUSALS = 2


class _State(enum.Enum):
    IDLE = enum.auto()
    ASKING = enum.auto()
    """The model has been told to ask."""
    ASKED = enum.auto()
    """It has spoken since."""
    ANSWERED = enum.auto()
    """The caller has, too."""
    OVER = enum.auto()
    """It is offered no more."""


class _Input(enum.Enum):
    REQUEST = enum.auto()
    SPEECH = enum.auto()
    """The agent's."""
    TURN = enum.auto()
    """The caller's."""


_NEXT = {
    (_State.IDLE, _Input.REQUEST): _State.ASKING,
    (_State.ASKING, _Input.SPEECH): _State.ASKED,
    (_State.ASKED, _Input.TURN): _State.ANSWERED,
    (_State.ANSWERED, _Input.REQUEST): _State.IDLE,
}
"""What is not here changes nothing."""


class Offer:
    """One target's. Pure, in the time of `now`."""

    def __init__(self) -> None:
        self._state = _State.IDLE
        self._asked_at = 0.0
        self._answer: str | None = None
        self.refusals = 0

    @property
    def over(self) -> bool:
        return self._state is _State.OVER

    @property
    def waits_for_words(self) -> bool:
        """The caller has spoken, and what he said is not known in words."""
        return self._state is _State.ANSWERED and self._answer is None

    def requested(self, now: float, *, agreed: bool | None = None) -> bool:
        """The model asks for the transfer, or tells that the caller does not want it. Whether it may be."""
        if now - self._asked_at > _HOLDS_S and not self.over:
            self._state = _State.IDLE
        if agreed is False and self._state in (_State.ASKED, _State.ANSWERED):
            self._refused()
            return False
        granted = self._state is _State.ANSWERED
        if self._state is _State.IDLE:
            self._asked_at, self._answer = now, None
        self._step(_Input.REQUEST)
        return granted

    def agent_spoke(self) -> None:
        self._step(_Input.SPEECH)

    def caller_acted(self) -> None:
        """He begins to speak, or presses a key."""
        self._step(_Input.TURN)

    def caller_said(self, text: str) -> bool:
        """What he said, in words. True: it was a no to this."""
        if self._state is not _State.ANSWERED or self._answer is not None:
            return False
        self._answer = text
        if not declines(text):
            return False
        self._refused()
        return True

    def _refused(self) -> None:
        self.refusals += 1
        self._state = _State.OVER if self.refusals >= _REFUSALS else _State.IDLE

    def _step(self, what: _Input) -> None:
        self._state = _NEXT.get((self._state, what), self._state)


class Confirmation:
    """The offers of one call."""

    def __init__(self, call: CallContext, agents: Agents) -> None:
        self._call = call
        self._agents = agents
        self._offers: dict[str, Offer] = {}
        self._notes: dict[str, str] = {}
        """What holds of each, in the instructions of whoever has the line."""
        self._reminded: Speaker | None = None

    # --- what happens -------------------------------------------------------------------------------------------------

    def agent_event(self, event: AgentEvent) -> None:
        if self._notes and self._agents.current is not self._reminded:
            self._remind()  # another agent has the line: it holds for that one as well
        match event:
            case model.AssistantAudio():
                for offer in self._offers.values():
                    offer.agent_spoke()
            case model.UserSpeechStarted():
                self.caller_acted()
            case model.UserTranscript(text, True):
                if (speaker := self._agents.current) is not None and not speaker.capabilities.speech_events:
                    self.caller_acted()
                self._caller_said(text)
            case _:
                pass

    def caller_acted(self) -> None:
        for offer in self._offers.values():
            offer.caller_acted()

    def _caller_said(self, text: str) -> None:
        for name, offer in self._offers.items():
            if offer.caller_said(text):
                self._note(name, _declined(name, offer))

    # --- what is asked for --------------------------------------------------------------------------------------------

    async def objection(self, name: str, agreed: bool | None = None) -> str:
        """To a transfer to this target, in words for the model. "": the caller has agreed."""
        offer = self._offers.setdefault(name, Offer())
        await self._call.floor.happens(lambda: not offer.waits_for_words, _WORDS_S if self._transcribes else 0)
        before = offer.refusals
        if offer.over:
            words = _declined(name, offer)
        elif offer.requested(self._call.clock(), agreed=agreed):
            words = ""
        else:
            words = _declined(name, offer) if offer.refusals > before else _ask(name)
        self._note(name, words)
        return words

    @property
    def _transcribes(self) -> bool:
        return self._agents.current is not None and self._agents.current.capabilities.transcribes

    def _note(self, name: str, words: str) -> None:
        """It holds from now on, instead of what held of this target before."""
        self._notes[name] = words
        self._remind()

    def _remind(self) -> None:
        self._reminded = self._agents.current
        if self._reminded is not None:
            self._reminded.remind("\n\n".join(note for note in self._notes.values() if note))


def _ask(name: str) -> str:
    return (
        f"The caller has to agree before he is put through to {name}. Ask him in one short sentence whether he wants"
        " that, and wait for his answer. Only when he has said yes ask for the transfer again; when he says no, go on"
        " without it."
    )


def _declined(name: str, offer: Offer) -> str:
    if offer.over:
        return (
            f"The caller has declined to be put through to {name} for the second time. Do not offer it again and do not"
            " ask for it: it is not possible in this call any more."
        )
    return (
        f"The caller has declined to be put through to {name}. Go on helping him; offer it once more at most, and only"
        " if he asks for a person himself or there is no other way."
    )
