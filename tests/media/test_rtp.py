"""RTP packets, sequence numbers and jitter (RFC 3550)."""

from __future__ import annotations

import struct
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipbridge.errors import RtpError
from sipbridge.media.rtp import (
    HeaderExtension,
    JitterEstimator,
    Kind,
    RtpPacket,
    Sequencer,
    SequenceTracker,
    classify,
    is_rtcp,
    is_rtp_or_rtcp,
    parse_header,
    timestamp_difference,
)

HEADER = struct.pack("!BBHII", 0x80, 0, 1, 160, 0xDECAFBAD)

PACKETS = st.builds(
    RtpPacket,
    payload_type=st.integers(0, 127),
    sequence_number=st.integers(0, 0xFFFF),
    timestamp=st.integers(0, 0xFFFFFFFF),
    ssrc=st.integers(0, 0xFFFFFFFF),
    payload=st.binary(max_size=40),
    marker=st.booleans(),
    csrcs=st.lists(st.integers(0, 0xFFFFFFFF), max_size=15).map(tuple),
    extension=st.none()
    | st.builds(
        HeaderExtension,
        st.integers(0, 0xFFFF),
        st.lists(st.binary(min_size=4, max_size=4), max_size=4).map(b"".join),
    ),
    padding=st.sampled_from([0, 1, 4, 255]),
)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(PACKETS)
def test_parse_and_serialize_are_inverse(packet: RtpPacket) -> None:
    data = packet.serialize()
    assert RtpPacket.parse(data) == packet
    payload_type, marker, sequence_number, timestamp, ssrc, start, end = parse_header(data)
    assert (payload_type, marker, sequence_number) == (packet.payload_type, packet.marker, packet.sequence_number)
    assert (timestamp, ssrc, data[start:end]) == (packet.timestamp, packet.ssrc, packet.payload)


@settings(derandomize=True, max_examples=500, deadline=None)
@given(st.binary(max_size=40) | st.binary(max_size=30).map(lambda tail: b"\xbf" + tail))
def test_any_bytes_are_a_packet_or_an_rtp_error(data: bytes) -> None:
    try:
        packet = RtpPacket.parse(data)
    except RtpError:
        with pytest.raises(RtpError):
            parse_header(data)
        return
    again = packet.serialize()
    assert RtpPacket.parse(again) == packet
    assert again[:2] == data[:2]
    assert len(again) == len(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "octets"),
        (HEADER[:-1], "octets"),
        (b"\x40" + HEADER[1:], "version 1"),
        (b"\x00" + HEADER[1:], "version 0"),
        (b"\xc0" + HEADER[1:], "version 3"),
        (b"\x82" + HEADER[1:] + bytes(7), "header is cut off"),
        (b"\x90" + HEADER[1:] + bytes(3), "extension is cut off"),
        (b"\x90" + HEADER[1:] + b"\xbe\xde\x00\x02" + bytes(4), "header is cut off"),
        (b"\x90" + HEADER[1:] + b"\xbe\xde\xff\xff" + bytes(4), "header is cut off"),
        (b"\xa0" + HEADER[1:], "padding"),
        (b"\xa0" + HEADER[1:] + b"\x00", "padding of 0"),
        (b"\xa0" + HEADER[1:] + b"\x00\x03", "padding of 3"),
        (b"\xa1" + HEADER[1:] + bytes(3) + b"\x04", "padding of 4 octets in 0"),
    ],
)
def test_broken_packets_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(RtpError, match=why):
        RtpPacket.parse(data)


def test_padding_may_fill_the_packet() -> None:
    packet = RtpPacket.parse(b"\xa0" + HEADER[1:] + b"\x00\x00\x00\x04")
    assert packet.payload == b""
    assert packet.padding == 4


@pytest.mark.parametrize(
    "packet",
    [
        RtpPacket(128, 0, 0, 0),
        RtpPacket(0, 0x10000, 0, 0),
        RtpPacket(0, 0, -1, 0),
        RtpPacket(0, 0, 0, 1 << 32),
        RtpPacket(0, 0, 0, 0, padding=256),
        RtpPacket(0, 0, 0, 0, csrcs=(0,) * 16),
        RtpPacket(0, 0, 0, 0, csrcs=(1 << 32,)),
        RtpPacket(0, 0, 0, 0, extension=HeaderExtension(0, b"abc")),
        RtpPacket(0, 0, 0, 0, extension=HeaderExtension(0x10000, b"")),
    ],
)
def test_fields_that_do_not_fit_are_not_sent(packet: RtpPacket) -> None:
    with pytest.raises(RtpError):
        packet.serialize()


