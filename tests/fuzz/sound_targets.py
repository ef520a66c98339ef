"""What carries sound: RTCP, a whole stream into a leg's ear, the decoders, comfort noise, SRTP.

A stream is written as records: kind, time passed, then a datagram as it is or what an RTP packet is made of. So most of
what is tried gets past the parser, and numbers and times stay near each other.
"""

from __future__ import annotations

import datetime
import struct
from collections.abc import Hashable, Iterator
from dataclasses import replace
from functools import cache, partial

from sipbridge import codecs
from sipbridge.audio import PCM_16K
from sipbridge.codecs import Codec
from sipbridge.errors import RtpError
from sipbridge.media import rtcp
from sipbridge.media.comfort_noise import PAYLOAD_TYPE as NOISE
from sipbridge.media.dtls import DtlsIdentity
from sipbridge.media.events import MediaEvent
from sipbridge.media.keying import DtlsParams, Fingerprint, Role
from sipbridge.media.leg import Leg
from sipbridge.media.params import MediaParams
from sipbridge.media.rtcp_session import Reception, RtcpSession, Sent
from sipbridge.media.rtp import JitterEstimator, Kind, Sequencer, SequenceTracker, classify
from sipbridge.media.srtp import SUITES, MasterKey, SrtpReceiver, SrtpSender
from tests.fuzz.engine import Target
from tests.media.test_captured import FILES, Capture

PHONE, STRANGER = ("192.0.2.1", 4000), ("203.0.113.66", 666)
AUDIO, EVENTS = 96, 101
_SSRC = 0x12345678
_OURS = 0xABCD
_HEADER = struct.Struct("!BBHII")
_MAX_RECORDS = 200
_LONGEST_MS = 1_060
"""Of sound that may be ahead of time, and what is on its way."""


def control(data: bytes) -> Hashable:
    """Packets or RtpError; packets are written and read again alike."""
    try:
        packets = rtcp.parse(data)
    except RtpError as error:
        return str(error)[:14]
    assert rtcp.parse(rtcp.serialize(packets)) == packets
    return tuple(type(packet).__name__ for packet in packets[:4])


def control_session(data: bytes) -> Hashable:
    """Datagrams of a far end that says what it likes: figures that can be, reports that can be read."""
    now, wall = 100.0, 1.8e9
    session = RtcpSession(_OURS, b"x@example.com", now, clock_rate=8000, wall_time=wall, chance=lambda: 0.5)
    heard = Reception(_SSRC, SequenceTracker(), JitterEstimator(8000))
    reports = 0
    for step, datagram in records(data):
        now += step
        heard.tracker.update(len(datagram) & 0xFFFF)
        heard.estimator.update(int.from_bytes(datagram[:4]), now)
        session.receive(datagram, now)
        if now >= session.due_at:
            report = session.report(now, Sent(reports, 160 * reports, 0), heard)
            assert report is None or len(rtcp.parse(report)) == 2
            reports += 1
    last = session.bye(now, Sent(1, 160, 0), heard, b"x")
    assert last is not None
    assert rtcp.parse(last)
    for figure in (session.round_trip_ms, session.remote_jitter_ms, session.remote_jitter_max_ms):
        assert figure is None or 0 <= figure <= 10_000
    assert 0 <= session.remote_fraction <= 1
    found = session.remote_lost is not None, session.round_trip_ms is not None, session.silent_at is not None
    return min(session.malformed, 2), min(session.implausible, 2), min(session.byes, 2), min(session.received, 3), found


def records(data: bytes) -> Iterator[tuple[float, bytes]]:
    """Seconds that pass, and a datagram: a length of one octet before each."""
    at = 0
    for _ in range(_MAX_RECORDS):
        if at + 2 > len(data):
            return
        size = data[at + 1]
        yield data[at] / 20, data[at + 2 : at + 2 + size]
        at += 2 + size


def written(*datagrams: tuple[int, bytes]) -> bytes:
    return b"".join(bytes((step, min(len(data), 255))) + data[:255] for step, data in datagrams)


