"""Comfort noise (RFC 3389): the background of a caller who is silent, made from a description of a few octets.

The first octet is the level, those after it are the reflection coefficients of an all-pole model of the spectrum. Noise
of that level and colour goes into the stream until there is sound again. Whatever the payload is, what comes of it is
noise of at most its level.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PAYLOAD_TYPE = 13  # the static one, for clocks of 8000 Hz

_MAX_ORDER = 12  # §3: "the decoder may reduce the model order"
_MAX_COEFFICIENT = 0.98  # 1 and more would be no filter but an oscillator
_FULL_SCALE = 32768.0  # 0 dBov is a square wave of this height
_RESPONSE = 64  # samples of the filter's impulse response that are heard
_QUIETEST = 127


class ComfortNoise:
    """One stream's. `describe` with each payload, then `render`."""

    def __init__(self, seed: int) -> None:
        """The same seed makes the same noise."""
        self._generator = np.random.default_rng(seed)
        self._payload: bytes | None = None
        self._response = np.ones(1)
        self._excitation = self._generator.standard_normal(_RESPONSE - 1)
        self._level = 0.0  # of the last sample rendered
        self._target = 0.0

    def describe(self, payload: bytes) -> None:
        """What it is like from now on. Takes anything: no octets are silence, coefficients beyond the twelfth are left
        out."""
        if payload == self._payload:
            return
        self._payload = payload
        level = payload[0] & 0x7F if payload else _QUIETEST
        self._target = 0.0 if level == _QUIETEST else _FULL_SCALE * 10.0 ** (-level / 20)
        self._response = _impulse_response(_coefficients(payload[1 : 1 + _MAX_ORDER]))

    def fall_silent(self) -> None:
        """Sound came: the next noise begins anew, at its own level."""
        self._level = 0.0
        self._payload = None

    def render(self, samples: int) -> NDArray[np.float64]:
        """The next so many samples; a change of level is spread over them."""
        if not samples:
            return np.zeros(0)
        before = self._level or self._target
        self._level = self._target
        fresh = self._generator.standard_normal(samples)
        excitation = np.concatenate((self._excitation, fresh))
        self._excitation = excitation[-(_RESPONSE - 1) :]
        noise: NDArray[np.float64] = np.convolve(excitation, self._response, "full")
        noise = noise[_RESPONSE - 1 : _RESPONSE - 1 + samples]
        return noise * np.linspace(before, self._target, samples)


def _coefficients(octets: bytes) -> list[float]:
    """§3.2: quantized in equal steps, 127 is zero."""
    return [max(-_MAX_COEFFICIENT, min(_MAX_COEFFICIENT, 258 * (octet - 127) / 32768)) for octet in octets]


def _impulse_response(reflection: list[float]) -> NDArray[np.float64]:
    """Of the filter 1/A(z) whose lattice has these coefficients, so scaled that noise keeps its power."""
    predictor: list[float] = []
    for k in reflection:
        predictor = [a + k * b for a, b in zip(predictor, reversed(predictor), strict=True)] + [k]
    response = [1.0]
    if predictor:
        for n in range(1, _RESPONSE):
            response.append(-sum(a * response[n - 1 - i] for i, a in enumerate(predictor[:n])))
    array = np.array(response)
    scaled: NDArray[np.float64] = array / np.sqrt(np.sum(np.square(array)))
    return scaled