def test_packets_agree_with_another_implementation() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = pytest.importorskip("aiortc.rtp")
    for payload_type, marker, csrcs, padding in [(0, 0, (), 0), (8, 1, (1, 0xFFFFFFFF), 0), (101, 1, (7,), 9)]:
        packet = RtpPacket(payload_type, 65535, 0xFFFFFF00, 0x80000001, b"\xd5" * 20, bool(marker), csrcs)
        packet = RtpPacket.parse(packet.serialize())
        theirs = other.RtpPacket(
            payload_type=payload_type,
            marker=marker,
            sequence_number=65535,
            timestamp=0xFFFFFF00,
            ssrc=0x80000001,
            payload=b"\xd5" * 20,
        )
        theirs.csrc = list(csrcs)
        assert theirs.serialize() == packet.serialize()
        padded = RtpPacket(payload_type, 65535, 5, 6, b"\xd5" * 20, bool(marker), csrcs, padding=padding).serialize()
        read = other.RtpPacket.parse(padded)
        assert (read.payload, read.padding_size, tuple(read.csrc)) == (b"\xd5" * 20, padding, csrcs)
        assert (read.payload_type, read.marker, read.timestamp, read.ssrc) == (payload_type, marker, 5, 6)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", Kind.UNKNOWN),
        (b"\x80", Kind.UNKNOWN),
        (b"\x00\x01" + bytes(18), Kind.STUN),
        (b"\x03\x01", Kind.STUN),
        (b"\x04\x01", Kind.UNKNOWN),
        (b"\x13\x01", Kind.UNKNOWN),  # ZRTP
        (b"\x14\xfe", Kind.DTLS),
        (b"\x3f\xfe", Kind.DTLS),
        (b"\x40\x00", Kind.UNKNOWN),  # TURN channel
        (b"\x7f\x00", Kind.UNKNOWN),
        (b"\x80\x00", Kind.RTP),
        (b"\xbf\x00", Kind.RTP),
        (b"\xc0\x00", Kind.UNKNOWN),
        (b"\x80\xbf", Kind.RTP),  # marker with payload type 63
        (b"\x81\xc8", Kind.RTCP),  # sender report
        (b"\x80\xdf", Kind.RTCP),
        (b"\x80\xe0", Kind.RTP),  # marker with payload type 96
        (b"\x80\x48", Kind.RTP),  # payload type 72 without marker: not ambiguous
    ],
)
def test_datagrams_are_told_apart_by_their_first_octets(data: bytes, kind: Kind) -> None:
    assert classify(data) is kind
    assert is_rtp_or_rtcp(data) == (kind in (Kind.RTP, Kind.RTCP))
    assert (is_rtp_or_rtcp(data) and is_rtcp(data)) == (kind is Kind.RTCP)


def test_sequencer_numbers_packets_across_both_wraps() -> None:
    sequencer = Sequencer(ssrc=7, sequence_number=0xFFFF, timestamp=0xFFFFFFFF - 159)
    first = RtpPacket.parse(sequencer.packet(0, b"a" * 160, 160, marker=True))
    second = RtpPacket.parse(sequencer.packet(0, b"b" * 160, 160))
    assert first == RtpPacket(0, 0xFFFF, 0xFFFFFF60, 7, b"a" * 160, marker=True)
    assert second == RtpPacket(0, 0, 0, 7, b"b" * 160)


def test_telephone_events_take_numbers_but_no_stream_time() -> None:
    sequencer = Sequencer(ssrc=7, sequence_number=10, timestamp=1000)
    begin = sequencer.timestamp
    for _ in range(3):
        assert RtpPacket.parse(sequencer.packet_at(begin, 101, b"\1\0\0\0")).timestamp == 1000
        sequencer.skip(160)
    after = RtpPacket.parse(sequencer.packet(0, b"", 160))
    assert (after.sequence_number, after.timestamp) == (13, 1480)


def test_timestamps_are_compared_across_the_wrap() -> None:
    assert timestamp_difference(80, 0xFFFFFFFF - 79) == 160
    assert timestamp_difference(0xFFFFFFFF - 79, 80) == -160


