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
from sipbridge.sound_config import TONE

Sound: TypeAlias = Callable[[int], bytes]
"""PCM16 mono at a rate (Hz)."""


class Sounds:
    def __init__(self, legs: Legs) -> None:
        self._legs = legs
        self._sound: Sound | None = None
        self._rounds = 0

    @property
    def playing(self) -> bool:
        return self._sound is not None

    def loop(self, sound: Sound) -> None:
        """Play it over and over, until `stop`; instead of another."""
        self.stop()
        self._sound = sound
        self._play()

    def stop(self) -> None:
        """No more of it than a fade. What was said before and has not been heard is thrown away, too: so begin only
        when it has been."""
        if self._sound is None:
            return
        self._sound = None
        if (stream := self._legs.current.stream) is not None:
            stream.discard()

    def drained(self, item_id: str) -> None:
        """An item has been heard to its end."""
        if self._sound is not None and item_id == self._item:
            self._play()

    @property
    def _item(self) -> str:
        return f"sound-{self._rounds}"

    def _play(self) -> None:
        stream = self._legs.current.stream
        if stream is None or self._sound is None:
            return
        _, downlink = self._legs.current.formats
        self._rounds += 1
        data = Converter(AudioFormat("pcm16", downlink.rate), downlink).process(self._sound(downlink.rate))
        stream.play(data, self._item, self._item)
        stream.finish(self._item)


def sound_of(name: str) -> Sound:
    """Of a `ToneOrWav` in a tenant's file."""
    return ringing_tone if name == TONE else partial(load_wav, Path(name))


@lru_cache
def ringing_tone(rate: int) -> bytes:
    """Europe's (ITU-T E.180: 425 Hz, 1 s in 5), at -20 dB."""
    tone = np.sin(2 * np.pi * 425 * np.arange(rate) / rate) * 3277
    return np.concatenate((tone, np.zeros(4 * rate))).astype("<i2").tobytes()
