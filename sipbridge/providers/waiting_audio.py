"""The caller's latest audio while no session can hear it: bounded, the oldest goes first. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from sipbridge.audio import AudioFormat


class WaitingAudio:
    def __init__(self, audio_format: AudioFormat) -> None:
        self.dropped_ms = 0.0
        """Of what nobody else has heard."""
        self._format = audio_format
        self._blocks: deque[bytes] = deque()
        self._ms = 0.0

    def keep(self, pcm: bytes, most_ms: float, *, heard: bool = False) -> None:
        """`heard`: another session has it, too, so that dropping it costs nothing."""
        self._blocks.append(pcm)
        self._ms += self._format.duration_ms(pcm)
        while self._ms > most_ms:
            oldest_ms = self._format.duration_ms(self._blocks.popleft())
            self._ms -= oldest_ms
            self.dropped_ms += 0.0 if heard else oldest_ms

    def take(self, most_ms: float) -> Iterator[bytes]:
        """All of it, in pieces no longer than that."""
        pcm = b"".join(self._blocks)
        self.clear()
        size = int(most_ms) * self._format.bytes_per_ms
        for start in range(0, len(pcm), size):
            yield pcm[start : start + size]

    def clear(self) -> None:
        self._blocks.clear()
        self._ms = 0.0
