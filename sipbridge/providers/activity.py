"""What is under way between caller and model: is this a moment at which nobody notices that the session changes, and
what has a new session to be asked for that the old one still owed? Pure, in the time of `now`.
"""

from __future__ import annotations

from sipbridge.agent import (
    AgentEvent,
    AgentOptions,
    AssistantAudio,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    Capabilities,
    ToolCall,
    ToolCallCancelled,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)

CALM = 0.5
"""Seconds without anything, before a moment counts as quiet."""
PATIENCE = 10.0
"""Seconds after which an answer that has not come is not waited for any more."""
_TRANSCRIPT = 3.0
"""The same for the words of a turn."""


class Activity:
    def __init__(self, options: AgentOptions, capabilities: Capabilities) -> None:
        self.open_replies: list[str] = []
        """Begun and not ended, oldest first."""
        self.owed_calls: dict[str, str] = {}
        """Tools that are running: call -> the reply that asked for it."""
        self.speaking = False
        """The caller, as far as we know."""
        self._to_say: list[tuple[float, str]] = []
        self._cut: set[str] = set()
        self._answered: set[str] = set()
        """Open replies a tool of which has answered: when they end, the model is about to go on."""
        self._format = options.output_format
        self.transcribes = options.transcription and capabilities.transcribes
        """What the caller says comes in words as well."""
        self._speech_events = capabilities.speech_events
        self._answers = options.turn_detection.create_response
        """It answers a turn by itself; else it is asked to, if it is to."""
        self._plays_until = self._calm_at = 0.0
        self._unanswered_since: float | None = None
        self._untranscribed_since: float | None = None

    # --- what happens -------------------------------------------------------------------------------------------------

    def observe(self, event: AgentEvent, now: float) -> None:
        match event:
            case AssistantAudio(pcm=pcm):
                self._plays_until = max(now, self._plays_until) + self._format.duration_ms(pcm) / 1000
            case AssistantText():
                self._calm_at = now + CALM
            case AssistantTurnStarted(reply_id):
                self.open_replies.append(reply_id)
                self.speaking = False  # not every vendor says that it ended
                if self._to_say:
                    self._to_say.pop(0)
                self._settled(now)
            case AssistantTurnEnd(reply_id, status):
                self._ended(reply_id, now, failed=status == "failed")
            case ToolCall(call_id=call_id, reply_id=reply_id):
                self.owed_calls[call_id] = reply_id
            case ToolCallCancelled(call_id):
                self.owed_calls.pop(call_id, None)
            case UserSpeechStarted():
                self.speaking = True
                self._settled(now)
            case UserSpeechEnded():
                self.speaking = False
                self._unanswered_since = now if self._answers else self._unanswered_since
                self._untranscribed_since = now if self.transcribes else None
            case UserTranscript(_, True):
                self._untranscribed_since = None
                self._calm_at = now + CALM
                if not self._speech_events and not self.open_replies:
                    self._unanswered_since = now
            case _:
                pass

    def asked(self, now: float) -> None:
        """The model was asked for a reply."""
        self._unanswered_since = now

    def asked_to_say(self, text: str, now: float) -> None:
        self._to_say.append((now, text))

    def answered(self, call_id: str, now: float) -> None:
        """A tool's result was told: when it was the last one, the model goes on by itself."""
        reply_id = self.owed_calls.pop(call_id, None)
        if reply_id in self.open_replies:
            self._answered.add(reply_id)
        if not self.owed_calls:
            self._unanswered_since = now

    def cancelled(self, now: float) -> None:
        """The caller has the floor: what was being said, or was about to be, is settled by his turn."""
        self._cut.update(self.open_replies)
        self._plays_until = now
        self._settled(now)

    def lost(self, now: float) -> list[str]:
        """The session is gone. Returns the replies that were open; they have been ended by this."""
        ended = list(self.open_replies)
        for reply_id in ended:
            self._ended(reply_id, now, failed=True)
        return ended

    def _ended(self, reply_id: str, now: float, *, failed: bool) -> None:
        if reply_id in self.open_replies:
            self.open_replies.remove(reply_id)
        if (failed or reply_id in self._answered) and reply_id not in self._cut:
            self._unanswered_since = now
        elif not self.owed_calls:
            self._settled(now)
        self._cut.discard(reply_id)
        self._answered.discard(reply_id)

    def _settled(self, now: float) -> None:
        self._unanswered_since = None
        self._calm_at = now + CALM

    # --- what follows -------------------------------------------------------------------------------------------------

    def quiet_at(self) -> float | None:
        """From when on it is quiet, if nothing else happens; None: something has to happen first."""
        if self.speaking or self.owed_calls or self.open_replies:
            return None
        at = max(self._calm_at, self._plays_until)
        if self._unanswered_since is not None:
            at = max(at, self._unanswered_since + PATIENCE)
        if self._to_say:
            at = max(at, self._to_say[-1][0] + PATIENCE)
        if self._untranscribed_since is not None:
            at = max(at, self._untranscribed_since + _TRANSCRIPT)
        return at

    def owes_reply(self, now: float) -> bool:
        """The caller waits for an answer, or is in the middle of one. Not while a tool is running: its result brings
        one."""
        if self.owed_calls:
            return False
        if any(reply_id not in self._cut for reply_id in self.open_replies):
            return True
        return self._unanswered_since is not None and now - self._unanswered_since < PATIENCE

    def unsaid(self, now: float) -> list[str]:
        """What the agent was asked to say lately and has not begun to."""
        self._to_say = [(at, text) for at, text in self._to_say if now - at < PATIENCE]
        return [text for _, text in self._to_say]

    def calls_of(self, reply_ids: set[str]) -> list[str]:
        """Tools that are running for these replies."""
        return [call_id for call_id, reply_id in self.owed_calls.items() if reply_id in reply_ids]
