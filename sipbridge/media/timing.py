"""How long a leg takes for what it does: to hand on what it hears, to begin to speak, to fall silent.

Measured once per talkspurt, per flush and per second, never per packet.
"""

from __future__ import annotations

from collections import deque

from sipbridge.media.events import Flush

_MOST_SAMPLES = 128  # the latest; of flushes likewise
_STALE_SECONDS = 0.1  # audio that no packet has brought just now: filling


class Timing:
    __slots__ = ("_came_at", "_flushed", "_flushed_at", "due", "flushes", "pending", "speech_ms", "uplink_ms")

    def __init__(self) -> None:
        self.uplink_ms: deque[float] = deque(maxlen=_MOST_SAMPLES)
        """From the reading of the oldest packet of a block of audio until whoever takes it has taken it."""
        self.speech_ms: deque[float] = deque(maxlen=_MOST_SAMPLES)
        """From the first piece of speech after silence to its first packet."""
        self.flushes: deque[Flush] = deque(maxlen=_MOST_SAMPLES)
        self.pending = False
        """`sent` wants to be told of the next packet."""
        self.due = False
        """`delivered` wants to be told of the next audio."""
        self._came_at: float | None = None
        self._flushed_at: float | None = None
        self._flushed = 0

    def speech_came(self, now: float) -> None:
        """Speech has come for a leg that was silent."""
        if self._came_at is None:
            self._came_at = now
            self.pending = True

    def flushed(self, ms: int, now: float) -> None:
        """So much speech was thrown away; when the last of the old sound leaves is to be seen."""
        self._came_at = None
        self._flushed, self._flushed_at = ms, now
        self.pending = True

    def sent(self, now: float, *, sounding: bool) -> None:
        """A packet leaves, with speech in it or without."""
        if self._flushed_at is not None:
            took = now - self._flushed_at if sounding else 0.0  # what fades out is the last of it
            self.flushes.append(Flush(self._flushed, round(took * 1000, 2)))
            self._flushed_at = None
        elif sounding and self._came_at is not None:
            self.speech_ms.append(round((now - self._came_at) * 1000, 2))
            self._came_at = None
        self.pending = self._came_at is not None

    def delivered(self, now: float, read_at: float, block_ms: float, packet_ms: float) -> None:
        """A block of audio was taken whose last packet was read at `read_at`."""
        self.due = False
        if now - read_at < _STALE_SECONDS:
            self.uplink_ms.append(round((now - read_at) * 1000 + max(block_ms - packet_ms, 0.0), 2))
