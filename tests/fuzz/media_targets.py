"""The parsers of `sipbridge/media/`."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress

from sipbridge.errors import RtpError, SdpError
from sipbridge.media import sdp
from sipbridge.media.dtmf import KeyReceiver
from sipbridge.media.rtp import JitterEstimator, RtpPacket, SequenceTracker, classify, is_rtcp, is_rtp_or_rtcp
from sipbridge.media.session_description import SessionDescription
from tests.fuzz.corpus import DESCRIPTIONS
from tests.fuzz.engine import Target

LOCAL = sdp.LocalAudio(address="192.0.2.1", port=20_000, codecs=("opus", "G722", "PCMU", "PCMA", "L16"), session_id="1")
_OFFERED = sdp.offer(LOCAL)
_AGREED = sdp.answer(DESCRIPTIONS[0], LOCAL)


def description(data: bytes) -> Hashable:
    """An offer, an offer within a call, an answer: agreed on, or SdpError."""
    outcomes: list[Hashable] = []
    ways: list[Callable[[], sdp.Negotiated]] = [
        lambda: sdp.answer(data, LOCAL),
        lambda: sdp.answer(data, LOCAL, previous=_AGREED),
        lambda: sdp.accept(data, LOCAL, offered=_OFFERED),
    ]
    for negotiate in ways:
        try:
            agreed = negotiate()
        except SdpError as error:
            outcomes.append((error.sip_status, str(error)[:12]))
        else:
            outcomes.append((agreed.codec.name, agreed.direction, agreed.remote is None, agreed.ptime_ms))
            assert agreed.remote is None or 0 < agreed.remote[1] < 65_536
            assert len(agreed.sdp) < 65_536
    with suppress(SdpError):
        once = SessionDescription.parse(data).serialize()
        assert SessionDescription.parse(once).serialize() == once
    return tuple(outcomes)


def rtp(data: bytes) -> Hashable:
    """A packet or RtpError; a packet is serialized to the octets it came from, but for what padding consists of."""
    kind = (classify(data), is_rtcp(data), is_rtp_or_rtcp(data))
    try:
        packet = RtpPacket.parse(data)
    except RtpError as error:
        return kind, str(error)[:12]
    again = packet.serialize()
    assert len(again) == len(data)
    assert RtpPacket.parse(again) == packet
    assert packet.padding or again == data
    return kind, packet.marker, len(packet.csrcs), packet.extension is not None, packet.padding > 0


def rtp_stream(data: bytes) -> Hashable:
    """Sequence numbers and timestamps as a stranger chooses them: the arithmetic of a stream stays within bounds."""
    tracker, jitter = SequenceTracker(), JitterEstimator(8000)
    taken = 0
    for at in range(0, min(len(data) - 5, 600), 6):
        number, timestamp = int.from_bytes(data[at : at + 2]), int.from_bytes(data[at + 2 : at + 6])
        if tracker.update(number) is not None:
            taken += 1
            jitter.update(timestamp, at * 0.01)
    return min(taken, 20)


def telephone_event(data: bytes) -> Hashable:
    """Payloads of any kind: keys, each once, or nothing."""
    receiver = KeyReceiver()
    told = ""
    for at in range(0, min(len(data), 700), 7):
        piece = data[at : at + 7]
        told += receiver.feed(piece[:4], int.from_bytes(piece[4:6]), bool(piece[6:] and piece[6] & 1)) or ""
    assert len(receiver._recent) <= 8
    return min(len(told), 9), told[:1], receiver.ignored > 0


PACKETS = [
    bytes.fromhex("80000001000000a012345678") + bytes(160),
    bytes.fromhex("90e5000200000140123456780001000100aabbcc") + b"\x05\x8a\x03\x20",
    bytes.fromhex("a2880003000001e01234567811111111222222220badf00d") + b"\0\0\0\4",
    bytes.fromhex("80c8000612345678") + bytes(20),
    bytes.fromhex("000100002112a442") + bytes(12),
]
PRESSES = [
    b"\x05\x0a\x00\xa0\x00\x01\x01" + b"\x05\x0a\x01\x40\x00\x01\x00" + b"\x05\x8a\x03\x20\x00\x01\x00" * 3,
    b"\x10\x80\0",
]

MEDIA_TARGETS = [
    Target(
        "sdp",
        description,
        DESCRIPTIONS,
        [b"m=audio 1 RTP/AVP 0\r\n", b"a=rtpmap:", b"a=fmtp:", b"c=IN IP4 ", b"a=sendonly", b"a=inactive", b"a=rtcp:"],
    ),
    Target("rtp", rtp, PACKETS, [b"\x90", b"\xbf", b"\xff\xff"], inputs=6_000),
    Target(
        "rtp_stream", rtp_stream, [bytes(range(240)), b"\0\0\0\0\0\0\0\1\0\0\0\xa0" * 20], [b"\xff\xff"], inputs=1_500
    ),
    Target("telephone_event", telephone_event, PRESSES, [b"\x05\x0a", b"\x8a"]),
]
