"""One connection of TCP, TLS or WebSocket, accepted or made by us: octets in, messages out (RFC 3261 §18.3).

The layers, from the socket upwards: TLS where the transport has it (`tls_stream.py`), framing (`framing.py` or
`websocket.py`), messages. What is in a message is not known here. Everything that a peer can hold us by has an end: the
handshake, a message that has begun, silence, and what it does not read.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, cast

import structlog

from sipbridge.errors import StreamFramingError, TlsError
from sipbridge.sip.flow import Flow, Transport
from sipbridge.sip.framing import Framer, Keepalive, StreamFramer
from sipbridge.sip.tls_stream import TlsStream
from sipbridge.sip.websocket import WebSocketFramer

log = structlog.get_logger(__name__)

_MAX_UNSENT = 1 << 20
_PING, _PONG = b"\r\n\r\n", b"\r\n"
_LONGEST_PAUSE_S = 10.0


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What a peer on a stream may take of us."""

    connections: int = 1000
    """Further ones are closed as they come."""
    handshakes: int = 100
    """TLS handshakes that are under way at a time."""
    max_headers: int = 65_536
    max_body: int = 65_536
    handshake_seconds: float = 5.0
    message_seconds: float = 30.0
    """From the first octet of a message to its last, and from the connection to its first message."""
    idle_seconds: float = 3600.0
    """Without a message or a ping of the peer's; a connection that a call or a registration needs stays."""
    connect_seconds: float = 5.0
    """For connections of ours, handshake included."""
    ping_seconds: float = 120.0
    """At the longest so far apart are our pings on connections of ours (RFC 5626 §4.4.1); at the shortest, 80 % of it,
    so that those of many connections do not keep step."""
    pong_seconds: float = 10.0
    """For its answer."""
    unread_seconds: float = 30.0
    """So long may pass until the peer's machine has acknowledged what we sent."""


class Owner(Protocol):
    """Who has the connections."""

    limits: StreamLimits
    counters: Counter[str]
    buffer: bytearray
    """Shared: it is read out before the loop gets its turn."""

    def begun(self, connection: StreamConnection) -> bool:
        """There is a connection, with its flow; may it stay?"""

    def established(self, connection: StreamConnection) -> None:
        """Messages may pass."""

    def received(self, connection: StreamConnection, messages: list[bytes], octets: int) -> float | None:
        """So much was read, and these messages are whole by it. For how many seconds nothing more is to be read; None:
        close."""

    def needed(self, flow: Flow) -> bool:
        """Does a call or a registration live by this flow?"""

    def ended(self, connection: StreamConnection) -> None:
        """Only of those that have begun and were let stay."""


