"""tshark's analysis of a capture of our own stream agrees with our own figures.

In virtual time, so that every figure is exact: one leg speaks, the network does what the test says, another leg hears;
the file is what the second one was given. Once also over real sockets, with the kernel's time stamps.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import pytest

from sipbridge import codecs
from sipbridge.audio import PCM_16K, PCM_24K
from sipbridge.codecs import Codec
from sipbridge.media.engine import MediaEngine
from sipbridge.media.events import MediaEvent, MediaStats
from sipbridge.media.leg import Leg
from sipbridge.media.params import MediaParams, MediaSettings
from sipbridge.media.rtp import JitterEstimator, Sequencer
from tests.interop import tshark
from tests.interop.sound import tone
from tests.pcap import Datagram

pytestmark = pytest.mark.interop

US, THEM = ("127.0.0.1", 20000), ("127.0.0.2", 30000)
EVENTS = 101
START = 1000.0
_SO_TIMESTAMPNS = 35  # Linux; Python has no name for it
Network = Callable[[Sequence[Datagram]], Sequence[Datagram]]


def speech(milliseconds: int) -> bytes:
    """In the model's format."""
    return (tone(440, milliseconds / 1000, rate=PCM_24K.rate) * 32767).astype("<i2").tobytes()


def perfect(sent: Sequence[Datagram]) -> Sequence[Datagram]:
    return sent


