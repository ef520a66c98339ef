"""One dialect with its open channels: it connects them, feeds what they receive, sends what the dialect wants sent, and
keeps its timer. There is no queue in here: what waits to be sent waits in its channel, what waits to be heard waits in
the dialect.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace

import structlog

from sipbridge.agent import AgentError, AgentEvent, SessionClosed, SessionOpen
from sipbridge.errors import AgentStartError
from sipbridge.providers import Dialect, Endpoint, Outgoing, ProgramEndpoint
from sipbridge.providers.breaker import Attempt, Breaker, server_of
from sipbridge.providers.channels import Channel, open_channel, secrets_of
from sipbridge.providers.failures import Secrets

log = structlog.get_logger(__name__)

_REOPEN_SECONDS = 3.0
_MOST_WAITING = 64
"""Messages that may wait for a channel that is opened once more; the oldest goes first."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What is to be kept in mind with every link of an agent."""

    breaker: Breaker | None = None
    """Asked before anything is opened."""
    home: str = ""
    """The server that a session is prepared with, where the operator names one (`breaker.server_of`)."""
    secrets: Secrets = field(default_factory=Secrets)
    """What no message may repeat, beside what the endpoints hold."""


class Link:
    """Whoever calls a command of `dialect` must call `after` next. `changed` is called when there may be events.

    `open` first, `close` or `abort` last; both may be called at any time and more than once.
    """

    def __init__(
        self,
        dialect: Dialect,
        *,
        slug: str,
        clock: Callable[[], float],
        changed: Callable[[], None],
        guard: Guard | None = None,
    ) -> None:
        guard = guard or Guard()
        self.dialect = dialect
        self._attempt = Attempt(guard.breaker, slug, clock)
        self._home = guard.home
        self._slug = slug
        self._clock = clock
        self._changed: Callable[[], None] | None = changed
        self._shut_down = False
        self._endpoints: Mapping[str, Endpoint] = {}
        self._channels: dict[str, Channel] = {}
        self._waiting: dict[str, deque[Outgoing]] = {}  # for channels that are being opened once more
        self._readers: set[asyncio.Task[None]] = set()
        self._past_dropped_ms = 0.0
        self._secrets: list[Secrets] = [guard.secrets]
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
        return self._past_dropped_ms + sum(channel.dropped_ms for channel in self._channels.values())

    # --- open and close -----------------------------------------------------------------------------------------------

    async def open(self, seconds: float) -> None:
        """Connect, and wait for `SessionOpen`, which is still to be taken. Raises `AgentStartError`; failed or
        cancelled, it leaves no socket, program or task behind."""
        opened = False
        try:
            async with asyncio.timeout(seconds):
                await self._open()
            opened = True
            self._attempt.succeeded()
        except TimeoutError:
            self._attempt.failed("timeout")
            message = f"{self._slug} was not ready within {seconds:g} s"
            raise AgentStartError(message, code="timeout", again=True) from None
        except AgentStartError as error:
            raise AgentStartError(self._redacted(str(error)), code=error.code, again=error.again) from None
        finally:
            if not opened:
                await self.abort()

    async def _open(self) -> None:
        try:
            self._attempt.enter(self._home)
            await self.dialect.prepare()
            self.dialect.start(self._clock())
            self._endpoints = self.dialect.endpoints()
            self._secrets += [secrets_of(endpoint) for endpoint in self._endpoints.values()]
            self._attempt.enter(*(host for endpoint in self._endpoints.values() if (host := _host_of(endpoint))))
        except AgentStartError as error:
            self._attempt.failed(error.code, self._home)
            raise
        self._attempt.reached(self._home)
        try:
            async with asyncio.TaskGroup() as group:
                for name, endpoint in self._endpoints.items():
                    group.create_task(self._connect(name, endpoint))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        self._ready = asyncio.get_running_loop().create_future()
        for name, channel in self._channels.items():
            self.dialect.channel_opened(name, self._clock())
            self._read_in_background(self._read(name, channel))
        self.after()
        try:
            await self._ready
        except AgentStartError as error:
            self._attempt.failed(error.code if error.again else "refused_setup")
            raise

    async def _connect(self, name: str, endpoint: Endpoint) -> None:
        host = _host_of(endpoint)
        try:
            self._channels[name] = await open_channel(endpoint)
        except AgentStartError as error:
            self._attempt.failed(error.code, host)
            raise
        self._attempt.reached(host)

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
        message = f"{self._slug}: {error.message}"
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
        readers = list(self._readers)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)

    # --- the dialect's driver -----------------------------------------------------------------------------------------

    def _read_in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._readers.add(task)
        task.add_done_callback(self._readers.discard)

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
            del self._channels[name]
            self._past_dropped_ms += channel.dropped_ms
            self.dialect.channel_closed(name, code, reason, self._clock())
            self.after()

    def after(self) -> None:
        """What a driver owes its dialect after every call: send, re-arm the timer, hand out events."""
        for message in self.dialect.messages_to_send():
            channel = self._channels.get(message.channel)
            if channel is not None:
                channel.send(message)
            elif not self._shut_down and message.channel in self._endpoints:
                self._send_by_a_new_one(message)
        if self._shut_down:
            return
        self._arm(self.dialect.get_timer())
        if self._ready is not None and not self._ready.done():
            self._is_it_open(self._ready)
        elif self._changed is not None:
            self._changed()

    def _send_by_a_new_one(self, message: Outgoing) -> None:
        """The session lives on without this channel, which is wanted again: some servers close what is idle."""
        name = message.channel
        if name not in self._waiting:
            self._waiting[name] = deque(maxlen=_MOST_WAITING)
            self._read_in_background(self._open_again(name))
        self._waiting[name].append(message)

    async def _open_again(self, name: str) -> None:
        try:
            async with asyncio.timeout(_REOPEN_SECONDS):
                channel = self._channels[name] = await open_channel(self._endpoints[name])
        except (AgentStartError, TimeoutError) as error:
            del self._waiting[name]
            self.dialect.channel_closed(name, 1006, self._redacted(str(error) or "no answer"), self._clock())
            self.after()
            return
        self.dialect.channel_opened(name, self._clock())
        self.after()
        for message in self._waiting.pop(name):
            channel.send(message)
        await self._read(name, channel)

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


def _host_of(endpoint: Endpoint) -> str:
    return "" if isinstance(endpoint, ProgramEndpoint) else server_of(endpoint.url)
