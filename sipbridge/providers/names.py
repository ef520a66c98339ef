"""Names of replies, items and tool calls over the links of one session, and over the agents of one call: vendors count
from the start again, or invent names that have been. Those of the first stay as they are, those of each later one get
its prefix. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sipbridge.agent import (
    AgentEvent,
    AssistantAudio,
    AssistantInterrupted,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    ToolCall,
    ToolCallCancelled,
    ToolCallDelta,
    Usage,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import Played


class Names:
    """Of the link, or agent, with this number, from 1. `kind` is the letter of its prefix."""

    def __init__(self, number: int = 1, kind: str = "s") -> None:
        self.number = number
        self._prefix = f"{kind}{number}-" if number > 1 else ""

    def outward(self, event: AgentEvent) -> AgentEvent:
        """The event as the call may see it."""
        prefix = self._prefix
        if not prefix:
            return event
        match event:
            case AssistantAudio(reply_id, item_id, pcm):
                return AssistantAudio(prefix + reply_id, prefix + item_id, pcm)
            case AssistantTurnStarted() | AssistantText() | AssistantInterrupted() | AssistantTurnEnd():
                return replace(event, reply_id=prefix + event.reply_id)
            case ToolCall():
                return replace(event, call_id=prefix + event.call_id, reply_id=prefix + event.reply_id)
            case ToolCallDelta() | ToolCallCancelled():
                return replace(event, call_id=prefix + event.call_id)
            case UserTranscript(item_id=item_id) | UserSpeechStarted(item_id=item_id) if item_id:
                return replace(event, item_id=prefix + item_id)
            case Usage(reply_id=reply_id) if reply_id:
                return replace(event, reply_id=prefix + reply_id)
            case _:
                return event

    def owns(self, reply_id: str) -> bool:
        return reply_id.startswith(self._prefix)

    def call(self, call_id: str) -> str | None:
        """The vendor's name of a tool call; None where it is another link's."""
        return call_id.removeprefix(self._prefix) if call_id.startswith(self._prefix) else None

    def played(self, played: Sequence[Played]) -> list[Played]:
        """What was heard of this link's replies, in the vendor's names."""
        prefix = self._prefix
        return [
            Played(heard.reply_id.removeprefix(prefix), heard.item_id.removeprefix(prefix), heard.played_ms)
            for heard in played
            if heard.reply_id.startswith(prefix)
        ]
