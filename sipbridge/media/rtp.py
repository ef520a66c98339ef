"""RTP packets and the arithmetic on their sequence numbers and timestamps (RFC 3550).

`RtpPacket` is the readable form: `parse` and `serialize` are inverse. The live path, a hundred packets a second and
leg, uses `parse_header` and `Sequencer`, which make no object per packet. Counters for receiver reports are in
`SequenceTracker` and `JitterEstimator`; RTCP packets are in `rtcp.py`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from sipbridge.errors import RtpError

HEADER_SIZE = 12
MAX_DATAGRAM = 2048
"""What is longer is nothing that was agreed on: 60 ms of L16 at 16 kHz are 1,920 octets."""
_HEADER = struct.Struct("!BBHII")  # V P X CC | M PT | sequence number | timestamp | SSRC
_EXTENSION = struct.Struct("!HH")  # defined by profile | length in 32-bit words
_VERSION = 0x80
_PADDING = 0x20
_HAS_EXTENSION = 0x10
_MARKER = 0x80

RtpHeader: TypeAlias = tuple[int, bool, int, int, int, int, int]
"""(payload type, marker, sequence number, timestamp, SSRC, start of the payload, end of the payload)."""


class Kind(Enum):
    """What a datagram on a media port is, by its first octets (RFC 7983 §7, RFC 5761 §4)."""

    STUN = auto()
    DTLS = auto()
    RTP = auto()
    RTCP = auto()
    UNKNOWN = auto()


def is_rtp_or_rtcp(data: bytes) -> bool:
    """RFC 7983 §7: the first octet is 128 to 191. Says nothing about the rest of the packet."""
    return len(data) > 1 and 128 <= data[0] <= 191


def is_rtcp(data: bytes) -> bool:
    """Of a packet that `is_rtp_or_rtcp`: RTCP packet types are 192 to 223 (RFC 5761 §4)."""
    return len(data) > 1 and 192 <= data[1] <= 223


def classify(data: bytes) -> Kind:
    if is_rtp_or_rtcp(data):
        return Kind.RTCP if is_rtcp(data) else Kind.RTP
    first = data[0] if data else 255
    if first <= 3:
        return Kind.STUN
    return Kind.DTLS if 20 <= first <= 63 else Kind.UNKNOWN


def parse_header(data: bytes) -> RtpHeader:
    """The fields of an RTP packet and where its payload lies, CSRCs, extension and padding left out.

    Raises RtpError for whatever is no valid RTP packet; no other exception.
    """
    if len(data) < HEADER_SIZE:
        raise RtpError(f"RTP packet of {len(data)} octets")
    first, second, sequence_number, timestamp, ssrc = _HEADER.unpack_from(data)
    if first == _VERSION:  # no padding, no extension, no CSRC: nearly every packet there is
        return second & 0x7F, second > 127, sequence_number, timestamp, ssrc, HEADER_SIZE, len(data)
    start, end = _payload_bounds(data, first)
    return second & 0x7F, second > 127, sequence_number, timestamp, ssrc, start, end


def _payload_bounds(data: bytes, first: int) -> tuple[int, int]:
    if first >> 6 != 2:
        raise RtpError(f"RTP version {first >> 6}")
    start = HEADER_SIZE + 4 * (first & 0x0F)
    end = len(data)
    if first & _HAS_EXTENSION:
        if start + 4 > end:
            raise RtpError("RTP header extension is cut off")
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4])
    if start > end:
        raise RtpError("RTP header is cut off")
    if first & _PADDING:
        padding = data[end - 1]
        if not 0 < padding <= end - start:
            raise RtpError(f"RTP padding of {padding} octets in {end - start}")
        end -= padding
    return start, end


@dataclass(frozen=True, slots=True)
class HeaderExtension:
    """RFC 3550 §5.3.1. `data` is whole 32-bit words; its elements (RFC 8285) are not looked into."""

    profile: int
    data: bytes


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """RFC 3550 §5.1."""

    payload_type: int
    sequence_number: int
    timestamp: int
    ssrc: int
    payload: bytes = b""
    marker: bool = False
    csrcs: tuple[int, ...] = ()
    extension: HeaderExtension | None = None
    padding: int = 0
    """Octets of padding after the payload, the count octet included; 0 for none."""

    @classmethod
    def parse(cls, data: bytes) -> RtpPacket:
        """Raises RtpError for whatever is no valid RTP packet; no other exception."""
        payload_type, marker, sequence_number, timestamp, ssrc, start, end = parse_header(data)
        position = HEADER_SIZE + 4 * (data[0] & 0x0F)
        csrcs = struct.unpack_from(f"!{data[0] & 0x0F}I", data, HEADER_SIZE)
        extension = None
        if data[0] & _HAS_EXTENSION:
            (profile, _) = _EXTENSION.unpack_from(data, position)
            extension = HeaderExtension(profile, bytes(data[position + 4 : start]))
        return cls(
            payload_type=payload_type,
            sequence_number=sequence_number,
            timestamp=timestamp,
            ssrc=ssrc,
            payload=bytes(data[start:end]),
            marker=marker,
            csrcs=csrcs,
            extension=extension,
            padding=len(data) - end,
        )

    def serialize(self) -> bytes:
        """Raises RtpError where a field does not fit its place in the packet."""
        if not 0 <= self.payload_type <= 127 or len(self.csrcs) > 15 or not 0 <= self.padding <= 255:
            raise RtpError("payload type, number of CSRCs or padding out of range")
        second = self.payload_type | (_MARKER if self.marker else 0)
        first = _VERSION | len(self.csrcs)
        extension = padding = b""
        try:
            if self.extension is not None:
                first |= _HAS_EXTENSION
                words, rest = divmod(len(self.extension.data), 4)
                if rest:
                    raise RtpError(f"RTP header extension of {len(self.extension.data)} octets")
                extension = _EXTENSION.pack(self.extension.profile, words) + self.extension.data
            if self.padding:
                first |= _PADDING
                padding = bytes(self.padding - 1) + bytes((self.padding,))
            header = _HEADER.pack(first, second, self.sequence_number, self.timestamp, self.ssrc)
            csrcs = struct.pack(f"!{len(self.csrcs)}I", *self.csrcs)
        except struct.error as error:
            raise RtpError(f"RTP field out of range: {error}") from None
        return header + csrcs + extension + self.payload + padding


class Sequencer:
    """Numbers the packets of one outgoing stream. The start values are given, so that tests know them.

    In life begin below 32768: an SRTP receiver guesses the rollover counter from the first number that it sees, and a
    stream that loses its first packets just before a wrap could not be decrypted (RFC 3711 §3.3.1).
    """

    __slots__ = ("sequence_number", "ssrc", "timestamp")

    def __init__(self, ssrc: int, sequence_number: int, timestamp: int) -> None:
        self.ssrc = ssrc & 0xFFFFFFFF
        self.sequence_number = sequence_number & 0xFFFF
        """Of the next packet."""
        self.timestamp = timestamp & 0xFFFFFFFF
        """Of the next packet of audio."""

    def packet(self, payload_type: int, payload: bytes, ticks: int, marker: bool = False) -> bytes:
        """The next packet, ready to send; `ticks` is its duration in units of the clock rate."""
        data = self.packet_at(self.timestamp, payload_type, payload, marker)
        self.timestamp = (self.timestamp + ticks) & 0xFFFFFFFF
        return data

    def packet_at(self, timestamp: int, payload_type: int, payload: bytes, marker: bool = False) -> bytes:
        """The next packet, with a timestamp of its own as telephone events need; stream time stays: see `skip`."""
        sequence_number = self.sequence_number
        self.sequence_number = (sequence_number + 1) & 0xFFFF
        second = payload_type | _MARKER if marker else payload_type
        return _HEADER.pack(_VERSION, second, sequence_number, timestamp, self.ssrc) + payload

    def renew(self) -> None:
        """Go on as another source, numbered from the lower half again: what a new SRTP key wants. Time goes on."""
        self.ssrc = (self.ssrc + 1) & 0xFFFFFFFF
        self.sequence_number &= 0x7FFF

    def skip(self, ticks: int) -> None:
        """Stream time that passes without audio packets (hold, telephone events)."""
        self.timestamp = (self.timestamp + ticks) & 0xFFFFFFFF


def timestamp_difference(later: int, earlier: int) -> int:
    """`later - earlier` of two 32-bit timestamps: right across the wrap."""
    return ((later - earlier + 0x80000000) & 0xFFFFFFFF) - 0x80000000


class SequenceTracker:
    """Extended sequence numbers and loss of one source (RFC 3550 appendix A.1 and A.3)."""

    MAX_DROPOUT = 3000
    MAX_MISORDER = 100
    __slots__ = (
        "_bad",
        "_base",
        "_cycles",
        "_expected_prior",
        "_max",
        "_min_sequential",
        "_probation",
        "_received_prior",
        "received",
        "restarts",
    )

    def __init__(self, *, min_sequential: int = 0) -> None:
        """`min_sequential` packets in sequence make a source valid (A.1 suggests 2); 0 and 1: the first one does."""
        self._min_sequential = min_sequential
        self._probation = min_sequential
        self._max: int | None = None  # highest 16-bit number; None before the first packet
        self._cycles = 0  # shifted: 65536 for each wrap
        self._base = 0
        self._bad: int | None = None  # where a restart would go on
        self._expected_prior = 0
        self._received_prior = 0
        self.received = 0
        """Packets counted since the source became valid, duplicates and late ones included."""
        self.restarts = 0
        """How often the source began a new numbering; counters start anew then."""

    def update(self, sequence_number: int) -> int | None:
        """The extended sequence number; None while on probation and for a lone jump, which is not to be used."""
        highest = self._max
        if highest is not None and sequence_number == highest + 1 and not self._probation:  # nearly always
            self._max = sequence_number
            self.received += 1
            return self._cycles + sequence_number
        if highest is None:
            self._start(sequence_number)
            self._probation = self._min_sequential
            if self._probation > 1:
                self._probation -= 1
                return None
            self._probation = 0
            self.received = 1
            return sequence_number
        if self._probation:
            return self._on_probation(sequence_number, highest)
        delta = (sequence_number - highest) & 0xFFFF
        if delta < self.MAX_DROPOUT:
            if sequence_number < highest:
                self._cycles += 0x10000
            self._max = sequence_number
        elif delta <= 0x10000 - self.MAX_MISORDER:
            if sequence_number != self._bad:
                self._bad = (sequence_number + 1) & 0xFFFF
                return None
            self._start(sequence_number)  # two in sequence: the other side restarted without telling
            self.restarts += 1
        elif sequence_number > highest:  # late, from before the wrap
            self.received += 1
            return self._cycles - 0x10000 + sequence_number
        self.received += 1
        return self._cycles + sequence_number

    def _on_probation(self, sequence_number: int, highest: int) -> int | None:
        if sequence_number != (highest + 1) & 0xFFFF:
            self._probation = self._min_sequential - 1
            self._max = sequence_number
            return None
        self._probation -= 1
        self._max = sequence_number
        if self._probation:
            return None
        self._start(sequence_number)
        self.received = 1
        return sequence_number

    def _start(self, sequence_number: int) -> None:
        self._base = self._max = sequence_number
        self._bad = None
        self._cycles = 0
        self.received = self._received_prior = self._expected_prior = 0

    @property
    def extended_highest(self) -> int:
        return self._cycles + (self._max or 0)

    @property
    def expected(self) -> int:
        return 0 if self._max is None or self._probation else self.extended_highest - self._base + 1

    @property
    def lost(self) -> int:
        """Cumulative, as in a report block: negative where duplicates outnumber losses (A.3)."""
        return self.expected - self.received

    def fraction_lost(self) -> int:
        """Eight-bit fixed point since the last call (A.3): take it once per report."""
        expected = self.expected - self._expected_prior
        lost = expected - (self.received - self._received_prior)
        self._expected_prior = self.expected
        self._received_prior = self.received
        return (lost << 8) // expected if expected > 0 and lost > 0 else 0


_MEMORY = 1 - 1 / 50  # of the average transit time: about a second


class JitterEstimator:
    """Interarrival jitter of one source (RFC 3550 §6.4.1, appendix A.8)."""

    __slots__ = ("_clock_rate", "_jitter", "_transit", "early")

    def __init__(self, clock_rate: int) -> None:
        self._clock_rate = clock_rate
        self._transit: int | None = None
        self._jitter = 0.0
        self.early = 0.0
        """By how many ticks the last packet came sooner than those before it, on average; negative: later."""

    def update(self, timestamp: int, arrival: float) -> None:
        """`arrival` in seconds on any steady clock. Leave out telephone events: their timestamp stands still."""
        transit = (int(arrival * self._clock_rate) - timestamp) & 0xFFFFFFFF
        if self._transit is not None:
            difference = timestamp_difference(transit, self._transit)
            self._jitter += (abs(difference) - self._jitter) / 16
            early = (self.early - difference) * _MEMORY
            self.early = early if -self._clock_rate < early < self._clock_rate else 0.0  # else a new beginning
        self._transit = transit

    def restart(self) -> None:
        """The source began a new timestamp base: the next packet is compared with nothing."""
        self._transit = None

    @property
    def jitter(self) -> int:
        """In timestamp units, as in a report block."""
        return int(self._jitter)

    @property
    def jitter_ms(self) -> float:
        return self._jitter * 1000 / self._clock_rate