# RFC 3550 A.1: what comes in, the extended numbers, (received, expected, restarts).
SEQUENCES = {
    "in order": ([7, 8, 9], [7, 8, 9], (3, 3, 0)),
    "loss": ([7, 9, 12], [7, 9, 12], (3, 6, 0)),
    "wrap": ([65534, 65535, 0, 1], [65534, 65535, 65536, 65537], (4, 4, 0)),
    "loss over the wrap": ([65530, 3], [65530, 65539], (2, 10, 0)),
    "late": ([7, 9, 8], [7, 9, 8], (3, 3, 0)),
    "late over the wrap": ([65534, 0, 65535, 1], [65534, 65536, 65535, 65537], (4, 4, 0)),
    "late before the first": ([7, 6], [7, 6], (2, 1, 0)),
    "late before the first over the wrap": ([0, 65535], [0, -1], (2, 1, 0)),
    "duplicate": ([7, 7, 8, 8], [7, 7, 8, 8], (4, 2, 0)),
    "largest dropout": ([7, 7 + 2999], [7, 7 + 2999], (2, 3000, 0)),
    "a lone jump": ([7, 8, 30000, 9], [7, 8, None, 9], (3, 3, 0)),
    "two jumps out of sequence": ([7, 30000, 20000, 8], [7, None, None, 8], (2, 2, 0)),
    "restart": ([7, 8, 30000, 30001, 30002], [7, 8, None, 30001, 30002], (2, 2, 1)),
    "restart at zero": ([30000, 30001, 0, 1], [30000, 30001, None, 1], (1, 1, 1)),
    "restart over the wrap": ([30000, 65535, 0, 1], [30000, None, 0, 1], (2, 2, 1)),
    "farthest late": ([1000, 901], [1000, 901], (2, 1, 0)),
    "too late": ([1000, 899], [1000, None], (1, 1, 0)),
}


@pytest.mark.parametrize("case", SEQUENCES)
def test_extended_sequence_numbers(case: str) -> None:
    numbers, extended, counters = SEQUENCES[case]
    tracker = SequenceTracker()
    assert [tracker.update(number) for number in numbers] == extended
    assert (tracker.received, tracker.expected, tracker.restarts) == counters


@pytest.mark.parametrize(
    ("numbers", "extended"),
    [
        ([7, 8, 9], [None, 8, 9]),
        ([7, 9, 10, 11], [None, None, 10, 11]),
        ([65535, 0, 1], [None, 0, 1]),
        ([7, 7, 8], [None, None, 8]),
    ],
)
def test_a_source_on_probation_must_send_in_sequence(numbers: list[int], extended: list[int | None]) -> None:
    tracker = SequenceTracker(min_sequential=2)
    assert [tracker.update(number) for number in numbers] == extended
    assert tracker.lost == 0


def test_loss_per_report_and_in_all() -> None:
    tracker = SequenceTracker()
    assert (tracker.expected, tracker.lost, tracker.fraction_lost()) == (0, 0, 0)
    for number in (1, 2, 3, 5):
        tracker.update(number)
    assert tracker.lost == 1
    assert tracker.fraction_lost() == 256 // 5
    for number in (6, 7):
        tracker.update(number)
    assert tracker.fraction_lost() == 0
    tracker.update(7)
    assert tracker.fraction_lost() == 0
    assert tracker.lost == 0  # a duplicate hides a loss: the RFC's arithmetic
    assert tracker.extended_highest == 7


def test_steady_arrival_has_no_jitter() -> None:
    jitter = JitterEstimator(8000)
    for index in range(50):
        jitter.update((0xFFFFFF00 + index * 160) & 0xFFFFFFFF, 3.0 + index * 0.02)
    assert jitter.jitter <= 1
    assert jitter.jitter_ms < 0.2


def test_jitter_approaches_the_mean_deviation() -> None:
    jitter = JitterEstimator(8000)
    for index in range(200):
        jitter.update(index * 160, index * 0.02 + (0.005 if index % 2 else 0.0))
    assert jitter.jitter_ms == pytest.approx(5.0, abs=0.2)


def test_early_is_measured_against_the_average_and_forgotten_at_a_new_beginning() -> None:
    jitter = JitterEstimator(8000)
    for index in range(200):
        jitter.update(index * 160, index * 0.02 + (0.03 if index % 2 else 0.0))
    assert jitter.early == pytest.approx(-120, abs=10)  # the last came 15 ms later than the average
    jitter.update(200 * 160, 4.0)
    assert jitter.early == pytest.approx(120, abs=10)
    jitter.update(4_000_000_000, 4.02)
    assert jitter.early == 0
    for index in range(400):  # a network that has become slower is the usual after a while
        jitter.update(index * 160, 5.1 + index * 0.02)
    assert jitter.early == pytest.approx(0, abs=1)


def test_first_step_of_the_jitter_is_a_sixteenth() -> None:
    jitter = JitterEstimator(8000)
    jitter.update(0, 0.0)
    jitter.update(160, 0.04)
    assert jitter.jitter == 10
    jitter.restart()
    jitter.update(5_000_000, 0.06)
    assert jitter.jitter == 10
