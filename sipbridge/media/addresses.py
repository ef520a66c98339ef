"""Addresses of datagrams, and what SDP says of them: where the other side's RTP and RTCP go. Nothing is looked up here:
that would wait, and be a stranger's choice."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import NamedTuple, TypeAlias

from sipbridge.media.session_description import MediaDescription, SessionDescription, number

Address: TypeAlias = tuple[str, int]
"""A numeric host and a port, as sockets have them."""

_INSIDE: tuple[IPv4Network | IPv6Network, ...] = (
    *map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16")),
    *map(IPv6Network, ("fc00::/7", "fe80::/10")),
)


class Remote(NamedTuple):
    """What SDP names; None for what nothing can be sent to."""

    rtp: Address | None
    rtcp: Address | None


def remote_of(theirs: SessionDescription, media: MediaDescription, local_address: str) -> Remote:
    """Where their RTP and RTCP go: the next port, if a=rtcp (RFC 3605) says nothing else."""
    host = _numeric(theirs.address(media) or "")
    if host is None:
        return Remote(None, None)
    rtcp_host, rtcp_port = _sendable(host, local_address), media.port + 1 if media.port < 65535 else 0
    fields = (media.attribute("rtcp") or "").split()
    if fields and (port := number(fields[0], 65535)):
        rtcp_port = port
        if len(fields) == 4:
            rtcp_host = _sendable(_numeric(fields[3]), local_address)
    return Remote(
        rtp=(host, media.port) if _sendable(host, local_address) else None,
        rtcp=(rtcp_host, rtcp_port) if rtcp_host and rtcp_port else None,
    )


def _numeric(text: str) -> str | None:
    """An address, spelled as sockets do it: IPv6 has many ways. None for anything else."""
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def _sendable(host: str | None, local_address: str) -> str | None:
    """A stranger's word must not make us flood a group or a network, and one socket speaks one family."""
    if host is None or "%" in host:
        return None
    address = ip_address(host)
    if address.is_unspecified or address.is_multicast or host == "255.255.255.255":
        return None
    return host if (address.version == 6) == (":" in local_address) else None


def usable(address: Address | None) -> Address | None:
    """As datagrams from there have it; None for what nothing can be sent to, such as 0.0.0.0 or a host name."""
    if address is None:
        return None
    host, port = address
    numeric = _numeric(host)
    return None if numeric is None or ip_address(numeric).is_unspecified or not port else (numeric, port)


def is_inside(host: str) -> bool:
    """An address of somebody's own network, which is nobody's outside."""
    try:
        address = ip_address(host)
    except ValueError:  # our own public address may be a name
        return False
    return any(address in network for network in _INSIDE)
