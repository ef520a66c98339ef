"""The parsers of `sipbridge/media/`."""

from __future__ import annotations

import base64
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from sipbridge.errors import RtpError, SdpError
from sipbridge.media import sdp
from sipbridge.media.dtmf import KeyReceiver
from sipbridge.media.keying import Fingerprint, LocalSecurity
from sipbridge.media.rtp import JitterEstimator, RtpPacket, SequenceTracker, classify, is_rtcp, is_rtp_or_rtcp
from sipbridge.media.sdes import own_key
from sipbridge.media.session_description import SessionDescription
from sipbridge.media.srtp import SUITES
from tests.fuzz.corpus import DESCRIPTIONS
from tests.fuzz.engine import Target
from tests.media.test_captured import FILES, Capture

LOCAL = sdp.LocalAudio(address="192.0.2.1", port=20_000, codecs=("opus", "G722", "PCMU", "PCMA", "L16"), session_id="1")
_AGREED = sdp.answer(DESCRIPTIONS[0], LOCAL)
_KEYS = LocalSecurity("optional", b"\x01" * 32, Fingerprint("sha-256", b"\x02" * 32), "try_sdes")
_ALL = replace(LOCAL, codecs=("opus", "G722", "L16", "PCMA"), security=_KEYS)
_SECRET = {base64.b64encode(own_key(_KEYS.secret, suite).octets) for suite in SUITES.values()}


def description(local: sdp.LocalAudio, data: bytes) -> Hashable:
    """An offer, an offer within a call, an answer: agreed on, or SdpError."""
    outcomes: list[Hashable] = []
    ways: list[Callable[[], sdp.Negotiated]] = [
        lambda: sdp.answer(data, local),
        lambda: sdp.answer(data, local, previous=_AGREED),
        lambda: sdp.accept(data, local, offered=sdp.offer(local)),
    ]
    if local is _ALL:
        for offers in ("sdes", "dtls"):
            ours = replace(local, security=replace(_KEYS, policy="required", offers=offers))
            ways.append(lambda ours=ours: sdp.accept(data, ours, offered=sdp.offer(ours)))  # type: ignore[misc]
    for negotiate in ways:
        try:
            agreed = negotiate()
        except SdpError as error:
            outcomes.append((error.sip_status, str(error)[:12]))
        else:
            kind = type(agreed.security)
            outcomes.append((agreed.codec.name, agreed.direction, agreed.remote is None, agreed.ptime_ms, kind))
            assert agreed.remote is None or 0 < agreed.remote[1] < 65_536
            assert len(agreed.sdp) < 65_536
            assert agreed.ptime_ms in agreed.codec.packet_times
            shown = repr(agreed).encode()
            assert not any(key in shown for key in _SECRET)
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
_SECURE = [
    description.serialize() for name in FILES if "sipp" not in name for description in Capture.read(name).descriptions
]
PRESSES = [
    b"\x05\x0a\x00\xa0\x00\x01\x01" + b"\x05\x0a\x01\x40\x00\x01\x00" + b"\x05\x8a\x03\x20\x00\x01\x00" * 3,
    b"\x10\x80\0",
]

MEDIA_TARGETS = [
    Target(
        "sdp_keys",
        partial(description, _ALL),
        [*_SECURE, *DESCRIPTIONS],
        [
            b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:UXK95InD7ulszGK/OLP+8yZBe2mFM2afCDTxDx7h|2^20|1:4\r\n",
            b"a=crypto:2 AEAD_AES_128_GCM inline:" + b"QUJD" * 9 + b"QQ==\r\n",
            b"a=fingerprint:sha-256 " + b":".join([b"AB"] * 32) + b"\r\n",
            b"a=setup:actpass\r\n",
            b"a=setup:holdconn\r\n",
            b"a=rtcp-mux\r\n",
            b"RTP/SAVP",
            b"RTP/AVP",
            b"RTP/SAVPF",
            b"UDP/TLS/RTP/SAVPF",
            b"UDP/TLS/RTP/SAVP",
            b"a=fmtp:96 useinbandfec=1;usedtx=1;maxaveragebitrate=99999999999;maxplaybackrate=0;stereo=1\r\n",
            b"a=rtpmap:97 L16/16000\r\n",
            b"a=rtpmap:98 L16/8000/2\r\n",
            b"a=rtpmap:13 CN/8000\r\n",
            b"a=rtpmap:102 telephone-event/48000\r\n",
            b"a=ptime:0\r\n",
            b"a=maxptime:5\r\n",
        ],  # fmt: skip
        inputs=1_000,
    ),
    Target(
        "sdp",
        partial(description, LOCAL),
        DESCRIPTIONS,
        [b"m=audio 1 RTP/AVP 0\r\n", b"a=rtpmap:", b"a=fmtp:", b"c=IN IP4 ", b"a=sendonly", b"a=inactive", b"a=rtcp:"],
    ),
    Target("rtp", rtp, PACKETS, [b"\x90", b"\xbf", b"\xff\xff"], inputs=6_000),
    Target(
        "rtp_stream", rtp_stream, [bytes(range(240)), b"\0\0\0\0\0\0\0\1\0\0\0\xa0" * 20], [b"\xff\xff"], inputs=1_500
    ),
    Target("telephone_event", telephone_event, PRESSES, [b"\x05\x0a", b"\x8a"]),
]
