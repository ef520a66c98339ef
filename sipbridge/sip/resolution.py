"""From a URI to addresses (RFC 3263): which transport, which servers, in which order, and what is known to be away.

No I/O: single questions go to `DnsCache`. The steps of RFC 3263 §4 stand in `Resolver._steps`, a generator that yields
questions and is sent their answers, and yields a `Target` for each place to try, so that nothing is asked that is not
needed. Numbers for RFC 2782's weights come from the token source.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from hashlib import blake2s
from itertools import groupby
from typing import Protocol, TypeAlias

from sipbridge.sip.dns_cache import DnsCache, Kind, Naptr, Records, Srv
from sipbridge.sip.flow import (
    Target,
    Transport,
    Unreachable,
    default_port,
    is_address,
    is_secure,
    plain_address,
    transport_of,
)
from sipbridge.sip.headers import Uri
from sipbridge.sip.hops import HopFound, Hops, ListedHops

MAX_HOPS = 16
"""Places that are tried for one request."""

_SERVICES: dict[str, Transport] = {"sip+d2u": "udp", "sip+d2t": "tcp", "sips+d2t": "tls"}
_SRV_NAMES: dict[str, str] = {"udp": "_sip._udp.", "tcp": "_sip._tcp.", "tls": "_sips._tcp."}

Question: TypeAlias = tuple[str, Kind]
Steps: TypeAlias = Generator["list[Question] | Target", "list[Records]", None]


class Reach(Protocol):
    """What we can speak: the flow table."""

    @property
    def unreachable(self) -> Unreachable: ...

    def transports(self) -> Sequence[str]:
        """Those that we listen on."""

    def families(self, transport: str) -> Sequence[Kind]:
        """A and AAAA, as our addresses for that transport are, the preferred one first."""


class Resolver:
    def __init__(self, cache: DnsCache, reach: Reach, new_token: Callable[[], str]) -> None:
        self._cache = cache
        self._reach = reach
        self._new_token = new_token

    def hops(self, uri: Uri, transport: str | None = None) -> Hops:
        """Where a request to this URI may be sent, best first; `transport` is used where the URI names none."""
        if is_address(uri.host) and "maddr" not in uri.params and uri.scheme in ("sip", "sips"):
            chosen = uri.params.get("transport") or transport or self._default_transport()
            return ListedHops([_target(transport_of(uri.scheme, chosen), uri.host, uri.port, uri)])
        return LocatedHops(self._steps(uri, transport), self._cache, self._reach.unreachable)

    def _steps(self, uri: Uri, transport: str | None) -> Steps:
        secure = uri.scheme == "sips"
        if uri.scheme not in ("sip", "sips"):
            return  # a tel URI in a route: there is nobody to ask
        host = (uri.params.get("maddr") or uri.host).strip("[]")
        asked_for = uri.params.get("transport") or transport
        chosen = transport_of(uri.scheme, asked_for) if asked_for else None
        default = chosen or ("tls" if secure else self._default_transport())
        if is_address(host):
            yield _target(default, host, uri.port, uri)
            return
        if default not in _SRV_NAMES:
            return  # no connection can be made by it: a browser's `x.invalid` is not to be looked up (RFC 7118 §5)
        services: list[tuple[str, str]] = []
        if uri.port is None and chosen is None:
            services = yield from self._services(host, secure)
        elif uri.port is None:
            services = [(default, _SRV_NAMES[default] + host)]
        found = False
        if services:
            default = services[0][0]
            answers = yield [(name, "SRV") for _, name in services]
            for (service, _), records in zip(services, answers, strict=True):
                found = found or bool(records)
                yield from self._servers(service, records, uri)
        if not found:
            yield from self._addresses(default, host, uri.port, uri)

    def _services(self, host: str, secure: bool) -> Generator[list[Question], list[Records], list[tuple[str, str]]]:
        """§4.1: transports with the names of their SRV records, from NAPTR, or else by our own preference."""
        ((*records,),) = yield [(host, "NAPTR")]
        ours = self._reach.transports()
        services: list[tuple[str, str]] = []
        naptrs = [record for record in records if isinstance(record, Naptr) and record.flags.lower() == "s"]
        for naptr in sorted(naptrs, key=lambda record: (record.order, record.preference)):
            transport = _SERVICES.get(naptr.service.lower())
            if transport is not None and transport in ours and (transport == "tls" or not secure):
                services.append((transport, naptr.replacement.rstrip(".")))
        if services:
            return services
        preferred = ("tls",) if secure else ("udp", "tcp")
        return [(transport, _SRV_NAMES[transport] + host) for transport in preferred if secure or transport in ours]

    def _servers(self, transport: str, records: Records, uri: Uri) -> Steps:
        """§4.2. A single record with the target "." says that there is no such service here (RFC 2782)."""
        for srv in in_order([record for record in records if isinstance(record, Srv)], self._below):
            name = srv.target.rstrip(".")
            if name and srv.port:
                yield from self._addresses(transport, name, srv.port, uri)

    def _addresses(self, transport: str, name: str, port: int | None, uri: Uri) -> Steps:
        if is_address(name):
            yield _target(transport, name, port, uri)
            return
        for records in (yield [(name, kind) for kind in self._reach.families(transport)]):
            for address in records:
                if isinstance(address, str):
                    yield _target(transport, address, port, uri)

    def _default_transport(self) -> str:
        """§4.1: UDP where nothing says another, if we have it."""
        ours = self._reach.transports()
        return next((transport for transport in ("udp", "tcp", "tls") if transport in ours), "udp")

    def _below(self, bound: int) -> int:
        digest = blake2s(self._new_token().encode(), digest_size=8).digest()
        return int.from_bytes(digest) % bound


class LocatedHops:
    """The targets that the steps yield, one at a time. Those that did not answer lately come last (§4.3)."""

    def __init__(self, steps: Steps, cache: DnsCache, unreachable: Unreachable) -> None:
        self._steps: Steps | None = steps
        self._cache = cache
        self._unreachable = unreachable
        self._put_off: deque[Target] = deque()
        self._seen: set[Target] = set()

    @property
    def exhausted(self) -> bool:
        return self._steps is None and not self._put_off

    def next(self, found: HopFound, now: float) -> None:
        self._advance(found, None, now)

    def _advance(self, found: HopFound, answers: list[Records] | None, now: float) -> None:
        while (steps := self._steps) is not None:
            try:
                step = next(steps) if answers is None else steps.send(answers)
            except StopIteration:
                self._steps = None
                break
            if isinstance(step, Target):
                answers = None
                if step in self._seen:
                    continue
                self._seen.add(step)
                if len(self._seen) >= MAX_HOPS:
                    self._steps = None
                if self._unreachable.holds(step, now):
                    self._put_off.append(step)
                    continue
                found(step, now)
                return
            answers = self._ask(found, step, now)
            if answers is None:
                return  # goes on when the last answer has come
        found(self._put_off.popleft() if self._put_off else None, now)

    def _ask(self, found: HopFound, questions: list[Question], now: float) -> list[Records] | None:
        """The answers, if all of them are there at once."""
        answers: list[Records | None] = [None] * len(questions)
        asking = True

        def answered(index: int, records: Records, now: float) -> None:
            answers[index] = records
            if not asking and None not in answers:
                self._advance(found, [records for records in answers if records is not None], now)

        for index, (name, kind) in enumerate(questions):
            self._cache.look_up(name, kind, lambda records, now, index=index: answered(index, records, now), now)  # type: ignore[misc]
        asking = False
        complete = [records for records in answers if records is not None]
        return complete if len(complete) == len(questions) else None


def in_order(records: Sequence[Srv], below: Callable[[int], int]) -> Iterator[Srv]:
    """RFC 2782: by priority; among equals each time a random one, with a chance by its weight."""
    by_priority = sorted(records, key=lambda record: (record.priority, record.weight != 0))
    for _, group in groupby(by_priority, key=lambda record: record.priority):
        left = list(group)  # those of weight 0 first, which gives them a small chance
        while left:
            chosen = below(sum(record.weight for record in left) + 1)
            for record in left:
                chosen -= record.weight
                if chosen <= 0:
                    break
            left.remove(record)
            yield record


def _target(transport: str, address: str, port: int | None, uri: Uri) -> Target:
    """A certificate has to prove the name that was asked for, never the one that DNS made of it (RFC 5922 §7.3)."""
    server_name = uri.host if is_secure(transport) else ""
    return Target(transport, plain_address(address), port or default_port(transport), server_name)
