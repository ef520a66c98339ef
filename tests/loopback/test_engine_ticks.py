"""The media engine on real sockets with a clock that is told what time it is: which tick sends what."""

from __future__ import annotations

import gc
import random
import socket
from collections.abc import Iterator
from dataclasses import replace
from weakref import ref

import pytest

from sipbridge import codecs
from sipbridge.audio import PCM_24K, PCMU
from sipbridge.media.clock import TICK_SECONDS
from sipbridge.media.engine import MediaEngine
from sipbridge.media.events import Audio, Handle, MediaEvent
from sipbridge.media.params import MediaParams, MediaSettings
from sipbridge.media.rtp import RtpPacket
from tests.compiled import takes_weak_references

SPEECH = bytes(n % 100 for n in range(160))


class House:
    """One engine, one phone per leg, ticks by hand."""

    def __init__(self) -> None:
        self.now = 50.0
        self.engine = MediaEngine(MediaSettings(ports=range(42400, 42600)), clock=lambda: self.now)
        self.phones: dict[Handle, socket.socket] = {}
        self.heard: dict[Handle, list[tuple[int, RtpPacket]]] = {}

    def leg(self, **changes: object) -> Handle:
        phone = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        phone.bind(("127.0.0.1", 0))
        phone.setblocking(False)
        params = MediaParams(codecs.PCMU, phone.getsockname(), payload_type_send=0, payload_type_receive=0)
        params = replace(replace(params, downlink=PCMU), **changes)  # type: ignore[arg-type]
        handle = self.engine.start(self.engine.reserve(), params)
        self.phones[handle] = phone
        self.heard[handle] = []
        return handle

    def tick(self, count: int = 1, *, late: float = 0.0) -> list[MediaEvent]:
        events: list[MediaEvent] = []
        for _ in range(count):
            self.now = self.engine.clock.deadline + late
            self.engine.tick()
            events += self.engine.collect()
            for handle, phone in self.phones.items():
                while packet := self.receive(phone):
                    self.heard[handle].append((self.engine.clock.tick, packet))
        return events

    @staticmethod
    def receive(phone: socket.socket) -> RtpPacket | None:
        try:
            return RtpPacket.parse(phone.recv(2048))
        except BlockingIOError:
            return None

    def ticks(self, handle: Handle) -> list[int]:
        return [tick for tick, _ in self.heard[handle]]

    def close(self) -> None:
        self.engine.shut_down()
        for phone in self.phones.values():
            phone.close()


@pytest.fixture
def house() -> Iterator[House]:
    built = House()
    yield built
    built.close()


def test_speech_after_silence_is_sent_at_the_next_tick(house: House) -> None:
    handle = house.leg()
    house.tick(9)
    assert house.ticks(handle) == [4, 8]
    house.engine.push(handle, SPEECH * 3, "r", "i")
    house.engine.finish(handle, "i")
    house.tick(20)
    assert house.ticks(handle) == [4, 8, 10, 14, 18, 22, 28]  # the silence of 22 ends the speech; then its own time
    packets = [packet for _, packet in house.heard[handle]]
    assert [packet.payload == SPEECH for packet in packets] == [False] * 2 + [True] * 3 + [False] * 2
    assert [packet.marker for packet in packets] == [False, False, True, False, False, False, False]
    first = packets[0].timestamp
    assert [(packet.timestamp - first) & 0xFFFFFFFF for packet in packets] == [160 * n for n in range(7)]
    assert house.engine.stats(handle).rephased == 1


def test_over_an_hour_of_short_words_the_stream_stays_with_the_clock(house: House) -> None:
    handle = house.leg()
    house.tick(5)
    for n in range(2000):
        house.tick(1 + n % 13)
        house.engine.push(handle, SPEECH, "r", f"i{n}")
        house.engine.finish(handle, f"i{n}")
    ticks = house.ticks(handle)
    packets = [packet for _, packet in house.heard[handle]]
    elapsed = [(packet.timestamp - packets[0].timestamp) & 0xFFFFFFFF for packet in packets]
    ahead_ms = [samples / 8 - (tick - ticks[0]) * 5 for samples, tick in zip(elapsed, ticks, strict=True)]
    assert min(ahead_ms) >= 0
    assert max(ahead_ms) < 20
    assert house.engine.stats(handle).rephased > 500


def test_a_leg_on_hold_or_paused_is_not_hastened(house: House) -> None:
    held = house.leg(direction="inactive")
    paused = house.leg()
    house.engine.pause(paused)
    house.tick(9)
    for handle in (held, paused):
        house.engine.push(handle, SPEECH, "r", "i")
    house.tick(20)
    assert house.ticks(held) == []
    ticks = house.ticks(paused)
    assert {after - before for before, after in zip(ticks, ticks[1:], strict=False)} == {4}
    assert house.engine.stats(held).rephased == house.engine.stats(paused).rephased == 0


def test_a_minute_at_once_on_many_legs_is_converted_piece_by_piece(house: House) -> None:
    """Each tick converts a bounded amount, and nobody's packet waits for another's minute."""
    minute = bytes(range(1, 241)) * 12_000
    handles = [house.leg() for _ in range(30)]
    for handle in handles:
        seat = house.engine._seats[handle]
        house.engine.update(handle, replace(seat.leg.params, downlink=PCM_24K))
        house.engine.push(handle, minute, "r", "i")
    pacers = [house.engine._seats[handle].leg.downlink.pacer for handle in handles]
    assert sum(pacer.buffered for pacer in pacers) == 0
    before = 0
    for _ in range(40):
        house.tick()
        done = sum(pacer.buffered for pacer in pacers) + sum(160 * len(heard) for heard in house.heard.values())
        assert done - before <= 160 * 5 * 30  # all of them begin at once
        before = done
    assert all(len(heard) in (9, 10, 11) for heard in house.heard.values())
    assert all(packet.payload[:100] != b"\xff" * 100 for heard in house.heard.values() for _, packet in heard[1:])


