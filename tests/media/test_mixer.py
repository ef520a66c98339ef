"""What one leg says, heard on another: two legs and their telephones in virtual time, each with a clock of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from sipbridge import codecs
from sipbridge.audio import PCM_8K, PCM_16K, PCMA, PCMU, AudioFormat
from sipbridge.codecs import g711
from sipbridge.media.leg import Leg
from sipbridge.media.mixer import Mixer, Route
from sipbridge.media.params import MediaParams
from sipbridge.media.rtp import RtpPacket, Sequencer
from tests.media.test_leg import PARAMS, tone
from tests.media.test_playout import distortion_db, longest_silence

Samples = NDArray[np.float64]
SILENCE = b"\xff" * 160


class Telephone:
    """A leg and who is at its other end, whose clock is `ppm` fast."""

    def __init__(self, handle: int, *, ppm: float = 0, params: MediaParams = PARAMS) -> None:
        self.ppm = ppm
        remote = (f"192.0.2.{handle}", 4000)
        self.params = replace(params, remote=remote)
        self.leg = Leg(handle, self.params, Sequencer(handle, 0, 0), 100.0)
        self.source = remote
        self.voice: bytes | None = None
        """Octets to say, again and again; a tone of whole periods."""
        self.said = 0
        self.heard: list[RtpPacket] = []

    def speak(self, now: float) -> None:
        """All packets whose time has come by its own clock."""
        while 100.0 + (self.said + 1) * 0.02 / (1 + self.ppm * 1e-6) <= now:
            payload = SILENCE if self.voice is None else self.voice
            packet = RtpPacket(self.params.payload_type_receive, self.said & 0xFFFF, self.said * 160, 9, payload)
            self.leg.receive(packet.serialize(), self.source, now, [])
            self.said += 1

    def sound(self, packets: int) -> Samples:
        """The last that were heard."""
        octets = b"".join(packet.payload for packet in self.heard[-packets:])
        return np.frombuffer(g711.MuLaw().decode(octets), "<i2").astype(np.float64)


class House:
    """An engine's part in it, tick by tick."""

    def __init__(self, *telephones: Telephone) -> None:
        self.telephones = telephones
        self.now = 100.0

    def run(self, seconds: float) -> None:
        for tick in range(round(seconds * 200)):
            self.now += 0.005
            for one in self.telephones:
                packet = one.leg.next_packet(self.now) if (tick + one.leg.handle) % 4 == 0 else None
                if packet:
                    one.heard.append(RtpPacket.parse(packet))
            for one in self.telephones:
                one.speak(self.now)
                one.leg.advance(self.now, [])
                chunk = one.leg.uplink.take()
                for route in one.leg.listeners.routes.values():
                    route.hear(chunk, one.leg.uplink.converter.source, self.now)


def octets(hz: float, level: int = 8000) -> bytes:
    return g711.MuLaw().encode(tone(hz, 20, 8000, level))


