"""RTP and RTCP as real telephones send them (tests/data/rtp), and an invalid twin of every packet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sipbridge import codecs
from sipbridge.errors import RtpError
from sipbridge.media import rtcp
from sipbridge.media.dtmf import KeyReceiver
from sipbridge.media.rtcp import Bye, OtherPacket, ReportBlock, SenderReport, SourceDescription
from sipbridge.media.rtp import Kind, RtpPacket, classify, is_rtcp
from sipbridge.media.sdes import Crypto, parse_lines
from sipbridge.media.session_description import SessionDescription
from sipbridge.media.srtp import SrtpReceiver
from tests.loopback.srtp import Direction
from tests.media.test_leg import spectrum
from tests.pcap import Address, Datagram, read_pcap

CAPTURES = Path(__file__).parent.parent / "data" / "rtp"
FILES = sorted(path.name for path in CAPTURES.glob("*.pcap"))
EVENTS = 101


@dataclass
class Capture:
    """One file, by kinds of packets, in order."""

    descriptions: list[SessionDescription]
    rtp: list[Datagram]
    rtcp: list[Datagram]
    dtls: list[Datagram]

    @classmethod
    def read(cls, name: str) -> Capture:
        found = cls([], [], [], [])
        for datagram in read_pcap(CAPTURES / name):
            if b"\r\nCSeq: " in datagram.data:
                found.descriptions.append(SessionDescription.parse(datagram.data.partition(b"\r\n\r\n")[2]))
            else:
                match classify(datagram.data):
                    case Kind.RTP:
                        found.rtp.append(datagram)
                    case Kind.RTCP:
                        found.rtcp.append(datagram)
                    case Kind.DTLS:
                        found.dtls.append(datagram)
                    case kind:
                        raise AssertionError(f"{name}: {kind}")
        return found

    @property
    def packets(self) -> list[RtpPacket]:
        return [RtpPacket.parse(datagram.data) for datagram in self.rtp]

    def audio(self) -> list[RtpPacket]:
        return [packet for packet in self.packets if packet.payload_type != EVENTS]

    def key_of(self, source: Address) -> Crypto:
        """What the description of this RTP port says."""
        (line,) = [
            line
            for description in self.descriptions
            for line in description.media
            if line.port == source[1] - source[1] % 2
        ]
        (crypto,) = parse_lines(line.values("crypto"))
        return crypto


@dataclass(frozen=True)
class Stream:
    """The audio of a file."""

    payload_type: int
    ssrc: int
    sequence_number: int
    timestamp: int
    packets: int
    ticks: int
    sizes: frozenset[int]
    marker: bool
    """On the first packet."""


STREAMS = {
    "asterisk.pcap": Stream(0, 0x1FB37043, 0xF907, 160, 5, 160, frozenset({160}), False),
    "baresip-pcmu.pcap": Stream(0, 0xD1CD5CE8, 0x7D38, 0x8367, 20, 160, frozenset({160}), True),
    "baresip-g722.pcap": Stream(9, 0xE3487078, 0x4E39, 0xE335, 20, 160, frozenset({160}), True),
    "baresip-opus.pcap": Stream(96, 0x8EFA697D, 0x3070, 0x165A, 20, 960, frozenset(), True),
    "baresip-sdes.pcap": Stream(0, 0x4DC3BA9B, 0x13B6, 0x5680, 20, 160, frozenset({170}), True),
    "baresip-dtls.pcap": Stream(96, 0xB54751ED, 0x30C2, 0x648F, 20, 960, frozenset(), True),
    "sipp.pcap": Stream(0, 0xCA110000, 0, 0x2000, 5, 160, frozenset({160}), False),
}


@pytest.mark.parametrize("name", FILES)
def test_rtp(name: str) -> None:
    expected, audio = STREAMS[name], Capture.read(name).audio()
    assert len(audio) == expected.packets
    assert {packet.payload_type for packet in audio} == {expected.payload_type}
    assert {packet.ssrc for packet in audio} == {expected.ssrc}
    assert [packet.marker for packet in audio] == [expected.marker] + [False] * (len(audio) - 1)
    numbers = range(expected.sequence_number, expected.sequence_number + len(audio))
    assert [packet.sequence_number for packet in audio] == list(numbers)
    assert [packet.timestamp for packet in audio] == [
        expected.timestamp + expected.ticks * n for n in range(len(audio))
    ]
    assert not expected.sizes or {len(packet.payload) for packet in audio} == expected.sizes
    for packet in audio:
        assert (packet.csrcs, packet.extension, packet.padding) == ((), None, 0)


@pytest.mark.parametrize("name", FILES)
def test_what_is_read_is_written_alike(name: str) -> None:
    for datagram in Capture.read(name).rtp:
        assert RtpPacket.parse(datagram.data).serialize() == datagram.data


@pytest.mark.parametrize(
    ("name", "codec"),
    [("baresip-pcmu.pcap", codecs.PCMU), ("baresip-g722.pcap", codecs.G722), ("baresip-opus.pcap", codecs.OPUS)],
)
def test_the_sound_in_it(name: str, codec: codecs.Codec) -> None:
    if codec.name not in codecs.available_codecs():
        pytest.skip(f"no {codec.name} on this machine")
    payloads = [packet.payload for packet in Capture.read(name).audio()]
    assert [codec.duration(payload) for payload in payloads] == [codec.ticks(20)] * 20
    decoder = codec.new_decoder()
    pcm = b"".join([decoder.decode(payload) for payload in payloads][10:])
    hertz, peak = spectrum(pcm, codec.sample_rate)
    assert hertz == pytest.approx(700, abs=5)
    assert peak == pytest.approx(32767 * 10 ** (-12 / 20), rel=0.06)


@pytest.mark.parametrize(("name", "key"), [("baresip-pcmu.pcap", "5"), ("baresip-opus.pcap", "9")])
def test_a_key(name: str, key: str) -> None:
    """Twelve packets, three of them its end, with audio between them: one press."""
    events = [packet for packet in Capture.read(name).packets if packet.payload_type == EVENTS]
    assert len(events) == 12
    assert [packet.marker for packet in events] == [True] + [False] * 11
    assert {b.sequence_number - a.sequence_number for a, b in zip(events, events[1:], strict=False)} == {2}
    receiver = KeyReceiver()
    told = [receiver.feed(packet.payload, packet.timestamp, packet.marker) for packet in events]
    assert [digit for digit in told if digit] == [key]
    assert receiver.ignored == 0


# --- RTCP -------------------------------------------------------------------------------------------------------------


def control(name: str) -> list[tuple[rtcp.RtcpPacket, ...]]:
    return [rtcp.parse(datagram.data) for datagram in Capture.read(name).rtcp]


def test_rtcp_of_asterisk() -> None:
    assert control("asterisk.pcap") == [
        (
            SenderReport(
                0x1FB37043,
                ntp=17198192833942635392,
                rtp_timestamp=40000,
                packets=250,
                octets=40000,
                reports=(ReportBlock(1422342509, 0, 0, 3892, jitter=0, lsr=1094778281, dlsr=145358),),
            ),
            SourceDescription(((0x1FB37043, ((1, b"7b8ef35d-1720-4ca6-863b-5b22b24d3ebb"),)),)),
        )
    ]


def test_rtcp_of_baresip() -> None:
    cname = SourceDescription(((0xD1CD5CE8, ((1, b"sip:baresip@127.0.0.1"),)),))
    first, report, last = control("baresip-pcmu.pcap")
    assert first == (OtherPacket(204, 0, b"\xd1\xcd\x5c\xe8PINGPONG"),)
    assert report == (
        SenderReport(
            0xD1CD5CE8,
            ntp=17198192475306007157,
            rtp_timestamp=73599,
            packets=250,
            octets=40000,
            reports=(ReportBlock(1791245289, 0, 0, 675, jitter=11, lsr=1089451149, dlsr=196),),
        ),
        cname,
    )
    assert last == (Bye((0xD1CD5CE8,), b"Adjo"), cname)


def test_rtcp_on_the_rtp_port() -> None:
    """It takes its peer's first APP packet for RTP, and reports on it."""
    capture = Capture.read("baresip-opus.pcap")
    assert {datagram.source[1] % 2 for datagram in capture.rtcp} == {0}
    _, (report, _), _ = control("baresip-opus.pcap")
    assert isinstance(report, SenderReport)
    assert [block.ssrc for block in report.reports] == [3825151109, int.from_bytes(b"PING")]


