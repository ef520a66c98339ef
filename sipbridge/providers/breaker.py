"""A circuit breaker for each server that models are at: after some failures in a row most calls are told at once that
it is not there, instead of each waiting for it. Pure, in the time of `now`; one for a whole gateway.

Only what says something about the server counts: no connection, no answer, 5xx. A wrong key, or one that has used up
its share (429), is its owner's affair: others' calls to the same vendor go on.
While it is open one attempt a second goes through, and the first that succeeds closes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

import structlog

from sipbridge.errors import AgentStartError

log = structlog.get_logger(__name__)

FAILURES = 5
"""In a row, until it opens."""
INTERVAL = 1.0
"""Seconds between two attempts while it is open."""
TURNED_AWAY = "breaker_open"
"""The code of an attempt that was not let through."""
_MOST_SERVERS = 1000
_OF_THE_WAY = frozenset({"dns", "refused", "unreachable", "tls", "timeout", "closed"})

Key: TypeAlias = tuple[str, str]
"""A provider's slug and a server (`server_of`)."""


def server_of(url: str) -> str:
    """The host, and the port where it is not the scheme's own: two servers of one machine fail each by itself."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()


@dataclass(slots=True)
class _Server:
    failures: int = 0
    next_at: float = 0.0


class Breaker:
    def __init__(self) -> None:
        self.connects: Counter[tuple[str, str]] = Counter()
        """Sessions that were opened, or were to be, by (slug, result): "ok", a word of the transport's, "breaker_open",
        an HTTP status, or "refused_setup"."""
        self._servers: dict[Key, _Server] = {}

    def admits(self, keys: Iterable[Key], now: float) -> bool:
        """Whether an attempt may go to all of these now; where it may, it is under way."""
        found = [server for key in set(keys) if (server := self._servers.get(key)) is not None]
        if any(server.failures >= FAILURES and now < server.next_at for server in found):
            return False
        for server in found:
            server.next_at = now + INTERVAL
        return True

    def succeeded(self, key: Key) -> bool:
        """True where this closes it."""
        server = self._servers.pop(key, None)
        return server is not None and server.failures >= FAILURES

    def failed(self, key: Key, code: str, now: float) -> bool:
        """True where this opens it."""
        if not counts(code):
            return False
        if key not in self._servers and len(self._servers) >= _MOST_SERVERS:
            del self._servers[next(iter(self._servers))]
        server = self._servers.setdefault(key, _Server())
        server.failures += 1
        if server.failures != FAILURES:
            return False
        server.next_at = now + INTERVAL
        return True

    def open_keys(self) -> list[Key]:
        """Servers that are not there, as far as we know."""
        return [key for key, server in self._servers.items() if server.failures >= FAILURES]

    def known_keys(self) -> list[Key]:
        """Servers that have failed since they last succeeded."""
        return list(self._servers)


def counts(code: str) -> bool:
    """Whether this is a failure of the server, or of the way to it."""
    return code in _OF_THE_WAY or (len(code) == 3 and code.startswith("5") and code.isdigit())


class Attempt:
    """One attempt to open a session, as a breaker sees it: at which servers, and how it went. Without a breaker
    nothing of it matters."""

    def __init__(self, breaker: Breaker | None, slug: str, clock: Callable[[], float]) -> None:
        self._breaker = breaker
        self._slug = slug
        self._clock = clock
        self._entered: set[str] = set()
        self._pending: set[str] = set()

    def enter(self, *hosts: str) -> None:
        """It is about to go to these. Raises `AgentStartError` where it may not."""
        new = set(hosts) - self._entered
        if self._breaker is None:
            return
        if not self._breaker.admits(((self._slug, host) for host in new), self._clock()):
            names = " and ".join(sorted(new)) or self._slug
            raise AgentStartError(f"{names}: has failed too often just now", code=TURNED_AWAY, again=True)
        self._entered |= new
        self._pending |= new

    def reached(self, host: str) -> None:
        """This one has taken the connection."""
        self._pending.discard(host)

    def failed(self, code: str, host: str | None = None) -> None:
        """The end of it. Without a host: at those that it was waiting for, which are all where all were reached."""
        if self._breaker is None:
            return
        known = counts(code) or code == TURNED_AWAY or (len(code) == 3 and code.isdigit())
        self._breaker.connects[self._slug, code if known else "refused_setup"] += 1
        for each in (self._pending or self._entered) if host is None else {host}:
            if self._breaker.failed((self._slug, each), code, self._clock()):
                log.warning("provider fails: most calls are refused at once", provider=self._slug, host=each, code=code)

    def succeeded(self) -> None:
        """The end of it: the session is open."""
        if self._breaker is None:
            return
        self._breaker.connects[self._slug, "ok"] += 1
        for host in self._entered:
            if self._breaker.succeeded((self._slug, host)):
                log.info("provider is back", provider=self._slug, host=host)
