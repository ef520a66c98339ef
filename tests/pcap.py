"""Packet captures as files: what a test's sockets saw, for an analyser; and what was captured of peers, for tests.

Writing them here needs no right to capture, and the times in them are the test's own. Only UDP over IPv4, as raw IP
without a link layer (LINKTYPE_RAW); reading also takes Ethernet and the two pseudo-interfaces of Linux.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

Address = tuple[str, int]

_FILE = struct.Struct("<IHHiIII")
_NANOSECONDS = 0xA1B23C4D
_MICROSECONDS = 0xA1B2C3D4
_RAW = 101
_LINK_HEADERS = {1: 14, _RAW: 0, 113: 16, 228: 0, 276: 20}
_RECORD = struct.Struct("<IIII")
_IP = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")


@dataclass(frozen=True)
class Datagram:
    at: float
    """Seconds, from whenever."""
    source: Address
    target: Address
    data: bytes


def write_pcap(path: Path, datagrams: Iterable[Datagram]) -> Path:
    parts = [_FILE.pack(_NANOSECONDS, 2, 4, 0, 0, 0x40000, _RAW)]
    for number, datagram in enumerate(datagrams):
        packet = _packet(datagram, number & 0xFFFF)
        seconds, nanoseconds = divmod(round(datagram.at * 1e9), 10**9)
        parts.append(_RECORD.pack(seconds, nanoseconds, len(packet), len(packet)) + packet)
    path.write_bytes(b"".join(parts))
    return path


def read_pcap(path: Path) -> list[Datagram]:
    """All UDP datagrams over IPv4 in it that are there as a whole."""
    data = path.read_bytes()
    magic, *_, link = _FILE.unpack_from(data)
    fraction = {_NANOSECONDS: 1e-9, _MICROSECONDS: 1e-6}[magic]
    found, at = [], _FILE.size
    while at < len(data):
        seconds, rest, captured, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        packet = data[at + _LINK_HEADERS[link] : at + captured]
        at += captured
        if captured == length and len(packet) >= 28 and packet[0] >> 4 == 4 and packet[9] == 17:
            found.append(_datagram(packet, seconds + rest * fraction))
    return found


def _packet(datagram: Datagram, number: int) -> bytes:
    hosts = [IPv4Address(host).packed for host, _ in (datagram.source, datagram.target)]
    length = _UDP.size + len(datagram.data)
    udp: bytes = _UDP.pack(datagram.source[1], datagram.target[1], length, 0)  # 0: no checksum
    bare: bytes = _IP.pack(0x45, 0, _IP.size + length, number, 0, 64, 17, 0, *hosts)
    total: int = sum(struct.unpack("!10H", bare))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return bare[:10] + checksum.to_bytes(2) + bare[12:] + udp + datagram.data


def _datagram(packet: bytes, at: float) -> Datagram:
    start = 4 * (packet[0] & 0x0F)
    hosts = [str(IPv4Address(packet[n : n + 4])) for n in (12, 16)]
    source, target, length, _ = _UDP.unpack_from(packet, start)
    return Datagram(at, (hosts[0], source), (hosts[1], target), packet[start + 8 : start + length])
