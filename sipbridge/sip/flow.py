"""Flows: by what transport, from where and to where a message goes (RFC 5626's word), and how one is chosen (§18).

The core names flows and never opens one. Where it needs a connection it says so (`FlowNeeded`) and goes on when it is
told (`FlowTable.opened`, `.failed`). How a URI becomes a `Target` is in `resolution.py`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

from sipbridge.sip.headers import Via

Transport: TypeAlias = Literal["udp", "tcp", "tls", "ws", "wss"]
Address: TypeAlias = tuple[str, int]

DEFAULT_PORT = 5060


@dataclass(frozen=True, slots=True)
class Flow:
    """One path between a local and a remote address; for every transport but UDP, one connection."""

    transport: Transport
    local: Address
    remote: Address

    @property
    def reliable(self) -> bool:
        return self.transport != "udp"

    @property
    def secure(self) -> bool:
        return is_secure(self.transport)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a message is to go: one address of one server."""

    transport: str
    host: str
    """An address; a name leads nowhere."""
    port: int
    server_name: str = ""
    """With TLS: the name that the certificate has to prove, which is that of the URI and not what DNS made of it
    (RFC 5922 §7.3)."""

    def __str__(self) -> str:
        return f"{self.transport}:{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class FlowNeeded:
    """Open a connection to `target` (its host is an address), then call `flow_opened` or `flow_failed`."""

    target: Target


Waiter: TypeAlias = Callable[[Flow | None, float], None]
"""Called once with the flow, or with None where none could be had; and with the time it is."""


_scope = re.compile(r"(?=.{1,15}\Z)[A-Za-z0-9_-]++(?:\.[A-Za-z0-9_-]++)*+")


@lru_cache(maxsize=4096)
def is_address(host: str) -> bool:
    """Fit for a socket: `ip_address` takes anything for a scope (`fe80::1%eth0`), also what makes a socket raise."""
    _, percent, scope = host.partition("%")
    if percent and _scope.fullmatch(scope) is None:
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def plain_address(host: str) -> str:
    """An IPv4 address that came in IPv6's clothes, as an IPv6 socket shows it, without them: one peer, one spelling."""
    if host[:7].lower() == "::ffff:" and is_address(host):
        mapped = ipaddress.IPv6Address(host).ipv4_mapped
        return host if mapped is None else str(mapped)
    return host


def transport_of(scheme: str, name: str) -> str:
    """What a `transport` parameter means: with sips always TLS, whatever it runs over (§26.2.2)."""
    name = name.lower()
    if scheme != "sips":
        return name
    return "wss" if name in ("ws", "wss") else "tls"


def is_secure(transport: str) -> bool:
    return transport in ("tls", "wss")


def default_port(transport: str) -> int:
    """§19.1.2, RFC 7118 §5.1."""
    return {"tls": 5061, "ws": 80, "wss": 443}.get(transport, DEFAULT_PORT)


def response_target(via: Via, transport: str) -> Target:
    """Where a response goes when the connection of its request is gone (§18.2.2): to the source's address at the port
    of sent-by, where the peer listens; never to the ephemeral port of the dead connection."""
    return Target(transport, plain_address(via.received or via.host), via.port or default_port(transport))


class Unreachable:
    """Targets that did not answer, for a while, so that the next call does not wait for them again (RFC 3263 §4.3).

    They are not forbidden, only tried last. Who fails again is remembered for longer. Bounded: the oldest is forgotten.
    """

    SHORTEST_S = 60.0
    LONGEST_S = 960.0
    MAX_TARGETS = 1024

    def __init__(self) -> None:
        self._until: dict[Target, tuple[float, float]] = {}
        self._why: dict[Target, str] = {}

    def __len__(self) -> int:
        return len(self._until)

    def add(self, target: Target, now: float, seconds: float = 0.0, *, why: str = "") -> None:
        """It did not answer, or it asked not to be troubled for some `seconds`; `why` is for people."""
        until, last = self._until.pop(target, (now, 0.0))
        again = now < until + last  # it had its second chance, and failed
        duration = seconds or (2 * last if again else self.SHORTEST_S)
        duration = min(duration, self.LONGEST_S)
        self._until[target] = (now + duration, duration)
        self._why[target] = why
        if len(self._until) > self.MAX_TARGETS:
            self.remove(next(iter(self._until)))

    def remove(self, target: Target) -> None:
        """It answers."""
        if self._until:
            self._until.pop(target, None)
            self._why.pop(target, None)

    def why(self, target: Target) -> str:
        """What went wrong there the last time; "" where that is not known."""
        return self._why.get(target, "")

    def holds(self, target: Target, now: float) -> bool:
        return bool(self._until) and now < self._until.get(target, (now, 0.0))[0]


