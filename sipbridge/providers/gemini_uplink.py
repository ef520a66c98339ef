"""The caller's sound on its way to Gemini Live: a stream that may pause, or stretches of activity that we bracket.

Where the service finds the turns, it wants to be told (`audioStreamEnd`) when audio stops coming for a second. Where it
does not, audio goes between `activityStart` and `activityEnd`, and beginning an activity interrupts the model: so while
the model has the floor nothing is sent, and the newest half second is kept for when the caller takes it.

Each method returns what is to be sent.
"""

from __future__ import annotations

from collections import Counter, deque

from sipbridge.audio import AudioFormat
from sipbridge.providers import Outgoing
from sipbridge.providers.wire import Json, encode, encode_audio

_PAUSE_S = 1.0
_KEPT_MS = 500


class Uplink:
    def __init__(
        self, channel: str, audio: AudioFormat, counters: Counter[str], *, by_hand: bool, tells_pauses: bool
    ) -> None:
        self._channel = channel
        self._audio = audio
        self._counters = counters
        self._by_hand = by_hand
        self._tells_pauses = tells_pauses and not by_hand
        self._tail = f'","mimeType":"audio/pcm;rate={audio.rate}"}}}}}}'.encode()
        self._active = False
        self._kept: deque[bytes] = deque()
        self._last = 0.0
        self.pause_due: float | None = None
        """When to look whether audio has paused."""

    def push(self, pcm: bytes, now: float, *, models_floor: bool) -> list[Outgoing]:
        if not self._by_hand or self._active:
            self._last = now
            if self._tells_pauses and self.pause_due is None:
                self.pause_due = now + _PAUSE_S
            return [self._audio_message(pcm)]
        self._kept.append(pcm)
        if not models_floor:
            return self.begin()
        while sum(map(len, self._kept)) > _KEPT_MS * self._audio.bytes_per_ms:
            self._counters["audio_outside_activity_bytes"] += len(self._kept.popleft())
        return []

    def look_for_pause(self, now: float) -> list[Outgoing]:
        """Once a second: a timer that moved with each piece of audio would cost more than sending it."""
        due = self._last + _PAUSE_S
        self.pause_due = due if due > now else None
        return [] if due > now else [self._message({"audioStreamEnd": True})]

    def begin(self) -> list[Outgoing]:
        """The caller's activity, unless it is under way, with what was kept of it."""
        if self._active:
            return []
        self._active = True
        messages = [self._message({"activityStart": {}}), *map(self._audio_message, self._kept)]
        self._kept.clear()
        return messages

    def end(self) -> list[Outgoing]:
        """Nothing where they have said nothing."""
        if not self._active and not self._kept:
            return []
        messages = [*self.begin(), self._message({"activityEnd": {}})]
        self._active = False
        return messages

    def _audio_message(self, pcm: bytes) -> Outgoing:
        """Fifty times a second and call: no JSON encoder is needed, base64 has nothing to escape."""
        data = b'{"realtimeInput":{"audio":{"data":"' + encode_audio(pcm) + self._tail
        return Outgoing(self._channel, data, len(pcm) / self._audio.bytes_per_ms)

    def _message(self, realtime: Json) -> Outgoing:
        return Outgoing(self._channel, encode({"realtimeInput": realtime}))
