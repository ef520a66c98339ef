"""Tones, and finding them again: by FFT, in level and in purity. G.711 by the standard library."""

from __future__ import annotations

import audioop
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Samples: TypeAlias = NDArray[np.float64]
"""-1..1"""


@dataclass(frozen=True)
class Law:
    to_pcm: Callable[[bytes, int], bytes]
    from_pcm: Callable[[bytes, int], bytes]
    silence: bytes
    """20 ms of it."""

    def decode(self, data: bytes) -> Samples:
        return samples_of(self.to_pcm(data, 2))

    def encode(self, samples: Samples) -> bytes:
        return self.from_pcm(np.round(samples * 32767).astype("<i2").tobytes(), 2)


ULAW = Law(audioop.ulaw2lin, audioop.lin2ulaw, b"\xff" * 160)
ALAW = Law(audioop.alaw2lin, audioop.lin2alaw, b"\xd5" * 160)
LAWS = {0: ULAW, 8: ALAW}


def samples_of(pcm: bytes) -> Samples:
    return np.frombuffer(pcm, "<i2").astype(np.float64) / 32768


def join(parts: Sequence[Samples]) -> Samples:
    return np.concatenate(parts) if parts else np.zeros(0)


def tone(hz: float, seconds: float, *, db: float = -12.0, rate: int = 8000) -> Samples:
    """A sine whose RMS is `db` below full scale."""
    peak = 2**0.5 * 10 ** (db / 20)
    sine: Samples = peak * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
    return sine


def level_db(samples: Samples) -> float:
    """RMS below full scale; silence is -100."""
    return float(10 * np.log10(np.mean(np.square(samples)) + 1e-10)) if len(samples) else -100.0


def peak_hz(samples: Samples, rate: int = 8000) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.blackman(len(samples))))
    return float(np.argmax(spectrum)) * rate / len(samples)


def share_of_tone(samples: Samples, hz: float, rate: int = 8000) -> float:
    """How much of the energy a sine of this frequency accounts for: by least squares, so good for one packet, too."""
    angle = 2 * np.pi * hz * np.arange(len(samples)) / rate
    basis = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    fitted = basis @ np.linalg.lstsq(basis, samples, rcond=None)[0]
    total = float(np.sum(np.square(samples)))
    return float(np.sum(np.square(fitted))) / total if total else 0.0


def snr_db(samples: Samples, hz: float, rate: int = 8000) -> float:
    """The tone against everything else."""
    share = share_of_tone(samples, hz, rate)
    return float(10 * np.log10(share / max(1 - share, 1e-10)))


def clean_share(samples: Samples, hz: float, rate: int = 8000) -> float:
    """How much of it, in pieces of 50 ms, is this tone and nothing else, give or take 5 Hz: a pace that changes by some
    hundred ppm is no noise."""
    size = rate // 20
    pieces = [samples[start : start + size] for start in range(0, len(samples) - size + 1, size)]
    clean = [max(snr_db(piece, hz + 0.5 * step, rate) for step in range(-10, 11)) > 25 for piece in pieces]
    return clean.count(True) / len(clean)


def loudest(samples: Samples, seconds: float, rate: int = 8000) -> Samples:
    """The stretch of this length with the most energy: the middle of a tone, away from its ends."""
    size = round(seconds * rate)
    energy = np.concatenate(([0.0], np.cumsum(np.square(samples))))
    start = int(np.argmax(energy[size:] - energy[:-size]))
    return samples[start : start + size]
