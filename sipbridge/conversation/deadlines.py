"""By when the agent has to be heard of: who waits for it, since when, and when that has been too long.

Pure, in the time of `now`, and a table. What the model's side does comes in by `observe`, what it is asked for by
`asked` and `answered`; `ring`, at the time of `get_timer`, says what was missed.

    FREE      nobody waits for it
    CALLER    the caller speaks
    ASKED     it owes a reply: the caller has finished, a tool has answered, it was told to speak
    REPLYING  a reply has begun
    WORKING   it waits for its tools, which have a deadline of their own (`tools/`)
    BROKEN    a reply has failed, though the session is there
    OUT       its session is gone, and it tries to get another one by itself
"""

from __future__ import annotations

import enum
from typing import Literal, TypeAlias

from sipbridge.agent import (
    AgentEvent,
    AssistantAudio,
    AssistantInterrupted,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    Reconnecting,
    Resumed,
    ToolCall,
    ToolCallCancelled,
    ToolCallDelta,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import AudioFormat

BROKEN_S = 0.6
"""A reply often fails because its session is gone; then that is told next, at the latest when a second try to open one
begins (`providers/recovery.py`)."""
OUTAGE_S = 1.0
"""How long an agent is left to get another session, where somebody could stand in for it: two tries."""

LATE_WORDS_S = 2.0
"""So soon after a reply the caller's words are likely to be those that it answered."""


class Phase(enum.Enum):
    FREE = enum.auto()
    CALLER = enum.auto()
    ASKED = enum.auto()
    REPLYING = enum.auto()
    WORKING = enum.auto()
    BROKEN = enum.auto()
    OUT = enum.auto()


class Input(enum.Enum):
    ASK = enum.auto()
    """It is asked for a reply, by us."""
    CALLER_BEGINS = enum.auto()
    CALLER_ENDS = enum.auto()
    NOTHING_SAID = enum.auto()
    """What was taken for the caller's speech was none."""
    NO_TURN = enum.auto()
    """What he says takes no turn: it was a backchannel, or nothing at all."""
    BEGIN = enum.auto()
    """A reply begins."""
    SIGN = enum.auto()
    """Of life: more of a reply."""
    END = enum.auto()
    """Of the latest reply."""
    FAIL = enum.auto()
    """The same, but it failed."""
    LOSE = enum.auto()
    REGAIN = enum.auto()


Table: TypeAlias = dict[Phase, dict[Input, Phase]]

_ALWAYS = {Input.LOSE: Phase.OUT, Input.BEGIN: Phase.REPLYING, Input.SIGN: Phase.REPLYING}
TABLE: Table = {
    Phase.FREE: {**_ALWAYS, Input.ASK: Phase.ASKED, Input.CALLER_BEGINS: Phase.CALLER, Input.CALLER_ENDS: Phase.ASKED},
    Phase.CALLER: {
        Input.LOSE: Phase.OUT,
        Input.BEGIN: Phase.REPLYING,  # what still comes of another reply is no answer to him
        Input.ASK: Phase.ASKED,
        Input.CALLER_ENDS: Phase.ASKED,
        Input.NO_TURN: Phase.FREE,
    },
    Phase.ASKED: {**_ALWAYS, Input.CALLER_BEGINS: Phase.CALLER, Input.NOTHING_SAID: Phase.FREE},
    Phase.REPLYING: {
        **_ALWAYS,
        Input.CALLER_BEGINS: Phase.CALLER,
        Input.END: Phase.FREE,
        Input.FAIL: Phase.BROKEN,
    },
    Phase.WORKING: {**_ALWAYS, Input.ASK: Phase.ASKED, Input.CALLER_BEGINS: Phase.CALLER},
    Phase.BROKEN: {**_ALWAYS, Input.ASK: Phase.ASKED, Input.CALLER_BEGINS: Phase.CALLER},
    Phase.OUT: {Input.REGAIN: Phase.FREE},
}
"""What is not in it does not matter then. What has become of tools and of debts on the way is in `_step`."""


Turns: TypeAlias = Literal["speech", "words", "none"]
"""What shows that the caller has finished and is owed an answer: that his speech has ended, or that his words have come
(of a model that tells nothing of speech). With "none" nothing does; it answers when it likes, or when it is asked."""


class Deadlines:
    """Of one agent."""

    def __init__(
        self, audio: AudioFormat, *, first_audio_seconds: float, reply_seconds: float, turns: Turns = "speech"
    ) -> None:
        """`audio` is what it speaks in."""
        self.phase = Phase.FREE
        self.spoke = False
        """It was heard at all."""
        self._audio = audio
        self._first_audio_seconds = first_audio_seconds
        self._reply_seconds = reply_seconds
        self._turns = turns
        self._calls: set[str] = set()
        self._reply = ""
        self._generating = False
        """Its latest reply has not ended."""
        self._caller_began_at = 0.0
        self._unanswered = False
        """The caller's turn is over, and nothing was said or done about it."""
        self._answered = False  # a tool has, in the reply under way: another one follows
        self._owed_when_lost = False
        self._plays_until = self._ended_at = 0.0
        self._due: float | None = None

    # --- what happens -------------------------------------------------------------------------------------------------

    def asked(self, now: float) -> None:
        """It was told to speak."""
        self._step(Input.ASK, now)

    def answered(self, call_id: str, now: float) -> None:
        """It was told a tool's result; when it has them all it goes on by itself."""
        self._calls.discard(call_id)
        if self.phase is Phase.REPLYING:
            self._answered = True
        elif not self._calls:
            self._step(Input.ASK, now)

    def discarded(self, now: float) -> None:
        """What it had said and was not heard yet never will be."""
        self._plays_until = now

    def no_turn(self, now: float) -> None:
        """The caller has spoken and takes no turn: what the agent was saying goes on."""
        if self.phase is Phase.CALLER:
            if self._plays_until > self._caller_began_at:
                self._plays_until += now - self._caller_began_at  # it was silent meanwhile, or might have been
            self._step(Input.NO_TURN, now)

    def observe(self, event: AgentEvent, now: float) -> None:
        match event:
            case AssistantAudio(reply_id, _, pcm):
                self.spoke = True
                self._unanswered = False
                self._plays_until = max(self._plays_until, now) + self._audio.duration_ms(pcm) / 1000
                self._sign(reply_id, now)
            case AssistantTurnStarted(reply_id):
                self._sign(reply_id, now, Input.BEGIN)
            case AssistantText(reply_id):
                self._unanswered = False
                self._sign(reply_id, now)
            case ToolCall(call_id, _, _, reply_id):
                self._calls.add(call_id)
                self._unanswered = False
                self._sign(reply_id, now)
            case ToolCallDelta():
                self._sign(self._reply, now)
            case ToolCallCancelled(call_id):
                self._calls.discard(call_id)
                if self.phase is Phase.WORKING and not self._calls:
                    self._enter(Phase.FREE, now)
            case AssistantTurnEnd(reply_id, status):
                self._ended_at = now
                if reply_id == self._reply:
                    self._generating = status == "failed"  # then more was to come
                    self._unanswered = self._unanswered and status == "completed"
                    self._step(Input.FAIL if status == "failed" else Input.END, now)
            case AssistantInterrupted() | UserSpeechStarted():
                if isinstance(event, AssistantInterrupted):
                    self.discarded(now)
                self._caller_began_at = now
                self._step(Input.CALLER_BEGINS, now)
            case UserSpeechEnded() if self._turns == "speech":
                self._step(Input.CALLER_ENDS, now)
            case UserTranscript(text, True) if not text.strip():
                self._step(Input.NOTHING_SAID, now)
            case UserTranscript(_, True) if self._turns == "words" and now - self._ended_at > LATE_WORDS_S:
                self._step(Input.CALLER_ENDS, now)
            case Reconnecting():
                self._generating = False
                self._step(Input.LOSE, now)
            case Resumed():
                self._step(Input.REGAIN, now)
            case _:
                pass

    def _sign(self, reply_id: str, now: float, what: Input = Input.SIGN) -> None:
        self._reply = reply_id
        self._generating = True
        self._step(what, now)

    def _step(self, what: Input, now: float) -> None:
        before, after = self.phase, TABLE[self.phase].get(what)
        if after is None:
            return
        if what is Input.LOSE and before is not Phase.OUT:
            self._owed_when_lost = before in _OWES
        elif what is Input.REGAIN and self._owed_when_lost:
            after = Phase.ASKED  # whoever opened the session asks for it (`providers/session.py`)
        elif what is Input.END and (self._answered or self._unanswered):
            after = Phase.ASKED
        elif what is Input.NO_TURN and self._generating:
            after = Phase.REPLYING
        if what in (Input.ASK, Input.CALLER_ENDS, Input.NOTHING_SAID):
            self._unanswered = what is Input.CALLER_ENDS
        if after in (Phase.FREE, Phase.ASKED) and self._calls:
            after = Phase.WORKING
        self._answered = self._answered and what is Input.SIGN
        self._enter(after, now)

    def _enter(self, phase: Phase, now: float) -> None:
        began, self.phase = phase is not self.phase, phase
        if phase is Phase.ASKED:
            seconds = self._reply_seconds if self.spoke else min(self._first_audio_seconds, self._reply_seconds)
            self._due = max(now, self._plays_until) + seconds
        elif phase is Phase.REPLYING:
            self._due = max(now, self._plays_until) + self._first_audio_seconds
        elif phase is Phase.BROKEN:
            self._due = now + BROKEN_S
        elif phase is not Phase.OUT:
            self._due = None
        elif began:
            self._due = now + OUTAGE_S

    # --- what follows -------------------------------------------------------------------------------------------------

    @property
    def owes(self) -> bool:
        """Somebody waits for what it has to say, or it was cut off in saying it."""
        return self._owed_when_lost if self.phase is Phase.OUT else self.phase in _OWES

    def get_timer(self) -> float | None:
        return self._due

    def ring(self, now: float) -> Phase | None:
        """The phase that has lasted too long, once."""
        if self._due is None or now < self._due:
            return None
        self._due = None
        return self.phase

    def again(self, now: float) -> None:
        """It is left the same time once more."""
        self._enter(self.phase, now)


_OWES = frozenset({Phase.ASKED, Phase.REPLYING, Phase.BROKEN})
