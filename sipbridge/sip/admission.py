"""Who may speak to us, and how much: asked before anything is parsed, since floods share the loop with the audio.

Three questions for each datagram, in the order of what they cost: is this source blocked, may it speak at all, has it
anything left of its budget. Sources are listed ones (networks of trunks; loopback where there is none), those that have
authenticated, and strangers, who get silence or, where they may speak, a small budget each and one for all of them
together: a source address is easily forged. On streams nothing is lost by a budget: who is over it is not read from for
a while (`charge`).

Everything is counted by reason (`not_admitted_*`), and every table is bounded: the source that was heard of longest ago
is forgotten first.
"""

from __future__ import annotations

import ipaddress
import math
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias, TypeVar

from sipbridge.sip.flow import plain_address

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
V = TypeVar("V")

LOOPBACK = ("127.0.0.0/8", "::1/128")


@dataclass(frozen=True, slots=True)
class Budget:
    """A token bucket, in messages."""

    per_second: float
    burst: float


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    listed: Budget = Budget(2000, 4000)
    """Of one source that is listed or has authenticated: what a node can serve at all, beside its calls."""
    stranger: Budget = Budget(5, 20)
    strangers: Budget = Budget(200, 400)
    """Of all strangers together."""
    connections: int = 400
    """At a time, of one source that is listed or has authenticated."""
    stranger_connections: int = 16
    strangers_connections: int = 250
    connection_cost: int = 5
    """What a stranger's connection costs of its budget: a TLS handshake is dear."""
    failures: int = 5
    """So many failed authentications ..."""
    failure_seconds: float = 60.0
    """... in this time block a source ..."""
    block_seconds: float = 900.0
    """... for so long."""
    authenticated_seconds: float = 3600.0
    """How long a source is known after it has authenticated."""
    sources: int = 4096
    """How many are remembered, of each kind."""


class Admission:
    """See the module's docstring. `listed` are the networks that may speak; `strangers`, whether others may."""

    def __init__(
        self,
        listed: Iterable[str] = LOOPBACK,
        *,
        strangers: bool = False,
        limits: AdmissionLimits | None = None,
        counters: Counter[str] | None = None,
    ) -> None:
        self.counters: Counter[str] = Counter() if counters is None else counters
        self._limits = limits = limits or AdmissionLimits()
        self._strangers_may_speak = strangers
        self._networks = tuple(map(_bounds, listed))
        self._look_up = lru_cache(maxsize=limits.sources)(self._classify)
        self._listed_buckets: _Table[_Bucket] = _Table(limits.sources)
        self._stranger_buckets: _Table[_Bucket] = _Table(limits.sources)
        self._strangers_bucket = _Bucket(limits.strangers.burst, -math.inf)
        self._failures: _Table[list[tuple[float, int]]] = _Table(limits.sources)
        """When, and as whom: a hash, since a name may be as long as a message."""
        self._blocked: _Table[float] = _Table(limits.sources)
        self._authenticated: _Table[float] = _Table(limits.sources)
        self._spoken_to: _Table[float] = _Table(limits.sources)
        self._connections: Counter[int] = Counter()
        self._unproven: Counter[int] = Counter()
        """Of those connections, the ones of sources that are strangers still."""

    def admit(self, host: str, now: float) -> bool:
        """May this datagram be parsed? It is paid for if so."""
        source, listed = self._look_up(host)
        if self._blocked and self._is_blocked(source, now):
            self.counters["not_admitted_blocked"] += 1
            return False
        if not listed and not self._is_known(source, now):
            if not self._strangers_may_speak:
                self.counters["not_admitted_unknown_source"] += 1
                return False
            limits = self._limits
            if not self._bucket(self._stranger_buckets, source, limits.stranger).take(limits.stranger, now):
                self.counters["not_admitted_over_budget"] += 1
                return False
            if not self._strangers_bucket.take(limits.strangers, now):
                self.counters["not_admitted_strangers_over_budget"] += 1
                return False
            return True
        if not self._bucket(self._listed_buckets, source, self._limits.listed).take(self._limits.listed, now):
            self.counters["not_admitted_over_budget"] += 1
            return False
        return True

    def charge(self, host: str, messages: int, now: float) -> float | None:
        """So many messages came by a connection. For how many seconds nothing more is to be read from it (0: none);
        None: close it, the source has been blocked."""
        source, listed = self._look_up(host)
        if self._is_blocked(source, now):
            self.counters["not_admitted_blocked"] += 1
            return None
        limits = self._limits
        if listed or self._is_known(source, now):
            pause = self._bucket(self._listed_buckets, source, limits.listed).charge(limits.listed, messages, now)
        else:
            bucket = self._bucket(self._stranger_buckets, source, limits.stranger)
            pause = max(
                bucket.charge(limits.stranger, messages, now),
                self._strangers_bucket.charge(limits.strangers, messages, now),
            )
        if pause > 0:
            self.counters["stream_held_back"] += 1
        return pause

    def connect(self, host: str, now: float) -> bool:
        """May this connection stay? If so, `disconnect` must be called when it is gone."""
        source, listed = self._look_up(host)
        reason = self._objection(source, listed, now)
        if reason is not None:
            self.counters[f"not_admitted_{reason}"] += 1
            return False
        self._connections[source] += 1
        if not listed and source not in self._authenticated:
            self._unproven[source] += 1
        return True

    def disconnect(self, host: str) -> None:
        source, _ = self._look_up(host)
        for counter in (self._connections, self._unproven):
            if counter[source] > 1:
                counter[source] -= 1
            else:
                del counter[source]

    def failed(self, host: str, now: float, username: str = "") -> None:
        """An authentication failed; with a nonce that we gave to this very source, or else anybody could have any
        other blocked by forging its address. Listed sources are blocked as others are."""
        source, _ = self._look_up(host)
        limits = self._limits
        recent = [failure for failure in self._failures.get(source, ()) if failure[0] > now - limits.failure_seconds]
        recent.append((now, hash(username)))
        if len(recent) < limits.failures:
            self._failures.put(source, recent)
            return
        self._failures.pop(source, None)
        self._authenticated.pop(source, None)
        self._blocked.put(source, now + limits.block_seconds)
        self.counters["sources_blocked"] += 1

    def authenticated(self, host: str, now: float, username: str = "") -> None:
        """The source has proven who it is: it is no stranger for a while, and its failures to be the same are forgiven.
        Not those to be others: who has an account could guess at all the rest, and prove now and then who he is."""
        source, _ = self._look_up(host)
        failures = [failure for failure in self._failures.pop(source, ()) if failure[1] != hash(username)]
        if failures:
            self._failures.put(source, failures)
        self._unproven.pop(source, None)
        self._authenticated.put(source, now + self._limits.authenticated_seconds)

    def spoken_to(self, host: str, now: float) -> None:
        """We send a request there: its answer may come, and what belongs to a call that it begins. So an answering
        proxy, or a Contact, need not be among the listed."""
        source, listed = self._look_up(host)
        if not listed:
            self._spoken_to.put(source, now + self._limits.authenticated_seconds)

    def blocked(self, host: str, now: float) -> bool:
        return self._is_blocked(self._look_up(host)[0], now)

    @property
    def remembered(self) -> int:
        """How many entries all tables have: the bound on memory that tests look at."""
        tables: tuple[Sized, ...] = (
            self._listed_buckets,
            self._stranger_buckets,
            self._failures,
            self._blocked,
            self._authenticated,
            self._spoken_to,
            self._connections,
        )
        return sum(map(len, tables))

    # private

    def _classify(self, host: str) -> tuple[int, bool]:
        """The source that an address belongs to, and whether it is listed. A stranger on IPv6 is its /64: there are as
        many addresses in it as one likes; a listed address is itself, whatever its neighbours do."""
        address = source_address(host)
        number, version = int(address), address.version
        listed = any(v == version and low <= number <= high for v, low, high in self._networks)
        if version == 4:
            return number, listed
        return (1 << 128 | number, True) if listed else (2 << 128 | number >> 64, False)

    def _objection(self, source: int, listed: bool, now: float) -> str | None:
        limits = self._limits
        if self._is_blocked(source, now):
            return "blocked"
        held = self._connections.get(source, 0)
        if listed or self._is_known(source, now):
            return None if held < limits.connections else "source_connections"
        if not self._strangers_may_speak:
            return "unknown_source"
        if held >= limits.stranger_connections:
            return "source_connections"
        if self._unproven.total() >= limits.strangers_connections:
            return "strangers_connections"
        cost = limits.connection_cost
        if not self._bucket(self._stranger_buckets, source, limits.stranger).take(limits.stranger, now, cost):
            return "over_budget"
        return None if self._strangers_bucket.take(limits.strangers, now, cost) else "strangers_over_budget"

    def _bucket(self, table: _Table[_Bucket], source: int, budget: Budget) -> _Bucket:
        bucket = table.get(source)
        if bucket is None:
            bucket = _Bucket(budget.burst, -math.inf)
            table.put(source, bucket)
        else:
            table.move_to_end(source)
        return bucket

    def _is_blocked(self, source: int, now: float) -> bool:
        until = self._blocked.get(source)
        if until is None:
            return False
        if now < until:
            return True
        del self._blocked[source]
        return False

    def _is_known(self, source: int, now: float) -> bool:
        """It has authenticated, or it is we who have spoken to it."""
        for table in (self._authenticated, self._spoken_to):
            until = table.get(source)
            if until is None:
                continue
            if now < until:
                return True
            del table[source]
        return False


