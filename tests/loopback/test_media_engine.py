"""The media engine over real sockets. Nothing sleeps: the phone speaks once for each packet that it hears."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import ParamSpec

import pytest
from structlog.testing import capture_logs

from sipbridge import codecs
from sipbridge.audio import PCM_16K, PCM_24K, PCMU, Played
from sipbridge.errors import NoPortAvailableError
from sipbridge.media.engine import MediaEngine
from sipbridge.media.events import Audio, Drained, Handle, KeyPressed, MediaEvent, MediaTimeout, SourceChanged
from sipbridge.media.params import MediaParams, MediaSettings
from sipbridge.media.rtp import RtpPacket
from sipbridge.media.stream import MediaStream
from tests.media.test_leg import spectrum, tone

PORTS = range(42000, 42400)
FRAME = b"\xff" * 160

_P = ParamSpec("_P")


def on_a_loop(test: Callable[_P, Coroutine[None, None, None]]) -> Callable[_P, None]:
    @wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 20))

    return run


class Phone:
    """The other end: a socket that counts its packets."""

    def __init__(self, engine: MediaEngine, ssrc: int) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.address: tuple[str, int] = self.sock.getsockname()
        self.local_port = engine.reserve()
        self.ssrc = ssrc
        self.number, self.timestamp = 65530, 0xFFFFFFFF - 1000  # both wrap in every test
        self.heard: list[RtpPacket] = []
        self.arrivals: list[float] = []

    def params(self, **changes: object) -> MediaParams:
        params = MediaParams(codecs.PCMU, self.address, payload_type_send=0, payload_type_receive=0)
        return replace(params, **changes)  # type: ignore[arg-type]

    def say(self, payload: bytes = FRAME, payload_type: int = 0, *, sock: socket.socket | None = None) -> None:
        packet = RtpPacket(payload_type, self.number & 0xFFFF, self.timestamp & 0xFFFFFFFF, self.ssrc, payload)
        self.number += 1
        self.timestamp += len(payload)
        self.send(packet.serialize(), sock=sock)

    def send(self, data: bytes, *, sock: socket.socket | None = None) -> None:
        (sock or self.sock).sendto(data, (self.local_port.address, self.local_port.port))

    async def hear(self) -> RtpPacket:
        data = await asyncio.get_running_loop().sock_recv(self.sock, 2048)
        self.arrivals.append(time.monotonic())
        packet = RtpPacket.parse(data)
        self.heard.append(packet)
        return packet

    async def talk(self, frames: list[bytes], payload_type: int = 0) -> None:
        """Say one frame after each packet heard."""
        for frame in frames:
            await self.hear()
            self.say(frame, payload_type)


@dataclass
class Rig:
    engine: MediaEngine
    events: list[MediaEvent] = field(default_factory=list)
    happened: asyncio.Event = field(default_factory=asyncio.Event)
    handlers: list[Callable[[MediaEvent], object]] = field(default_factory=list)

    phones: list[Phone] = field(default_factory=list)

    def phone(self, ssrc: int = 1) -> Phone:
        self.phones.append(Phone(self.engine, ssrc))
        return self.phones[-1]

    def dispatch(self, event: MediaEvent) -> None:
        self.events.append(event)
        self.happened.set()
        for handler in self.handlers:
            handler(event)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.happened.clear()
            await asyncio.wait_for(self.happened.wait(), 5)

    def audio(self, handle: Handle) -> bytes:
        return b"".join(event.pcm for event in self.events if isinstance(event, Audio) and event.handle == handle)


@asynccontextmanager
async def running(**settings: object) -> AsyncIterator[Rig]:
    rig = Rig(MediaEngine(replace(MediaSettings(ports=PORTS), **settings)))  # type: ignore[arg-type]
    clock = asyncio.create_task(rig.engine.run(rig.dispatch))
    try:
        yield rig
        assert not clock.done()
    finally:
        clock.cancel()
        await asyncio.gather(clock, return_exceptions=True)
        rig.engine.shut_down()
        for phone in rig.phones:
            phone.sock.close()


def frames_of(codec: codecs.Codec, pcm: bytes) -> list[bytes]:
    wire = codec.new_encoder().encode(pcm)
    return [wire[start : start + 160] for start in range(0, len(wire), 160)]


@on_a_loop
async def test_the_callers_tone_reaches_the_agent() -> None:
    async with running() as rig:
        phone = rig.phone()
        handle = rig.engine.start(phone.local_port, phone.params(uplink=PCM_16K))
        await phone.talk(frames_of(codecs.PCMU, tone(1000, 800, 8000)))
        await rig.until(lambda: rig.engine.stats(handle).packets_received == 40)
        await rig.until(lambda: len(rig.audio(handle)) >= 800 * 32)
        heard = rig.audio(handle)
        frequency, level = spectrum(heard[-700 * 32 :], 16000)
        assert frequency == pytest.approx(1000, abs=3)
        assert level == pytest.approx(8000, rel=0.05)
        assert rig.events[0] == SourceChanged(handle, phone.address)
        stats = rig.engine.stats(handle)
        assert (stats.lost, stats.late, stats.reordered, stats.duplicate) == (0, 0, 0, 0)


@on_a_loop
async def test_the_agents_tone_reaches_the_phone_as_pcma() -> None:
    async with running() as rig:
        phone = rig.phone()
        params = phone.params(codec=codecs.PCMA, payload_type_send=8, payload_type_receive=8, downlink=PCM_24K)
        stream = MediaStream(rig.engine, rig.engine.start(phone.local_port, params))
        pcm = tone(440, 600, 24000)
        for start in range(0, len(pcm), 4800):
            stream.play(pcm[start : start + 4800], "reply", "item")
        stream.finish("item")
        while not (phone.heard and phone.heard[-1].marker):
            await phone.hear()
        while Drained(stream.handle, "item") not in rig.events:
            await phone.hear()
        first = next(n for n, packet in enumerate(phone.heard) if packet.marker)
        heard = b"".join(codecs.PCMA.new_decoder().decode(packet.payload) for packet in phone.heard[first : first + 30])
        frequency, level = spectrum(heard, 8000)
        assert frequency == pytest.approx(440, abs=3)
        assert level == pytest.approx(8000, rel=0.05)
        assert {packet.payload_type for packet in phone.heard} == {8}
        assert len(phone.heard) - first <= 33  # drained with the last packet of the item


@on_a_loop
async def test_pass_through_changes_no_octet() -> None:
    async with running() as rig:
        phone = rig.phone()
        handle = rig.engine.start(phone.local_port, phone.params(uplink=PCMU, downlink=PCMU))
        said = [bytes([n]) * 160 for n in range(1, 31)]
        for n, frame in enumerate(said):
            rig.engine.push(handle, frame, "reply", f"item {n}")
        await phone.talk(said)
        await rig.until(lambda: rig.audio(handle).endswith(said[-1]))
        assert rig.audio(handle).lstrip(b"\xff") == b"".join(said)
        assert [packet.payload for packet in phone.heard] == said


@on_a_loop
async def test_packets_are_numbered_without_a_gap_and_leave_every_20_ms() -> None:
    async with running() as rig:
        phones = [rig.phone(n) for n in range(8)]
        for phone in phones:
            rig.engine.start(phone.local_port, phone.params())
        await asyncio.gather(*(phone.talk([FRAME] * 50) for phone in phones))
        for phone in phones:
            first = phone.heard[0]
            for n, packet in enumerate(phone.heard):
                assert packet.sequence_number == (first.sequence_number + n) & 0xFFFF
                assert packet.timestamp == (first.timestamp + 160 * n) & 0xFFFFFFFF
                assert packet.ssrc == first.ssrc
        assert len({phone.heard[0].ssrc for phone in phones}) == 8
        # By absolute deadlines: whatever the machine does in between, 49 packet times are 980 ms.
        for phone in phones:
            assert phone.arrivals[-1] - phone.arrivals[0] == pytest.approx(0.98, abs=0.06)


@on_a_loop
async def test_after_pause_no_old_audio_later_than_one_packet() -> None:
    async with running() as rig:
        phone = rig.phone()
        stream = MediaStream(rig.engine, rig.engine.start(phone.local_port, phone.params(downlink=PCMU)))
        stream.play(b"\x22" * 16000, "reply", "item")
        while len([packet for packet in phone.heard if 0x22 in packet.payload]) < 5:
            await phone.hear()
        stream.pause()
        after = [(await phone.hear()).payload for _ in range(5)]
        assert after[0].endswith(b"\xff" * 80)
        assert after[1:] == [FRAME] * 4
        played = stream.played()
        assert played == stream.discard()
        assert played == (Played("reply", "item", 110),)
        assert [(await phone.hear()).payload for _ in range(3)] == [FRAME] * 3
        assert stream.stats.flushed_ms == 2000 - 110


@on_a_loop
async def test_resume_goes_on() -> None:
    async with running() as rig:
        phone = rig.phone()
        stream = MediaStream(rig.engine, rig.engine.start(phone.local_port, phone.params(downlink=PCMU)))
        stream.play(bytes(n // 160 % 100 for n in range(16000)), "reply", "item")
        stream.finish("item")
        while not (phone.heard and phone.heard[-1].payload[0] == 10):
            await phone.hear()
        stream.pause()
        await phone.talk([FRAME] * 4)
        stream.resume()
        while Drained(stream.handle, "item") not in rig.events:
            await phone.hear()
        whole = [packet.payload[-1] for packet in phone.heard if packet.payload[-1] != 0xFF]
        assert [n for n in range(100) if n not in whole and n != 99] == []


@on_a_loop
async def test_strangers_wrong_payloads_and_garbage_are_counted_only() -> None:
    async with running() as rig:
        phone = rig.phone()
        handle = rig.engine.start(phone.local_port, phone.params(uplink=PCMU))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.1", 0))
            stranger.setblocking(False)
            await phone.talk([b"\x11" * 160])
            await rig.until(lambda: SourceChanged(handle, phone.address) in rig.events)
            for n in range(20):
                await phone.hear()
                phone.say(b"\x11" * 160)
                phone.send(RtpPacket(0, n, 160 * n, 9, b"\x22" * 160).serialize(), sock=stranger)
                phone.send(RtpPacket(8, n, 160 * n, 1, b"\x22" * 160).serialize())
                phone.send(bytes([n]) * n)
                phone.send(RtpPacket(0, n, 160 * n, 1, b"\x22" * (2037 + n)).serialize())
            await rig.until(lambda: rig.engine.stats(handle).packets_received == 21)
            await phone.hear()
            stats = rig.engine.stats(handle)
            assert set(rig.audio(handle)) <= {0x11, 0xFF}
            assert stats.wrong_source == 20
            assert stats.wrong_payload == 20
            assert stats.non_rtp == 20
            assert stats.malformed == 20, "one octet too long is as bad as many"
            assert stats.remote == phone.address
            with pytest.raises(BlockingIOError):
                stranger.recv(2048)


@on_a_loop
async def test_a_phone_behind_a_nat_is_answered_where_it_speaks_from() -> None:
    async with running() as rig:
        phone = rig.phone()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as announced:
            announced.bind(("127.0.0.1", 0))
            announced.setblocking(False)
            handle = rig.engine.start(phone.local_port, phone.params(remote=announced.getsockname()))
            loop = asyncio.get_running_loop()
            for _ in range(5):
                assert await loop.sock_recv(announced, 2048)
                phone.say()
            await rig.until(lambda: SourceChanged(handle, phone.address) in rig.events)
            await phone.hear()
            assert rig.engine.stats(handle).remote == phone.address


@on_a_loop
async def test_keys_both_ways() -> None:
    async with running() as rig:
        phone, other = rig.phone(), rig.phone(2)
        types = {"event_payload_type_send": 101, "event_payload_type_receive": 101}
        sender = MediaStream(rig.engine, rig.engine.start(phone.local_port, phone.params(**types)))
        receiver = rig.engine.start(other.local_port, other.params(**types))
        for digit in "42#":
            assert sender.send_key(digit)
        # What the phone of one leg hears is said by the phone of the other.
        while len([event for event in rig.events if isinstance(event, KeyPressed)]) < 3:
            other.send((await phone.hear()).serialize())
        assert [event for event in rig.events if isinstance(event, KeyPressed)] == [
            KeyPressed(receiver, digit) for digit in "42#"
        ]


@on_a_loop
async def test_media_timeout() -> None:
    async with running(media_timeout_seconds=0.2) as rig:
        phone = rig.phone()
        handle = rig.engine.start(phone.local_port, phone.params())
        await phone.talk([FRAME] * 3)
        await rig.until(lambda: any(isinstance(event, MediaTimeout) for event in rig.events))
        assert [event.handle for event in rig.events if isinstance(event, MediaTimeout)] == [handle]
        assert rig.audio(handle)  # silence went on meanwhile


@on_a_loop
async def test_one_calls_fault_does_not_stop_the_clock() -> None:
    async with running() as rig:
        phone, other = rig.phone(), rig.phone()
        faulty = rig.engine.start(phone.local_port, phone.params())
        rig.engine.start(other.local_port, other.params())

        def handler(event: MediaEvent) -> None:
            if event.handle == faulty:
                raise RuntimeError("a bug of one call")

        rig.handlers.append(handler)
        with capture_logs() as logged:
            await asyncio.gather(phone.talk([FRAME] * 5), other.talk([FRAME] * 5))
        assert "media event not handled" in [entry["event"] for entry in logged]


@on_a_loop
async def test_no_event_of_a_leg_after_it_was_closed() -> None:
    async with running() as rig:
        phone, other = rig.phone(), rig.phone()
        stream = MediaStream(rig.engine, rig.engine.start(phone.local_port, phone.params()))
        kept = rig.engine.start(other.local_port, other.params())
        rig.handlers.append(lambda event: stream.close() if event.handle == stream.handle else None)
        await phone.talk([FRAME])
        phone.say()
        await other.talk([FRAME] * 5)
        await rig.until(lambda: rig.engine.stats(kept).packets_received == 5)
        assert len([event for event in rig.events if event.handle == stream.handle]) == 1
        stream.play(b"late", "reply", "item")
        stream.finish("item")
        assert stream.close() == stream.stats
        assert rig.engine.legs == 1


class TestPorts:
    def test_both_ports_are_bound_before_anybody_is_told(self) -> None:
        engine = MediaEngine(MediaSettings(ports=PORTS))
        try:
            local = engine.reserve()
            assert local.port % 2 == 0
            for port in (local.port, local.port + 1):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(OSError, match="in use"):
                    sock.bind((local.address, port))
            engine.release(local)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind((local.address, local.port))
        finally:
            engine.shut_down()

    def test_a_port_of_somebody_else_is_passed_over_and_a_full_range_is_an_error(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as somebody:
            somebody.bind(("127.0.0.1", 0))
            port = somebody.getsockname()[1] & ~1
            engine = MediaEngine(MediaSettings(ports=range(port, port + 4)))
            try:
                assert engine.reserve().port == port + 2
                with pytest.raises(NoPortAvailableError):
                    engine.reserve()
            finally:
                engine.shut_down()

    def test_closing_gives_everything_back(self) -> None:
        engine = MediaEngine(MediaSettings(ports=PORTS))
        try:
            free = engine.free_ports
            params = MediaParams(codecs.PCMU, ("127.0.0.1", 9), payload_type_send=0, payload_type_receive=0)
            handles = [engine.start(engine.reserve(), params) for _ in range(20)]
            assert engine.free_ports <= free - 20
            for handle in handles:
                assert engine.close(handle) is not None
                assert engine.close(handle) is None
            assert engine.legs == 0
        finally:
            engine.shut_down()


class Stepped:
    """An engine whose clock stands until it is moved."""

    def __init__(self, legs: int, **changes: object) -> None:
        self.now = 1000.0
        self.engine = MediaEngine(MediaSettings(ports=PORTS), clock=lambda: self.now, random_bits=lambda bits: 1)
        self.phones = [Phone(self.engine, n) for n in range(legs)]
        self.handles = [self.engine.start(phone.local_port, phone.params(**changes)) for phone in self.phones]

    def tick(self, seconds: float = 0.005) -> list[int]:
        """How many packets each leg has sent by now."""
        self.now += seconds
        self.engine.tick()
        self.engine.collect()
        return [self.engine.stats(handle).packets_sent for handle in self.handles]

    def __enter__(self) -> Stepped:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.shut_down()
        for phone in self.phones:
            phone.sock.close()


class TestClock:
    def test_legs_are_spread_over_four_phases(self) -> None:
        with Stepped(10) as stepped:
            before = [0] * 10
            bursts = []
            for _ in range(8):
                after = stepped.tick()
                bursts.append(sum(after) - sum(before))
                before = after
            assert sorted(bursts[:4]) == [2, 2, 3, 3]
            assert bursts[4:] == bursts[:4]
            stepped.engine.close(stepped.handles.pop(0))  # the next leg takes the place that became free
            phone = Phone(stepped.engine, 99)
            stepped.phones.append(phone)
            stepped.handles.append(stepped.engine.start(phone.local_port, phone.params()))
            before = stepped.tick()
            bursts = []
            for _ in range(4):
                after = stepped.tick()
                bursts.append(sum(after) - sum(before))
                before = after
            assert sorted(bursts) == [2, 2, 3, 3]

    @pytest.mark.parametrize("ptime_ms", [10, 20, 30, 40, 60])
    def test_every_packet_time(self, ptime_ms: int) -> None:
        with Stepped(3, ptime_ms=ptime_ms) as stepped:
            for _ in range(4):
                stepped.tick()
            before = stepped.tick()
            for _ in range(600 // 5):
                after = stepped.tick()
            assert [b - a for a, b in zip(before, after, strict=True)] == [600 // ptime_ms] * 3

    def test_a_short_delay_is_made_up_for(self) -> None:
        with Stepped(4) as stepped:
            for _ in range(8):
                sent = stepped.tick()
            assert sent == [2] * 4
            stepped.tick(0.035)
            for _ in range(6):
                sent = stepped.tick(0.0)
            for _ in range(1):
                sent = stepped.tick()
            assert sent == [4] * 4
            assert stepped.engine.clock.stalled_ms == 0
            assert stepped.engine.clock.late_max == pytest.approx(0.03)

    def test_after_a_long_stall_there_is_no_burst(self) -> None:
        with Stepped(4) as stepped:
            for _ in range(8):
                sent = stepped.tick()
            stepped.tick(1.0)
            for _ in range(3):
                sent = stepped.tick(0.0)
            assert sum(sent) <= 8 + 4 * 2
            stats = stepped.engine.stats(stepped.handles[0])
            assert stats.stalled_ms == pytest.approx(1000, abs=45)
            assert stepped.engine.clock.stalled_ms == stats.stalled_ms
            heard = []
            for _ in range(sent[0]):
                heard.append(RtpPacket.parse(stepped.phones[0].sock.recv(2048)))
            timestamps = [packet.timestamp for packet in heard]
            assert timestamps[-1] - timestamps[0] >= 160 + stats.stalled_ms * 8
            assert [packet.sequence_number for packet in heard] == list(range(1, len(heard) + 1))

    def test_a_queue_of_packets_is_read_within_two_ticks(self) -> None:
        with Stepped(1) as stepped:
            for _ in range(15):
                stepped.phones[0].say()
            stepped.tick()
            stepped.tick()
            assert stepped.engine.stats(stepped.handles[0]).packets_received == 15

    def test_a_packet_that_can_not_be_sent_is_counted(self) -> None:
        with Stepped(1, remote=("255.255.255.255", 9)) as stepped:  # broadcast is not allowed to us
            for _ in range(8):
                stepped.tick()
            assert stepped.engine.stats(stepped.handles[0]).send_errors == 2

    def test_rtcp_is_counted(self) -> None:
        with Stepped(1) as stepped:
            local = stepped.phones[0].local_port
            stepped.phones[0].sock.sendto(b"\x80\xc9\x00\x01" + bytes(4), (local.address, local.port + 1))
            stepped.tick()
            assert stepped.engine.stats(stepped.handles[0]).rtcp_received == 1


@on_a_loop
async def test_the_clock_rests_while_there_are_no_legs_and_starts_again() -> None:
    async with running() as rig:
        for _ in range(2):
            phone = rig.phone()
            handle = rig.engine.start(phone.local_port, phone.params())
            await phone.talk([FRAME] * 3)
            rig.engine.close(handle)
        assert rig.engine.clock.stalled_ms == 0
