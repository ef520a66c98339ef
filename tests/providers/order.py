"""The order of events that `sipbridge.agent` promises, as a checker: feed it all events, tell it of each cancel."""

from __future__ import annotations

from collections.abc import Iterable

from sipbridge.agent import (
    AgentEvent,
    AssistantAudio,
    AssistantInterrupted,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    SessionClosed,
    SessionOpen,
    ToolCall,
)


class OrderChecker:
    """`seen` holds all events so far. Each rule that is broken raises `AssertionError` with the event's name."""

    def __init__(self) -> None:
        self.seen: list[AgentEvent] = []
        self.open_replies: list[str] = []
        self.ended_replies: set[str] = set()
        self._silenced: set[str] = set()

    def feed(self, events: Iterable[AgentEvent]) -> None:
        for event in events:
            self._check(event)
            self.seen.append(event)

    def cancelled(self) -> None:
        """`cancel()` was called: no more audio of the replies that are open now."""
        self._silenced.update(self.open_replies)

    @property
    def closed(self) -> bool:
        return bool(self.seen) and isinstance(self.seen[-1], SessionClosed)

    def done(self) -> None:
        """The session is over: it was closed, and every reply was ended."""
        assert self.seen, "no events at all"
        assert isinstance(self.seen[-1], SessionClosed), f"the last event is {self.seen[-1]}"
        assert not self.open_replies, f"replies without an end: {self.open_replies}"

    def _check(self, event: AgentEvent) -> None:
        assert not self.closed, f"{event} after SessionClosed"
        if not self.seen:
            # A session that never opens is told of by its error or its end.
            first = not isinstance(event, AssistantTurnStarted | AssistantAudio | AssistantTurnEnd | ToolCall)
            assert first, f"{event} before SessionOpen"
        assert not (self.seen and isinstance(event, SessionOpen)), (
            f"SessionOpen is not the first event: {self.seen[:3]}"
        )
        match event:
            case AssistantTurnStarted(reply_id):
                assert reply_id not in {*self.open_replies, *self.ended_replies}, f"{reply_id} started twice"
                self.open_replies.append(reply_id)
            case AssistantTurnEnd(reply_id):
                assert reply_id in self.open_replies, f"{event} of a reply that is not open"
                self.open_replies.remove(reply_id)
                self.ended_replies.add(reply_id)
            case AssistantAudio(reply_id):
                assert reply_id in self.open_replies, f"audio of {reply_id}, which is not open"
                assert reply_id not in self._silenced, f"audio of {reply_id} after cancel()"
            case AssistantText(reply_id) | AssistantInterrupted(reply_id) | ToolCall(reply_id=reply_id):
                assert reply_id in self.open_replies, f"{event} of a reply that is not open"
            case SessionClosed():
                assert not self.open_replies, f"closed with open replies: {self.open_replies}"
            case _:
                pass


def audio_of(events: Iterable[AgentEvent], reply_id: str | None = None) -> bytes:
    """The sound of one reply, or of all of them."""
    wanted = (e for e in events if isinstance(e, AssistantAudio) and reply_id in (None, e.reply_id))
    return b"".join(event.pcm for event in wanted)
