"""RTCP packets (RFC 3550 §6): what is in them, and the rules for several in one datagram.

`parse` takes a whole datagram and gives typed packets; `serialize` is its inverse. Sender and receiver reports, SDES
and BYE are read; whatever else there is (APP, feedback of RFC 4585, XR, types not known) is kept as `OtherPacket`, so
that a datagram is not refused for something that nobody has to understand. When reports are sent, and what they mean,
is `rtcp_session.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sipbridge.errors import RtpError

SENDER_REPORT = 200
RECEIVER_REPORT = 201
SOURCE_DESCRIPTION = 202
BYE = 203
CNAME = 1
"""The SDES item that every compound packet has (RFC 3550 §6.5.1)."""

_HEADER = struct.Struct("!BBH")  # V P count | packet type | length in 32-bit words, less one
_WORD = struct.Struct("!I")
_SENDER_INFO = struct.Struct("!QIII")  # NTP timestamp | RTP timestamp | packets | octets
_BLOCK = struct.Struct("!IIIIII")  # SSRC | fraction and lost | extended highest | jitter | LSR | DLSR
_PADDING = 0x20
_MAX_COUNT = 31
_MAX_PACKETS = 32
"""Of one datagram: there are two or three in it. 500 fit, and would take a millisecond."""


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What a receiver says of one source (RFC 3550 §6.4.1)."""

    ssrc: int
    """Of whom it speaks."""
    fraction_lost: int
    """Since the block before, in 1/256."""
    lost: int
    """Cumulative, 24 bits with a sign: negative where there were more duplicates than losses."""
    extended_highest: int
    jitter: int
    """In timestamp units of that source."""
    lsr: int
    """The middle 32 bits of the NTP timestamp of its last sender report; 0: there was none."""
    dlsr: int
    """How long ago that came, in 1/65536 s."""


@dataclass(frozen=True, slots=True)
class SenderReport:
    ssrc: int
    ntp: int
    """64 bits: seconds since 1900 and their fraction."""
    rtp_timestamp: int
    packets: int
    octets: int
    reports: tuple[ReportBlock, ...] = ()
    extension: bytes = b""
    """Profile-specific, whole words."""


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    ssrc: int
    reports: tuple[ReportBlock, ...] = ()
    extension: bytes = b""


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """SDES (§6.5)."""

    chunks: tuple[tuple[int, tuple[tuple[int, bytes], ...]], ...]
    """(SSRC or CSRC, its items as (type, text))."""


@dataclass(frozen=True, slots=True)
class Bye:
    sources: tuple[int, ...]
    reason: bytes = b""
    """UTF-8, at most 255 octets."""


@dataclass(frozen=True, slots=True)
class OtherPacket:
    """A packet that is not looked into."""

    packet_type: int
    count: int
    """The five bits after the padding flag: a subtype, a feedback format or a number."""
    data: bytes
    """All after the first word."""


RtcpPacket: TypeAlias = SenderReport | ReceiverReport | SourceDescription | Bye | OtherPacket


# --- reading --------------------------------------------------------------------------------------


def parse(data: bytes) -> tuple[RtcpPacket, ...]:
    """The packets of one datagram, at least one.

    It is valid as a whole or not at all (RFC 3550 appendix A.2): every packet of version 2, the lengths add up, padding
    only in the last; and there are no more than 32. Where a report does not come first that is a packet of reduced size
    (RFC 5506), which is taken: many that send a BYE or feedback alone have never asked for permission.
    Raises RtpError; no other exception.
    """
    if not data:
        raise RtpError("RTCP packet of no octets")
    packets: list[RtcpPacket] = []
    position, size = 0, len(data)
    while position < size:
        if size - position < 4:
            raise RtpError("RTCP header is cut off")
        first, packet_type, words = _HEADER.unpack_from(data, position)
        start, end = position + 4, position + 4 + 4 * words
        if first >> 6 != 2:
            raise RtpError(f"RTCP version {first >> 6}")
        if end > size:
            raise RtpError("RTCP packet is cut off")
        position = end
        if first & _PADDING:
            end -= _padding(data, start, end, last=end == size)
        packets.append(_packet(packet_type, first & _MAX_COUNT, data[start:end]))
        if len(packets) > _MAX_PACKETS:
            raise RtpError("too many RTCP packets in one datagram")
    return tuple(packets)


def _padding(data: bytes, start: int, end: int, *, last: bool) -> int:
    if not last:
        raise RtpError("RTCP padding before the last packet")
    padding = data[end - 1] if end > start else 0
    if not 0 < padding <= end - start or padding % 4:
        raise RtpError(f"RTCP padding of {padding} octets in {end - start}")
    return padding


def _packet(packet_type: int, count: int, body: bytes) -> RtcpPacket:
    match packet_type:
        case 200:
            return _sender_report(count, body)
        case 201:
            if len(body) < 4:
                raise RtpError("RTCP receiver report is cut off")
            return ReceiverReport(_WORD.unpack_from(body)[0], *_reports(count, body, 4))
        case 202:
            return SourceDescription(_chunks(count, body))
        case 203:
            return _bye(count, body)
        case kind if 192 <= kind <= 223:  # RFC 5761 §4: what can be RTCP and not RTP
            return OtherPacket(kind, count, body)
        case kind:
            raise RtpError(f"RTCP packet type {kind}")