def stream(codec: Codec, data: bytes) -> Hashable:
    """Whatever comes, time passes at its own pace for who listens: no more sound than that, whole samples, and what is
    kept of it is bounded."""
    now = began = 100.0
    leg = Leg(1, _params(codec), Sequencer(_OURS, 1, 1), now)
    wire, heard = codec.wire_format(PCM_16K), 0
    events: list[MediaEvent] = []
    number, timestamp = 65_530, 2**32 - 2_000
    at = records_read = 0
    while at + 6 <= len(data) and records_read < _MAX_RECORDS:
        records_read += 1
        kind, step, size, more_numbers, more_time = data[at], data[at + 1], data[at + 2], data[at + 3], data[at + 4]
        payload = data[at + 5 : at + 5 + size]
        at += 5 + size
        now += step / 1000
        if kind & 0x07 == 7:
            leg.receive(payload, PHONE if kind & 0x40 else STRANGER, now, events)
        else:
            number = (number + (more_numbers if more_numbers < 250 else (more_numbers - 250) * 12_000)) & 0xFFFF
            timestamp = (timestamp + codec.clock_rate // 1000 * more_time * (1 if kind & 0x10 else 20)) & 0xFFFFFFFF
            payload_type = (AUDIO, AUDIO, AUDIO, EVENTS, NOISE, AUDIO, 13)[kind & 0x07]
            second = payload_type | (kind & 0x80)
            ssrc = _SSRC + (kind >> 5 & 1)
            leg.receive(_HEADER.pack(0x80, second, number, timestamp, ssrc) + payload, PHONE, now, events)
        leg.advance(now, events)
        heard += _take(leg, wire.bytes_per_sample)
        assert len(leg.uplink.jitter._held) <= 17
        assert len(leg.uplink.control) <= 8
    leg.advance(now + 0.3, events)
    heard += _take(leg, wire.bytes_per_sample)
    assert heard / wire.bytes_per_ms <= (now - began + 0.3) * 1000 + _LONGEST_MS
    stats = leg.stats()
    told = "".join(sorted({type(event).__name__[0] for event in events}))
    return told, *(min(count, 2) for count in (stats.lost, stats.late, stats.malformed, stats.wrong_source)), heard > 0


def _take(leg: Leg, sample_bytes: int) -> int:
    size = len(leg.uplink._take_all())
    assert size % sample_bytes == 0
    return size


@cache
def _params(codec: Codec) -> MediaParams:
    return MediaParams(
        codec=codec,
        remote=PHONE,
        payload_type_send=AUDIO,
        payload_type_receive=AUDIO,
        event_payload_type_send=EVENTS,
        event_payload_type_receive=EVENTS,
    )


def decoder(codec: Codec, data: bytes) -> Hashable:
    """Payloads one after the other, some missing in between: PCM as long as the payload says, and nothing raised."""
    made = codec.new_decoder()
    outcomes = []
    most = codec.sample_rate * 120 // 1000
    for step, payload in records(data):
        ticks = codec.duration(payload)
        assert ticks >= 0
        if step > 10 and codec.conceals:
            recovered = made.recover(payload, most // 6)
            assert len(recovered) in (0, 2 * (most // 6))
            assert len(made.conceal(int(step * 20))) == 2 * int(step * 20)
        pcm = made.decode(payload)
        assert len(pcm) == 2 * (ticks * codec.sample_rate // codec.clock_rate)
        outcomes.append((min(ticks * 100 // codec.clock_rate, 13), not any(pcm)))
    return tuple(outcomes[:3])


def secured(data: bytes) -> Hashable:
    """Datagrams under a key that nobody has: no packet comes of any, and each is counted."""
    receiver = SrtpReceiver(_KEY)
    count = 0
    for _, datagram in records(data):
        kind = classify(datagram)
        clear = receiver.unprotect_rtcp(datagram) if kind is Kind.RTCP else receiver.unprotect(datagram)
        assert clear is None or datagram in _GENUINE
        count += clear is None
    counted = receiver.unauthenticated + receiver.replayed + receiver.malformed + receiver.refused
    assert counted == count
    return min(receiver.unauthenticated, 2), min(receiver.malformed, 2), min(receiver.replayed, 2), min(count, 3)


def handshake(role: Role, data: bytes) -> Hashable:
    """Whatever comes to a leg that waits for its DTLS peer, from there and from elsewhere: no keys, nothing
    believed, few answers to strangers, and the wait has its end."""
    now = 100.0
    security = DtlsParams(role, (Fingerprint("sha-256", bytes(32)),), PHONE)
    params = replace(_params(codecs.PCMU), security=security)
    leg = Leg(1, params, Sequencer(_OURS, 1, 1), now, identity=_identity())
    assert leg.security is not None
    events: list[MediaEvent] = []
    answered = 0
    for number, (step, datagram) in enumerate(records(data)):
        now += step / 10
        leg.receive(datagram, STRANGER if number % 3 == 2 else PHONE, now, events)
        leg.advance(now, events)
        sent = leg.security.outgoing(leg.latch.target)
        answered += sum(to == STRANGER for _, to in sent)
        assert leg.next_packet(now) is None
        assert leg.stats().packets_received == 0
    assert not leg.security.ready
    assert answered <= 40
    ignored, failed = leg.security.dtls_ignored, bool(leg.security.failure)
    leg.security.handle_timer(now + 60, PHONE)
    assert leg.security.failure
    leg.security.close()
    return min(ignored, 3), failed, min(answered, 3), min(leg.stats().non_rtp, 2), min(leg.security.unauthenticated, 2)


@cache
def _identity() -> DtlsIdentity:
    return DtlsIdentity.make(datetime.datetime(2026, 1, 1))


_KEY = MasterKey(SUITES["AES_CM_128_HMAC_SHA1_80"], bytes(range(30)))
_SENDER = SrtpSender(_KEY)
_PLAIN = [_HEADER.pack(0x80, 0, number, 160 * number, _SSRC) + bytes(60) for number in range(4)]
_PLAIN_CONTROL = [bytes.fromhex("81c90007123456780000000000000000000000000000000000000000000000ff")]
_PROTECTED = [_SENDER.protect(packet) for packet in _PLAIN] + [_SENDER.protect_rtcp(_PLAIN_CONTROL[0])]
_GENUINE = [packet for packet in _PROTECTED if packet is not None]

_CAPTURED = [Capture.read(name) for name in FILES]
_CONTROL = [datagram.data for capture in _CAPTURED for datagram in capture.rtcp]
_FLIGHTS = [datagram.data for capture in _CAPTURED for datagram in capture.dtls]
_REPORT = struct.pack("!BBHIIIIIII", 0x81, 201, 7, _SSRC, _OURS, 0x10000002, 9, 80, 0, 0)


def _sound(codec: Codec) -> list[bytes]:
    """A stream of that codec, as records for `stream`: speech, a loss, a pause with comfort noise, a key."""
    encoder = codec.new_encoder()
    pcm = bytes(2 * codec.sample_rate // 50)
    frames = [encoder.encode(pcm)[:250] for _ in range(12)]

    def record(kind: int, payload: bytes, *, numbers: int = 1, time: int = 1, step: int = 20) -> bytes:
        return bytes((kind, step, len(payload), numbers, time)) + payload

    talk = b"".join(record(0, frame) for frame in frames)
    return [
        talk,
        talk + record(0, frames[0], numbers=3, time=3, step=60) + talk,
        talk + record(4, b"\x40\x20\x30") + record(0, frames[0], time=10, step=200),
        talk + b"".join(record(3 | 0x80 * (not n), bytes((5, 10, 0, 160 * n & 255)), time=0) for n in range(4)),
        talk + record(0x20, frames[0]) * 6,
        record(7, b"\x80\xc9\x00\x01" + bytes(4)) + talk,
    ]


def _payloads(codec: Codec) -> list[bytes]:
    captured = {"opus": "baresip-opus.pcap", "G722": "baresip-g722.pcap"}.get(codec.name, "baresip-pcmu.pcap")
    audio = [packet.payload for packet in Capture.read(captured).audio()]
    return [
        written(*((1, payload) for payload in audio)),
        written(*((250 if number % 3 else 1, payload) for number, payload in enumerate(audio))),
        written((1, b""), (1, b"\xff"), (255, bytes(60)), (1, b"\x0b\x30" + bytes(20))),
    ]


_AVAILABLE = codecs.select(("PCMU", "G722", "opus", "L16"))
SOUND_TARGETS = [
    Target(
        "rtcp", control, [*_CONTROL, _REPORT, bytes.fromhex("81cb000112345678")], [b"\x80\xc8", b"\x81\xca\x00\x01"]
    ),
    Target(
        "rtcp_session",
        control_session,
        [
            written(*((60, datagram) for datagram in _CONTROL)),
            written((60, _REPORT), (60, _REPORT), (100, _REPORT)),
            written((1, bytes.fromhex("80c800061234567800000001000000020000000300000004000000ff")), (100, _REPORT)),
        ],
        [_OURS.to_bytes(4), _SSRC.to_bytes(4), b"\xff\xff\xff\xff"],
        inputs=1_500,
    ),
    *(
        Target(f"stream_{codec.name}_{codec.sample_rate}", partial(stream, codec), _sound(codec), inputs=400)
        for codec in _AVAILABLE
        if codec is not codecs.L16_8K
    ),
    *(
        Target(f"decoder_{codec.name}_{codec.sample_rate}", partial(decoder, codec), _payloads(codec), inputs=500)
        for codec in _AVAILABLE
        if codec not in (codecs.PCMU, codecs.L16_8K)
    ),
    *(
        Target(
            f"dtls_{role}",
            partial(handshake, role),
            [
                written(*((1, datagram) for datagram in _FLIGHTS)),
                written(*((1, datagram) for datagram in (*_FLIGHTS[:1] * 3, *_GENUINE, b"\x00\x01" + bytes(18)))),
                written((1, b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x02\x28"), (1, _FLIGHTS[0])),
            ],
            [b"\x16\xfe\xff", b"\x16\xfe\xfd\x00\x00", b"\x14\xfe\xfd", b"\x17\xfe\xfd\x00\x01"],
            inputs=200,
        )
        for role in ("client", "server")
    ),
    Target(
        "srtp",
        secured,
        [
            written(*((1, packet) for packet in _GENUINE)),
            written(*((1, packet) for packet in (*_GENUINE, *_PLAIN, *_GENUINE))),
        ],
        inputs=1_500,
    ),
]
