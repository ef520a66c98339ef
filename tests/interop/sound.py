"""Sound in files: making it, and hearing what is in it. The rate is the telephone's where no other is named."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Samples: TypeAlias = NDArray[np.float64]
RATE = 8000


def tone(hertz: float, seconds: float, *, level_db: float = -12.0, rate: int = RATE) -> Samples:
    """A sine at `level_db` below full scale (its peak), -1..1."""
    return 10 ** (level_db / 20) * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def silence(seconds: float, rate: int = RATE) -> Samples:
    return np.zeros(int(seconds * rate))


def write_wav(path: Path, samples: Samples, rate: int = RATE, channels: int = 1) -> Path:
    """The same on each channel."""
    samples = np.repeat(samples, channels)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return path


def read_wav(path: Path, expected_rate: int = RATE) -> Samples:
    """The first channel, -1..1. Fails where the rate is another than expected.

    The number of frames in the header is not believed: a recorder that was ended may not have filled it in.
    """
    data = path.read_bytes()
    assert data[:4] == b"RIFF", path
    assert data[8:12] == b"WAVE", path
    channels = int.from_bytes(data[22:24], "little")
    rate = int.from_bytes(data[24:28], "little")
    bits = int.from_bytes(data[34:36], "little")
    assert (rate, bits) == (expected_rate, 16), f"{path}: {rate} Hz, {bits} bits"
    start = data.index(b"data") + 8
    usable = (len(data) - start) // (2 * channels) * 2 * channels
    return np.frombuffer(data[start : start + usable], "<i2").astype(np.float64)[::channels] / 32768


def level_db(samples: Samples) -> float:
    """RMS in dB below full scale; a full-scale sine is -3."""
    return float(20 * np.log10(np.sqrt(np.mean(np.square(samples))) + 1e-9)) if len(samples) else -180.0


def frame_levels_db(samples: Samples, frame_ms: int = 20, rate: int = RATE) -> NDArray[np.float64]:
    """The level of each whole frame."""
    size = rate * frame_ms // 1000
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    levels: NDArray[np.float64] = 20 * np.log10(np.sqrt(np.mean(np.square(frames), axis=1)) + 1e-9)
    return levels


def loud_seconds(samples: Samples, threshold_db: float = -45.0) -> float:
    """How long there was sound above the threshold, in all."""
    return float(np.count_nonzero(frame_levels_db(samples) > threshold_db)) * 0.02


def peak_hertz(samples: Samples, rate: int = RATE) -> float:
    """The strongest frequency."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * rate / len(samples)


def tone_seconds(samples: Samples, hertz: float, *, purity: float = 0.8, rate: int = RATE) -> float:
    """How long a tone of this frequency sounds: frames with `purity` of their energy within 40 Hz of it."""
    return float(np.count_nonzero(_tone_frames(samples, hertz, purity, rate))) * 0.05


def tone_level_db(samples: Samples, hertz: float, *, rate: int = RATE) -> float:
    """How loud it is while it sounds (RMS): its ends, where a frame is only partly filled, do not count."""
    found = _tone_frames(samples, hertz, 0.8, rate)
    inner = found[1:-1] & found[:-2] & found[2:]
    assert np.any(inner), f"no tone of {hertz:g} Hz for longer than 100 ms"
    return float(np.median(frame_levels_db(samples, 50, rate)[1:-1][inner]))


def _tone_frames(samples: Samples, hertz: float, purity: float, rate: int) -> NDArray[np.bool_]:
    size = rate // 20  # 50 ms: bins of 20 Hz
    frames = samples[: len(samples) // size * size].reshape(-1, size) * np.hanning(size)
    power = np.square(np.abs(np.fft.rfft(frames, axis=1)))
    frequencies = np.fft.rfftfreq(size, 1 / rate)
    near = power[:, np.abs(frequencies - hertz) <= 40].sum(axis=1)
    total = power.sum(axis=1)
    loud = total > (size * 1e-3) * (rate / RATE)
    found: NDArray[np.bool_] = loud & (near > purity * total)
    return found