class FlowTable:
    """The flows that exist, and those who wait for one.

    UDP flows exist as soon as a UDP listener does. TCP flows come by `seen` (they connected to us) or `opened` (we
    asked for it), and go by `closed`.
    """

    def __init__(self, ask: Callable[[FlowNeeded], None]) -> None:
        self._ask = ask
        self.unreachable = Unreachable()
        self._listeners: dict[str, list[Address]] = {}
        self._open: set[Flow] = set()
        self._by_remote: dict[tuple[str, Address], Flow] = {}
        self._proven: dict[tuple[str, Address, str], Flow] = {}
        """Connections of ours over TLS, by the name that the peer proved."""
        self._waiting: dict[Target, list[Waiter]] = {}

    def __len__(self) -> int:
        """How many connections are open."""
        return len(self._open)

    @property
    def waiting(self) -> int:
        return sum(len(waiters) for waiters in self._waiting.values())

    def listen(self, transport: Transport, local: Address) -> None:
        self._listeners.setdefault(transport, []).append(local)

    def transports(self) -> Sequence[str]:
        """Those that we listen on and can open a flow by."""
        return [transport for transport in ("udp", "tcp", "tls") if transport in self._listeners]

    def families(self, transport: str) -> Sequence[Literal["A", "AAAA"]]:
        """Which addresses of a peer are of use, as our own are for that transport; the preferred kind first."""
        locals_ = self._listeners.get(transport) or [local for some in self._listeners.values() for local in some]
        families: list[Literal["A", "AAAA"]] = ["AAAA" if ":" in host else "A" for host, _ in locals_]
        return list(dict.fromkeys(families)) or ["A"]

    def listener(self, transport: str, near: Address) -> Address | None:
        """Our listening address for a transport: the one that `near` names, else the first of its address family."""
        candidates = self._listeners.get(transport, [])
        for local in candidates:
            if local == near:
                return local
        for local in candidates:
            if (":" in local[0]) == (":" in near[0]):
                return local
        return None

    def is_open(self, flow: Flow) -> bool:
        return flow.transport == "udp" or flow in self._open

    def seen(self, flow: Flow) -> None:
        """A message came by this flow."""
        if flow.transport != "udp":
            self._open.add(flow)
            self._by_remote[flow.transport, flow.remote] = flow

    def opened(self, target: Target, flow: Flow, now: float) -> None:
        self.seen(flow)
        if flow.secure:
            self._proven[flow.transport, flow.remote, target.server_name] = flow
        self.unreachable.remove(target)
        self._tell(target, flow, now)

    def failed(self, target: Target, now: float, why: str = "") -> None:
        self.unreachable.add(target, now, why=why)
        self._tell(target, None, now)

    def closed(self, flow: Flow) -> None:
        self._open.discard(flow)
        if self._by_remote.get((flow.transport, flow.remote)) == flow:
            del self._by_remote[flow.transport, flow.remote]
        if flow.secure:
            self._proven = {key: other for key, other in self._proven.items() if other != flow}

    def find(self, target: Target, waiter: Waiter, now: float, *, beside: Flow | None = None) -> None:
        """Call `waiter` with a flow to `target`: at once where there is one, else when it has been opened.

        `beside` is the flow of the dialog: over UDP its local address is kept, so that a peer on the other side of a
        NAT sees the address it knows.
        """
        if not is_address(target.host):
            waiter(None, now)
        elif target.transport == "udp":
            remote = (target.host, target.port)
            near = beside.local if beside is not None and beside.transport == "udp" else remote
            local = self.listener("udp", near)
            if local is None or (":" in local[0]) != (":" in target.host):
                local = self.listener("udp", remote)
            waiter(None if local is None else Flow("udp", local, remote), now)
        elif target.transport in ("tcp", "tls"):
            flow = self._connection(target)
            if flow is not None:
                waiter(flow, now)
            else:
                self._wait(target, waiter)
        else:
            waiter(None, now)  # WebSockets are opened by clients only, and others we don't have

    def _connection(self, target: Target) -> Flow | None:
        remote = (target.host, target.port)
        if target.transport == "tcp":
            return self._by_remote.get(("tcp", remote))
        # A connection that came to us, be it from that very port, has proven no name.
        return self._proven.get((target.transport, remote, target.server_name))

    def _wait(self, target: Target, waiter: Waiter) -> None:
        waiters = self._waiting.setdefault(target, [])
        waiters.append(waiter)
        if len(waiters) == 1:
            self._ask(FlowNeeded(target))

    def _tell(self, target: Target, flow: Flow | None, now: float) -> None:
        for waiter in self._waiting.pop(target, []):
            waiter(flow, now)
