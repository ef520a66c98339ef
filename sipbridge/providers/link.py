"""One dialect with its open channels: it connects them, feeds what they receive, sends what the dialect wants sent, and
keeps its timer. There is no queue in here: what waits to be sent waits in its channel, what waits to be heard waits in
the dialect.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import structlog

from sipbridge.agent import AgentError, AgentEvent, SessionClosed, SessionOpen
from sipbridge.errors import AgentStartError
from sipbridge.providers import Dialect, Endpoint
from sipbridge.providers.channels import Channel, open_channel, secrets_of
from sipbridge.providers.failures import Secrets

log = structlog.get_logger(__name__)


class Link:
    """Whoever calls a command of `dialect` must call `after` next. `changed` is called when there may be events.

    `open` first, `close` or `abort` last; both may be called at any time and more than once.
    """

    def __init__(self, dialect: Dialect, *, slug: str, clock: Callable[[], float], changed: Callable[[], None]) -> None:
        self.dialect = dialect
        self._slug = slug
        self._clock = clock
        self._changed: Callable[[], None] | None = changed
        self._shut_down = False
        self._channels: dict[str, Channel] = {}
        self._readers: list[asyncio.Task[None]] = []
        self._secrets: list[Secrets] = []
        self._closing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        # What was said before the session was open, and that it is.
        self._first: deque[AgentEvent] = deque()
        self._fatal: AgentError | None = None
        self._ready: asyncio.Future[None] | None = None

    @property
    def connected(self) -> bool:
        """Every channel was opened."""
        return self._ready is not None

    @property
    def dropped_ms(self) -> float:
        """Caller audio that the transport did not take in time."""
        return sum(channel.dropped_ms for channel in self._channels.values())

    # --- open and close -----------------------------------------------------------------------------------------------

    async def open(self, seconds: float) -> None:
        """Connect, and wait for `SessionOpen`, which is still to be taken. Raises `AgentStartError`; failed or
        cancelled, it leaves no socket, program or task behind."""
        opened = False
        try:
            async with asyncio.timeout(seconds):
                await self._open()
            opened = True
        except TimeoutError:
            message = f"{self._slug} was not ready within {seconds:g} s"
            raise AgentStartError(message, code="timeout", again=True) from None
        finally:
            if not opened:
                await self.abort()

    async def _open(self) -> None:
        await self.dialect.prepare()
        self.dialect.start(self._clock())
        endpoints = self.dialect.endpoints()
        self._secrets = [secrets_of(endpoint) for endpoint in endpoints.values()]
        try:
            async with asyncio.TaskGroup() as group:
                for name, endpoint in endpoints.items():
                    group.create_task(self._connect(name, endpoint))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        self._ready = asyncio.get_running_loop().create_future()
        for name, channel in self._channels.items():
            self.dialect.channel_opened(name, self._clock())
            self._readers.append(asyncio.create_task(self._read(name, channel)))
        self.after()
        await self._ready

    async def _connect(self, name: str, endpoint: Endpoint) -> None:
        self._channels[name] = await open_channel(endpoint)

    def _is_it_open(self, ready: asyncio.Future[None]) -> None:
        """Look for `SessionOpen`, or for why there will be none."""
        while (event := self.dialect.next_event()) is not None:
            if isinstance(event, SessionClosed):
                self._refused(ready, self._fatal or AgentError(event.reason, "closed", True), event.again)
                return
            if isinstance(event, AgentError) and event.fatal:
                self._fatal = event
                continue
            self._first.append(event)
            if isinstance(event, SessionOpen):
                ready.set_result(None)
                return
        if self._fatal is not None:
            self._refused(ready, self._fatal, again=False)

    def _refused(self, ready: asyncio.Future[None], error: AgentError, again: bool) -> None:
        message = self._redacted(f"{self._slug}: {error.message}")
        ready.set_exception(AgentStartError(message, code=error.code, again=again))

    async def close(self) -> None:
        """Done within a second, whatever the peer does. What the dialect says of its end can still be taken."""
        if self._closing is None:
            self._shut()
            self._closing = asyncio.create_task(self._close_channels())
        await asyncio.shield(self._closing)

    async def _close_channels(self) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels.values()), return_exceptions=True)
        await self._stop_reading()

    async def abort(self) -> None:
        """Cut everything, in no manners at all."""
        self._shut()
        for channel in self._channels.values():
            channel.abort()
        await self._stop_reading()

    def _shut(self) -> None:
        self._shut_down = True
        self._changed = None  # it and its session hold each other no longer
        self._disarm()

    async def _stop_reading(self) -> None:
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    # --- the dialect's driver -----------------------------------------------------------------------------------------

    async def _read(self, name: str, channel: Channel) -> None:
        def deliver(message: str | bytes) -> None:
            if self._shut_down:
                return
            try:
                self.dialect.receive(name, message, self._clock())
            except Exception:  # the boundary of one message: a bug in a dialect must not silence the call
                self.dialect.counters["dialect_error"] += 1
                log.exception("message not handled", provider=self._slug)
            self.after()

        code, reason = await channel.receive(deliver)
        if not self._shut_down:
            self.dialect.channel_closed(name, code, reason, self._clock())
            self.after()

    def after(self) -> None:
        """What a driver owes its dialect after every call: send, re-arm the timer, hand out events."""
        for message in self.dialect.messages_to_send():
            channel = self._channels.get(message.channel)
            if channel is not None:
                channel.send(message)
        if self._shut_down:
            return
        self._arm(self.dialect.get_timer())
        if self._ready is not None and not self._ready.done():
            self._is_it_open(self._ready)
        elif self._changed is not None:
            self._changed()

    def next_event(self) -> AgentEvent | None:
        event = self._first.popleft() if self._first else self.dialect.next_event()
        if isinstance(event, AgentError):
            return replace(event, message=self._redacted(event.message))
        if isinstance(event, SessionClosed):
            return replace(event, reason=self._redacted(event.reason))
        return event

    def _redacted(self, text: str) -> str:
        for secrets in self._secrets:
            text = secrets.redact(text)
        return text

    def _arm(self, deadline: float | None) -> None:
        if deadline == self._timer_at:
            return
        self._disarm()
        if deadline is not None:
            self._timer_at = deadline
            delay = max(0.0, deadline - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._ring)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._timer_at = None

    def _ring(self) -> None:
        self._timer = self._timer_at = None
        self.dialect.handle_timer(self._clock())
        self.after()
