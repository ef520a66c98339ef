"""The load generator's own event loop: sockets, timers in nanoseconds, and how late each was.

asyncio's timers and datagram endpoints cost more than a whole packet does here, and what the generator adds itself must
be known. Time is CLOCK_REALTIME throughout, because that is the clock of the kernel's receive timestamps.
"""

from __future__ import annotations

import heapq
import select
import socket
import struct
import time
from collections.abc import Callable
from itertools import count
from typing import Any, Protocol

now = time.time_ns
MS = 1_000_000
SECOND = 1_000_000_000

_SO_TIMESTAMPNS = 35  # Linux; the socket module has no name for it
_TIMESPEC = struct.Struct("@qq")
_ANCILLARY = socket.CMSG_SPACE(_TIMESPEC.size)


class HasDescriptor(Protocol):
    """A socket, or a pipe."""

    def fileno(self) -> int: ...


class Loop:
    def __init__(self, *, spin: bool = False) -> None:
        """`spin`: never sleep. Whoever sends to a process that sleeps on another core has to wake it, which can cost
        more than the sending; only generators on the same machine make a gateway pay for that."""
        self._spin = spin
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[int, int, Callable[[int], None]]] = []
        self._order = count()

    def add_reader(self, sock: HasDescriptor, callback: Callable[[], None]) -> None:
        self._readers[sock.fileno()] = callback
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def remove_reader(self, sock: HasDescriptor) -> None:
        del self._readers[sock.fileno()]
        self._epoll.unregister(sock.fileno())

    def close(self) -> None:
        self._epoll.close()

    def at(self, when: int, callback: Callable[[int], None]) -> None:
        """Call it then, with the moment that was asked for."""
        heapq.heappush(self._timers, (when, next(self._order), callback))

    def after(self, delay: int, callback: Callable[[int], None]) -> None:
        self.at(now() + delay, callback)

    def run_until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Serve sockets and timers until it is done, and no longer than so many seconds; whether it is done."""
        deadline = now() + int(seconds * SECOND)
        self.at(deadline, lambda due: None)  # so that it is noticed
        while not done():
            if now() >= deadline:
                return False
            self._turn()
        return True

    def run_for(self, seconds: float) -> None:
        self.run_until(lambda: False, seconds)

    def _turn(self) -> None:
        self._wait()
        timers = self._timers
        for descriptor, _ in self._epoll.poll(0):
            reader = self._readers.get(descriptor)
            if reader is not None:
                reader()
            if timers and timers[0][0] <= now():  # hundreds of sockets at once must not make a timer wait
                self._fire()
        self._fire()

    def _wait(self) -> None:
        # epoll waits in whole milliseconds; select on the epoll descriptor itself waits as precisely as the kernel can.
        wait = (self._timers[0][0] - now()) / 1e9 if self._timers else 1.0
        if wait > 0 and not self._spin:
            select.select([self._epoll], [], [], wait)

    def _fire(self) -> None:
        timers = self._timers
        while timers and timers[0][0] <= now():
            when, _, callback = heapq.heappop(timers)
            callback(when)


def stamp_arrivals(sock: socket.socket) -> None:
    """Have the kernel note when each packet came in, so that our own lateness is not in it."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


def receive_stamped(sock: socket.socket, size: int = 2048) -> tuple[bytes, int, Any]:
    """Data, when it arrived and from where. Of a stream, the arrival is that of the last part."""
    data, ancillary, _, source = sock.recvmsg(size, _ANCILLARY)
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack(value)
            return data, seconds * SECOND + nanoseconds, source
    return data, now(), source
