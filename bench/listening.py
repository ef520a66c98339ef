"""How good speech sounds after it went through something: sentences to send, and PESQ (ITU-T P.862) to compare by.

Both are borrowed: the program `espeak-ng` speaks, the package `pesq` listens. Where one is missing, `ListeningError`
says which.
"""

from __future__ import annotations

import subprocess

import numpy as np
from numpy.typing import NDArray

from sipbridge.codecs import g711
from sipbridge.providers.offline_voice import read_wav

Sound = NDArray[np.int16]

SENTENCES = (
    (
        "en-us+m3",
        "The quick brown fox jumps over the lazy dog. I would like to book a table for two, at half past eight.",
    ),
    ("en-us+f2", "Good morning. I am calling about the invoice of last week, number four five one nine, if I may."),
    ("en-gb", "Could you tell me when the next train to the north leaves, and whether I have to change on the way?"),
    ("en-us+f4", "We were away a year ago. Nine men were moaning in the lane, and a yellow lion roared all evening."),
)
"""Voice and text: deep and high ones, long vowels and many consonants."""

_LEVEL = 2500  # RMS: about -22 dBov, what a telephone delivers
_PAUSE_MS = 200


class ListeningError(Exception):
    """Nobody to speak, or nobody to listen."""


def speech(voice: str, text: str, *, rate: int = 8000, program: str = "espeak-ng") -> Sound:
    """The text, spoken at a telephone's level, with some silence around it; whole packets of 20 ms."""
    argv = [program, "--stdout", "-s", "150", "-v", voice, text]
    try:
        spoken = subprocess.run(argv, capture_output=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ListeningError(f"{program}: {error}") from error
    samples = np.frombuffer(read_wav(spoken, rate), "<i2").astype(np.float64)
    if not len(samples):
        raise ListeningError(f"{program} said nothing")
    samples *= _LEVEL / samples.std()
    pause = np.zeros(_PAUSE_MS * rate // 1000)
    padding = np.zeros(-len(samples) % (rate // 50))
    return np.clip(np.concatenate((pause, samples, padding, pause)), -32768, 32767).astype(np.int16)


def pesq(reference: Sound, degraded: Sound, *, rate: int = 8000, wideband: bool = False) -> float:
    """MOS-LQO, about 1 to 4.5; the shorter of the two is taken as ending in silence."""
    try:
        from pesq import pesq as listen
    except ImportError as error:
        raise ListeningError(f"package pesq: {error}") from error
    size = max(len(reference), len(degraded))
    one, other = (np.pad(sound, (0, size - len(sound))) for sound in (reference, degraded))
    return float(listen(rate, one, other, "wb" if wideband else "nb"))


def through_g711(sound: Sound) -> Sound:
    """One pass of mu-law: as good as a narrow-band call can be."""
    return decoded(g711.MuLaw().encode(sound.astype("<i2").tobytes()))


def decoded(octets: bytes) -> Sound:
    return np.frombuffer(g711.MuLaw().decode(octets), "<i2").astype(np.int16)


def with_silence(octets: bytes, lost: list[bool], packet: int = 160) -> Sound:
    """Mu-law packets of which some are lost, and silent."""
    sound = decoded(octets).copy()
    for number, missing in enumerate(lost):
        if missing:
            sound[number * packet : (number + 1) * packet] = 0
    return sound
