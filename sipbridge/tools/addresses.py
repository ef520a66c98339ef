"""Which addresses a tool may ask: those of the public internet, unless its operator says otherwise."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

_UNICAST = IPv6Network("2000::/3")
"""All that IANA has given out for use on the internet; what is in no registry yet is nobody's."""
_DOCUMENTATION = IPv6Network("3fff::/20")  # RFC 9637, which Python's tables have from 3.13 on
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052 §2.1


def is_public(address: Address) -> bool:
    """Globally reachable by IANA's registries (RFC 6890), and so is the IPv4 address within, where there is one."""
    if isinstance(address, IPv6Address):
        if address.teredo is not None:
            return False
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address not in _UNICAST or address in _DOCUMENTATION:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


async def resolve(host: str, port: int) -> tuple[Address, ...]:
    """The addresses that a name has now, each once. Raises `OSError`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found))