class TestTwo:
    def test_octets_pass_as_they_are(self) -> None:
        one, two = Telephone(1), Telephone(2)
        house = House(one, two)
        one.leg.listeners.add(two.leg.listeners, 1.0)
        one.voice = bytes(range(120)) + b"\x80" * 40
        house.run(2)
        assert one.voice in b"".join(packet.payload for packet in two.heard[-20:])
        assert {packet.payload for packet in one.heard} == {SILENCE}, "it was one way only"

    @pytest.mark.parametrize("ppm", [200, -200])
    def test_their_clocks_differ(self, ppm: float) -> None:
        """Two minutes: 24 ms of difference, more than a packet."""
        one, two = Telephone(1, ppm=ppm), Telephone(2, ppm=-ppm)
        house = House(one, two)
        one.leg.listeners.add(two.leg.listeners, 1.0)
        two.leg.listeners.add(one.leg.listeners, 1.0)
        one.voice, two.voice = octets(1000), octets(500)
        house.run(120)
        for telephone, hz in ((one, 500), (two, 1000)):
            heard = telephone.sound(5500)
            assert distortion_db(heard, hz, 8000) < -33, "G.711 twice leaves no more"
            assert longest_silence(heard) <= 8
            assert telephone.leg.downlink.mixer is not None
            (route,) = telephone.leg.downlink.mixer.routes.values()
            assert route.playout is not None
            assert route.playout.underruns == 0
            assert route.playout.depth < 0.06 * 8000

    def test_what_is_said_is_one_talkspurt(self) -> None:
        one, two = Telephone(1), Telephone(2)
        house = House(one, two)
        one.leg.listeners.add(two.leg.listeners, 1.0)
        house.run(1)
        one.voice = octets(1000)
        house.run(1)
        one.voice = None
        house.run(1)
        assert [packet.marker for packet in two.heard].count(True) == 1
        assert two.heard[-1].payload == SILENCE

    def test_no_more(self) -> None:
        one, two = Telephone(1), Telephone(2)
        house = House(one, two)
        one.leg.listeners.add(two.leg.listeners, 1.0)
        one.voice = octets(1000)
        house.run(1)
        one.leg.listeners.remove(two.leg.listeners)
        one.leg.listeners.remove(two.leg.listeners)
        house.run(1)
        assert two.heard[-1].payload == SILENCE
        assert two.leg.downlink.mixer is None
        assert one.leg.listeners.routes == {}

    def test_other_codecs_and_in_mid_call(self) -> None:
        alaw = replace(PARAMS, codec=codecs.PCMA, uplink=PCMA, payload_type_receive=8)
        one, two = Telephone(1), Telephone(2, params=alaw)
        house = House(one, two)
        one.leg.listeners.add(two.leg.listeners, 1.0)
        one.voice = octets(1000)
        house.run(1)
        laws = {PCMA: g711.ALaw().decode, PCMU: g711.MuLaw().decode}
        for codec, ring in ((codecs.PCMA, PCMA), (codecs.PCMU, PCMU)):
            two.leg.update(replace(two.params, codec=codec, uplink=ring), house.now)
            house.run(1)
            sound = np.frombuffer(laws[ring](b"".join(packet.payload for packet in two.heard[-25:])), "<i2")
            assert distortion_db(sound.astype(float), 1000, 8000) < -30


class TestMixing:
    def test_the_agent_speaks_as_well(self) -> None:
        one, two = Telephone(1), Telephone(2)
        house = House(one, two)
        one.leg.listeners.add(two.leg.listeners, 0.5)
        one.voice = octets(1000)
        two.leg.downlink.push(octets(500, 4000) * 200, "r", "i")
        house.run(2)
        heard = two.sound(50)
        for hz, level in ((1000, 4000), (500, 4000)):
            angle = 2 * np.pi * hz * np.arange(len(heard)) / 8000
            assert 2 * abs(np.mean(heard * np.exp(-1j * angle))) == pytest.approx(level, rel=0.05)
        assert two.leg.downlink.pacer.buffered < 200 * 160, "its items are played as ever"

    def test_three_hear_each_other(self) -> None:
        everybody = [Telephone(number, ppm=100 * number) for number in (1, 2, 3)]
        house = House(*everybody)
        for one in everybody:
            for other in everybody:
                if one is not other:
                    one.leg.listeners.add(other.leg.listeners, 1.0)
        for one, hz in zip(everybody, (400, 1000, 2000), strict=True):
            one.voice = octets(hz)
        house.run(5)
        for one, own in zip(everybody, (400, 1000, 2000), strict=True):
            spectrum = np.abs(np.fft.rfft(one.sound(100) * np.blackman(16000)))
            loud = {hz for hz in (400, 1000, 2000) if spectrum[hz * 2 - 2 : hz * 2 + 3].max() > 1e6}
            assert loud == {400, 1000, 2000} - {own}, "nobody hears himself"

    def test_what_is_too_loud_is_cut_off(self) -> None:
        mixer = Mixer()
        for number in (1, 2):
            mixer.routes[number] = Route(1.0)
        now, loud, heard = 100.0, tone(1000, 20, 8000, 30000), b""
        for _ in range(50):
            now += 0.02
            for route in mixer.routes.values():
                route.hear(loud, PCM_8K, now)
            heard = mixer.mix(None, 160, PCM_8K, now) or b""
        samples = np.frombuffer(heard, "<i2")
        assert (samples.max(), samples.min()) == (32767, -32768)

    @pytest.mark.parametrize("ring", [PCMU, PCMA, PCM_8K, PCM_16K])
    def test_silence_is_nothing(self, ring: AudioFormat) -> None:
        mixer = Mixer()
        assert mixer.mix(None, 160, ring, 100.0) is None
        mixer.routes[1] = Route(1.0)
        for number in range(20):
            mixer.routes[1].hear(bytes(320), PCM_8K, 100 + number * 0.02)
            assert mixer.mix(None, ring.rate // 50, ring, 100 + number * 0.02) is None
        own = ring.silence * (ring.rate // 50)
        assert mixer.mix(own, ring.rate // 50, ring, 101.0) is own