def _sender_report(count: int, body: bytes) -> SenderReport:
    if len(body) < 24:
        raise RtpError("RTCP sender report is cut off")
    ntp, rtp_timestamp, packets, octets = _SENDER_INFO.unpack_from(body, 4)
    reports, extension = _reports(count, body, 24)
    return SenderReport(_WORD.unpack_from(body)[0], ntp, rtp_timestamp, packets, octets, reports, extension)


def _reports(count: int, body: bytes, start: int) -> tuple[tuple[ReportBlock, ...], bytes]:
    end = start + _BLOCK.size * count
    if end > len(body):
        raise RtpError("RTCP report block is cut off")
    return tuple(_block(*fields) for fields in _BLOCK.iter_unpack(body[start:end])), body[end:]


def _block(ssrc: int, loss: int, extended_highest: int, jitter: int, lsr: int, dlsr: int) -> ReportBlock:
    lost = loss & 0xFFFFFF
    return ReportBlock(
        ssrc, loss >> 24, lost - 0x1000000 if lost & 0x800000 else lost, extended_highest, jitter, lsr, dlsr
    )


def _chunks(count: int, body: bytes) -> tuple[tuple[int, tuple[tuple[int, bytes], ...]], ...]:
    chunks = []
    position = 0
    for _ in range(count):
        if position + 4 > len(body):
            raise RtpError("SDES chunk is cut off")
        (ssrc,) = _WORD.unpack_from(body, position)
        items, position = _items(body, position + 4)
        chunks.append((ssrc, items))
    return tuple(chunks)


def _items(body: bytes, position: int) -> tuple[tuple[tuple[int, bytes], ...], int]:
    """The items of a chunk, and where the next one begins: a null octet ends the list, others fill the word."""
    items = []
    while position < len(body) and body[position]:
        if position + 2 > len(body) or (end := position + 2 + body[position + 1]) > len(body):
            raise RtpError("SDES item is cut off")
        items.append((body[position], bytes(body[position + 2 : end])))
        position = end
    # Some leave out the null where the last item ends with its word: then the packet ends there, too.
    return tuple(items), min((position // 4 + 1) * 4, len(body))


def _bye(count: int, body: bytes) -> Bye:
    size = 4 * count
    if size > len(body):
        raise RtpError("RTCP BYE is cut off")
    reason = b""
    if len(body) > size:
        end = size + 1 + body[size]
        if end > len(body):
            raise RtpError("reason of an RTCP BYE is cut off")
        reason = bytes(body[size + 1 : end])
    return Bye(struct.unpack_from(f"!{count}I", body), reason)


# --- writing --------------------------------------------------------------------------------------


def serialize(packets: Sequence[RtcpPacket]) -> bytes:
    """One datagram. Raises RtpError where a field does not fit its place."""
    try:
        return b"".join(_serialize(packet) for packet in packets)
    except struct.error as error:
        raise RtpError(f"RTCP field out of range: {error}") from None


def _serialize(packet: RtcpPacket) -> bytes:
    match packet:
        case SenderReport():
            info = _SENDER_INFO.pack(packet.ntp, packet.rtp_timestamp, packet.packets, packet.octets)
            body = _WORD.pack(packet.ssrc) + info + _blocks(packet.reports) + packet.extension
            return _framed(SENDER_REPORT, len(packet.reports), body)
        case ReceiverReport():
            body = _WORD.pack(packet.ssrc) + _blocks(packet.reports) + packet.extension
            return _framed(RECEIVER_REPORT, len(packet.reports), body)
        case SourceDescription():
            body = b"".join(_chunk(ssrc, items) for ssrc, items in packet.chunks)
            return _framed(SOURCE_DESCRIPTION, len(packet.chunks), body)
        case Bye():
            body = struct.pack(f"!{len(packet.sources)}I", *packet.sources)
            if packet.reason:
                body += _to_words(_octet(len(packet.reason)) + packet.reason)
            return _framed(BYE, len(packet.sources), body)
        case OtherPacket():
            return _framed(packet.packet_type, packet.count, packet.data)


def _framed(packet_type: int, count: int, body: bytes) -> bytes:
    if not 0 <= count <= _MAX_COUNT or len(body) % 4:
        raise RtpError(f"RTCP packet with a count of {count} and {len(body)} octets")
    return _HEADER.pack(0x80 | count, packet_type, len(body) // 4) + body


def _blocks(reports: Sequence[ReportBlock]) -> bytes:
    return b"".join(_serialize_block(block) for block in reports)


def _serialize_block(block: ReportBlock) -> bytes:
    if not (0 <= block.fraction_lost <= 255 and -0x800000 <= block.lost <= 0x7FFFFF):
        raise RtpError(f"RTCP report of {block.fraction_lost}/256 and {block.lost} lost")
    loss = block.fraction_lost << 24 | block.lost & 0xFFFFFF
    return _BLOCK.pack(block.ssrc, loss, block.extended_highest, block.jitter, block.lsr, block.dlsr)


def _chunk(ssrc: int, items: Sequence[tuple[int, bytes]]) -> bytes:
    if not all(0 < kind <= 255 for kind, _ in items):
        raise RtpError("SDES item without a type")
    text = b"".join(_octet(kind) + _octet(len(value)) + value for kind, value in items)
    return _WORD.pack(ssrc) + _to_words(text + b"\0")


def _octet(value: int) -> bytes:
    return struct.pack("!B", value)


def _to_words(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
