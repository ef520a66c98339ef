"""Music for whoever is on hold, made here: nobody's work, so nobody's licence is needed."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_CHORDS = ((262, 330, 392), (220, 262, 330), (175, 220, 262), (196, 247, 294))
"""C, a minor, F and G, in whole hertz: each note ends where it began, so the loop has no seam."""
_BAR_S, _NOTES_IN_BAR = 4, 8
_MUSIC_DB = -30.0


@lru_cache(maxsize=8)
def hold_music(rate: int) -> bytes:
    """What is heard on hold where nothing else is given: a broken chord, slow and quiet, sixteen seconds of it."""
    length = round(_BAR_S / _NOTES_IN_BAR * rate)
    time = np.arange(2 * length) / rate  # each note rings on through the next
    envelope = np.minimum(time / 0.02, 1) * np.exp(-time / 0.35) * np.minimum((time[-1] - time) / 0.05, 1)
    music = np.zeros(len(_CHORDS) * _NOTES_IN_BAR * length)
    for number in range(len(_CHORDS) * _NOTES_IN_BAR):
        low, middle, high = _CHORDS[number // _NOTES_IN_BAR]
        hertz = (low, middle, high, middle)[number % 4]
        note = envelope * (np.sin(2 * np.pi * hertz * time) + 0.3 * np.sin(4 * np.pi * hertz * time))
        music += np.roll(np.concatenate((note, np.zeros(len(music) - len(note)))), number * length)
    gain = 32768 * 10 ** (_MUSIC_DB / 20) / np.sqrt(np.mean(np.square(music)))
    samples: np.ndarray[tuple[int, ...], np.dtype[np.int16]] = (music * gain).astype("<i2")
    return samples.tobytes()