@dataclass
class Talk:
    """What a leg with this codec sends, and what another leg hears of it."""

    codec: Codec = codecs.PCMU
    ptime_ms: int = 20
    sent: list[Datagram] = field(default_factory=list)
    jitters: list[float] = field(default_factory=list)
    """Our own estimate after each packet, in milliseconds."""

    def __post_init__(self) -> None:
        self.payload_type = 96 if self.codec.static_payload_type is None else self.codec.static_payload_type
        self.params = MediaParams(
            codec=self.codec,
            remote=THEM,
            payload_type_send=self.payload_type,
            payload_type_receive=self.payload_type,
            event_payload_type_send=EVENTS,
            event_payload_type_receive=EVENTS,
            ptime_ms=self.ptime_ms,
            uplink=PCM_16K,
            downlink=PCM_24K,
        )
        # Both numbers wrap within the test.
        self.speaker = Leg(1, self.params, Sequencer(0x5EED, 65_520, 2**32 - 12_000), START)
        self.now = START

    def speak(self, milliseconds: int) -> None:
        """An item of the model's, to its end."""
        self.speaker.downlink.push(speech(milliseconds), "reply", f"item at {self.now}")
        self.speaker.downlink.finish(f"item at {self.now}")
        self.run(milliseconds)

    def run(self, milliseconds: int) -> None:
        for _ in range(milliseconds // self.ptime_ms):
            packet = self.speaker.next_packet(self.now)
            if packet is not None:
                self.sent.append(Datagram(self.now, US, THEM, packet))
                self.speaker.sent([])
            self.now += self.ptime_ms / 1000

    def heard(self, network: Network = perfect) -> tuple[Sequence[Datagram], MediaStats]:
        """What comes out of the network, and the figures of a leg that gets it."""
        arrived = network(self.sent)
        listener = Leg(2, replace(self.params, remote=US), Sequencer(1, 1, 1), arrived[0].at)
        events: list[MediaEvent] = []
        for datagram in arrived:
            listener.receive(datagram.data, US, datagram.at, events)
            listener.advance(datagram.at, events)
            listener.uplink.take()
            self.jitters.append(listener.stats().jitter_ms)
        for step in range(20):
            listener.advance(arrived[-1].at + step * 0.02, events)
        return arrived, listener.stats()

    def analyse(self, folder: Path, datagrams: Sequence[Datagram]) -> tuple[tshark.Stream, list[tshark.Packet]]:
        name, clock = self.codec.name, self.codec.clock_rate
        channels = f"/{self.codec.channels}" if self.codec.channels > 1 else ""
        formats = (
            f"{self.payload_type} {EVENTS}\na=rtpmap:{self.payload_type} {name}/{clock}{channels}\n"
            f"a=rtpmap:{EVENTS} telephone-event/{clock}\n"
        )
        capture = tshark.write_call(folder / "call.pcap", datagrams, formats)
        (stream,), packets = tshark.analyse(capture)
        return stream, packets


STEADY = [
    pytest.param(codec, ptime, id=f"{codec.name}-{ptime}", marks=[] if ptime == quick else [pytest.mark.slow])
    for codec, quick in ((codecs.PCMU, 30), (codecs.PCMA, 10), (codecs.G722, 20), (codecs.OPUS, 60))
    for ptime in (10, 20, 30, 40, 60)
    if ptime in codec.packet_times
]


@pytest.mark.parametrize(("codec", "ptime_ms"), STEADY)
def test_a_steady_stream(tmp_path: Path, codec: Codec, ptime_ms: int) -> None:
    talk = Talk(codec, ptime_ms)
    talk.speak(2400)
    arrived, ours = talk.heard()
    theirs, packets = talk.analyse(tmp_path, arrived)
    assert theirs.packets == ours.packets_received == talk.speaker.stats().packets_sent == 2400 // ptime_ms
    assert theirs.lost == ours.lost == 0
    assert not theirs.problems
    assert ours.reordered == 0
    assert theirs.max_delta == theirs.mean_delta == pytest.approx(ptime_ms, abs=0.001)
    # Ours counts whole ticks, by RFC 3550, and a moment that falls between two may be rounded either way.
    assert theirs.max_jitter < 0.001
    assert ours.jitter_ms <= 1000 / codec.clock_rate
    assert {packet.payload_type for packet in packets} == {talk.payload_type}
    assert [packet.marker for packet in packets].count(True) == 1
    ticks = {(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in itertools.pairwise(packets)}
    assert ticks == {codec.ticks(ptime_ms)}


def test_talkspurts_begin_with_a_marker_and_silence_leaves_no_gap(tmp_path: Path) -> None:
    talk = Talk()
    for _ in range(5):
        talk.speak(300)
        talk.run(240)
    arrived, ours = talk.heard()
    theirs, packets = talk.analyse(tmp_path, arrived)
    assert theirs.packets == ours.packets_received == len(talk.sent) == 5 * (540 // 20)
    assert (theirs.lost, theirs.problems) == (ours.lost, False)
    assert theirs.max_delta == pytest.approx(20, abs=0.001)
    assert [number for number, packet in enumerate(packets) if packet.marker] == [n * 27 for n in range(5)]


def test_keys_take_their_place_in_the_stream(tmp_path: Path) -> None:
    talk = Talk()
    talk.speak(200)
    for digit in "5#":
        assert talk.speaker.downlink.send_key(digit)
    talk.run(1000)
    talk.speak(200)
    arrived, ours = talk.heard()
    theirs, packets = talk.analyse(tmp_path, arrived)
    assert theirs.packets == ours.packets_received == len(talk.sent)
    # Its flag for problems is no use here: it takes a timestamp that stands still for one.
    assert theirs.lost == ours.lost == ours.reordered == 0
    assert "telephone-event" in theirs.payloads
    numbers = [packet.sequence_number for packet in packets]
    assert all((b - a) & 0xFFFF == 1 for a, b in itertools.pairwise(numbers))
    for event in (5, 11):
        press = [packet for packet in packets if packet.event == event]
        assert len({packet.timestamp for packet in press}) == 1
        assert [packet.marker for packet in press] == [True] + [False] * (len(press) - 1)
    audio = [packet for packet in packets if packet.event is None]
    gaps = {(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in itertools.pairwise(audio)}
    assert 160 in gaps
    assert all(gap % 160 == 0 for gap in gaps), "what the keys took is whole packets of audio"
    # Its jitter counts the events, whose timestamp stands still; ours does not (RFC 4733 §2.2.1), and there was none.
    assert ours.jitter_ms <= 0.125


def late_by(random: Random, most_ms: float) -> Network:
    def network(sent: Sequence[Datagram]) -> Sequence[Datagram]:
        at, arrived = 0.0, []
        for datagram in sent:
            at = max(at, datagram.at + random.random() * most_ms / 1000)  # nobody overtakes
            arrived.append(replace(datagram, at=at))
        return arrived

    return network


@pytest.mark.parametrize("most_ms", [1.0, 10.0, 30.0])
def test_jitter(tmp_path: Path, most_ms: float) -> None:
    talk = Talk()
    talk.speak(6000)
    arrived, ours = talk.heard(late_by(Random(3550), most_ms))
    theirs, _ = talk.analyse(tmp_path, arrived)
    assert theirs.packets == ours.packets_received
    assert (theirs.lost, theirs.problems) == (ours.lost, False)
    # In whole ticks of 0.125 ms ours, in milliseconds theirs.
    assert theirs.max_jitter == pytest.approx(max(talk.jitters), abs=0.13)
    assert theirs.mean_jitter == pytest.approx(sum(talk.jitters) / len(talk.jitters), abs=0.13)


def test_loss_duplicates_and_reordering(tmp_path: Path) -> None:
    random = Random(3551)

    def network(sent: Sequence[Datagram]) -> Sequence[Datagram]:
        arrived = []
        for datagram in sent[1:-1]:
            fate = random.random()
            if fate < 0.05:
                continue
            arrived.append(replace(datagram, at=datagram.at + (0.03 if fate > 0.95 else 0)))
            if 0.5 < fate < 0.53:
                arrived.append(replace(datagram, at=datagram.at + 0.001))
        return sorted([sent[0], *arrived, sent[-1]], key=lambda datagram: datagram.at)

    talk = Talk()
    talk.speak(6000)
    arrived, ours = talk.heard(network)
    theirs, packets = talk.analyse(tmp_path, arrived)
    numbers = [packet.sequence_number for packet in packets]
    assert theirs.packets == ours.packets_received == len(arrived)
    assert ours.duplicate == len(numbers) - len(set(numbers)) > 5
    assert ours.lost == 300 - len(set(numbers)) > 5
    # Ours is what is missing, theirs what RFC 3550 calls so (A.3): duplicates make up for losses.
    assert theirs.lost == ours.lost - ours.duplicate
    assert ours.reordered > 5
    assert theirs.problems


def test_over_real_sockets(tmp_path: Path) -> None:
    """Two legs of one engine: what the agent of the first says is passed on to the second, and kept with the time at
    which the kernel had it."""
    spoken: list[Datagram] = []

    async def talk() -> tuple[MediaStats, MediaStats]:
        engine = MediaEngine(MediaSettings(ports=range(43000, 43100)))
        clock = asyncio.create_task(engine.run(lambda event: None))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay:
            relay.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            relay.bind(("127.0.0.1", 0))
            relay.setblocking(False)
            here = relay.getsockname()
            params = MediaParams(codecs.PCMU, here, payload_type_send=0, payload_type_receive=0)
            ports = [engine.reserve(), engine.reserve()]
            speaker, listener = (engine.start(port, params) for port in ports)
            engine.push(speaker, speech(5000), "reply", "item")
            while len(spoken) < 130:
                await readable(relay)
                data, control, _, source = relay.recvmsg(2048, 64)
                if source[1] == ports[0].port:
                    spoken.append(Datagram(kernel_time(control), source, here, data))
                    relay.sendto(data, (ports[1].address, ports[1].port))
            # The listener's own silence, which is not passed on, paces what follows: by its second packet from now on
            # the last one has been read.
            figures = engine.stats(speaker)
            while engine.stats(listener).packets_received < 130:
                await readable(relay)
                relay.recv(2048)
            heard = engine.stats(listener)
        clock.cancel()
        await asyncio.gather(clock, return_exceptions=True)
        engine.shut_down()
        return figures, heard

    sent, heard = asyncio.run(asyncio.wait_for(talk(), 20))
    (theirs,), packets = tshark.analyse(tshark.write_call(tmp_path / "call.pcap", spoken, "0\n"))
    assert theirs.packets == heard.packets_received == 130
    assert sent.packets_sent - 130 in (0, 1), "one may have left while the last was looked at"
    assert theirs.lost == heard.lost == heard.reordered == heard.late == 0
    assert not theirs.problems
    assert [packet.marker for packet in packets].count(True) == 1
    assert theirs.mean_delta == pytest.approx(20, abs=0.3)
    # Ours is seen after another way through the machine, at the engine's ticks of 5 ms or a little earlier.
    estimator = JitterEstimator(8000)
    for packet, datagram in zip(packets, spoken, strict=True):
        estimator.update(packet.timestamp, datagram.at)
    assert theirs.mean_jitter <= theirs.max_jitter
    assert heard.jitter_ms == pytest.approx(estimator.jitter_ms, abs=2.5)


async def readable(sock: socket.socket) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)


def kernel_time(control: Sequence[tuple[int, int, bytes]]) -> float:
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("@ll", data)
            return float(seconds) + float(nanoseconds) * 1e-9
    raise AssertionError("no time stamp")
