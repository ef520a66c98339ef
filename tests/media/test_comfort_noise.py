"""RFC 3389: level, colour, and whatever else may stand in such a payload."""

from __future__ import annotations

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from sipbridge.media.comfort_noise import ComfortNoise


def octets(samples: NDArray[np.float64]) -> bytes:
    """Full resolution: what is tested is the noise, not a codec."""
    return samples.astype("<f8").tobytes()


def samples_of(data: bytes) -> NDArray[np.float64]:
    return np.frombuffer(data, "<f8")


def noise_of(payload: bytes, samples: int = 16000, seed: int = 1) -> NDArray[np.float64]:
    noise = ComfortNoise(seed, octets)
    noise.describe(payload)
    return samples_of(b"".join(noise.render(160) for _ in range(samples // 160)))


def level(sound: NDArray[np.float64]) -> float:
    """In dBov."""
    return float(20 * np.log10(sound.std() / 32768 + 1e-9))


def tilt(sound: NDArray[np.float64]) -> float:
    """Correlation of neighbours: 1 for deep, -1 for high sounds, 0 for white noise."""
    return float(np.corrcoef(sound[:-1], sound[1:])[0, 1])


@pytest.mark.parametrize("octet", [20, 35, 50, 65, 78])
def test_the_level_is_what_the_first_octet_says(octet: int) -> None:
    assert level(noise_of(bytes((octet,)))) == pytest.approx(-octet, abs=0.5)


@pytest.mark.parametrize(("first", "expected"), [(127, 0.0), (12, 0.9), (63, 0.5), (191, -0.5), (242, -0.9)])
def test_the_first_coefficient_tilts_the_spectrum_and_keeps_the_level(first: int, expected: float) -> None:
    sound = noise_of(bytes((40, first)), 64000)
    assert tilt(sound) == pytest.approx(expected, abs=0.05)
    assert level(sound) == pytest.approx(-40, abs=0.7)


def test_the_model_is_as_long_as_the_payload() -> None:
    """A resonance at 1 kHz: k2 near 1 makes it sharp, k1 puts it there."""
    k2 = 0.9
    k1 = -np.cos(2 * np.pi * 1000 / 8000)
    octets = bytes([40, *(round(127 + k * 32768 / 258) for k in (k1, k2))])
    spectrum = np.abs(np.fft.rfft(noise_of(octets).reshape(-1, 400), axis=1)).mean(axis=0)
    assert np.argmax(spectrum) * 20 == pytest.approx(1000, abs=60)


def test_127_is_silence() -> None:
    assert not np.rint(noise_of(b"\x7f")).any()


def test_the_same_seed_makes_the_same_noise_and_pieces_make_the_same_as_a_whole() -> None:
    payload = bytes((40, 60, 150))
    assert np.array_equal(noise_of(payload), noise_of(payload))
    assert not np.array_equal(noise_of(payload), noise_of(payload, seed=2))
    whole = ComfortNoise(1, octets)
    whole.describe(payload)
    assert np.array_equal(samples_of(whole.render(16000)), noise_of(payload))


@pytest.mark.parametrize("piece", [1, 7, 160, 4096, 5000])
def test_it_repeats_itself_without_a_seam(piece: int) -> None:
    noise = ComfortNoise(1, octets)
    noise.describe(bytes((40, 10)))  # so deep that neighbours are nearly alike
    sound = samples_of(b"".join(noise.render(piece) for _ in range(-(-10_000 // piece))))
    assert np.array_equal(sound[:4096], sound[4096:8192])
    steps = np.abs(np.diff(sound))
    assert steps[4090:4100].max() < 4 * steps.std()


def test_another_level_comes_without_a_step() -> None:
    noise = ComfortNoise(1, octets)
    noise.describe(b"\x46")
    noise.render(800)
    noise.describe(b"\x1e")
    rising = samples_of(noise.render(1600))
    assert level(rising[:200]) < level(rising[-200:]) - 6
    assert level(samples_of(noise.render(8000))) == pytest.approx(-30, abs=0.5)


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\xff" * 1400, b"\x00" + b"\xff" * 10, b"\x00" + b"\x00" * 500])
def test_odd_payloads_are_noise_of_at_most_full_scale(payload: bytes) -> None:
    sound = noise_of(payload)
    assert np.isfinite(sound).all()
    assert sound.std() <= 1.05 * 32768


@pytest.mark.parametrize("seed", range(30))
def test_no_payload_makes_it_louder_than_its_level(seed: int) -> None:
    chance = random.Random(seed)
    payload = chance.randbytes(chance.randrange(1, 30))
    sound = noise_of(payload, 8000)
    assert np.isfinite(sound).all()
    assert level(sound) <= -(payload[0] & 0x7F) + 4 or payload[0] & 0x7F == 127


def test_nothing_is_no_samples() -> None:
    assert ComfortNoise(1, octets).render(0) == b""


def test_descriptions_that_follow_each_other_closely_are_not_all_followed() -> None:
    """Each costs what fifty packets of sound do."""
    made: list[int] = []

    def encode(samples: NDArray[np.float64]) -> bytes:
        made.append(len(samples))
        return octets(samples)

    noise = ComfortNoise(1, encode)
    for number in range(800):  # a tenth of a second
        noise.describe(bytes((20, number % 255, number // 255)))
        noise.render(1)
    assert len(made) <= 5
    noise.describe(bytes((60,)))
    rendered = b"".join(noise.render(160) for _ in range(20))
    assert level(samples_of(rendered)[800:]) == pytest.approx(-60, abs=1.0), "the last one holds in the end"
