"""A call as one stereo stream on the call's clock: the far end left, what it heard from us right.

What we send is put where it was sent: a stretch of sound begins at its moment and goes on without a gap as long as it
lasts; where nothing is sent there is silence. What we receive comes by the far end's clock and is read by ours
(`playout`), a fixed time late, so that jitter and skew are out of it and both sides stay together for hours. A sound
stands where its packet would have come at the quickest: where the far end's moment meets ours.

Nothing here writes a file; the stream's rate stays what it was at the beginning, whatever becomes of the codec.
"""

from __future__ import annotations

import numpy as np

from sipbridge.audio import AudioFormat
from sipbridge.media.convert import Converter
from sipbridge.media.playout import Playout

DELAY_SECONDS = 0.25
"""How long after it was said a sound is ready: longer than jitter, and than the uplink takes to make up for a hole."""

_MOST_LATE_SECONDS = 1.0  # beyond that what was received is cut: an uplink is no further ahead of its clock
# Sound that follows sound belongs right behind it, though packets leave some ms early or late (after a late tick two at
# once); further apart than this it was not sent in one go.
_IN_ONE_GO_SECONDS = 0.06
_UNEVEN_SECONDS = 0.002
_LONGEST_TAKE_SECONDS = 5.0


class Recorder:
    """`sent` and `received` as they happened, in the order of time for each; then `take` what is ready."""

    def __init__(self, rate: int, began: float) -> None:
        """`began`: the moment of the first sample."""
        self.rate = rate
        self._began = began
        self._given = 0  # samples
        self._ours = bytearray()  # from the place that was given last
        self._ours_until = 0
        self._speaking = False
        self._stretch_at: int | None = None  # where what we said last began
        self._far = Playout(rate, fixed_seconds=DELAY_SECONDS, most_seconds=_MOST_LATE_SECONDS)
        self._out: Converter | None = None
        self._in: Converter | None = None

    @property
    def seconds(self) -> float:
        """How much was given."""
        return self._given / self.rate

    # --- what happens -------------------------------------------------------------------------------------------------

    def sent(self, sound: bytes | None, audio_format: AudioFormat, now: float) -> None:
        converter = self._out
        if converter is None or converter.source != audio_format:
            self._stop_speaking()
            converter = self._out = Converter(audio_format, AudioFormat("pcm16", self.rate))
        if sound is None:
            self._stop_speaking()
            return
        pcm = converter.process(sound)
        place = round((now - self._began) * self.rate)
        if not self._speaking or abs(place - self._ours_until) > _IN_ONE_GO_SECONDS * self.rate:
            self._stop_speaking()
            self._speaking = True
            place = self._evened(place, round(audio_format.duration_ms(sound) * self.rate / 1000))
            self._append(bytes(2 * max(0, place - self._ours_until)))
        self._append(pcm)

    def _evened(self, place: int, packet: int) -> int:
        """Packets are due at a steady pace: silence between them is whole packets, to the sample."""
        if self._stretch_at is not None:
            even = self._stretch_at + round((place - self._stretch_at) / packet) * packet
            if abs(even - place) <= _UNEVEN_SECONDS * self.rate:
                place = even
        self._stretch_at = place
        return place

    def _stop_speaking(self) -> None:
        if self._speaking and self._out is not None:
            self._append(self._out.flush())
        self._speaking = False

    def _append(self, pcm: bytes) -> None:
        self._ours += pcm
        self._ours_until += len(pcm) // 2

    def received(self, sound: bytes, audio_format: AudioFormat, now: float, live: bool = True) -> None:
        converter = self._in
        if converter is None or converter.source != audio_format:
            rest = b"" if converter is None else converter.flush()
            converter = self._in = Converter(audio_format, AudioFormat("pcm16", self.rate))
            self._far.write(rest, now, live=False)
        self._far.write(converter.process(sound), now, live=live)

    # --- the stream ---------------------------------------------------------------------------------------------------

    def take(self, now: float) -> bytes:
        """What is ready since the last call: interleaved, left and right. `now` is no earlier than what was told."""
        return self._until(now - DELAY_SECONDS)

    def finish(self, now: float) -> bytes:
        """The rest, up to `now`."""
        self._stop_speaking()
        return self._until(now)

    def _until(self, moment: float) -> bytes:
        parts: list[bytes] = []
        end = round((moment - self._began) * self.rate)
        most = round(_LONGEST_TAKE_SECONDS * self.rate)
        while self._given < end:
            count = min(end - self._given, most)
            self._given += count
            parts.append(self._interleave(count, self._began + self._given / self.rate + DELAY_SECONDS))
        return b"".join(parts)

    def _interleave(self, count: int, now: float) -> bytes:
        both = np.zeros((count, 2), "<i2")
        both[:, 0] = np.frombuffer(self._far.read(count, now), "<i2")
        ours = np.frombuffer(bytes(self._ours[: 2 * count]), "<i2")
        both[: len(ours), 1] = ours
        del self._ours[: 2 * count]
        self._ours_until = max(self._ours_until, self._given)
        return both.tobytes()
