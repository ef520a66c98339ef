"""What is said in a measurement, in the formats that are sent, and how it is recognised at the other end.

A *mark* is a 500 Hz cosine of 20 ms that begins at its peak: its onset, where half the amplitude is passed, is its
first sample, and a linear-phase filter moves it by exactly its delay.
"""

from __future__ import annotations

import math
from array import array

import numpy as np

from sipbridge.codecs import lookup

AMPLITUDE = 12000
MARK_HZ = 500
SPEECH_HZ = 400
MU_LAW_SILENCE = b"\xff"


def tone(hertz: float, milliseconds: int, rate: int) -> bytes:
    """PCM16, beginning at the peak."""
    step = 2 * math.pi * hertz / rate
    samples = (round(AMPLITUDE * math.cos(step * n)) for n in range(rate * milliseconds // 1000))
    return array("h", samples).tobytes()


def mu_law(pcm: bytes) -> bytes:
    codec = lookup("PCMU")
    assert codec is not None
    return codec.new_encoder().encode(pcm)


def _magnitudes() -> list[int]:
    codec = lookup("PCMU")
    assert codec is not None
    return [abs(sample) for sample in array("h", codec.new_decoder().decode(bytes(range(256))))]


_LOUD = bytes(magnitude >= AMPLITUDE // 2 for magnitude in _magnitudes())
_SOUND = bytes(magnitude > 32 for magnitude in _magnitudes())


def onset_in_mu_law(payload: bytes) -> float | None:
    """Milliseconds into the payload where a mark begins; None where none does."""
    at = payload.translate(_LOUD).find(b"\x01")
    return None if at < 0 else at / 8


def onset_in_pcm(pcm: bytes, rate: int) -> float | None:
    """The same of PCM16."""
    loud = np.abs(np.frombuffer(pcm, "<i2").astype(np.int32)) >= AMPLITUDE // 2
    position = int(loud.argmax())
    return position * 1000 / rate if loud[position] else None


def sound_ms(payload: bytes) -> float:
    """Milliseconds from the payload's beginning to its last audible sample; 0 for silence, or next to it."""
    audible = payload.translate(_SOUND)
    return (audible.rfind(b"\x01") + 1) / 8
