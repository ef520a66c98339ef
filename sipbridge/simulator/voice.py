"""The simulated model's voice and ear: speech as bytes in a wire format, and voice activity by loudness."""

from __future__ import annotations

import audioop
import wave
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from sipbridge.audio import PCM_24K, PCMA, PCMU, AudioFormat
from sipbridge.simulator.script import Utterance

_G711 = {"audio/pcmu": PCMU, "audio/pcma": PCMA}
_LOUDNESS = 0.3
_FRAME_MS = 10
_ONSET_FRAMES = 3
"""A click is no speech."""


def audio_format(described: Mapping[str, Any]) -> AudioFormat:
    """`{"type": "audio/pcm", "rate": 24000}` or `{"type": "audio/pcmu"}`, in words of our own."""
    return _G711.get(described["type"]) or AudioFormat("pcm16", described.get("rate", PCM_24K.rate))


@lru_cache(maxsize=32)
def speech(utterance: Utterance, audio: AudioFormat) -> bytes:
    """The whole utterance in the given format."""
    samples = _read_wav(utterance, audio.rate) if utterance.wav else _tone(utterance, audio.rate)
    pcm = samples.astype("<i2").tobytes()
    if audio.encoding == "pcmu":
        return audioop.lin2ulaw(pcm, 2)
    if audio.encoding == "pcma":
        return audioop.lin2alaw(pcm, 2)
    return pcm


def _tone(utterance: Utterance, rate: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    count = int(utterance.seconds * rate)
    ramp = min(count // 2, rate // 100)
    level = np.ones(count)
    if ramp:
        level[:ramp] = np.linspace(0.0, 1.0, ramp)
        level[-ramp:] = level[:ramp][::-1]
    tone: np.ndarray[tuple[int], np.dtype[np.float64]] = np.sin(2 * np.pi * utterance.tone_hz * np.arange(count) / rate)
    return tone * level * _LOUDNESS * 32767


def _read_wav(utterance: Utterance, rate: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    assert utterance.wav is not None
    with wave.open(str(utterance.wav), "rb") as file:
        if file.getsampwidth() != 2:
            raise ValueError(f"{utterance.wav}: not a 16-bit WAV file")
        channels, source_rate = file.getnchannels(), file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)
    mono = samples.reshape(-1, channels).mean(axis=1)
    if source_rate != rate:
        import soxr  # files only: not needed to speak in tones

        mono = soxr.resample(mono, source_rate, rate)
    clipped: np.ndarray[tuple[int], np.dtype[np.float64]] = np.clip(mono, -32768, 32767)
    return clipped


def spread(text: str, parts: int) -> list[str]:
    """The text in so many pieces, cut between words; some may be empty."""
    words = text.split(" ")
    words[:-1] = [word + " " for word in words[:-1]]
    cuts = [len(words) * i // parts for i in range(parts + 1)]
    return ["".join(words[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]


class Ear:
    """Voice activity on stream time: milliseconds count the audio heard, not the clock."""

    def __init__(self, audio: AudioFormat, *, rms: float, prefix_ms: int, silence_ms: int) -> None:
        self._audio = audio
        self._rms = rms
        self._prefix_ms = prefix_ms
        self._silence_frames = max(1, silence_ms // _FRAME_MS)
        self._rest = b""
        self._loud = 0
        self._quiet = 0
        self.speaking = False
        self.heard_ms = 0

    def feed(self, data: bytes) -> list[tuple[bool, int]]:
        """Changes: (speaking now, where on the stream)."""
        data = self._rest + data
        size = self._audio.bytes_per_ms * _FRAME_MS
        whole = len(data) - len(data) % size
        self._rest = data[whole:]
        pcm = self._linear(data[:whole])
        step = len(pcm) // (whole // size) if whole else 1
        changes = []
        for start in range(0, len(pcm), step):
            change = self._frame(audioop.rms(pcm[start : start + step], 2))
            if change is not None:
                changes.append(change)
        return changes

    def _linear(self, data: bytes) -> bytes:
        if self._audio.encoding == "pcmu":
            return audioop.ulaw2lin(data, 2)
        return audioop.alaw2lin(data, 2) if self._audio.encoding == "pcma" else data

    def _frame(self, rms: int) -> tuple[bool, int] | None:
        self.heard_ms += _FRAME_MS
        if rms >= self._rms:
            self._loud, self._quiet = self._loud + 1, 0
        else:
            self._loud, self._quiet = 0, self._quiet + 1
        if not self.speaking and self._loud >= _ONSET_FRAMES:
            self.speaking = True
            return True, max(0, self.heard_ms - _ONSET_FRAMES * _FRAME_MS - self._prefix_ms)
        if self.speaking and self._quiet >= self._silence_frames:
            self.speaking = False
            return False, self.heard_ms
        return None
