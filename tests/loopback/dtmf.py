"""The tones of a telephone's keys (ITU-T Q.23), made and heard: some telephones put them into the sound beside the
events that tell of a key."""

from __future__ import annotations

import numpy as np

from tests.loopback.sound import Samples, level_db, tone

_ROWS, _COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
_KEYS = "123A456B789C*0#D"
_FRAME = 160


def dtmf(key: str, seconds: float = 0.1) -> Samples:
    row, column = divmod(_KEYS.index(key), 4)
    return tone(_ROWS[row], seconds, db=-15) + tone(_COLUMNS[column], seconds, db=-15)


def keys_in(sound: Samples) -> str:
    """What a listener makes of it: each key once that two frames in a row are the tones of."""
    heard, last, count = "", "", 0
    for start in range(0, len(sound) - _FRAME + 1, _FRAME):
        key = _key_of(sound[start : start + _FRAME])
        count = count + 1 if key == last else 1
        last = key
        heard += key if count == 2 else ""
    return heard


def _key_of(frame: Samples) -> str:
    """Quiet ones count, too: -50 dB is a whisper that a machine still reads."""
    if level_db(frame) < -50:
        return ""
    energy = [_energy(frame, hz) for hz in (*_ROWS, *_COLUMNS)]
    rows, columns = energy[:4], energy[4:]
    if max(rows) + max(columns) < 0.7 * float(np.sum(np.square(frame))) or min(max(rows), max(columns)) < 0.05:
        return ""
    return _KEYS[rows.index(max(rows)) * 4 + columns.index(max(columns))]


def _energy(frame: Samples, hz: float) -> float:
    angle = 2 * np.pi * hz * np.arange(len(frame)) / 8000
    return float(2 / len(frame) * ((frame @ np.cos(angle)) ** 2 + (frame @ np.sin(angle)) ** 2))
