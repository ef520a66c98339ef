"""The agent over any dialect: the one place where a model's protocol meets sockets, programs and the clock.

It opens the dialect's channels, feeds what they receive, sends what the dialect wants sent, keeps one timer, and hands
out events to whoever iterates. There is no queue in here: what waits to be sent waits in its channel, what waits to be
heard waits in the dialect.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Literal, Self

import structlog

from sipbridge.agent import AgentError, AgentEvent, Capabilities, SessionClosed, SessionOpen
from sipbridge.audio import PCM_16K, AudioFormat, Played
from sipbridge.errors import AgentClosedError, AgentStartError, ProviderError
from sipbridge.providers import Dialect, Endpoint
from sipbridge.providers.channels import MAX_UNSENT_MS, Channel, open_channel

log = structlog.get_logger(__name__)


class Session:
    """One conversation with one model. See `sipbridge.agent.Agent` for what it promises."""

    def __init__(
        self,
        dialect: Dialect,
        *,
        slug: str,
        input_format: AudioFormat = PCM_16K,
        connect_timeout: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dialect = dialect
        self._slug = slug
        self._input_format = input_format
        self._connect_timeout = connect_timeout
        self._clock = clock
        # ended: the model's side is gone and commands go nowhere; closed: by us, and commands raise.
        self._state: Literal["new", "starting", "open", "ended", "closed"] = "new"
        self._channels: dict[str, Channel] = {}
        self._readers: list[asyncio.Task[None]] = []
        self._opening: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._waiter: asyncio.Future[AgentEvent] | None = None
        # What `start`, or an iteration that was cancelled, took from the dialect without consuming it.
        self._taken: deque[AgentEvent] = deque()
        self._finished = False
        self._early: deque[bytes] = deque()
        self._early_ms = 0.0
        self._early_dropped_ms = 0.0

    @property
    def slug(self) -> str:
        return self._slug

    @property
    def capabilities(self) -> Capabilities:
        return self._dialect.capabilities

    @property
    def counters(self) -> Counter[str]:
        """What the dialect dropped, ignored or retried, by reason."""
        return self._dialect.counters

    @property
    def uplink_dropped_ms(self) -> float:
        return self._early_dropped_ms + sum(channel.dropped_ms for channel in self._channels.values())

    # --- start and close ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Cancelled or failed, it leaves no socket, program or task behind; iteration then gives `SessionClosed`."""
        if self._state != "new":
            raise AgentClosedError("an agent is started once, before it is closed")
        self._state = "starting"
        self._opening = asyncio.create_task(self._open())
        try:
            async with asyncio.timeout(self._connect_timeout):
                await self._opening
        except TimeoutError:
            await self._abandon("timeout")
            message = f"{self._slug} was not ready within {self._connect_timeout:g} s"
            raise AgentStartError(message, code="timeout") from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            ours = task is not None and not task.cancelling()  # close() has ended the opening, nobody cancelled us
            await self._abandon("cancelled")
            if ours:
                raise AgentStartError(f"{self._slug} was closed while it started", code="closed") from None
            raise
        except AgentStartError as error:
            await self._abandon(error.code or "failed")
            raise
        except BaseException:
            await self._abandon("failed")
            raise
        self._state = "open"
        self._push_early()

    async def _open(self) -> None:
        """Connect, and wait for `SessionOpen`."""
        await self._dialect.prepare()
        self._dialect.start(self._clock())
        try:
            async with asyncio.TaskGroup() as group:
                for name, endpoint in self._dialect.endpoints().items():
                    group.create_task(self._connect(name, endpoint))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        for name, channel in self._channels.items():
            self._dialect.channel_opened(name, self._clock())
            self._readers.append(asyncio.create_task(self._read(name, channel)))
        self._after()
        while True:
            event = await self._next()
            if isinstance(event, AgentError) and event.fatal:
                raise AgentStartError(f"{self._slug}: {event.message}", code=event.code)
            if isinstance(event, SessionClosed):
                raise AgentStartError(f"{self._slug}: {event.reason}", code="closed")
            self._taken.append(event)
            if isinstance(event, SessionOpen):
                return

    async def _connect(self, name: str, endpoint: Endpoint) -> None:
        self._channels[name] = await open_channel(endpoint)

    async def _abandon(self, reason: str) -> None:
        """A start that failed or was cancelled: cut everything, in no manners at all."""
        if self._state != "closed":
            self._state = "ended"
        self._taken = deque([SessionClosed(reason, expected=self._state == "closed")])
        self._disarm()
        tasks = [task for task in (self._opening, *self._readers) if task is not None]
        for channel in self._channels.values():
            channel.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Done within a second, whatever the peer does. Events that were pending can still be read."""
        if self._state != "closed":
            starting = self._state == "starting"
            self._state = "closed"
            self._dialect.close(self._clock())
            if starting and self._opening is not None:
                self._opening.cancel()  # start() cleans up
                await asyncio.gather(self._opening, return_exceptions=True)
                return
            self._after()
        self._disarm()
        if self._closing is None:
            self._closing = asyncio.create_task(self._close_channels())
        await asyncio.shield(self._closing)

    async def _close_channels(self) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels.values()), return_exceptions=True)
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    # --- the dialect's driver -----------------------------------------------------------------------------------------

    async def _read(self, name: str, channel: Channel) -> None:
        def deliver(message: str | bytes) -> None:
            try:
                self._dialect.receive(name, message, self._clock())
            except Exception:  # the boundary of one message: a bug in a dialect must not silence the call
                self.counters["dialect_error"] += 1
                log.exception("message not handled", provider=self._slug)
            self._after()

        code, reason = await channel.receive(deliver)
        if self._state != "closed":
            self._dialect.channel_closed(name, code, reason, self._clock())
            self._after()

    def _after(self) -> None:
        """What a driver owes its dialect after every call: send, re-arm the timer, hand out an event."""
        for message in self._dialect.messages_to_send():
            channel = self._channels.get(message.channel)
            if channel is not None:
                channel.send(message)
        self._arm(self._dialect.get_timer())
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            event = self._dialect.next_event()
            if event is not None:
                waiter.set_result(event)

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
        self._dialect.handle_timer(self._clock())
        self._after()

    # --- events -------------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AgentEvent:
        if self._finished:
            raise StopAsyncIteration
        event = self._taken.popleft() if self._taken else await self._next()
        if isinstance(event, SessionClosed):
            self._finished = True
            if self._state != "closed":
                self._end()
        return event

    async def _next(self) -> AgentEvent:
        event = self._dialect.next_event()
        if event is not None:
            return event
        waiter: asyncio.Future[AgentEvent] = asyncio.get_running_loop().create_future()
        self._waiter = waiter
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._taken.append(waiter.result())
            raise
        finally:
            self._waiter = None

    def _end(self) -> None:
        """The model's side has ended the session: its channels are of no more use."""
        self._state = "ended"
        self._disarm()
        if self._closing is None:
            self._closing = asyncio.create_task(self._close_channels())

    # --- commands -----------------------------------------------------------------------------------------------------

    def push_audio(self, pcm: bytes) -> None:
        if self._state == "open":
            self._dialect.push_audio(pcm, self._clock())
            self._after()
        elif self._state in ("new", "starting"):
            self._keep_early(pcm)
        elif self._state == "closed":
            raise AgentClosedError("the agent is closed")

    def _keep_early(self, pcm: bytes) -> None:
        """Before the session is open: the newest `MAX_UNSENT_MS` wait, older audio is dropped and counted."""
        self._early.append(pcm)
        self._early_ms += self._input_format.duration_ms(pcm)
        while self._early_ms > MAX_UNSENT_MS:
            oldest_ms = self._input_format.duration_ms(self._early.popleft())
            self._early_ms -= oldest_ms
            self._early_dropped_ms += oldest_ms

    def _push_early(self) -> None:
        if self._early:
            self._dialect.push_audio(b"".join(self._early), self._clock())
            self._early.clear()
            self._after()

    def _live(self) -> bool:
        """Whether a command can reach the model; raises where it must not be given."""
        if self._state == "closed":
            raise AgentClosedError("the agent is closed")
        if self._state in ("new", "starting"):
            raise ProviderError("the agent is not started")
        return self._state == "open"

    def commit_input_audio(self) -> None:
        if self._live():
            self._dialect.commit_input_audio(self._clock())
            self._after()

    def cancel(self, played: Sequence[Played]) -> None:
        if self._live():
            self._dialect.cancel(played, self._clock())
            self._after()

    def update_instructions(self, text: str) -> None:
        if self._live():
            self._dialect.update_instructions(text, self._clock())
            self._after()

    def send_text(self, text: str) -> None:
        if self._live():
            self._dialect.send_text(text, self._clock())
            self._after()

    def send_image(self, data: bytes, media_type: str) -> None:
        if self._live():
            self._dialect.send_image(data, media_type, self._clock())
            self._after()

    def say(self, text: str) -> None:
        if self._live():
            self._dialect.say(text, self._clock())
            self._after()

    def create_response(self) -> None:
        if self._live():
            self._dialect.create_response(self._clock())
            self._after()

    def send_tool_result(self, call_id: str, output: str) -> None:
        if self._live():
            self._dialect.send_tool_result(call_id, output, self._clock())
            self._after()
