"""A leg that is over is freed at once, by its last reference, whatever it did: see `tests/sip/test_freed.py`."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from weakref import ref

import pytest

from sipbridge import codecs
from sipbridge.audio import PCM_16K, PCM_24K
from sipbridge.codecs import Codec
from sipbridge.media.rtcp_session import RtcpSession
from sipbridge.media.rtp import RtpPacket
from sipbridge.recording_files.about import About
from sipbridge.recordings import Recording
from tests.compiled import takes_weak_references
from tests.media.test_leg import PARAMS, PHONE, VOICE, Bench

pytestmark = takes_weak_references

WIDE = replace(PARAMS, uplink=PCM_16K, downlink=PCM_24K)


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("codec", [codecs.PCMU, codecs.G722, codecs.OPUS, codecs.L16_16K], ids=lambda codec: codec.name)
def test_one_that_was_spoken_on(codec: Codec) -> None:
    bench = Bench(replace(WIDE, codec=codec))
    leg = bench.leg
    sound = codec.new_encoder().encode(bytes(codec.sample_rate // 1000 * 20 * 2))
    leg.rtcp.session = RtcpSession(7, b"c", bench.now, clock_rate=codec.clock_rate, wall_time=1.7e9, chance=lambda: 0.5)
    leg.push(bytes(48_000 * 2), "reply", "said", bench.now)
    leg.push(bytes(48_000 * 2), "reply", "waits", bench.now)
    for number in range(100):
        if number % 7:  # lost ones are concealed
            packet = RtpPacket(0, number, number * codec.ticks(20), 1, sound)
            leg.receive(packet.serialize(), PHONE, bench.now, bench.events)
        bench.tick()
    leg.discard(bench.now)
    leg.push(bytes(48_000 * 2), "reply", "waits", bench.now)
    leg.downlink.send_key("5")
    leg.rtcp.bye(bench.now)
    last = [ref(part) for part in (leg, leg.uplink, leg.downlink, leg.downlink.pacer, leg.rtcp, leg.uplink.filler)]
    del bench, leg
    assert [part() for part in last] == [None] * len(last)


def test_those_that_heard_each_other_and_were_recorded() -> None:
    one, two = Bench(WIDE), Bench(PARAMS)
    one.leg.handle = 8
    legs = (one.leg, two.leg)
    tap = Recording(About("a", "t"), Path(), 8000, "wav", one.now)
    one.leg.listeners.use_tap(tap, one.now)
    one.leg.listeners.add(two.leg.listeners, 1.0)
    two.leg.listeners.add(one.leg.listeners, 0.5)
    for bench in (one, two):
        for _ in range(20):
            bench.tick(say=VOICE)
            bench.leg.listeners.tell(VOICE, bench.now)
    assert len(tap.waiting) > 20
    assert all(leg.downlink.mixer is not None for leg in legs)
    for leg in legs:
        leg.listeners.end(one.now)
    last = [ref(part) for leg in legs for part in (leg, leg.listeners, leg.uplink, leg.downlink)] + [ref(tap)]
    del bench, one, two, leg, legs, tap
    assert [part() for part in last] == [None] * len(last)
