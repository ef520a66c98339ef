"""The resampler as an instrument would see it: the level of single tones through every ratio that is in use.

A tone goes through `sipbridge.media.resample` in 20 ms chunks; what comes out is analysed with a Blackman-Harris
window, whose own side lobes (below -90 dB) are under the floor of 16-bit samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sipbridge.media.resample import Resampler

RATIOS = ((8000, 24000), (24000, 8000), (8000, 16000), (16000, 8000), (16000, 24000), (24000, 16000))
"""A phone's rate (8 kHz; 16 kHz with G.722) to and from a model's. Opus is coded at the model's own."""
_BAND = 0.425
"""Of the lower rate: 3.4 kHz at 8 kHz."""
_AMPLITUDE = 16000.0
_WINDOW = (0.35875, 0.48829, 0.14128, 0.01168)
_BESIDE_HZ = 20.0
"""What is nearer to a tone belongs to it."""


@dataclass(frozen=True, slots=True)
class Response:
    source: int
    target: int
    band_hz: float
    passband_db: float
    """The largest deviation from 0 dB, from 100 Hz to the edge of the band."""
    rejection_db: float
    """How far an alias that falls into that band, or an image of a tone in it, is below that tone, at the least."""
    delay_ms: float


def measure(source: int, target: int) -> Response:
    band = _BAND * min(source, target)
    deviation = 0.0
    rejection = 200.0
    for hertz in np.arange(100.0, band + 1, 100.0):
        spectrum = _Spectrum(hertz, source, target)
        level = spectrum.level(hertz)
        deviation = max(deviation, abs(level))
        others = [spectrum.highest(0.0, hertz - _BESIDE_HZ), spectrum.highest(hertz + _BESIDE_HZ, band)]
        if target > source:  # images of the band: everything above the source's half that mirrors what is in the band
            others.append(spectrum.highest(source - band, target / 2))
        rejection = min(rejection, level - max(others))
    if source > target:  # what folds into the band when the target's rate is too low for it
        for hertz in np.arange(target - band, source / 2 - 50, 50.0):
            rejection = min(rejection, -_Spectrum(hertz, source, target).highest(0.0, band))
    return Response(source, target, band, deviation, rejection, Resampler(source, target).delay_ms)


def curve(source: int, target: int, step: float = 50.0) -> list[tuple[float, float]]:
    """(Hz, dB) up to the half of the higher rate: of a tone that goes in, wherever it comes out, where the rate falls;
    of what comes out there, whichever tone it is an image of, where the rate rises."""
    points = []
    for hertz in np.arange(step, max(source, target) / 2 - step / 2, step):
        tone, place = (hertz, _folded(hertz, target)) if source > target else (_folded(hertz, source), hertz)
        if 0 < tone < source / 2 and 0 < place < target / 2:  # at the ends a tone and its image are one
            points.append((float(hertz), _Spectrum(tone, source, target, seconds=0.1).level(place)))
    return points


def _folded(hertz: float, rate: int) -> float:
    """Where this frequency is found among samples of that rate."""
    rest = hertz % rate
    return min(rest, rate - rest)


class _Spectrum:
    """Of what a tone comes to, in dB relative to it."""

    def __init__(self, hertz: float, source: int, target: int, seconds: float = 1.0) -> None:
        count = int(source * (seconds + 0.1))
        tone = np.rint(_AMPLITUDE * np.sin(2 * np.pi * hertz * np.arange(count) / source)).astype("<i2").tobytes()
        resampler = Resampler(source, target)
        chunk = source // 50 * 2
        output = b"".join(resampler.process(tone[start : start + chunk]) for start in range(0, len(tone), chunk))
        settled = np.frombuffer(output, "<i2")[target // 20 :][: int(target * seconds)].astype(np.float64)
        phase = 2 * np.pi * np.arange(len(settled)) / len(settled)
        a, b, c, d = _WINDOW
        window = a - b * np.cos(phase) + c * np.cos(2 * phase) - d * np.cos(3 * phase)
        amplitude = 2 * np.abs(np.fft.rfft(settled * window)) / window.sum()
        self._decibel: NDArray[np.float64] = 20 * np.log10(np.maximum(amplitude, 1e-6) / _AMPLITUDE)
        self._seconds = seconds

    def level(self, hertz: float) -> float:
        return float(self._decibel[round(hertz * self._seconds)])

    def highest(self, low: float, high: float) -> float:
        lines = self._decibel[int(low * self._seconds) : int(high * self._seconds) + 1]
        return float(lines.max()) if len(lines) and high >= low else -200.0
