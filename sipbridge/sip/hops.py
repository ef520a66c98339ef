"""Where a message may be sent: next hops, the best first, found one at a time (RFC 3263 §4.3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

from sipbridge.sip.flow import Flow, Target

Hop: TypeAlias = Target | Flow
HopFound: TypeAlias = Callable[[Hop | None, float], None]


class Hops(Protocol):
    """Where a request may be sent, best first; finding the next one may take a while."""

    @property
    def exhausted(self) -> bool:
        """Nothing follows for sure."""

    def next(self, found: HopFound, now: float) -> None:
        """Call `found`, once, with the next one, or with None where there is none."""


class ListedHops:
    """Next hops that are known beforehand, and then those of others, if any."""

    def __init__(self, hops: Iterable[Hop], then: Hops | None = None) -> None:
        self._hops = deque(hops)
        self._then = then

    @property
    def exhausted(self) -> bool:
        return not self._hops and (self._then is None or self._then.exhausted)

    def next(self, found: HopFound, now: float) -> None:
        if self._hops or self._then is None:
            found(self._hops.popleft() if self._hops else None, now)
        else:
            self._then.next(found, now)


class FallbackHops:
    """Next hops, and a last one for when all of them have failed."""

    def __init__(self, hops: Hops, last: Hop) -> None:
        self._hops = hops
        self._last: Hop | None = last

    @property
    def exhausted(self) -> bool:
        return self._last is None and self._hops.exhausted

    def next(self, found: HopFound, now: float) -> None:
        def or_last(hop: Hop | None, now: float) -> None:
            if hop is None:
                hop, self._last = self._last, None
            found(hop, now)

        self._hops.next(or_last, now)
