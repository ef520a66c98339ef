"""Comfort noise (RFC 3389): the background of a caller who is silent, made from a description of a few octets.

The first octet is the level, those after it are the reflection coefficients of an all-pole model of the spectrum. Noise
of that level and colour goes into the stream until there is sound again. Whatever the payload is, what comes of it is
noise of at most its level.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Samples: TypeAlias = NDArray[np.float64]

PAYLOAD_TYPE = 13  # the static one, for clocks of 8000 Hz

_MAX_ORDER = 12  # §3: "the decoder may reduce the model order"
_MAX_COEFFICIENT = 0.98  # 1 and more would be no filter but an oscillator
_FULL_SCALE = 32768.0  # 0 dBov is a square wave of this height
_RESPONSE = 64  # samples of the filter's impulse response that are heard
_QUIETEST = 127
# Noise is made ahead and repeats itself after so many samples, without a seam: half of a call is pauses, and to make it
# anew for each packet would cost more than all else that is done for one.
_LOOP = 4096
_CHANGE = 160  # samples, at least, over which one level passes over into another
_LEAST = 160  # samples for which a description holds at least: to follow one per sample would keep everybody waiting


class ComfortNoise:
    """One stream's. `describe` with each payload, then `render`."""

    def __init__(self, seed: int, encode: Callable[[Samples], bytes]) -> None:
        """The same seed makes the same noise. `encode` makes the stream's octets of samples, each for itself."""
        self._encode = encode
        self._white = np.fft.rfft(np.random.default_rng(seed).standard_normal(_LOOP))
        self._spectrum: bytes | None = None
        self._unit: Samples = np.zeros(_LOOP)
        self._payload: bytes | None = None
        self._described = False  # anew, which has not been followed yet
        self._rendered = 0  # samples, of what was described before
        self._loop = b""
        self._size = 1  # octets of a sample
        self._position = 0
        self._level = self._target = 0.0
        self._begins = True

    def describe(self, payload: bytes) -> None:
        """What it is like from now on. Takes anything: no octets are silence, coefficients beyond the twelfth are left
        out."""
        if payload == self._payload:
            return
        self._payload = payload
        self._described = True

    def fall_silent(self) -> None:
        """Sound came: the next noise begins anew, at its own level."""
        self._begins = True

    def render(self, samples: int) -> bytes:
        """The next so many samples; a change of level is spread over them."""
        if not self._loop or (self._described and self._rendered >= _LEAST):
            self._make()
        self._rendered += samples
        if self._begins:
            self._begins = False
            self._level = self._target
        if self._level != self._target and samples >= _CHANGE:
            return self._change(samples)
        start = self._position * self._size
        self._position = (self._position + samples) % _LOOP
        whole, rest = divmod(start + samples * self._size, len(self._loop))
        return (self._loop * (whole + 1))[start : whole * len(self._loop) + rest]

    def _make(self) -> None:
        self._described, self._rendered = False, 0
        payload = self._payload or b""
        level = payload[0] & 0x7F if payload else _QUIETEST
        self._target = 0.0 if level == _QUIETEST else _FULL_SCALE * 10.0 ** (-level / 20)
        spectrum = payload[1 : 1 + _MAX_ORDER]
        if spectrum != self._spectrum:
            self._spectrum = spectrum
            response = np.fft.rfft(_impulse_response(_coefficients(spectrum)), _LOOP)
            self._unit = np.fft.irfft(self._white * response, _LOOP)
        self._loop = self._encode(self._unit * self._target)
        self._size = len(self._loop) // _LOOP

    def _change(self, samples: int) -> bytes:
        places = np.arange(self._position, self._position + samples) % _LOOP
        self._position = (self._position + samples) % _LOOP
        changing = self._encode(self._unit[places] * np.linspace(self._level, self._target, samples))
        self._level = self._target
        return changing


def _coefficients(octets: bytes) -> list[float]:
    """§3.2: quantized in equal steps, 127 is zero."""
    return [max(-_MAX_COEFFICIENT, min(_MAX_COEFFICIENT, 258 * (octet - 127) / 32768)) for octet in octets]


def _impulse_response(reflection: list[float]) -> Samples:
    """Of the filter 1/A(z) whose lattice has these coefficients, so scaled that noise keeps its power."""
    predictor: list[float] = []
    for k in reflection:
        predictor = [a + k * b for a, b in zip(predictor, reversed(predictor), strict=True)] + [k]
    response = [1.0]
    if predictor:
        for n in range(1, _RESPONSE):
            response.append(-sum(a * response[n - 1 - i] for i, a in enumerate(predictor[:n])))
    array = np.array(response)
    scaled: Samples = array / np.sqrt(np.sum(np.square(array)))
    return scaled
