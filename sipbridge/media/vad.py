"""Voice activity by energy: who speaks, told from the level above an adaptive noise floor.

Driven by the stream itself: time is the number of samples fed, so the same audio gives the same events however it is
cut into chunks and however fast it comes. It serves the embedded provider, the simulators and local barge-in. It knows
loud from quiet, not speech from music; a model's own detector is better and comes first where there is one.
"""

from __future__ import annotations

import audioop
import math
from collections import deque
from dataclasses import dataclass
from typing import Protocol, TypeAlias

FRAME_MS = 10
"""Levels are taken over frames of this length; event times are multiples of it."""

_SILENT_DB = -96.0
_SMOOTHED_FRAMES = 5
_WINDOW_FRAMES = 50
_WINDOWS = 6


@dataclass(frozen=True, slots=True)
class VadSettings:
    onset_ms: int = 60
    """Speech begins after this much of it, so that a click is none."""
    silence_ms: int = 500
    """Speech has ended after this much quiet."""
    margin_db: float = 12.0
    """How far above the noise floor a frame is loud."""
    release_db: float = 4.0
    """Once speech has begun, a frame this much quieter still belongs to it."""
    quietest_db: float = -50.0
    """Below this level (dB of full scale, RMS) nothing is speech, however quiet the line."""
    loudest_floor_db: float = -45.0
    """The noise floor is never taken to be above this, so that a steady tone or music stays speech."""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Speech began at `at_ms` of the stream; it is known `onset_ms` later."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """The last of the speech was at `at_ms` of the stream; it is known `silence_ms` later."""

    at_ms: int


VadEvent: TypeAlias = SpeechStarted | SpeechEnded


class Detector(Protocol):
    """Whatever tells speech from the rest: PCM16 mono at `rate` in, in order and without gaps; what began or ended
    within it out."""

    @property
    def rate(self) -> int: ...

    def feed(self, pcm: bytes) -> list[VadEvent]: ...


class NoiseFloor:
    """The level of the quietest 50 ms in the last three seconds.

    Speech has gaps, noise has not: the minimum finds the noise even while somebody speaks, falls at once when the line
    turns quiet and follows noise that has become louder within the three seconds.
    """

    def __init__(self, initial_db: float = -50.0) -> None:
        self._powers: deque[float] = deque(maxlen=_SMOOTHED_FRAMES)
        self._minima: deque[float] = deque([_power(initial_db)] * _WINDOWS, maxlen=_WINDOWS)
        self._current = math.inf
        self._frames = 0
        self._lowest = min(self._minima)

    def add(self, power: float) -> None:
        self._powers.append(power)
        if len(self._powers) == _SMOOTHED_FRAMES:
            self._current = min(self._current, sum(self._powers) / _SMOOTHED_FRAMES)
        self._frames += 1
        if self._frames == _WINDOW_FRAMES:
            self._minima.append(self._current)
            self._current, self._frames = math.inf, 0
            self._lowest = min(self._minima)

    @property
    def level_db(self) -> float:
        return _decibels(min(self._lowest, self._current))


class Vad:
    """Feed PCM16 mono of `rate` Hz in order and without gaps; `feed` returns what began or ended within it."""

    def __init__(self, rate: int, settings: VadSettings | None = None) -> None:
        self.rate = rate
        self._settings = settings or VadSettings()
        self._frame_bytes = rate * FRAME_MS // 1000 * 2
        self._onset_frames = max(1, self._settings.onset_ms // FRAME_MS)
        self._pending = b""
        self._floor = NoiseFloor()
        self._frame = 0
        self._evidence = 0
        self._first_loud = 0
        self._last_loud = 0
        self._loud_before = False
        self.speaking = False

    @property
    def position_ms(self) -> int:
        """How much of the stream has been judged."""
        return self._frame * FRAME_MS

    @property
    def floor_db(self) -> float:
        return min(self._settings.loudest_floor_db, self._floor.level_db)

    def feed(self, pcm: bytes) -> list[VadEvent]:
        data = self._pending + pcm if self._pending else pcm
        size = self._frame_bytes
        whole = len(data) - len(data) % size
        events: list[VadEvent] = []
        for start in range(0, whole, size):
            event = self._judge(data[start : start + size])
            if event is not None:
                events.append(event)
        self._pending = data[whole:]
        return events

    def _judge(self, frame: bytes) -> VadEvent | None:
        # The mean is taken out: a line with a DC offset is not a loud one.
        power = max(0.0, audioop.rms(frame, 2) ** 2 - audioop.avg(frame, 2) ** 2)
        self._floor.add(power)
        loud = _decibels(power) > self._threshold()
        self._frame += 1
        event = self._continue(loud) if self.speaking else self._begin(loud)
        self._loud_before = loud
        return event

    def _threshold(self) -> float:
        settings = self._settings
        level = max(settings.quietest_db, self.floor_db + settings.margin_db)
        return level - settings.release_db if self.speaking else level

    def _begin(self, loud: bool) -> VadEvent | None:
        # Quiet frames take away twice what loud ones add: a stop consonant does not start the count again, crackle
        # never gets there.
        if loud:
            if self._evidence == 0:
                self._first_loud = self._frame - 1
            self._evidence += 1
        else:
            self._evidence = max(0, self._evidence - 2)
        if self._evidence < self._onset_frames:
            return None
        self.speaking = True
        self._evidence = 0
        self._last_loud = self._frame
        return SpeechStarted(self._first_loud * FRAME_MS)

    def _continue(self, loud: bool) -> VadEvent | None:
        if loud and self._loud_before:
            self._last_loud = self._frame
        if (self._frame - self._last_loud) * FRAME_MS < self._settings.silence_ms:
            return None
        self.speaking = False
        return SpeechEnded(self._last_loud * FRAME_MS)


def _power(level_db: float) -> float:
    return float(32768.0**2 * 10 ** (level_db / 10))


def _decibels(power: float) -> float:
    return 10 * math.log10(power / 32768.0**2) if power > 0 else _SILENT_DB
