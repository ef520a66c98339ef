"""The sockets below `transport.py`: one UDP socket, one TCP connection (RFC 3261 §18.3, RFC 5626 §3.5.1).

They cut what comes in into messages and say where it came from; what is in a message they do not know.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import structlog

from sipbridge.errors import StreamFramingError
from sipbridge.sip.flow import Address, Flow, Transport
from sipbridge.sip.framing import Keepalive, StreamFramer

log = structlog.get_logger(__name__)

DATAGRAMS_PER_WAKE_UP = 16
"""The loop also paces audio: after so many datagrams it gets its turn, the rest waits in the socket's buffer."""
_RECEIVE_BUFFER = 1 << 20
_MAX_DATAGRAM = 65_536
_MAX_UNSENT = 1 << 20


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What a peer on a stream may take of us."""

    connections: int = 1000
    """Further ones are closed as they come."""
    max_headers: int = 65_536
    max_body: int = 65_536
    message_seconds: float = 30.0
    """From the first octet of a message to its last, and from the connection to its first message."""
    idle_seconds: float = 3600.0
    """Without anything, a keep-alive included."""
    connect_seconds: float = 5.0
    """For name look-ups and connections of ours."""


class UdpSocket:
    """A bound UDP socket in the loop: small buffers and `recvfrom_into`, since asyncio's own datagram endpoint takes
    256 KiB of memory for every packet."""

    def __init__(
        self, address: Address, counters: Counter[str], receive: Callable[[list[tuple[Flow, bytes]]], None]
    ) -> None:
        """Raises OSError where the address can't be bound."""
        self._counters = counters
        self._receive = receive
        self._buffer = memoryview(bytearray(_MAX_DATAGRAM))
        self._socket = socket.socket(family_of(address[0]), socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            self._socket.bind(address)
        except OSError:
            self._socket.close()
            raise
        self.local: Address = self._socket.getsockname()[:2]
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._readable)

    def send(self, remote: Address, data: bytes) -> None:
        """Losses are the protocol's business: it repeats what matters."""
        try:
            self._socket.sendto(data, remote)
        except OSError as error:
            self._counters["udp_send_failed"] += 1
            log.debug("datagram not sent", remote=remote, error=str(error))

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        datagrams = []
        for _ in range(DATAGRAMS_PER_WAKE_UP):
            try:
                size, remote = self._socket.recvfrom_into(self._buffer)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:  # an ICMP error that an earlier datagram of ours brought back
                self._counters["udp_receive_failed"] += 1
                continue
            datagrams.append((Flow("udp", self.local, remote[:2]), bytes(self._buffer[:size])))
        self._receive(datagrams)


class TcpConnection(asyncio.BufferedProtocol):
    """One TCP connection, accepted or made by us, from `connection_made` to `connection_lost`."""

    def __init__(
        self,
        limits: StreamLimits,
        counters: Counter[str],
        buffer: bytearray,
        *,
        opened: Callable[[TcpConnection], bool],
        receive: Callable[[Flow, list[bytes]], None],
        closed: Callable[[TcpConnection], None],
    ) -> None:
        """`buffer` may be shared: it is read out before the loop gets its turn. `opened` says if it may stay."""
        self.flow: Flow
        """Set where `admitted`."""
        self.closed = asyncio.get_running_loop().create_future()
        self._limits = limits
        self._counters = counters
        self._buffer = buffer
        self._framer = StreamFramer(limits.max_headers, limits.max_body)
        self._opened = opened
        self._receive = receive
        self._report_closed = closed
        self._transport: asyncio.Transport
        self.admitted = False
        self._greeted = False
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def send(self, data: bytes) -> None:
        if self._transport.is_closing():
            self._counters["tcp_send_failed"] += 1
        elif self._transport.get_write_buffer_size() > _MAX_UNSENT:
            self._counters["tcp_peer_does_not_read"] += 1
            self._transport.abort()
        else:
            self._transport.write(data)

    def close(self) -> None:
        """After what is still to be sent."""
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
        self.flow = Flow("tcp", transport.get_extra_info("sockname")[:2], peer[:2])
        self.admitted = self._opened(self)
        if not self.admitted:
            transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + self._limits.message_seconds
        self._timer = loop.call_at(self._deadline, self._check_deadline)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._transport.is_closing():
            return
        loop = asyncio.get_running_loop()
        was_pending = self._framer.pending
        try:
            items = self._framer.feed(bytes(memoryview(self._buffer)[:nbytes]))
        except StreamFramingError:
            items = []
        messages = [item for item in items if not isinstance(item, Keepalive)]
        for _ in range(len(items) - len(messages)):
            self.send(b"\r\n")  # a ping's pong
        if messages:
            self._greeted = True
        if not self._framer.pending and (self._greeted or items):
            self._set_deadline(loop.time() + self._limits.idle_seconds)
        elif self._framer.pending and (messages or not was_pending):
            self._set_deadline(loop.time() + self._limits.message_seconds)
        if messages:
            self._receive(self.flow, messages)
        if self._framer.broken is not None:
            self._counters["stream_broken"] += 1
            self._counters[f"stream_{self._framer.broken.fault}"] += 1
            log.info("stream broken", remote=self.flow.remote, error=str(self._framer.broken))
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self.closed.done():
            self.closed.set_result(None)
        if self.admitted:
            self._report_closed(self)

    # private

    def _set_deadline(self, deadline: float) -> None:
        """The timer is not moved for every message: when it fires too early, it is set again. Only an earlier deadline
        needs a new one."""
        earlier = deadline < self._deadline
        self._deadline = deadline
        if earlier and self._timer is not None:
            self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_at(deadline, self._check_deadline)

    def _check_deadline(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._deadline:
            self._counters["stream_timed_out"] += 1
            self._transport.abort()
        else:
            self._timer = loop.call_at(self._deadline, self._check_deadline)


def family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def address_towards(flow: Flow) -> str:
    """Which of our addresses the peer of a flow sees, where the listener is bound to all of them."""
    if not ipaddress.ip_address(flow.local[0]).is_unspecified:
        return flow.local[0]
    return _route(flow.remote[0])


@lru_cache(maxsize=1024)
def _route(remote: str) -> str:
    """Connecting a UDP socket sends nothing: it only asks the routing table."""
    with socket.socket(family_of(remote), socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((remote, 9))
        except OSError:
            return "::1" if ":" in remote else "127.0.0.1"
        return str(probe.getsockname()[0])


def parse_listen(url: str) -> tuple[Transport, Address]:
    """`udp://host:port` or `tcp://host:port`; an IPv6 host stands in brackets. Raises ValueError."""
    scheme, separator, rest = url.partition("://")
    host, colon, port = rest.rpartition(":")
    if not separator or not colon:
        raise ValueError(f"not transport://host:port: {url}")
    host = host.strip("[]")
    ipaddress.ip_address(host)
    if scheme == "udp":
        return "udp", (host, int(port))
    if scheme == "tcp":
        return "tcp", (host, int(port))
    raise ValueError(f"no such SIP transport: {scheme}")
