"""Which RTP port the next call gets: even for RTP, the odd one above it for RTCP (RFC 3550 §11).

A port that was given back rests, so that late packets of the old call do not reach the next one: the one that has been
free for longest goes first, and one that has not rested is only used when no other is left.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TypeVar

from sipbridge.errors import NoPortAvailableError

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class LocalPort:
    """A bound RTP port. RTCP is the next one."""

    address: str
    port: int


class PortPool:
    def __init__(self, ports: range, *, rest_seconds: float = 30.0) -> None:
        """Ports of `ports` that are even and whose odd successor is in it, too."""
        self._rest_seconds = rest_seconds
        self._free = deque((port, -inf) for port in ports if port % 2 == 0 and port + 1 in ports)
        self.size = len(self._free)
        """How many calls the range can hold."""

    def acquire(self, bind: Callable[[int], _T], now: float) -> tuple[int, _T]:
        """The port and what `bind(port)` returned. One that somebody else holds (`bind` raises EADDRINUSE) is put last.

        Raises NoPortAvailableError when there is none, and where binding fails for a reason that the next port shares
        (no descriptors left, not an address of this host).
        """
        for _ in range(len(self._free)):
            port, freed_at = self._free.popleft()
            try:
                return port, bind(port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    self._free.appendleft((port, freed_at))
                    raise NoPortAvailableError(f"cannot bind RTP port {port}: {error}") from error
                self._free.append((port, now))  # it rests from now on, as one of ours would
        raise NoPortAvailableError(f"no free RTP port: all {self.size} are in use")

    def give_back(self, port: int, now: float) -> None:
        self._free.append((port, now))

    def rested(self, now: float) -> int:
        """How many ports have rested: what a node that is asked for its room should answer."""
        return sum(now - freed_at >= self._rest_seconds for _, freed_at in self._free)

    @property
    def free(self) -> int:
        return len(self._free)
