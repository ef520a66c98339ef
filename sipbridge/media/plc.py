"""Packet loss concealment: what stands in for sound that did not come, at any sample rate.

In the manner of ITU-T G.711 appendix I: the pitch is estimated from what was heard last, its last period is repeated,
and the repetition fades to silence. Here the packets after the loss are mostly known as well, because a reader of a
stream waits for them (see `jitter`). So the hole is closed from both sides: the past repeated forwards, the future
backwards, the one fading into the other. Both ends meet what was received without a step, and no octet of that changes.

While nothing is missing this costs the keeping of references to the last few chunks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Samples: TypeAlias = NDArray[np.float64]

_SHORTEST_PITCH_MS = 2.5  # 400 Hz
_LONGEST_PITCH_MS = 15.0  # 66 Hz
_WINDOW_MS = 12.0  # what of the sound is compared with what was before it
_SEARCH_RATE = 8000
_FULL_MS = 20.0  # a repetition is believable for so long, ...
REACH_MS = 100  # ... and silent after so long
_SMOOTHING_MS = 2.0
_OVERLAP_MS = 4  # of what is made with the first good packet that it knew nothing of
_HISTORY_MS = 40
_HISTORY_CHUNKS = 4


class Concealer:
    """One stream's. Every chunk that goes into the stream is appended to `recent`, those made here as well."""

    def __init__(
        self,
        rate: int,
        decode: Callable[[bytes], bytes] | None = None,
        encode: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """`decode` and `encode` translate between the stream's octets and 16-bit PCM, where it is not PCM itself."""
        self.recent: deque[bytes] = deque(maxlen=_HISTORY_CHUNKS)
        self._rate = rate
        self._decode = decode
        self._encode = encode
        self._history = _HISTORY_MS * rate // 1000

    def bridge(self, samples: int, following: bytes = b"", *, age: int = 0, reach: int | None = None) -> bytes:
        """So many samples between `recent` and `following`, the chunks that come next (empty: nothing is known of
        them). `age`: how many made here are already at the end of `recent`. `reach`: how far sound is continued, at
        most."""
        before = self._samples(b"".join(self.recent), last=True)
        after = self._samples(following, last=False)
        return self.octets(conceal(before, after, samples, self._rate, age=age, reach=reach))

    def join(self, chunk: bytes, *, age: int) -> bytes:
        """`chunk`, which follows sound made here that knew nothing of it: faded in over its first milliseconds while
        that goes on."""
        size = _OVERLAP_MS * self._rate // 1000
        octets = size if self._decode is not None else 2 * size
        if len(chunk) < octets:
            return chunk
        before = self._samples(b"".join(self.recent), last=True)
        going = conceal(before, before[:0], size, self._rate, age=age)
        coming = self._samples(chunk[:octets], last=False)
        rising = np.arange(1, size + 1) / (size + 1)
        return self.octets(going * (1 - rising) + coming * rising) + chunk[octets:]

    def _samples(self, data: bytes, *, last: bool) -> Samples:
        octets = self._history if self._decode is not None else 2 * self._history
        data = data[-octets:] if last else data[:octets]
        if self._decode is not None:
            data = self._decode(data)
        return np.frombuffer(data, "<i2").astype(np.float64)

    def octets(self, samples: Samples) -> bytes:
        """Samples as they go into the stream."""
        pcm = np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes()
        return pcm if self._encode is None else self._encode(pcm)


def conceal(
    before: Samples, after: Samples, samples: int, rate: int, *, age: int = 0, reach: int | None = None
) -> Samples:
    """Sound for the `samples` between `before` and `after`. Either may be empty or too short to say anything; where
    both are, this is silence."""
    if reach is None:
        reach = int(REACH_MS * rate / 1000)
    rising = np.arange(1, samples + 1) / (samples + 1)
    past = _continue(before, samples, rate) * _fade(samples, age, reach, rate)
    if not len(after):
        return past
    future = (_continue(after[::-1], samples, rate) * _fade(samples, 0, reach, rate))[::-1]
    if not len(before):
        return future
    bridged: Samples = past * (1 - rising) + future * rising
    return bridged


def _fade(samples: int, age: int, reach: int, rate: int) -> Samples:
    full = min(_FULL_MS * rate / 1000, reach / 2)
    position = np.arange(age, age + samples)
    return np.clip((reach - position) / max(reach - full, 1), 0.0, 1.0)


def _continue(sound: Samples, samples: int, rate: int) -> Samples:
    """How `sound` goes on: its last period, again and again."""
    period = _period(sound, rate)
    if not period or not samples:
        return np.zeros(samples)
    cycle = sound[-period:].copy()
    # Its end passes over into what was before its beginning, so that each repetition joins the next without a step.
    overlap = min(period // 4, len(sound) - period)
    rising = np.arange(1, overlap + 1) / (overlap + 1)
    before = sound[len(sound) - period - overlap : len(sound) - period]
    cycle[period - overlap :] = cycle[period - overlap :] * (1 - rising) + before * rising
    continued: Samples = np.resize(cycle, samples)
    # The first repetition begins one sample after the one it copies: what differs between the two is let go slowly.
    step = sound[-1] - sound[-period - 1] if len(sound) > period else sound[-1] - cycle[-1]
    smooth = min(int(_SMOOTHING_MS * rate / 1000), samples)
    continued[:smooth] += step * (1 - np.arange(1, smooth + 1) / (smooth + 1))
    return continued


def _period(sound: Samples, rate: int) -> int:
    """The pitch period in samples; 0 where there is too little sound, or none."""
    step = max(1, rate // _SEARCH_RATE)
    coarse = sound if step == 1 else sound[len(sound) % step :].reshape(-1, step).mean(axis=1)
    lowest = int(_SHORTEST_PITCH_MS * rate / 1000 / step)
    highest = int(_LONGEST_PITCH_MS * rate / 1000 / step)
    window = min(int(_WINDOW_MS * rate / 1000 / step), len(coarse) - lowest)
    period = _best_lag(coarse, lowest, min(highest, len(coarse) - window), window)
    if step == 1 or not period:
        return period
    window = min(window * step, len(sound) - (period + 1) * step)
    return _best_lag(sound, (period - 1) * step, (period + 1) * step, window) or period * step


def _best_lag(sound: Samples, lowest: int, highest: int, window: int) -> int:
    """By how many samples the last `window` of the sound have to be moved back to be most like what is there."""
    if window <= 0 or highest < lowest or window < lowest:
        return 0
    # What was heard last counts most: a voice moves on. All of it together still tells a period from a formant.
    weights = _weights(window)
    last = sound[-window:]
    earlier = sound[len(sound) - window - highest : len(sound) - lowest]
    own = float(np.dot(np.square(last), weights))
    if own < 1.0:
        return 0
    energy = np.correlate(np.square(earlier), weights, "valid")
    likeness = np.correlate(earlier, last * weights, "valid") / np.sqrt(energy * own + 1.0)
    return highest - int(np.argmax(likeness))


@cache
def _weights(window: int) -> Samples:
    rising: Samples = (np.arange(1, window + 1) / window) ** 3
    return rising
