"""The two bound sockets of a leg. I/O, but no waiting: everything here returns at once."""

from __future__ import annotations

import select
import selectors
import socket
import sys
from contextlib import suppress
from typing import Generic, TypeVar

from sipbridge.media.addresses import Address
from sipbridge.media.rtp import MAX_DATAGRAM, Kind, classify

# Voice is marked "expedited forwarding" (RFC 4594 §4.1); a network that knows nothing of it does no harm.
_DSCP_EF = 46 << 2
_MAX_HELLOS = 8
# A second of packets and what a flood throws between them; what lies there longer is of no use to a conversation. The
# system doubles it and counts its own overhead, about 700 octets a packet.
_RECEIVE_BUFFER = 128 * 1024

_T = TypeVar("_T")


class MediaSockets:
    """RTP on `port`, RTCP on the next one, bound for as long as the leg lives, so that nobody else gets them."""

    def __init__(self, address: str, port: int) -> None:
        """Raises OSError where one of the two is not free."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.rtp = _bind(family, address, port)
        try:
            self.rtcp = _bind(family, address, port + 1)
        except OSError:
            self.rtp.close()
            raise

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()


def _bind(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        with suppress(OSError):
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _DSCP_EF)
            else:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _DSCP_EF)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock


class Readable(Generic[_T]):
    """Which of many sockets have something to read: one system call for all of them.

    `selectors` does the same with an object for each answer; at fifty packets a second and leg that is felt.
    """

    def __init__(self) -> None:
        self._owners: dict[int, _T] = {}
        if sys.platform == "linux":
            self._poll = select.epoll()
        else:
            self._poll = selectors.DefaultSelector()

    def fileno(self) -> int:
        """Readable itself while any of them is: for the event loop."""
        return self._poll.fileno()

    def add(self, sock: socket.socket, owner: _T) -> None:
        self._owners[sock.fileno()] = owner
        self._poll.register(sock.fileno(), select.EPOLLIN if sys.platform == "linux" else selectors.EVENT_READ)

    def remove(self, sock: socket.socket) -> None:
        """Before it is closed."""
        del self._owners[sock.fileno()]
        self._poll.unregister(sock.fileno())

    def now(self) -> list[_T]:
        """The owners of those that have something."""
        owners = self._owners
        if sys.platform == "linux":
            return [owners[descriptor] for descriptor, _ in self._poll.poll(0, len(owners) or 1)]
        return [owners[key.fd] for key, _ in self._poll.select(0)]

    def close(self) -> None:
        self._poll.close()


def receive(sock: socket.socket) -> tuple[bytes, Address] | None:
    """One datagram and where it came from; None when there is none. One that is too long is cut, but still longer than
    `MAX_DATAGRAM`, so that it can be told."""
    try:
        data, source = sock.recvfrom(MAX_DATAGRAM + 1)
    except OSError:  # nothing there, or an ICMP error that is no concern of ours
        return None
    return data, source[:2]


def send(sock: socket.socket, data: bytes, target: Address) -> bool:
    """One datagram; False where it could not be sent, which is as if it were lost on the way."""
    try:
        sock.sendto(data, target)
    except OSError:
        return False
    return True


def drain(sock: socket.socket) -> list[tuple[bytes, Address]]:
    """Throw away what lies there, and no more than a socket's buffer can hold. Returns the first DTLS of it: a hello is
    often quicker than the answer that it belongs to, and is not said again for a second."""
    hellos: list[tuple[bytes, Address]] = []
    for _ in range(4096):
        datagram = receive(sock)
        if datagram is None:
            break
        if len(hellos) < _MAX_HELLOS and classify(datagram[0]) is Kind.DTLS:
            hellos.append(datagram)
    return hellos