def test_a_late_tick_leaves_the_conversion_to_the_packets(house: House) -> None:
    handle = house.leg(ptime_ms=20)
    seat = house.engine._seats[handle]
    house.engine.update(handle, replace(seat.leg.params, downlink=PCM_24K))
    house.engine.push(handle, bytes(range(1, 241)) * 400, "r", "i")
    house.tick(3, late=3 * TICK_SECONDS / 4)
    assert seat.leg.downlink.pacer.waiting_ms + 20 * len(house.heard[handle]) == 2000
    assert seat.leg.downlink.backlog
    house.tick(10)
    assert len(house.heard[handle]) in (3, 4)


@takes_weak_references
def test_a_leg_that_is_closed_is_freed_at_once(house: House) -> None:
    """Not by the collector, whose walk would hold up the sound of the others, nor when the next call comes."""
    gc.collect()
    gc.disable()
    try:
        handle = house.leg(downlink=PCM_24K)
        house.engine.push(handle, bytes(48 * 1000), "r", "i")
        house.tick(220)  # there was a report
        seat = ref(house.engine._seats[handle])
        house.engine.close(handle)
        assert seat() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(("jitter_ms", "most_underruns", "typical_ms"), [(0.5, 1, 17), (2, 3, 19), (8, 8, 32)])
def test_a_model_in_real_time_is_heard_soon_and_without_many_holes(
    house: House, jitter_ms: float, most_underruns: int, typical_ms: float
) -> None:
    """Pieces of 20 ms every 20 ms, each a little late: how long from its coming to the packet that begins with it."""
    chance = random.Random(3)
    handle = house.leg()
    house.tick(7)
    began = house.now + 0.0013
    pieces = [(began + 0.02 * n + chance.random() * jitter_ms / 1000, bytes([1 + n % 200]) * 160) for n in range(500)]
    came: dict[int, float] = {}
    left: dict[int, float] = {}
    for n, (moment, piece) in enumerate(pieces):
        while house.engine.clock.deadline <= moment:
            house.tick()
        house.now = came[n] = moment
        house.engine.push(handle, piece, "r", "i")
    house.tick(40)
    n = 0
    for tick, packet in house.heard[handle]:
        while n < 500 and bytes([1 + n % 200]) * 40 in packet.payload:
            left[n] = tick
            n += 1
    start = house.engine.clock.deadline - (house.engine.clock.tick + 1) * TICK_SECONDS
    delays = sorted((start + tick * TICK_SECONDS - came[n]) * 1000 for n, tick in left.items() if n > 50)
    assert len(delays) > 440
    assert house.engine.stats(handle).underruns <= most_underruns
    assert delays[len(delays) // 2] <= typical_ms


class TestFlood:
    def voice(self, house: House, handle: Handle, number: int, payload: bytes) -> None:
        port = house.engine._seats[handle].local_port
        packet = RtpPacket(0, number, 160 * number, 77, payload)
        house.phones[handle].sendto(packet.serialize(), (port.address, port.port))

    @pytest.mark.parametrize("kind", ["noise", "rtp", "huge"])
    def test_a_thousand_a_second_into_one_call_change_nothing(self, house: House, kind: str) -> None:
        """Neither what the flooded call hears nor when the others' packets leave."""
        chance = random.Random(7)
        handles = [house.leg(uplink=PCMU) for _ in range(4)]
        victim = house.engine._seats[handles[0]].local_port
        heard: dict[Handle, bytes] = dict.fromkeys(handles, b"")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.1", 0))
            for n in range(400):
                for handle in handles if n % 4 == 0 else ():
                    self.voice(house, handle, n // 4, bytes([1 + n // 4]) * 160)
                for m in range(5):
                    data = {
                        "noise": chance.randbytes(chance.randrange(1, 200)),
                        "rtp": RtpPacket(0, chance.randrange(65536), 0, n * 5 + m, bytes(160)).serialize(),
                        "huge": b"\x80\x00" + bytes(8000),
                    }[kind]
                    stranger.sendto(data, (victim.address, victim.port))
                    stranger.sendto(data, (victim.address, victim.port + 1))
                for event in house.tick():
                    if isinstance(event, Audio):
                        heard[event.handle] += event.pcm
        voice = b"".join(bytes([1 + n]) * 160 for n in range(100))
        assert all(sound == voice for sound in heard.values())
        assert [len(house.ticks(handle)) for handle in handles] == [100] * 4
        stats = house.engine.stats(handles[0])
        assert stats.wrong_source + stats.malformed + stats.non_rtp + stats.wrong_payload + stats.rtcp_received >= 1900
        assert stats.remote == house.phones[handles[0]].getsockname()

    def test_a_flood_into_all_calls_is_read_in_portions(self, house: House) -> None:
        handles = [house.leg() for _ in range(30)]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for _ in range(40):
                for handle in handles:
                    port = house.engine._seats[handle].local_port
                    stranger.sendto(b"x", (port.address, port.port))
        read = []
        for _ in range(8):
            before = sum(house.engine.stats(handle).non_rtp for handle in handles)
            house.tick()
            read.append(sum(house.engine.stats(handle).non_rtp for handle in handles) - before)
        assert max(read) <= 30 + 256
        assert sum(read) == 1200