# --- SRTP -------------------------------------------------------------------------------------------------------------


def test_srtp() -> None:
    capture = Capture.read("baresip-sdes.pcap")
    receiver = SrtpReceiver(capture.key_of(capture.rtp[0].source).key)
    clear = [receiver.unprotect(datagram.data) for datagram in capture.rtp]
    assert receiver.unauthenticated == receiver.replayed == receiver.malformed == 0
    packets = [RtpPacket.parse(packet) for packet in clear if packet is not None]
    assert {len(packet.payload) for packet in packets} == {160}
    pcm = codecs.PCMU.new_decoder().decode(b"".join(packet.payload for packet in packets[10:]))
    assert spectrum(pcm, 8000)[0] == pytest.approx(700, abs=5)
    for datagram in capture.rtp:
        assert receiver.unprotect(datagram.data) is None
    assert receiver.replayed == len(capture.rtp)


def test_srtp_by_hand() -> None:
    """The tests' own SRTP, which is held against ours elsewhere: by the RFC's vectors, and by what baresip sends."""
    master = bytes.fromhex("e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6")  # RFC 3711 B.3
    direction = Direction(master)
    assert direction.cipher_key.hex() == "c61e7a93744f39ee10734afe3ff7a087"
    assert direction.auth_key.hex() == "cebe321f6ff7716b6fd4ab49af256a156d38baa4"
    capture = Capture.read("baresip-sdes.pcap")
    key = capture.key_of(capture.rtp[0].source).key
    receiver, by_hand = SrtpReceiver(key), Direction(key.octets)
    for datagram in capture.rtp:
        assert by_hand.unprotect(datagram.data) == receiver.unprotect(datagram.data)


