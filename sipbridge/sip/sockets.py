"""The UDP sockets below `transport.py`, and what all sockets need: listening URLs, our own addresses (RFC 3261 §18)."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import get_args

import structlog

from sipbridge.sip.flow import Address, Flow, Transport

log = structlog.get_logger(__name__)

DATAGRAMS_PER_WAKE_UP = 16
"""The loop also paces audio: after so many datagrams it gets its turn, the rest waits in the socket's buffer."""
_RECEIVE_BUFFER = 1 << 20
_MAX_DATAGRAM = 65_536


class UdpSocket:
    """A bound UDP socket in the loop: small buffers and `recvfrom_into`, since asyncio's own datagram endpoint takes
    256 KiB of memory for every packet."""

    def __init__(
        self,
        address: Address,
        counters: Counter[str],
        admit: Callable[[str], bool],
        receive: Callable[[list[tuple[Flow, bytes]]], None],
    ) -> None:
        """`admit` is asked with the source's host before its datagram costs anything more. Raises OSError where the
        address can't be bound."""
        self._counters = counters
        self._admit = admit
        self._receive = receive
        self._buffer = memoryview(bytearray(_MAX_DATAGRAM))
        self._socket = socket.socket(family_of(address[0]), socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            if self._socket.family == socket.AF_INET6:  # as asyncio does it for TCP: `[::]` beside `0.0.0.0`
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
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
        except (OSError, ValueError) as error:
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
            if self._admit(remote[0]):
                datagrams.append((Flow("udp", self.local, remote[:2]), bytes(self._buffer[:size])))
        if datagrams:
            self._receive(datagrams)


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
    """`udp://host:port`, or tcp, tls, ws, wss; an IPv6 host stands in brackets. Raises ValueError."""
    scheme, separator, rest = url.partition("://")
    host, colon, port = rest.rpartition(":")
    if not separator or not colon:
        raise ValueError(f"not transport://host:port: {url}")
    host = host.strip("[]")
    ipaddress.ip_address(host)
    for transport in get_args(Transport):
        if scheme == transport:
            return transport, (host, int(port))
    raise ValueError(f"no such SIP transport: {scheme}")
