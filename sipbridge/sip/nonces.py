"""Nonces that need no memory, and the memory of those that have been used (RFC 7616 §3.3, §3.4, §5.4).

A nonce is the time of its making, a random part, and an HMAC over both and the address that it was given to: whoever
has the secret can tell that it is ours, whose, and how old, another node, too. So failures can be held against an
address: who only forges it never saw a nonce that is good there. What has to be remembered is only which counts of a
nonce were used, and only for nonces with which a password was proven: a stranger cannot make that table grow.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from hashlib import sha256
from heapq import heappop, heappush

_TIME = 12  # hexadecimal digits of milliseconds
_MAC = 32
_shape = re.compile(rf"[0-9a-f]{{{_TIME}}}[A-Za-z0-9]{{1,64}}[0-9a-f]{{{_MAC}}}")
_WINDOW = 64
"""So many counts may overtake each other: several requests of one client are on their way at once."""


class Nonces:
    """`now` is any clock; `epoch` is what has to be added to it to get the time that all nodes agree on."""

    def __init__(
        self,
        secret: bytes,
        realm: str,
        new_token: Callable[[], str],
        *,
        lifetime_seconds: float = 300.0,
        epoch: float = 0.0,
        remembered: int = 20_000,
    ) -> None:
        self._secret = secret
        self._realm = realm
        self._new_token = new_token
        self._lifetime = lifetime_seconds
        self._epoch = epoch
        self._remembered = remembered
        self._used: dict[str, tuple[int, int]] = {}
        """Nonce -> highest count so far, and which of the `_WINDOW` counts below it were used, as bits."""
        self._oldest: list[tuple[float, str]] = []
        self._forgotten = float("-inf")
        """Nonces made until then may have been used: they are taken for expired."""

    def __len__(self) -> int:
        """Of how many nonces the counts are remembered."""
        return len(self._used)

    def new(self, source: str, now: float) -> str:
        begin = f"{max(0, round((now + self._epoch) * 1000)):0{_TIME}x}{self._new_token()}"
        return begin + self._mac(begin, source)

    def is_fresh(self, nonce: str, source: str, now: float) -> bool:
        """Given to that address by us, or by another with our secret, and neither too old nor from the future."""
        begin, mac = nonce[:-_MAC], nonce[-_MAC:]
        if not _shape.fullmatch(nonce) or not hmac.compare_digest(self._mac(begin, source), mac):
            return False
        made = _time_of(nonce)
        return made > self._forgotten and abs(now + self._epoch - made) <= self._lifetime

    def use(self, nonce: str, count: int, now: float) -> bool:
        """Note that a nonce that `is_fresh` was used with this count; False: it was, before."""
        known = self._used.get(nonce)
        if known is None:
            return self._use_first(nonce, count, now)
        highest, below = known
        if count > highest:
            shift = count - highest
            below = ((below << shift) | (1 << (shift - 1))) & ((1 << _WINDOW) - 1) if shift <= _WINDOW else 0
            self._used[nonce] = (count, below)
            return True
        if count == highest or highest - count > _WINDOW:
            return False
        bit = 1 << (highest - count - 1)
        self._used[nonce] = (highest, below | bit)
        return not below & bit

    def _use_first(self, nonce: str, count: int, now: float) -> bool:
        expired = now + self._epoch - self._lifetime
        # What has expired is dropped; where that makes no room, the oldest expires early.
        while self._oldest and (self._oldest[0][0] < expired or len(self._used) >= self._remembered):
            made, oldest = heappop(self._oldest)
            del self._used[oldest]
            self._forgotten = max(self._forgotten, made)
        made_at = _time_of(nonce)
        if made_at <= self._forgotten:
            return False
        heappush(self._oldest, (made_at, nonce))
        self._used[nonce] = (count, 0)
        return True

    def _mac(self, begin: str, source: str) -> str:
        text = "\0".join((self._realm, source, begin))
        return hmac.new(self._secret, text.encode("utf-8", "surrogateescape"), sha256).hexdigest()[:_MAC]


def _time_of(nonce: str) -> float:
    return int(nonce[:_TIME], 16) / 1000
