"""A stream read by another clock: in virtual time, with clocks that differ, and with ears for what that does."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from sipbridge.media.playout import Playout
from sipbridge.media.warp import AFTER, BEFORE, warp

Samples = NDArray[np.float64]


def sine(hz: float, count: int, rate: int, *, first: int = 0, level: float = 10000) -> bytes:
    return np.rint(level * np.sin(2 * np.pi * hz * (first + np.arange(count)) / rate)).astype("<i2").tobytes()


def samples_of(pcm: bytes) -> Samples:
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def distortion_db(samples: Samples, hz: float, rate: int, *, notch_hz: float = 20) -> float:
    """Everything but the tone against the tone (THD+N), above 50 Hz."""
    power = np.square(np.abs(np.fft.rfft(samples * np.blackman(len(samples)))))
    frequency = np.arange(len(power)) * rate / len(samples)
    tone = np.abs(frequency - hz) <= notch_hz
    return float(10 * np.log10(power[~tone & (frequency > 50)].sum() / power[tone].sum()))


def longest_silence(samples: Samples) -> int:
    """Of samples that are zero; a sine has one at a time."""
    loud = np.flatnonzero(np.abs(samples) > 200)
    return int(np.diff(loud).max())


@dataclass
class Bench:
    """A telephone whose clock is `ppm` fast, a reader whose clock is right."""

    ppm: float = 0
    rate: int = 8000
    hz: float = 1000
    jitter: float = 0.0
    """Each packet is late by up to so many seconds; none overtakes another."""
    fixed: float | None = None
    block_ms: int = 20
    read_ms: int = 20
    seed: int = 1
    depths: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.playout = Playout(self.rate, fixed_seconds=self.fixed)
        self.began = self.now = 1000.0
        self.said = 0
        self.random = np.random.default_rng(self.seed)
        self.due = self._due()
        self.heard: list[bytes] = []

    def _due(self) -> float:
        """When the next packet comes: not before it has been spoken, nor before the one before it."""
        spoken = (self.said + self.rate * self.block_ms // 1000) / self.rate / (1 + self.ppm * 1e-6)
        return max(getattr(self, "due", 0.0), self.began + spoken + self.jitter * float(self.random.random()))

    def run(self, seconds: float) -> Samples:
        """What was heard in that time."""
        size, block = self.rate * self.read_ms // 1000, self.rate * self.block_ms // 1000
        first = len(self.heard)
        for _ in range(round(seconds * 1000 / self.read_ms)):
            self.now += self.read_ms / 1000
            while self.due <= self.now:
                self.playout.write(sine(self.hz, block, self.rate, first=self.said), self.due)
                self.said += block
                self.due = self._due()
            self.heard.append(self.playout.read(size, self.now))
            self.depths.append(self.playout.depth)
        return samples_of(b"".join(self.heard[first:]))


class TestSkew:
    @pytest.mark.parametrize("ppm", [200, -200, 1000, -1000])
    @pytest.mark.parametrize("rate", [8000, 16000])
    def test_a_tone_stays_clean(self, ppm: float, rate: int) -> None:
        bench = Bench(ppm, rate)
        bench.run(10)
        heard = bench.run(40)
        assert distortion_db(heard, 1000, rate) < -60
        assert bench.playout.underruns == 0
        assert longest_silence(heard) < 4 * rate // 8000

    @pytest.mark.parametrize("ppm", [200, -200])
    def test_high_in_the_band_too(self, ppm: float) -> None:
        bench = Bench(ppm, hz=3200)
        bench.run(10)
        assert distortion_db(bench.run(20), 3200, 8000) < -50

    @pytest.mark.parametrize("ppm", [200, -200])
    @pytest.mark.parametrize("fixed", [None, 0.25])
    @pytest.mark.parametrize("seconds", [600, pytest.param(3600, marks=pytest.mark.slow)])
    def test_the_delay_is_bounded(self, ppm: float, fixed: float | None, seconds: int) -> None:
        """Without making up for it 0.72 s would have come together in an hour."""
        bench = Bench(ppm, jitter=0.005, fixed=fixed, block_ms=60, read_ms=60 if fixed is None else 240)
        bench.run(60)
        bench.depths.clear()
        bench.run(seconds - 60)
        mean = (fixed or 0.0) * 8000
        spread = 0.08 * 8000
        assert max(bench.depths) - min(bench.depths) < spread
        assert min(bench.depths) >= 0
        assert max(bench.depths) < mean + 0.09 * 8000
        assert bench.playout.underruns == 0
        moved = bench.playout.squeezed - bench.playout.stretched
        assert moved == pytest.approx(ppm * 1e-6 * seconds * 8000, rel=0.1)

    def test_clocks_that_agree_pass_every_sample_untouched(self) -> None:
        bench = Bench(jitter=0.0)
        heard = bench.run(20).tolist()
        start = next(index for index, sample in enumerate(heard) if sample == 10000)
        assert bench.playout.squeezed + bench.playout.stretched == 0
        period = samples_of(sine(1000, 8, 8000, first=2)).tolist()
        assert heard[start:] == (period * 20000)[: len(heard) - start]

    @pytest.mark.parametrize("ppm", [200, -200])
    def test_a_reader_that_lags_by_a_fixed_time_stays_there(self, ppm: float) -> None:
        """Where it reads, in the speaker's time: a recording's two sides stay together."""
        bench = Bench(ppm, jitter=0.01, fixed=0.25, hz=7, block_ms=20, read_ms=200)
        places = []
        for _ in range(12):
            heard = bench.run(10)[-8000:]
            angle = 2 * np.pi * 7 * np.arange(8000) / 8000
            phase = np.angle(np.sum(heard * np.exp(-1j * angle)))  # of the last second, against the reader's clock
            spoken = 2 * np.pi * 7 * (bench.now - bench.began - 1) * (1 + ppm * 1e-6)
            places.append(float((phase + np.pi / 2 - spoken + np.pi) % (2 * np.pi) - np.pi) / (2 * np.pi * 7))
        assert max(places) - min(places) < 0.004
        assert -places[-1] % (1 / 7) == pytest.approx(0.25 % (1 / 7), abs=0.012)


class TestJitter:
    def test_the_delay_is_as_short_as_the_jitter_permits(self) -> None:
        calm, restless = Bench(), Bench(jitter=0.06)
        for bench in (calm, restless):
            bench.run(10)
            bench.depths.clear()
            bench.run(20)
        assert max(calm.depths) <= 0.027 * 8000
        assert 0.05 * 8000 < max(restless.depths) < 0.1 * 8000

    def test_it_grows_with_the_jitter_and_shrinks_again(self) -> None:
        bench = Bench(jitter=0.08)
        bench.run(10)
        restless = max(bench.depths[-250:])
        bench.jitter = 0.0
        bench.run(30)
        assert max(bench.depths[-250:]) < restless / 2
        assert bench.playout.underruns <= 3

    def test_an_underrun_fades_out_and_in(self) -> None:
        bench = Bench()
        bench.run(5)
        bench.due += 0.3
        heard = bench.run(2)
        assert bench.playout.underruns == 1
        assert np.abs(np.diff(heard)).max() < 8200, "no click: a sine of this level has steps of 7071 at most"
        edges = np.flatnonzero(np.abs(heard) > 100)
        gap = int(np.diff(edges).argmax())
        assert np.abs(heard[edges[gap] - 8 : edges[gap] + 1]).max() < 3500
        assert np.abs(heard[edges[gap + 1] : edges[gap + 1] + 8]).max() < 3500

    def test_what_was_late_is_heard_and_the_delay_made_up_for(self) -> None:
        bench = Bench(hz=0)  # silence: it may be cut
        bench.run(5)
        bench.due += 0.2
        bench.run(1)
        late = max(bench.depths[-10:])
        bench.due -= 0.2
        bench.run(10)
        assert late > 0.18 * 8000
        assert max(bench.depths[-250:]) < 0.04 * 8000
        assert bench.playout.cut_samples > 0


class TestBounds:
    def test_nobody_reads(self) -> None:
        playout = Playout(8000)
        for index in range(5000):
            playout.write(bytes(320), index * 0.02)
        assert playout.depth < 1.1 * 8000
        assert len(playout._buffer) < 2 * (8000 * 1.1 + 20000)

    def test_a_burst_does_not_stay(self) -> None:
        bench = Bench()
        bench.run(5)
        for _ in range(40):
            bench.playout.write(sine(1000, 160, 8000, first=bench.said), bench.now)
            bench.said += 160
        bench.due = bench.now
        bench.run(0.1)
        assert bench.depths[-1] <= 0.3 * 8000

    def test_nothing_was_written(self) -> None:
        playout = Playout(8000)
        assert playout.read(160, 5.0) == bytes(320)
        playout.write(b"", 5.0)
        assert playout.read(160, 5.02) == bytes(320)

    def test_a_stream_that_pauses_begins_anew(self) -> None:
        bench = Bench(fixed=0.1)
        bench.run(5)
        bench.began += 30.0
        bench.due += 30.0
        bench.run(31)
        heard = bench.run(4)
        assert distortion_db(heard, 1000, 8000) < -60
        assert bench.playout.cut_samples == 0


class TestWarp:
    def test_whole_samples_are_copied(self) -> None:
        pcm = sine(700, 160 + BEFORE + AFTER, 8000)
        assert warp(pcm, 160, 0.0, 0.0) == pcm[2 * BEFORE : 2 * BEFORE + 320]

    @pytest.mark.parametrize(("first", "last"), [(0.0, 1.0), (0.0, -1.0), (0.25, 0.5), (-0.75, -1.0)])
    def test_the_sound_between_the_samples(self, first: float, last: float) -> None:
        count = 800
        heard = samples_of(warp(sine(1000, count + BEFORE + AFTER, 8000), count, first, last))
        place = BEFORE + np.arange(count) + first + (last - first) * np.arange(count) / count
        assert np.abs(heard - 10000 * np.sin(2 * np.pi * 1000 * place / 8000)).max() < 10

    def test_it_does_not_overflow(self) -> None:
        loud = (np.sign(samples_of(sine(1700, 160 + BEFORE + AFTER, 8000))) * 32767).astype("<i2").tobytes()
        heard = samples_of(warp(loud, 160, 0.5, 0.6))
        assert heard.max() == 32767
        assert heard.min() == -32768
