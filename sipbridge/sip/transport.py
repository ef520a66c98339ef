"""The asyncio adapter around one `UserAgent`: sockets and one timer (RFC 3261 §18). It decides nothing.

Four steps, whatever happened: feed the core, send its messages, hand out its events, set the timer. A command on a call
needs no more than itself: the core calls `wake`, and the four steps follow in the loop's next turn.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Self

import structlog

from sipbridge.errors import TlsError
from sipbridge.sip.admission import Admission
from sipbridge.sip.connection import StreamLimits
from sipbridge.sip.dns import DnsResolver
from sipbridge.sip.dns_cache import DnsNeeded, Kind
from sipbridge.sip.events import Authenticated, AuthenticationFailed, SipEvent
from sipbridge.sip.flow import Address, Flow, FlowNeeded, Target, Transport
from sipbridge.sip.sockets import UdpSocket, address_towards, parse_listen
from sipbridge.sip.streams import Streams
from sipbridge.sip.tls import TlsContexts, TlsSettings
from sipbridge.sip.user_agent import UserAgent

log = structlog.get_logger(__name__)

_EVERYBODY = ("0.0.0.0/0", "::/0")


class SipTransport:
    """Make one with `await SipTransport.open(...)`; end it with `await close()`."""

    def __init__(
        self,
        user_agent: UserAgent,
        on_event: Callable[[SipEvent], None],
        admission: Admission,
        clock: Callable[[], float],
        limits: StreamLimits,
        resolver: DnsResolver,
        tls: TlsContexts,
    ) -> None:
        self._user_agent = user_agent
        self._on_event = on_event
        self._admission = admission
        self._clock = clock
        self._resolver = resolver
        self._loop = asyncio.get_running_loop()
        self.tls = tls
        """The certificates in force."""
        self.addresses: list[tuple[Transport, Address]] = []
        """Where it listens, in the order asked for, with the ports that were really bound."""
        self._udp: dict[Address, UdpSocket] = {}
        self._streams = Streams(
            limits,
            user_agent.counters,
            admission,
            tls,
            clock,
            receive=self._messages_received,
            closed=self._connection_closed,
            needed=user_agent.needs,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for: float | None = None
        self._flushing = False
        self._scheduled: asyncio.Handle | None = None
        self._closed = False
        self._settled = asyncio.Event()

    @classmethod
    async def open(
        cls,
        user_agent: UserAgent,
        listen: Sequence[str],
        *,
        on_event: Callable[[SipEvent], None],
        admission: Admission | None = None,
        clock: Callable[[], float] = time.monotonic,
        limits: StreamLimits | None = None,
        resolver: DnsResolver | None = None,
        tls: TlsSettings | None = None,
    ) -> Self:
        """Listen at URLs such as `udp://127.0.0.1:5060`; port 0 takes any.

        `on_event` is called from the loop and must not block; commands on calls may be given from it. It never sees
        FlowNeeded and DnsNeeded, which are served here. `admission` decides, before anything is parsed, who may
        speak and how much (None: everybody, as a listed source); it counts with the user agent from here on.

        Raises OSError where an address can't be bound, ValueError for a URL that is none, TlsError where TLS is to be
        spoken and `tls` does not do for it.
        """
        admission = admission or Admission(_EVERYBODY)
        admission.counters = user_agent.counters
        contexts = TlsContexts(tls or TlsSettings())
        self = cls(
            user_agent, on_event, admission, clock, limits or StreamLimits(), resolver or DnsResolver(), contexts
        )
        try:
            for url in listen:
                try:
                    await self._listen(*parse_listen(url))
                except OSError as error:
                    raise OSError(error.errno, f"{url}: {error.strerror or error}") from error
                except TlsError as error:
                    raise TlsError(f"{url}: {error}") from error
        except BaseException:
            await self.close()
            raise
        user_agent.wake = self._wake
        self.flush()
        return self

    def address(self, transport: Transport) -> Address:
        """The first address at which this transport listens."""
        return next(address for name, address in self.addresses if name == transport)

    def now(self) -> float:
        """The time by the clock that the core lives by: what commands on calls take as `now`."""
        return self._clock()

    @property
    def connections(self) -> int:
        """How many connections are open, both ways."""
        return len(self._streams)

    def flush(self) -> None:
        """Send, hand out events, set the timer. Nobody has to call it: the core's `wake` sees to that."""
        if self._flushing or self._closed:
            return
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        self._flushing = True
        try:
            while True:
                messages = self._user_agent.messages_to_send()
                for flow, data in messages:
                    self._send(flow, data)
                event = self._user_agent.next_event()
                if event is not None:
                    self._dispatch(event)
                elif not messages:
                    break
        finally:
            self._flushing = False
        if not self._user_agent.calls:
            self._settled.set()
        self._arm()

    async def settle(self, seconds: float) -> None:
        """Return when nothing is left to do for any call, or after so long: our BYEs have been answered, and INVITEs
        that were cancelled are refused, for whose 487 nobody would send an ACK later."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._user_agent.calls:
                    self._settled.clear()
                    await self._settled.wait()

    async def close(self) -> None:
        """Send what waits, then close everything. Idempotent."""
        if self._closed:
            return
        self.flush()
        self._closed = True
        self._user_agent.wake = None
        for handle in (self._timer, self._scheduled):
            if handle is not None:
                handle.cancel()
        for task in self._tasks:
            task.cancel()
        for udp in self._udp.values():
            udp.close()
        await self._streams.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # setting up

    async def _listen(self, transport: Transport, address: Address) -> None:
        if transport == "udp":
            udp = UdpSocket(address, self._user_agent.counters, self._admit, self._datagrams_received)
            self._udp[udp.local] = udp
            local = udp.local
        else:
            local = await self._streams.listen(transport, address)
        self.addresses.append((transport, local))
        self._user_agent.listen(transport, local, wildcard_address=address_towards)

    # what comes in

    def _admit(self, host: str) -> bool:
        return self._admission.admit(host, self._clock())

    def _datagrams_received(self, datagrams: list[tuple[Flow, bytes]]) -> None:
        now = self._clock()
        for flow, data in datagrams:
            self._receive(data, flow, now)
        self.flush()

    def _messages_received(self, flow: Flow, messages: list[bytes]) -> None:
        now = self._clock()
        for data in messages:
            self._receive(data, flow, now)
        self.flush()

    def _receive(self, data: bytes, flow: Flow, now: float) -> None:
        try:
            self._user_agent.receive(data, flow, now)
        except Exception:
            # The others that came with it are not to be lost for it; the traceback says whose bug it is.
            log.exception("message not handled", remote=flow.remote)

    def _connection_closed(self, flow: Flow) -> None:
        self._user_agent.flow_closed(flow, self._clock())
        self.flush()

    def _timer_fired(self) -> None:
        self._timer = self._armed_for = None
        try:
            self._user_agent.handle_timer(self._clock())
        except Exception:
            # Without the next timer every call would stand still for one call's trouble.
            log.exception("timer not handled")
        self.flush()

    # what goes out

    def _wake(self) -> None:
        if not self._flushing and self._scheduled is None and not self._closed:
            self._scheduled = self._loop.call_soon(self.flush)

    def _send(self, flow: Flow, data: bytes) -> None:
        if flow.transport == "udp":
            if not data.startswith(b"SIP/2.0 "):
                self._admission.spoken_to(flow.remote[0], self._clock())
            udp = self._udp.get(flow.local)
            if udp is not None:
                udp.send(flow.remote, data)
        else:
            self._streams.send(flow, data)

    def _dispatch(self, event: SipEvent) -> None:
        match event:
            case FlowNeeded(target):
                self._start(self._connect(target))
            case DnsNeeded(name, kind):
                self._start(self._look_up(name, kind))
            case _:
                if isinstance(event, AuthenticationFailed):
                    self._admission.failed(event.flow.remote[0], self._clock(), event.username)
                elif isinstance(event, Authenticated):
                    self._admission.authenticated(event.flow.remote[0], self._clock(), event.username)
                try:
                    self._on_event(event)
                except Exception:
                    # One call's trouble must not become everybody's; the traceback says whose bug it is.
                    log.exception("SIP event not handled", event_type=type(event).__name__)

    def _arm(self) -> None:
        deadline = self._user_agent.get_timer()
        if deadline == self._armed_for:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = deadline
        self._timer = None
        if deadline is not None:
            self._timer = self._loop.call_later(max(0.0, deadline - self._clock()), self._timer_fired)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, target: Target) -> None:
        try:
            flow = await self._streams.connect(target)
        except (OSError, ValueError) as error:  # TimeoutError is one of them, an address that is none may be either
            text = _why_not(error)
            log.info("no connection", to=str(target), error=text)
            self._user_agent.flow_failed(target, text, self._clock())
        else:
            self._user_agent.flow_opened(target, flow, self._clock())
        self.flush()

    async def _look_up(self, name: str, kind: Kind) -> None:
        answer = await self._resolver.query(name, kind)
        self._user_agent.dns_answered(name, kind, answer.records, answer.ttl, self._clock(), error=answer.error)
        self.flush()


def _why_not(error: OSError | ValueError) -> str:
    """For people: the system's words where there are any ("Connection refused"), not asyncio's around them."""
    if isinstance(error, TimeoutError):
        return "no connection in time"
    if isinstance(error, ssl.SSLError) or not isinstance(error, OSError) or not error.errno:
        return str(error)
    return os.strerror(error.errno)
