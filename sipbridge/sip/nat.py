"""Peers behind a NAT: when the address that a peer gives of itself is not the one by which it is reached.

The rule for requests inside a dialog over UDP without a route set. The address in the peer's Contact is passed over in
favour of the source of its last message where it cannot be right:

* its scope is narrower than the source's: 192.168.1.5 that comes from a public address, 127.0.0.1 from anywhere else;
* or the request said itself that it was translated: it came directly (one Via), its Via names the very address that the
  Contact names, and it came from another one.

Otherwise the Contact is right until shown wrong: a proxy that does not stay in the path may well be the source. Only
when nobody answers there is the source tried (`Core.dialog_hops`). A route set is followed in any case.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from functools import lru_cache

from sipbridge.sip.flow import Flow, is_address
from sipbridge.sip.headers import Via
from sipbridge.sip.message import Headers, Request

_SCOPES = [
    (0, ("0.0.0.0/32", "::/128")),
    (1, ("127.0.0.0/8", "::1/128")),
    (2, ("169.254.0.0/16", "fe80::/10")),
    (3, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")),
    (4, ("100.64.0.0/10",)),  # RFC 6598: between a provider's NAT and the subscriber's
]
_NETWORKS = [(scope, ipaddress.ip_network(network)) for scope, networks in _SCOPES for network in networks]
_GLOBAL = 5


@lru_cache(maxsize=4096)
def scope(address: str) -> int:
    """How far an address reaches: from this host only to everywhere."""
    parsed = ipaddress.ip_address(address)
    return next((scope for scope, network in _NETWORKS if parsed in network), _GLOBAL)


def is_hidden(host: str, source: str) -> bool:
    """The host that a peer names cannot be reached from where its messages come from. A name always can, we suppose."""
    return host != source and is_address(host) and scope(host) < scope(source)


def was_translated(request: Request) -> bool:
    """A request whose own Via shows that a NAT was on its way; its Via must have been stamped with `received`."""
    via, contact = request.via, request.contact
    if contact is None or contact.uri.host != via.host or not is_address(via.host):
        return False
    return via.received not in (None, via.host) and len(request.headers.get_list("Via")) == 1


def stamp(headers: Headers, via: Via, flow: Flow) -> None:
    """Note in the top Via where the request really came from (§18.2.1, RFC 3581 §4).

    Also where `rport` was not asked for: the answer goes back to the source in any case, and a peer that reads it
    learns what its NAT made of it.
    """
    host, port = flow.remote
    stamped = str(replace(via, params={**via.params, "received": host, "rport": str(port)}))
    if len(headers.get_all("Via")) == 1 and "," not in (headers.get("Via") or ""):
        headers.set("Via", stamped)
        return
    _, *others = headers.get_list("Via")
    headers.remove("Via")
    for value in reversed([stamped, *others]):
        headers.prepend("Via", value)
