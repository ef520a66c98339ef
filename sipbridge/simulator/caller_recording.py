"""What a simulated phone says and hears, as PCM16 on one time line. Pure but for reading and writing files.

The time line begins when the call is answered. What is heard is laid down without gaps, so that a position in the
recording is a moment of the call.
"""

from __future__ import annotations

import audioop
import wave
from pathlib import Path

from sipbridge.errors import ConfigError
from sipbridge.media.vad import SpeechEnded, SpeechStarted, Vad, VadEvent, VadSettings
from sipbridge.prompts import convert_rate

NARROW_RATE, WIDE_RATE = 8000, 16000
PAUSE_MS = 300
"""A shorter pause is part of one stretch of speech."""

_LARGEST_HOLE_MS = 100


def read_speech(path: Path, target_rate: int = NARROW_RATE) -> bytes:
    """A WAV of any rate, width and number of channels as PCM16 mono at `target_rate`. Raises `ConfigError`."""
    try:
        with wave.open(str(path)) as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            pcm = file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise ConfigError(f"{path}: no WAV that can be read: {error}") from None
    if channels not in (1, 2) or not pcm:
        raise ConfigError(f"{path}: {channels} channels with {len(pcm)} bytes; one or two with sound are needed")
    if width == 1:
        pcm = audioop.bias(pcm, 1, -128)  # 8-bit samples are unsigned in a WAV, and only they
    pcm = audioop.lin2lin(pcm, width, 2)
    if channels == 2:
        pcm = audioop.tomono(pcm, 2, 0.5, 0.5)
    return convert_rate(pcm, rate, target_rate)


def sound_of(speech: bytes, rate: int = NARROW_RATE) -> tuple[int, int]:
    """Where in it, in ms, the first and the last sound is; the whole of it where nothing in it is loud."""
    events = Vad(rate).feed(speech + bytes(2 * rate))
    starts = [event.at_ms for event in events if isinstance(event, SpeechStarted)]
    ends = [event.at_ms for event in events if isinstance(event, SpeechEnded)]
    return (starts[0], ends[-1]) if starts and ends else (0, len(speech) * 500 // rate)


class Recording:
    """Times are seconds since the answer."""

    def __init__(self, rate: int = NARROW_RATE) -> None:
        self._rate = rate
        self._bytes_per_ms = rate // 1000 * 2
        self._heard = bytearray()
        self._said = bytearray()
        self._vad = Vad(rate, VadSettings(silence_ms=PAUSE_MS))
        self._began_ms = 0
        self.heard_ms = 0
        """How long somebody spoke, all in all."""

    @property
    def duration_ms(self) -> int:
        return len(self._heard) // self._bytes_per_ms

    @property
    def speaking(self) -> bool:
        """The other side speaks now."""
        return self._vad.speaking

    def hear(self, pcm: bytes, at: float) -> list[VadEvent]:
        """The next audio, which came at `at` and is heard from then on, as an ear would; returns what speech began or
        ended, in ms of the recording.

        Before the first packet, and where the stream had a hole, silence is laid down up to the time that it is.
        """
        hole_ms = round(at * 1000) - self.duration_ms
        if hole_ms > (_LARGEST_HOLE_MS if self._heard else 0):
            pcm = bytes(hole_ms * self._bytes_per_ms) + pcm
        self._heard += pcm
        events = self._vad.feed(pcm)
        for event in events:
            if isinstance(event, SpeechStarted):
                self._began_ms = event.at_ms
            else:
                self.heard_ms += event.at_ms - self._began_ms
        return events

    def finish(self) -> None:
        """The call is over: speech that was under way ends here."""
        if self._vad.speaking:
            self.heard_ms += self.duration_ms - self._began_ms

    def say(self, pcm: bytes, at: float) -> None:
        """What the phone begins to say at `at`."""
        start = max(len(self._said), round(at * 1000) * self._bytes_per_ms)
        self._said += bytes(start - len(self._said)) + pcm

    def write(self, path: Path, *, stereo: bool = False) -> None:
        """What was heard; with `stereo` what was said on the left of it. Raises `OSError`."""
        heard, said = bytes(self._heard), bytes(self._said)
        if stereo:
            length = max(len(heard), len(said))
            left = audioop.tostereo(said.ljust(length, b"\x00"), 2, 1, 0)
            heard = audioop.add(left, audioop.tostereo(heard.ljust(length, b"\x00"), 2, 0, 1), 2)
        with path.open("wb") as raw, wave.open(raw, "wb") as file:
            file.setnchannels(2 if stereo else 1)
            file.setsampwidth(2)
            file.setframerate(self._rate)
            file.writeframes(heard)