class StreamConnection(asyncio.BufferedProtocol):
    """From `connection_made` to `connection_lost`."""

    def __init__(self, owner: Owner, transport: Transport, tls: TlsStream | None, *, ours: bool) -> None:
        """`tls` is there for tls and wss; `ours`, whether we have made the connection."""
        loop = asyncio.get_running_loop()
        self.flow: Flow
        """Set where it was let stay."""
        self.name = transport
        self.ours = ours
        self.closed: asyncio.Future[None] = loop.create_future()
        self.ready: asyncio.Future[None] = loop.create_future()
        """Of one of ours: messages may pass; or why they may not (ConnectionError)."""
        self.handshaking = tls is not None
        self._owner = owner
        self._limits = limits = owner.limits
        self._loop = loop
        self._tls = tls
        self._framer: Framer = (
            WebSocketFramer(limits.max_headers + limits.max_body)
            if transport in ("ws", "wss")
            else StreamFramer(limits.max_headers, limits.max_body)
        )
        self._transport: asyncio.Transport
        self._kept = False
        self._greeted = False
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ping_timer: asyncio.TimerHandle | None = None
        self._resume: asyncio.TimerHandle | None = None
        self._answers_pings = False
        self._why = "closed by the peer"

    def send(self, message: bytes, times: int = 1) -> None:
        if self._transport.is_closing() or self.handshaking:
            self._owner.counters[f"{self.name}_send_failed"] += 1
        elif self._transport.get_write_buffer_size() > _MAX_UNSENT:
            self._owner.counters[f"{self.name}_peer_does_not_read"] += 1
            self._abort("it does not read what we send")
        else:
            self._write(b"".join([self._framer.wrap(message) for _ in range(times)]))
            if self.ours and not self._framer.pending:
                self._set_deadline(self._loop.time() + self._limits.idle_seconds)

    def close(self) -> None:
        """After what is still to be sent, and with the layers' good-byes."""
        if self._transport.is_closing():
            return
        if not self.handshaking:
            self._framer.close()
            self._write(self._framer.data_to_send())
        if self._tls is not None:
            self._tls.close()
            self._flush_tls()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's by their methods, not by their class.
        transport = self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if peer is None:  # gone before it was accepted
            transport.abort()
            return
        self.flow = Flow(self.name, transport.get_extra_info("sockname")[:2], peer[:2])
        self._kept = self._owner.begun(self)
        if not self._kept:
            self._abort("there is no room for it")
            return
        _notice_death(transport, self._limits)
        limits = self._limits
        first = limits.handshake_seconds if self.handshaking else limits.message_seconds
        self._deadline = self._loop.time() + first
        self._timer = self._loop.call_at(self._deadline, self._check_deadline)
        if self._tls is None:
            self._begin()
        elif self.ours:
            self._tls.start()
            self._flush_tls()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._owner.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._transport.is_closing():
            return
        data = bytes(memoryview(self._owner.buffer)[:nbytes])
        if self._tls is not None:
            data = self._decrypt(self._tls, data)
        if data:
            self._take(data)
        if self._tls is not None and self._tls.ended:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._timer, self._ping_timer, self._resume):
            if timer is not None:
                timer.cancel()
        if not self.closed.done():
            self.closed.set_result(None)
        if not self.ready.done():
            if self.ours:
                self.ready.set_exception(ConnectionAbortedError(self._why if exc is None else str(exc)))
            else:
                self.ready.cancel()
        if self._kept:
            self._owner.ended(self)

    # what comes in

    def _decrypt(self, tls: TlsStream, data: bytes) -> bytes:
        try:
            plain = tls.feed(data)
        except TlsError as error:
            self._flush_tls()
            self._owner.counters["tls_handshake_failed" if self.handshaking else "tls_broken"] += 1
            # The addresses of scanners are many; of a server that we want to reach, the caller is told.
            log.debug("TLS failed", remote=self.flow.remote, error=str(error))
            self._why = str(error)
            self._transport.close()
            return b""
        self._flush_tls()
        if self.handshaking and tls.established:
            self.handshaking = False
            self._begin()
        return plain

    def _begin(self) -> None:
        """Messages may pass from here on."""
        limits = self._limits
        self._set_deadline(self._loop.time() + (limits.idle_seconds if self.ours else limits.message_seconds))
        self._owner.established(self)
        if self.ours:
            self._arm_ping()
            if not self.ready.done():
                self.ready.set_result(None)

    def _take(self, data: bytes) -> None:
        framer = self._framer
        was_pending = framer.pending
        try:
            items = framer.feed(data)
        except StreamFramingError:
            items = []
        self._write(framer.data_to_send())
        messages = [item for item in items if not isinstance(item, Keepalive)]
        if len(items) > len(messages):
            self.send(_PONG, times=len(items) - len(messages))
        self._set_deadlines(bool(items), bool(messages), was_pending)
        pause = self._owner.received(self, messages, len(data))
        if framer.broken is not None:
            self._owner.counters["stream_broken"] += 1
            self._owner.counters[f"stream_{framer.broken.fault}"] += 1
            log.info("stream broken", remote=self.flow.remote, error=str(framer.broken))
            self.close()
        elif framer.ended:
            self.close()
        elif pause is None:
            self._abort("it has been blocked")
        elif pause > 0:
            self._hold_back(pause)

    def _set_deadlines(self, anything: bool, messages: bool, was_pending: bool) -> None:
        now = self._loop.time()
        pending = self._framer.pending
        self._greeted = self._greeted or messages
        if not pending and (anything if self.ours else self._greeted or anything):
            self._set_deadline(now + self._limits.idle_seconds)
        elif pending and (messages or not was_pending):
            self._set_deadline(now + self._limits.message_seconds)

    def _hold_back(self, seconds: float) -> None:
        """The peer has more to say than its budget allows: let its messages wait where they are."""
        if self._resume is None and not self._transport.is_closing():
            self._transport.pause_reading()
            self._resume = self._loop.call_later(min(seconds, _LONGEST_PAUSE_S), self._go_on)

    def _go_on(self) -> None:
        self._resume = None
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # what goes out

    def _write(self, data: bytes) -> None:
        if not data or self._transport.is_closing():
            return
        if self._tls is None:
            self._transport.write(data)
            return
        try:
            self._tls.write(data)
        except TlsError as error:
            self._owner.counters["tls_broken"] += 1
            self._abort(str(error))
        else:
            self._flush_tls()

    def _flush_tls(self) -> None:
        if self._tls is not None and (data := self._tls.data_to_send()) and not self._transport.is_closing():
            self._transport.write(data)

    def _abort(self, why: str) -> None:
        self._why = why
        self._transport.abort()

    # pings of ours (RFC 5626 §3.5.1, §4.4.1)

    def _arm_ping(self) -> None:
        seconds = self._limits.ping_seconds * random.uniform(0.8, 1.0)
        self._ping_timer = self._loop.call_later(seconds, self._ping)

    def _ping(self) -> None:
        self._framer.take_pong()  # what came before is no answer
        self._write(_PING)
        self._ping_timer = self._loop.call_later(self._limits.pong_seconds, self._check_pong)

    def _check_pong(self) -> None:
        """Many servers never answer a ping, and their machine's acknowledgement has to do. But one that has answered
        before and does no more is dead."""
        if self._framer.take_pong():
            self._answers_pings = True
        elif self._answers_pings and not self._framer.pending:
            self._owner.counters["ping_unanswered"] += 1
            log.info("connection is dead", remote=self.flow.remote)
            self._abort("no answer to a ping")
            return
        self._arm_ping()

    # time

    def _set_deadline(self, deadline: float) -> None:
        """The timer is not moved for every message: when it fires too early, it is set again. Only an earlier deadline
        needs a new one."""
        earlier = deadline < self._deadline
        self._deadline = deadline
        if earlier and self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.call_at(deadline, self._check_deadline)

    def _check_deadline(self) -> None:
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._check_deadline)
        elif self.handshaking:
            self._owner.counters["tls_handshake_timed_out"] += 1
            self._abort("the TLS handshake takes too long")
        elif (self._greeted or self.ours) and not self._framer.pending and self._owner.needed(self.flow):
            self._deadline = self._loop.time() + self._limits.idle_seconds
            self._timer = self._loop.call_at(self._deadline, self._check_deadline)
        else:
            self._owner.counters["stream_timed_out"] += 1
            self._abort("nothing was said for too long")


def _notice_death(transport: asyncio.Transport, limits: StreamLimits) -> None:
    """Have the kernel find out about peers that vanished: by probes where nothing is said, and by what it does not
    acknowledge."""
    raw = transport.get_extra_info("socket")
    options = {
        "TCP_KEEPIDLE": 60,
        "TCP_KEEPINTVL": 15,
        "TCP_KEEPCNT": 4,
        "TCP_USER_TIMEOUT": int(limits.unread_seconds * 1000),
    }
    with suppress(OSError):  # it is gone already
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options.items():
            if hasattr(socket, name):
                raw.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