def test_srtcp() -> None:
    """The first packet and the last one are not encrypted: whoever sent them, they are not believed."""
    capture = Capture.read("baresip-sdes.pcap")
    receiver = SrtpReceiver(capture.key_of(capture.rtp[0].source).key)
    ping, protected_ping, report, bye = [receiver.unprotect_rtcp(datagram.data) for datagram in capture.rtcp]
    assert ping is bye is None
    # What stands in place of an index and a tag decides what is found wrong first.
    assert receiver.unauthenticated + receiver.replayed + receiver.malformed == 2
    assert protected_ping is not None
    assert report is not None
    assert rtcp.parse(protected_ping) == (OtherPacket(204, 0, b"\x4d\xc3\xba\x9bPINGPONG"),)
    sender, description = rtcp.parse(report)
    assert isinstance(sender, SenderReport)
    assert (sender.ssrc, sender.packets, sender.octets) == (0x4DC3BA9B, 250, 40000)
    assert isinstance(description, SourceDescription)


def test_srtp_with_a_bit_flipped() -> None:
    capture = Capture.read("baresip-sdes.pcap")
    receiver = SrtpReceiver(capture.key_of(capture.rtp[0].source).key)
    flips = 0
    for number, datagram in enumerate(capture.rtp):
        for at in range(number, len(datagram.data), len(capture.rtp)):
            twin = bytearray(datagram.data)
            twin[at] ^= 1 << number % 8
            assert receiver.unprotect(bytes(twin)) is None
            flips += 1
    assert receiver.unauthenticated + receiver.malformed == flips
    assert all(receiver.unprotect(datagram.data) for datagram in capture.rtp), "the true ones are not replays"


# --- invalid twins ----------------------------------------------------------------------------------------------------


def _flag(data: bytes, flag: int) -> bytes:
    return bytes((data[0] | flag,)) + data[1:]


RTP_TWINS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: b"",
    "half a header": lambda data: data[:11],
    "version 0": lambda data: bytes((data[0] & 0x3F,)) + data[1:],
    "version 1": lambda data: bytes((data[0] & 0x3F | 0x40,)) + data[1:],
    "version 3": lambda data: _flag(data, 0xC0),
    "CSRCs that are not there": lambda data: _flag(data, 0x0F)[:71],
    "an extension that is not there": lambda data: _flag(data, 0x10)[:12],
    "an extension that is too long": lambda data: _flag(data[:12] + b"\xbe\xde\xff\xff" + data[12:], 0x10),
    "padding of nothing": lambda data: _flag(data + b"\0", 0x20),
    "padding of more than there is": lambda data: _flag(data[:172] + b"\xff", 0x20),
}
RTCP_TWINS: dict[str, Callable[[bytes], bytes]] = {
    "cut by an octet": lambda data: data[:-1],
    "cut by a word": lambda data: data[:-4],
    "version 1": lambda data: bytes((data[0] & 0x3F | 0x40,)) + data[1:],
    "a length beyond the end": lambda data: data[:2] + b"\xff\xff" + data[4:],
    "31 reports or sources": lambda data: bytes((data[0] | 0x1F,)) + data[1:],
    "padding of nothing": lambda data: bytes((data[0] | 0x20,)) + data[1:-1] + b"\0",
    "no RTCP behind it": lambda data: data + b"\x00\x01\x00\x00",
    "half a header behind it": lambda data: data + b"\x80\xc9",
}


def in_the_clear() -> Iterator[Datagram]:
    for name in FILES:
        if "sdes" not in name and "dtls" not in name:
            yield from Capture.read(name).rtcp


@pytest.mark.parametrize("twin", RTP_TWINS)
def test_invalid_rtp(twin: str) -> None:
    for name in FILES:
        for datagram in Capture.read(name).rtp:
            with pytest.raises(RtpError):
                RtpPacket.parse(RTP_TWINS[twin](datagram.data))


@pytest.mark.parametrize("twin", RTCP_TWINS)
def test_invalid_rtcp(twin: str) -> None:
    for datagram in in_the_clear():
        if twin.startswith("31") and datagram.data[1] == 204:
            continue  # to APP, which is not looked into, that number is a name
        with pytest.raises(RtpError):
            rtcp.parse(RTCP_TWINS[twin](datagram.data))


def test_every_length_of_rtcp() -> None:
    """Whole packets, or an error."""
    for datagram in in_the_clear():
        assert is_rtcp(datagram.data)
        for size in range(len(datagram.data)):
            try:
                packets = rtcp.parse(datagram.data[:size])
            except RtpError:
                continue
            assert datagram.data[:size] == rtcp.serialize(packets)
