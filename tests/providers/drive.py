"""Drives any dialect in memory, with time as a number; everything it sends goes past a judge."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

from sipbridge.agent import AgentEvent
from sipbridge.providers import Dialect, Outgoing
from tests.providers.order import OrderChecker

Json = dict[str, Any]


class ChannelDriver:
    """Of a dialect with any channels: derive, and say in `took` what becomes of what is sent. `events` holds what came
    out and was not yet taken."""

    def __init__(self, dialect: Dialect, now: float = 0.0) -> None:
        self.now = now
        self.order = OrderChecker()
        self.events: list[AgentEvent] = []
        self.dialect = dialect
        dialect.start(now)
        self.channels = list(dialect.endpoints())
        for channel in self.channels:
            dialect.channel_opened(channel, now)
        self.collect()

    def took(self, message: Outgoing) -> None:
        raise NotImplementedError

    def collect(self) -> None:
        for message in self.dialect.messages_to_send():
            self.took(message)
        fresh = []
        while (event := self.dialect.next_event()) is not None:
            fresh.append(event)
        self.order.feed(fresh)
        self.events += fresh

    # what happens

    def receive(self, channel: str, data: str | bytes) -> None:
        self.dialect.receive(channel, data, self.now)
        self.collect()

    def command(self, name: str, *arguments: Any) -> None:
        if name == "cancel":
            self.order.cancelled()
        getattr(self.dialect, name)(*arguments, self.now)
        self.collect()

    def lose(self, channel: str, code: int = 1006, reason: str = "") -> None:
        self.dialect.channel_closed(channel, code, reason, self.now)
        self.collect()

    def advance(self, seconds: float) -> None:
        """Timers ring when they are due."""
        end = self.now + seconds
        while (due := self.dialect.get_timer()) is not None and due <= end:
            self.now = max(self.now, due)
            self.dialect.handle_timer(self.now)
            self.collect()
            assert self.dialect.get_timer() != due, "the timer that rang is still set"
        self.now = end

    def take_events(self) -> list[AgentEvent]:
        events, self.events = self.events, []
        return events


class Driver(ChannelDriver):
    """Of a dialect with one channel. `sent` (`sent_audio`: binary frames) holds what was sent and not yet taken."""

    untold: ClassVar[frozenset[str]] = frozenset()
    """Members that `take_sent` leaves out."""

    def __init__(self, dialect: Dialect, channel: str, judge: Callable[[Json], None], now: float = 0.0) -> None:
        self.sent: list[Json] = []
        self.sent_audio: list[bytes] = []
        self.channel = channel
        self._judge = judge
        super().__init__(dialect, now)
        assert self.channels == [channel]

    def took(self, message: Outgoing) -> None:
        assert message.channel == self.channel
        if isinstance(message.data, bytes) and not message.data.startswith(b"{"):
            self.sent_audio.append(message.data)
            return
        data = json.loads(message.data)
        self._judge(data)
        self.sent.append(data)

    def server(self, *messages: Json | bytes) -> None:
        """Messages of the vendor, as given: not always valid ones."""
        for message in messages:
            self.raw(message if isinstance(message, bytes) else json.dumps(message))

    def raw(self, data: str | bytes) -> None:
        self.receive(self.channel, data)

    def drop(self, code: int = 1006, reason: str = "") -> None:
        self.lose(self.channel, code, reason)

    def take_sent(self) -> list[Json]:
        sent, self.sent = self.sent, []
        return [{key: value for key, value in message.items() if key not in self.untold} for message in sent]
