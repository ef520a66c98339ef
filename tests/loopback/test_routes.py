"""Two telephones that hear each other through the engine, each on a clock of its own."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from sipbridge import codecs
from sipbridge.audio import PCMU
from sipbridge.media.params import MediaParams
from sipbridge.media.stream import MediaStream
from tests.loopback.earpiece import FRAME, Earpiece
from tests.loopback.sound import LAWS, Samples, clean_share, join, level_db, tone
from tests.loopback.test_media_engine import Rig, running


class Hasty(Earpiece):
    """Its clock is 0.2 % fast, ten times what quartz may be."""

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while self._due <= loop.time():
            self._due += 0.02 / 1.002
            self.send(self._to_say.popleft() if self._to_say else LAWS[self.payload_type].silence)
        self._clock = loop.call_at(self._due, self._tick)
        self.changed()


def connected(rig: Rig, phone: Earpiece) -> MediaStream:
    port = rig.engine.reserve()
    params = MediaParams(
        codecs.PCMU, phone.address, payload_type_send=0, payload_type_receive=0, uplink=PCMU, downlink=PCMU
    )
    stream = MediaStream(rig.engine, rig.engine.start(port, params))
    phone.connect((port.address, port.port))
    return stream


def steady(sound: Samples, seconds: float) -> Samples:
    """The middle of what is loud."""
    loud = np.flatnonzero(np.abs(sound) > 0.05)
    middle, half = (loud[0] + loud[-1]) // 2, round(seconds * 4000)
    return sound[middle - half : middle + half]


async def test_each_hears_the_other() -> None:
    async with running() as rig:
        hasty, calm = await Hasty.open(), await Earpiece.open()
        first, second = connected(rig, hasty), connected(rig, calm)
        first.route(second)
        second.route(first)
        hasty.say(tone(1000, 2.0))
        calm.say(tone(500, 2.0))
        await asyncio.gather(hasty.said(), calm.said())
        await calm.hear(10)
        for phone, hz in ((calm, 1000), (hasty, 500)):
            heard = steady(join([packet.samples for packet in phone.audio()]), 1.2)
            assert level_db(heard) == pytest.approx(-12, abs=0.5)
            assert clean_share(heard, hz) >= 0.8
        first.unroute(second)
        packets = await calm.hear(4)
        assert packets[-1].payload == LAWS[0].silence
        assert len(packets[-1].payload) == FRAME
        second.close()  # which ends the route from it, too
        hasty.say(tone(1000, 0.1))
        await hasty.said()
        assert first.stats.packets_received > 100
        first.close()
        hasty.close()
        calm.close()
        await asyncio.sleep(0)


async def test_nobody_is_routed_to_himself_nor_by_a_closed_leg() -> None:
    async with running() as rig:
        phone, other = await Earpiece.open(), await Earpiece.open()
        stream, gone = connected(rig, phone), connected(rig, other)
        with pytest.raises(ValueError, match="hear itself"):
            stream.route(stream)
        gone.close()
        stream.route(gone)
        gone.route(stream)
        stream.unroute(gone)
        await phone.hear(2)
        stream.close()
        phone.close()
        other.close()
        await asyncio.sleep(0)
