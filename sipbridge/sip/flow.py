"""Flows: by what transport, from where and to where a message goes (RFC 5626's word), and how one is chosen (§18).

The core names flows and never opens one. Where it needs a connection or an address it says so (`FlowNeeded`,
`ResolveNeeded`) and goes on when it is told (`FlowTable.opened`, `.failed`, `.resolved`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from sipbridge.sip.headers import Uri, Via

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
        return self.transport in ("tls", "wss")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a message is to go; `host` may be a name that has to be resolved first."""

    transport: str
    host: str
    port: int
    server_name: str = ""
    """With TLS: the name that the certificate has to prove, which is that of the URI and not what DNS made of it
    (RFC 5922 §7.3)."""

    @property
    def is_address(self) -> bool:
        return is_address(self.host)


@dataclass(frozen=True, slots=True)
class FlowNeeded:
    """Open a connection to `target` (its host is an address), then call `flow_opened` or `flow_failed`."""

    target: Target


@dataclass(frozen=True, slots=True)
class ResolveNeeded:
    """Find the addresses of `target.host`, then call `resolved` (with none where there are none)."""

    target: Target


Waiter: TypeAlias = Callable[[Flow | None, float], None]
"""Called once with the flow, or with None where none could be had; and with the time it is."""


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def target_of(uri: Uri, transport: str | None = None) -> Target:
    """Where a request to this URI goes (RFC 3263 without DNS). Without a `transport` parameter, and unless the caller
    names one, that is UDP; `sips` asks for TLS, whatever else is said."""
    host = uri.params.get("maddr") or uri.host
    chosen = (uri.params.get("transport") or transport or "udp").lower()
    if uri.scheme == "sips" or chosen == "tls":
        return Target("tls", host, uri.port or 5061, uri.host)
    return Target(chosen, host, uri.port or DEFAULT_PORT)


def response_target(via: Via, transport: str) -> Target:
    """Where a response goes when the connection of its request is gone (§18.2.2): to the source's address at the port
    of sent-by, where the peer listens; never to the ephemeral port of the dead connection."""
    return Target(transport, via.received or via.host, via.port or DEFAULT_PORT)


class FlowTable:
    """The flows that exist, and those who wait for one.

    UDP flows exist as soon as a UDP listener does. TCP flows come by `seen` (they connected to us) or `opened` (we
    asked for it), and go by `closed`.
    """

    def __init__(self, ask: Callable[[FlowNeeded | ResolveNeeded], None]) -> None:
        self._ask = ask
        self._listeners: dict[str, list[Address]] = {}
        self._open: set[Flow] = set()
        self._by_remote: dict[tuple[str, Address], Flow] = {}
        self._by_target: dict[Target, Flow] = {}
        """Those that we have opened. With TLS one for each name, though the address be the same: it has proven that
        name and no other."""
        self._waiting: dict[Target, list[Waiter]] = {}

    def __len__(self) -> int:
        """How many connections are open."""
        return len(self._open)

    @property
    def waiting(self) -> int:
        return sum(len(waiters) for waiters in self._waiting.values())

    def listen(self, transport: Transport, local: Address) -> None:
        self._listeners.setdefault(transport, []).append(local)

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
        self._by_target[target] = flow
        self._tell(target, flow, now)

    def failed(self, target: Target, now: float) -> None:
        self._tell(target, None, now)

    def closed(self, flow: Flow) -> None:
        self._open.discard(flow)
        if self._by_remote.get((flow.transport, flow.remote)) == flow:
            del self._by_remote[flow.transport, flow.remote]
        for target in [target for target, known in self._by_target.items() if known == flow]:
            del self._by_target[target]

    def resolved(self, target: Target, addresses: Sequence[str], now: float) -> None:
        """The addresses of a name, best first. Only the first is tried as yet: no failover before RFC 3263 is here."""
        waiters = self._waiting.pop(target, [])
        for waiter in waiters:
            if addresses:
                self.find(replace(target, host=addresses[0]), waiter, now)
            else:
                waiter(None, now)

    def find(self, target: Target, waiter: Waiter, now: float, *, beside: Flow | None = None) -> None:
        """Call `waiter` with a flow to `target`: at once where there is one, else when it has been opened.

        `beside` is the flow of the dialog: over UDP its local address is kept, so that a peer on the other side of a
        NAT sees the address it knows.
        """
        if not target.host:
            waiter(None, now)  # a tel URI in a route: there is nobody to ask
        elif not target.is_address:
            self._wait(target, waiter, ResolveNeeded(target))
        elif target.transport == "udp":
            near = beside.local if beside is not None and beside.transport == "udp" else (target.host, 0)
            local = self.listener("udp", near)
            waiter(None if local is None else Flow("udp", local, (target.host, target.port)), now)
        elif target.transport in ("tcp", "tls"):
            flow = self._by_target.get(target)
            if flow is None and target.transport == "tcp":
                flow = self._by_remote.get(("tcp", (target.host, target.port)))
            if flow is not None:
                waiter(flow, now)
            else:
                self._wait(target, waiter, FlowNeeded(target))
        else:
            waiter(None, now)  # no such transport here

    def _wait(self, target: Target, waiter: Waiter, question: FlowNeeded | ResolveNeeded) -> None:
        waiters = self._waiting.setdefault(target, [])
        waiters.append(waiter)
        if len(waiters) == 1:
            self._ask(question)

    def _tell(self, target: Target, flow: Flow | None, now: float) -> None:
        for waiter in self._waiting.pop(target, []):
            waiter(flow, now)
