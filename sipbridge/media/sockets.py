"""The two bound sockets of a leg. I/O, but no waiting: everything here returns at once."""

from __future__ import annotations

import socket
from contextlib import suppress

from sipbridge.media.latch import Address

# Voice is marked "expedited forwarding" (RFC 4594 §4.1); a network that knows nothing of it does no harm.
_DSCP_EF = 46 << 2
_MAX_DATAGRAM = 2048


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
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def receive(sock: socket.socket) -> tuple[bytes, Address] | None:
    """One datagram and where it came from, cut at 2048 octets; None when there is none."""
    try:
        data, source = sock.recvfrom(_MAX_DATAGRAM)
    except OSError:  # nothing there, or an ICMP error that is no concern of ours
        return None
    return data, source[:2]


def drain(sock: socket.socket) -> None:
    """Throw away what lies there, and no more than a socket's buffer can hold."""
    for _ in range(4096):
        if receive(sock) is None:
            return