class _Table(OrderedDict[int, V]):
    """By source, and no more than `size` of them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def put(self, source: int, value: V) -> None:
        self[source] = value
        self.move_to_end(source)
        if len(self) > self._size:
            self.popitem(last=False)


class _Bucket:
    """What is left of a budget. It may be overdrawn by `charge`, never by `take`."""

    __slots__ = ("_at", "_tokens")

    def __init__(self, tokens: float, at: float) -> None:
        self._tokens = tokens
        self._at = at

    def take(self, budget: Budget, now: float, count: int = 1) -> bool:
        tokens = self._tokens + (now - self._at) * budget.per_second
        self._at = now
        if tokens > budget.burst:
            tokens = budget.burst
        if tokens < count:
            self._tokens = tokens
            return False
        self._tokens = tokens - count
        return True

    def charge(self, budget: Budget, count: int, now: float) -> float:
        """How long it takes until nothing is owed."""
        self._tokens = min(budget.burst, self._tokens + (now - self._at) * budget.per_second) - count
        self._at = now
        return max(0.0, -self._tokens / budget.per_second)


def source_address(host: str) -> IpAddress:
    """The address that a socket names. IPv4 over an IPv6 socket is IPv4, and a scope (`%eth0`) says nothing of whom."""
    return ipaddress.ip_address(plain_address(host.partition("%")[0]))


def _bounds(network: str) -> tuple[int, int, int]:
    """IP version, first and last address: comparing numbers is cheaper than asking `ip_network`."""
    parsed = ipaddress.ip_network(network)
    if isinstance(parsed, ipaddress.IPv6Network) and parsed.prefixlen >= 96:
        first = parsed.network_address.ipv4_mapped
        if first is not None:
            low = int(first)
            return 4, low, low + parsed.num_addresses - 1
    return parsed.version, int(parsed.network_address), int(parsed.broadcast_address)
