"""Sentences that ship with the package as spoken WAV files, for when no model can speak.

The embedded provider answers with them, and a call uses them when its model is gone. `scripts/make_prompts.py` makes
the files again from the texts below; they were spoken by Flite's voices "slt" and "rms" (Carnegie Mellon University,
whose licence grants their use without restriction).
"""

from __future__ import annotations

import re
import wave
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
import soxr

DIRECTORY = Path(__file__).parent
PROMPT_RATE = 16000
CALLER_WAV = DIRECTORY / "caller.wav"
"""A caller's sentence in another voice, 8 kHz: what the demonstration and the tests say to the gateway."""
CALLER_TEXT = "Hello, I would like to know whether my order has arrived."

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_KEYS = {**{str(digit): word for digit, word in enumerate(_DIGITS)}, "*": "star", "#": "pound"}

PROMPTS = {
    "greeting": "Hello, this is sipbridge. Speak, and I repeat it. Press a key, and I name it. Press pound to hang up.",
    "you-said": "You said:",
    "interrupted": "You interrupted me, and said:",
    "goodbye": "Goodbye.",
    "one-moment": "One moment, please.",
    "still-there": "Are you still there?",
    "ending-soon": "This call will end soon.",
    "unavailable": "The assistant is not available any more. Goodbye.",
    "transferring": "I am transferring you now.",
    "transfer-failed": "I am sorry, the transfer did not succeed.",
    "consult": "Somebody on the line would like to talk to you. Press one to take the call, or two to decline.",
    "tool-done": "That is done.",
    "tool-failed": "I am sorry, that did not work.",
    "cannot-speak": "I am sorry, I have no voice for that text.",
    **{f"key-{_KEYS[key] if key in '*#' else key}": f"You pressed {word}." for key, word in _KEYS.items()},
}
"""Every prompt by name; the file is `<name>.wav`."""

DEFAULT_GREETING = PROMPTS["greeting"]


@lru_cache(maxsize=64)
def load_prompt(name: str, rate: int) -> bytes:
    """The prompt as PCM16 mono at `rate` Hz. Raises `KeyError` where there is no such prompt."""
    if name not in PROMPTS:
        raise KeyError(name)
    with wave.open(str(DIRECTORY / f"{name}.wav")) as file:
        pcm = file.readframes(file.getnframes())
        return convert_rate(pcm, file.getframerate(), rate)


_RATES = range(4000, 384_000)


_MOST_WAVS = 64
_WAVS: dict[tuple[Path, int], tuple[int, bytes]] = {}
"""What was read: (path, rate) -> when the file was written, its sound."""


def load_wav(path: Path, rate: int) -> bytes:
    """A WAV file of the operator's as PCM16 mono at `rate` Hz: as it was when it was first asked for, or when
    `read_wav_again` was last. Raises `ValueError` where it is none that can be played: 16 bit, one channel."""
    known = _WAVS.get((path, rate))
    return _kept(path, rate) if known is None else known[1]


def read_wav_again(path: Path, rates: Iterable[int]) -> None:
    """What is heard of it from now on is what it says now, at these rates. It takes a while, so do it in a thread.
    Raises `ValueError` where it cannot be played any more; then it is heard as before."""
    for rate in rates:
        known = _WAVS.get((path, rate))
        if known is None or known[0] != _written(path):
            _kept(path, rate)


def forget_wavs() -> None:
    """Whoever asks next for one reads it anew."""
    _WAVS.clear()


def _kept(path: Path, rate: int) -> bytes:
    written = _written(path)
    pcm = _read_wav(path, rate)
    while len(_WAVS) >= _MOST_WAVS:
        with suppress(KeyError, RuntimeError, StopIteration):  # another thread may have done so
            del _WAVS[next(iter(_WAVS))]
    _WAVS[path, rate] = written, pcm
    return pcm


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error


def _read_wav(path: Path, rate: int) -> bytes:
    try:
        with wave.open(str(path)) as file:
            if (file.getsampwidth(), file.getnchannels()) != (2, 1):
                raise ValueError("a WAV file of 16 bits and one channel is expected")
            if file.getframerate() not in _RATES:
                raise ValueError(f"{file.getframerate()} Hz; from {_RATES.start} to {_RATES.stop} are expected")
            pcm = file.readframes(file.getnframes())
            if not pcm:
                raise ValueError("there is no sound in it")
            return convert_rate(pcm, file.getframerate(), rate)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    except (wave.Error, EOFError) as error:
        raise ValueError(f"no WAV file that can be played: {str(error) or 'it is cut off'}") from error


def find_prompt(text: str) -> str | None:
    """The name of the prompt that says just this text (letter case, spacing and punctuation apart)."""
    return _NAMES.get(_plain(text))


def key_prompt(key: str) -> str | None:
    """The prompt that names a telephone key; None for a key without one (A to D)."""
    name = f"key-{_KEYS[key] if key in ('*', '#') else key}"
    return name if name in PROMPTS else None


def convert_rate(pcm: bytes, rate: int, target_rate: int) -> bytes:
    """PCM16 mono, a whole file's worth, at another rate. Not for a stream: see `sipbridge.media.resample`."""
    if rate == target_rate or not pcm:
        return pcm
    converted: np.ndarray[tuple[int, ...], np.dtype[np.int16]] = soxr.resample(
        np.frombuffer(pcm, "<i2"), rate, target_rate
    )
    return converted.astype("<i2").tobytes()


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


_NAMES = {_plain(text): name for name, text in PROMPTS.items()}
