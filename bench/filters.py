"""The resampler as an instrument would see it: the level of single tones through every ratio that is in use.

A tone goes through `sipbridge.media.resample` in 20 ms chunks; what comes out is analysed with a Blackman-Harris
window, whose own side lobes (below -90 dB) are under the floor of 16-bit samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sipbridge.media.resample import Resampler

RATIOS = ((8000, 24000), (24000, 8000), (8000, 16000), (16000, 8000))
"""The telephone's rate to and from a model's."""
BAND_HZ = 3400.0
_AMPLITUDE = 16000.0
_SECONDS = 1.0
_WINDOW = (0.35875, 0.48829, 0.14128, 0.01168)


@dataclass(frozen=True, slots=True)
class Response:
    source: int
    target: int
    passband_db: float
    """The largest deviation from 0 dB, 100 Hz to 3.4 kHz."""
    rejection_db: float
    """How far an alias that falls into that band, or an image of a tone in it, is below that tone, at the least."""


def measure(source: int, target: int) -> Response:
    deviation = 0.0
    rejection = 200.0
    for hertz in np.arange(100.0, BAND_HZ + 1, 100.0):
        spectrum = _through(hertz, source, target)
        level = _level(spectrum, hertz)
        deviation = max(deviation, abs(level))
        if target > source:  # images of the band: everything above the source's half that mirrors what is in the band
            rejection = min(rejection, level - _highest(spectrum, source - BAND_HZ, target / 2))
    if source > target:  # what folds into the band when the target's rate is too low for it
        for hertz in np.arange(target - BAND_HZ, source / 2 - 50, 50.0):
            spectrum = _through(hertz, source, target)
            rejection = min(rejection, -_highest(spectrum, 0.0, BAND_HZ))
    return Response(source, target, deviation, rejection)


def _through(hertz: float, source: int, target: int) -> NDArray[np.float64]:
    """The spectrum in dB relative to the tone that went in, one line per hertz."""
    count = int(source * (_SECONDS + 0.1))
    tone = np.rint(_AMPLITUDE * np.sin(2 * np.pi * hertz * np.arange(count) / source)).astype("<i2").tobytes()
    resampler = Resampler(source, target)
    chunk = source // 50 * 2
    output = b"".join(resampler.process(tone[start : start + chunk]) for start in range(0, len(tone), chunk))
    settled = np.frombuffer(output, "<i2")[target // 20 :][: int(target * _SECONDS)].astype(np.float64)
    phase = 2 * np.pi * np.arange(len(settled)) / len(settled)
    a, b, c, d = _WINDOW
    window = a - b * np.cos(phase) + c * np.cos(2 * phase) - d * np.cos(3 * phase)
    amplitude = 2 * np.abs(np.fft.rfft(settled * window)) / window.sum()
    decibel: NDArray[np.float64] = 20 * np.log10(np.maximum(amplitude, 1e-6) / _AMPLITUDE)
    return decibel


def _level(spectrum: NDArray[np.float64], hertz: float) -> float:
    return float(spectrum[round(hertz)])


def _highest(spectrum: NDArray[np.float64], low: float, high: float) -> float:
    return float(spectrum[int(low) : int(high) + 1].max())
