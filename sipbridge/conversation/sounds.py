"""Sounds that nobody speaks: what the caller hears while he waits, over and over until somebody has a word for him.

They are played on the leg like speech, but are no reply of anybody's: the floor is free while one plays, and the first
word of an agent's ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from sipbridge.audio import AudioFormat
from sipbridge.conversation.handover import Legs
from sipbridge.media.convert import Converter
from sipbridge.prompts import load_wav
from sipbridge.tenant_file.sounds import TONE

Sound: TypeAlias = Callable[[int], bytes]
"""PCM16 mono at a rate (Hz)."""


_PIECE_S = 2.0
"""A sound is played piece by piece, so that minutes of music cost no more at once than a moment of it."""


class Sounds:
    def __init__(self, legs: Legs) -> None:
        self._legs = legs
        self._sound: Sound | None = None
        self._pieces = 0
        self._position = 0
        self._waiting: set[str] = set()
        self._returns: Sound | None = None

    @property
    def playing(self) -> bool:
        return self._sound is not None

    def loop(self, sound: Sound, *, returns: bool = False) -> None:
        """Play it over and over, until `stop`; instead of another. `returns`: also after it has given way to a word."""
        self.stop()
        self._returns = sound if returns else None
        self._sound, self._position = sound, 0
        self._play()
        self._play()  # always one piece ahead: no gap, and no seam for the resampler

    def is_playing(self, sound: Sound) -> bool:
        """That one, and no other."""
        return self._sound is sound

    def stop(self) -> None:
        """No more of it than a fade. What was said before and has not been heard is thrown away, too: so begin only
        when it has been."""
        self._returns = None
        if self._sound is None:
            return
        self._sound = None
        self._waiting.clear()
        if (stream := self._legs.current.stream) is not None:
            stream.discard()

    def give_way(self) -> None:
        """Somebody has a word, which is for the caller unless somebody else is being consulted."""
        if not self._legs.consulting:
            returns = self._returns
            self.stop()
            self._returns = returns

    def drained(self, item_id: str) -> None:
        """An item has been heard to its end."""
        if item_id in self._waiting:
            self._waiting.remove(item_id)
            self._play()
        elif self._sound is None and self._returns is not None:
            self.loop(self._returns, returns=True)

    def _play(self) -> None:
        stream = self._legs.current.stream
        if stream is None or self._sound is None:
            return
        _, downlink = self._legs.current.formats
        sound = self._sound(downlink.rate)
        if not sound:
            return
        begin = self._position if self._position < len(sound) else 0
        self._position = begin + 2 * round(_PIECE_S * downlink.rate)
        piece = sound[begin : self._position]
        self._pieces += 1
        name = f"sound-{self._pieces}"
        self._waiting.add(name)
        stream.play(Converter(AudioFormat("pcm16", downlink.rate), downlink).process(piece), name, name)
        stream.finish(name)


def sound_of(name: str) -> Sound:
    """Of a `ToneOrWav` in a tenant's file."""
    return ringing_tone if name == TONE else partial(load_wav, Path(name))


@lru_cache
def ringing_tone(rate: int) -> bytes:
    """Europe's (ITU-T E.180: 425 Hz, 1 s in 5), at -20 dB."""
    tone = np.sin(2 * np.pi * 425 * np.arange(rate) / rate) * 3277
    return np.concatenate((tone, np.zeros(4 * rate))).astype("<i2").tobytes()


def waiting_tone(rate: int) -> bytes:
    """Somebody is at work: a soft short note every two seconds (480 Hz, 0.15 s, -30 dB), its ends faded."""
    length = int(0.15 * rate)
    note = np.sin(2 * np.pi * 480 * np.arange(length) / rate) * np.hanning(length) * 1036
    return np.concatenate((note, np.zeros(2 * rate - length))).astype("<i2").tobytes()
