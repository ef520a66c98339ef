"""Drives any dialect in memory, with time as a number; everything it sends goes past a judge."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sipbridge.agent import AgentEvent
from sipbridge.providers import Dialect
from tests.providers.order import OrderChecker

Json = dict[str, Any]


class Driver:
    """`sent` (binary frames too) and `events` hold what came out and was not yet taken."""

    def __init__(self, dialect: Dialect, channel: str, judge: Callable[[Json], None]) -> None:
        self.now = 0.0
        self.order = OrderChecker()
        self.sent: list[Json] = []
        self.sent_audio: list[bytes] = []
        self.events: list[AgentEvent] = []
        self.dialect = dialect
        self._channel = channel
        self._judge = judge
        dialect.start(self.now)
        assert list(dialect.endpoints()) == [channel]
        dialect.channel_opened(channel, self.now)
        self._collect()

    def _collect(self) -> None:
        for message in self.dialect.messages_to_send():
            assert message.channel == self._channel
            if isinstance(message.data, bytes) and not message.data.startswith(b"{"):
                self.sent_audio.append(message.data)
                continue
            data = json.loads(message.data)
            self._judge(data)
            self.sent.append(data)
        fresh = []
        while (event := self.dialect.next_event()) is not None:
            fresh.append(event)
        self.order.feed(fresh)
        self.events += fresh

    # what happens

    def server(self, *messages: Json | bytes) -> None:
        for message in messages:
            self.raw(message if isinstance(message, bytes) else json.dumps(message))

    def raw(self, data: str | bytes) -> None:
        self.dialect.receive(self._channel, data, self.now)
        self._collect()

    def command(self, name: str, *arguments: Any) -> None:
        if name == "cancel":
            self.order.cancelled()
        getattr(self.dialect, name)(*arguments, self.now)
        self._collect()

    def drop(self, code: int = 1006, reason: str = "") -> None:
        self.dialect.channel_closed(self._channel, code, reason, self.now)
        self._collect()

    def advance(self, seconds: float) -> None:
        """Timers ring when they are due."""
        end = self.now + seconds
        while (due := self.dialect.get_timer()) is not None and due <= end:
            self.now = max(self.now, due)
            self.dialect.handle_timer(self.now)
            self._collect()
            assert self.dialect.get_timer() != due, "the timer that rang is still set"
        self.now = end

    # what came of it

    def take_sent(self) -> list[Json]:
        sent, self.sent = self.sent, []
        return sent

    def take_events(self) -> list[AgentEvent]:
        events, self.events = self.events, []
        return events
