"""Turns where the vendor has none: in a stream of sound that never ends, when is the model speaking?

Pure, on stream time: milliseconds count the sound that came, not the clock.
"""

from __future__ import annotations

from sipbridge.audio import AudioFormat
from sipbridge.codecs.g711 import audioop

QUIET_MS = 800
"""So much silence ends a turn."""
_FRAME_MS = 20
_LOUD_RMS = 20  # 0.0006 of full scale: the model is all zeros while it is quiet (observed)
_TICK_BEFORE_MS = 400  # apart from a short tick at the very beginning (observed),
_TICK_MS = 100  # which is no speech unless it is as long as this


def rms(data: bytes, audio: AudioFormat) -> int:
    """Loudness of sound in a format that a session may have, in 16-bit samples."""
    if audio.encoding == "pcmu":
        data = audioop.ulaw2lin(data, 2)
    elif audio.encoding == "pcma":
        data = audioop.alaw2lin(data, 2)
    return audioop.rms(data, 2)


class SpeechFinder:
    """Fed with all the sound of a session; gives back what of it is speech, pauses within a turn included."""

    def __init__(self, audio: AudioFormat) -> None:
        self._audio = audio
        self._heard_ms = 0.0
        self._held = b""
        self._held_ms = 0
        self.speaking = False
        self.quiet_ms = 0.0
        """While it speaks: how long the silence at the end of what came has lasted."""

    @property
    def over(self) -> bool:
        return self.speaking and self.quiet_ms >= QUIET_MS

    def feed(self, data: bytes) -> bytes:
        """What is to be heard of this: b"" while the model is quiet. Whole samples only."""
        loud = self._loud_frames(data)
        began_ms, self._heard_ms = self._heard_ms, self._heard_ms + self._audio.duration_ms(data)
        frame = self._audio.bytes_per_ms * _FRAME_MS
        if loud:
            self.quiet_ms = self._audio.duration_ms(data[(loud[-1] + 1) * frame :])
        else:
            self.quiet_ms += self._audio.duration_ms(data)
        if self.speaking:
            return data
        if not loud:
            self._held, self._held_ms = b"", 0
            return b""
        self._held += data[loud[0] * frame :]
        self._held_ms += len(loud) * _FRAME_MS
        if began_ms < _TICK_BEFORE_MS and self._held_ms < _TICK_MS:
            return b""
        return self.begin()

    def begin(self) -> bytes:
        """It speaks, as is known by other means. Returns the sound that was held back as doubtful."""
        self.speaking = True
        held, self._held, self._held_ms = self._held, b"", 0
        return held

    def end(self) -> None:
        """The turn is over."""
        self.speaking = False
        self.quiet_ms = 0.0

    def _loud_frames(self, data: bytes) -> list[int]:
        size = self._audio.bytes_per_ms * _FRAME_MS
        if rms(data, self._audio) == 0:
            return []
        starts = range(0, len(data), size)
        return [i for i, at in enumerate(starts) if rms(data[at : at + size], self._audio) >= _LOUD_RMS]
