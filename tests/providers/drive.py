"""Drives any dialect in memory, with time as a number; everything it sends goes past a judge."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

from sipbridge.agent import AgentEvent
from sipbridge.providers import Dialect, Outgoing
from tests.providers.order import OrderChecker

Json = dict[str, Any]


D = TypeVar("D", bound=Dialect)


class Drive(Generic[D]):
    """Any dialect, whatever its channels: derive, and keep in `took` what was sent. `events` holds what came out and
    was not yet taken."""

    def __init__(self, dialect: D, now: float = 0.0) -> None:
        self.now = now
        self.order = OrderChecker()
        self.events: list[AgentEvent] = []
        self.dialect = dialect
        dialect.start(now)
        for channel in dialect.endpoints():
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

    def receive(self, channel: str, data: str | bytes) -> None:
        self.dialect.receive(channel, data, self.now)
        self.collect()

    def channel_closed(self, channel: str, code: int = 1006, reason: str = "") -> None:
        self.dialect.channel_closed(channel, code, reason, self.now)
        self.collect()

    def command(self, name: str, *arguments: Any) -> None:
        if name == "cancel":
            self.order.cancelled()
        getattr(self.dialect, name)(*arguments, self.now)
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


class Driver(Drive[D]):
    """Of one channel. What is sent (binary frames in `sent_audio`) goes past the judge."""

    def __init__(self, dialect: D, channel: str, judge: Callable[[Json], None], now: float = 0.0) -> None:
        self.sent: list[Json] = []
        self.sent_audio: list[bytes] = []
        self._channel = channel
        self._judge = judge
        super().__init__(dialect, now)

    def took(self, message: Outgoing) -> None:
        assert message.channel == self._channel
        if isinstance(message.data, bytes) and not message.data.startswith(b"{"):
            self.sent_audio.append(message.data)
            return
        data = json.loads(message.data)
        self._judge(data)
        self.sent.append(data)

    def server(self, *messages: Json | bytes) -> Self:
        """Messages of the vendor, as given: not always valid ones."""
        for message in messages:
            self.raw(message if isinstance(message, bytes) else json.dumps(message))
        return self

    def raw(self, data: str | bytes) -> None:
        self.receive(self._channel, data)

    def drop(self, code: int = 1006, reason: str = "") -> None:
        self.channel_closed(self._channel, code, reason)

    def take_sent(self) -> list[Json]:
        sent, self.sent = self.sent, []
        return sent


def without_event_ids(messages: list[Json]) -> list[Json]:
    return [{key: value for key, value in message.items() if key != "event_id"} for message in messages]
