"""How we present ourselves to a peer: Via, Contact and User-Agent (RFC 3261 §8.1.1.7-8, §18.1.1; RFC 3581).

All of it depends on the flow: which listener the peer can reach, and what a NAT between us makes of that.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from sipbridge.sip.dialog import wants_sips
from sipbridge.sip.flow import Address, Flow, FlowTable, is_address
from sipbridge.sip.headers import MAGIC_COOKIE, Via, format_host
from sipbridge.sip.message import Request

_WITH_CONTACT = frozenset({"INVITE", "UPDATE", "REFER", "SUBSCRIBE", "NOTIFY"})
_UNSPECIFIED = ("0.0.0.0", "::")
_MAX_SEEN_AS = 1024
"""Peers that told us of a NAT between them and us."""


@dataclass(frozen=True, slots=True)
class Identity:
    """How we present ourselves."""

    product: str = "sipbridge/0.1"
    """User-Agent and Server."""
    user: str | None = "sipbridge"
    """The user part of our Contact."""
    public_address: str | None = None
    """Host for Via and Contact instead of the listener's, behind NAT; not told to peers on a loopback address."""
    wildcard_address: Callable[[Flow], str] | None = None
    """The host to name where the listener is bound to all addresses; the transport knows. None: the loopback one."""


class OwnAddresses:
    def __init__(self, flows: FlowTable, identity: Identity, new_token: Callable[[], str]) -> None:
        self.identity = identity
        self._flows = flows
        self._new_token = new_token
        self._seen_as: dict[tuple[Address, str], Address] = {}

    def address(self, flow: Flow) -> Address:
        """The host and port by which the peer on this flow can reach us: that of the listener, not of a connection."""
        host, port = self._flows.listener(flow.transport, flow.local) or flow.local
        identity = self.identity
        public = identity.public_address
        if public is not None and not ipaddress.ip_address(flow.remote[0]).is_loopback and _same_family(public, flow):
            return public, port
        if host in _UNSPECIFIED:
            host = identity.wildcard_address(flow) if identity.wildcard_address is not None else "127.0.0.1"
        return host, port

    def contact(self, flow: Flow, *, sips: bool = False) -> str:
        """In-dialog requests are to come back by the same transport, and through our NAT if the peer told of one;
        `sips`: the peer is to secure all of the way (§8.1.1.8, §12.1.1)."""
        user = f"{self.identity.user}@" if self.identity.user else ""
        address = self.address(flow)
        if self.identity.public_address is None:
            address = self._seen_as.get((flow.local, flow.remote[0]), address)
        # RFC 7118 §5.2: `ws` stands for both in a URI.
        transport = "ws" if flow.transport == "wss" else flow.transport
        scheme = "sips" if sips and flow.secure else "sip"
        implied = transport == "udp" or (scheme == "sips" and transport == "tls")
        parameter = "" if implied else f";transport={transport}"
        return f"<{scheme}:{user}{format_host(*address)}{parameter}>"

    def address_request(self, request: Request, flow: Flow) -> None:
        """Via with a new branch, and Contact, which depend on the flow. A CANCEL keeps the Via of its INVITE (§9.1)."""
        headers = request.headers
        if request.method in _WITH_CONTACT:
            headers.set("Contact", self.contact(flow, sips=wants_sips(request, request.routes)))
        headers.set("User-Agent", self.identity.product)
        if request.method == "CANCEL":
            return
        branch = f"{MAGIC_COOKIE}{self._new_token()}"
        via = f"SIP/2.0/{flow.transport.upper()} {format_host(*self.address(flow))};rport;branch={branch}"
        if "Via" in headers:
            headers.set("Via", via)
        else:
            headers.prepend("Via", via)

    def learn(self, flow: Flow, via: Via) -> None:
        """Our Via as it came back in a response: how that peer sees us (RFC 3581 §4)."""
        if flow.reliable or via.received is None or via.rport is None or not is_address(via.received):
            return
        key, seen_as = (flow.local, flow.remote[0]), (via.received, via.rport)
        if seen_as == flow.local or seen_as == self.address(flow):
            self._seen_as.pop(key, None)
        elif key in self._seen_as or len(self._seen_as) < _MAX_SEEN_AS:
            self._seen_as[key] = seen_as


def _same_family(host: str, flow: Flow) -> bool:
    """An address of the other family is of no use to that peer; a name may have both."""
    return not is_address(host) or (":" in host) == (":" in flow.remote[0])
