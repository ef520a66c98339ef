"""A clocked reader of a stream: PCM is written as it comes from a leg and read at a steady rate by somebody else's
clock (another leg's, a recording's).

The two clocks differ (a telephone's by up to some hundred ppm), and packets come early or late. Both are measured
together, as *lateness*: at each write, how far the stream is behind the reader's clock; at each read, how far the
reader is. The distance between the reader's and the latest of the last seconds is what the buffer holds beyond need,
or lacks. While it stays within a tolerance samples are copied, so two clocks that agree pass every sample untouched;
else one sample more or fewer is consumed over a run of hundreds (`warp`): nothing clicks, and nothing adds up over
hours.

Where the buffer runs dry the sound fades out, and what comes later is played later: the delay has grown by what was
missing, and shrinks again when the last seconds did not need it. A delay beyond `most_seconds` is cut, in one splice.

Pure; `now` is the reader's clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from sipbridge.media.warp import AFTER, BEFORE, warp

_WINDOW_SECONDS = 4.0
_BUCKETS = 8
_TOLERANCE_SECONDS = 0.002
_FIXED_TOLERANCE_SECONDS = 0.004  # who is in no hurry rather takes samples as they are
# Beyond the latest block seen, and what the interpolator needs: one that is a little later must not run dry, such as
# one that comes a tick of the engine's later because its sender's clock is slow.
_MARGIN_SECONDS = 0.005
# How fast an error is made up for: in proportion to it, so that clocks that differ come to rest where the rate is
# theirs and stays so. The gain is low enough for measurements that are seconds old; where the delay is too short they
# are not.
_SLOWEST, _FASTEST = 200e-6, 5000e-6
_GAIN_LONG, _GAIN_SHORT = 0.15, 1.0
_FADE_SECONDS = 0.005
# A sound this low (peak, of 32767) is cut out at once where the delay is too long by more than a splice's length.
_QUIET = 150
_CUT_SECONDS = 0.02


class _Extreme:
    """The highest (or lowest) of what was noted in the last seconds."""

    __slots__ = ("_before", "_better", "_buckets", "_current", "_rotate_at")

    def __init__(self, better: Callable[[float, float], float]) -> None:
        self._better = better
        self._buckets: deque[float] = deque(maxlen=_BUCKETS)
        self._current: float | None = None
        self._before: float | None = None  # of all buckets: asked for with every packet, changed twice a second
        self._rotate_at = 0.0

    def note(self, now: float, value: float) -> None:
        if self._current is None or now >= self._rotate_at:
            if self._current is not None:
                self._buckets.append(self._current)
                if now >= self._rotate_at + _WINDOW_SECONDS:
                    self._buckets.clear()  # nothing came for so long: what was before says nothing
                self._before = self._of_buckets()
            self._current = value
            self._rotate_at = now + _WINDOW_SECONDS / _BUCKETS
        else:
            self._current = self._better(self._current, value)

    def shift(self, by: float) -> None:
        """What was noted would be otherwise by now."""
        if self._current is not None:
            self._current += by
            for index in range(len(self._buckets)):
                self._buckets[index] += by
            self._before = self._of_buckets()

    def _of_buckets(self) -> float | None:
        value = None
        for bucket in self._buckets:
            value = bucket if value is None else self._better(value, bucket)
        return value

    @property
    def value(self) -> float:
        assert self._current is not None
        return self._current if self._before is None else self._better(self._current, self._before)


class Playout:
    """One stream of mono 16-bit PCM, one reader. `write` and `read` in any order and in blocks of any length.

    `fixed_seconds`: a reader that is in no hurry (a recording) stays so far behind the earliest of what comes, whatever
    the jitter; without it the delay is as short as the jitter permits.
    """

    def __init__(self, rate: int, *, fixed_seconds: float | None = None, most_seconds: float = 0.25) -> None:
        self.rate = rate
        self.underruns = 0
        """How often it ran dry."""
        self.dry_samples = 0
        """Silence given for want of sound."""
        self.cut_samples = 0
        """Sound left out because the delay had become too long."""
        self.stretched = 0
        """Samples put in by interpolation; `squeezed`: taken out."""
        self.squeezed = 0
        self._fixed = None if fixed_seconds is None else fixed_seconds * rate
        self._most = int(most_seconds * rate)
        self._bound = 4 * self._most + int(self._fixed or 0)
        self._fade = int(_FADE_SECONDS * rate)
        self._tolerance = (_TOLERANCE_SECONDS if fixed_seconds is None else _FIXED_TOLERANCE_SECONDS) * rate
        self._cut = int(_CUT_SECONDS * rate)
        self._buffer = bytearray(2 * BEFORE)
        self._position = BEFORE  # in samples of the buffer: the next one to be read
        self._written = 0  # samples since the beginning
        self._read = 0
        self._late = _Extreme(max)  # just before a block came
        self._early = _Extreme(min)  # just after one came
        self._slack = _Extreme(min)  # of the reader, just after it has read
        self._known = False  # whether anything was noted
        self._dry = True
        self._step = 0  # of the run that is under way: 1 squeezes, -1 stretches
        self._run = self._done = 0

    @property
    def depth(self) -> int:
        """Samples that wait."""
        return len(self._buffer) // 2 - self._position

    # --- the stream ---------------------------------------------------------------------------------------------------

    def write(self, pcm: bytes, now: float, *, live: bool = True) -> None:
        """What follows; whole samples. Not `live`: it says nothing of how late the stream is."""
        if not pcm:
            return
        excess = self.depth - self._bound
        if excess > 0:  # nobody reads
            self._skip(excess)
            self.cut_samples += excess
            self._trim()
        at = now * self.rate
        late = at - self._written
        self._written += len(pcm) // 2
        if live or not self._known:
            self._known = True
            self._late.note(now, late)
            self._early.note(now, at - self._written)
        self._buffer += pcm

    # --- the clock ----------------------------------------------------------------------------------------------------

    def read(self, samples: int, now: float) -> bytes:
        """The next so many samples; silence where there are none."""
        if not self._written:
            self.dry_samples += samples
            return bytes(2 * samples)
        slack = now * self.rate - self._read - samples
        if self._dry and not self._begin(slack - self._target(), samples):
            self.dry_samples += samples
            return bytes(2 * samples)
        self._slack.note(now, now * self.rate - self._read - samples)
        sound = self._next(samples)
        self._trim()
        return sound

    def _trim(self) -> None:
        if self._position > 16384:
            del self._buffer[: 2 * (self._position - BEFORE)]
            self._position = BEFORE

    def _target(self) -> float:
        if self._fixed is not None:
            return self._early.value + self._fixed
        return min(self._late.value + _MARGIN_SECONDS * self.rate + AFTER, self._early.value + self._most)

    def _begin(self, error: float, samples: int) -> bool:
        """Whether there is enough to sound again; brings the delay to where it should be."""
        if self._fixed is None:
            error -= self._tolerance / 2  # in the middle of what is right, not at its edge
        silent = max(0, round(-error))
        if silent >= samples or self.depth + silent < samples:
            return False
        if silent:
            self._insert(silent)
        elif not self._read:
            self._skip(min(round(error), self.depth))
        start = self._position
        faded = _ramp(bytes(self._buffer[2 * start : 2 * (start + self._fade)]), rising=True)
        self._buffer[2 * start : 2 * start + len(faded)] = faded
        self._slack = _Extreme(min)
        self._dry = False
        return True

    def _insert(self, silent: int) -> None:
        at = 2 * self._position
        self._buffer[at:at] = bytes(2 * silent)
        self._read -= silent
        self.dry_samples += silent

    def _skip(self, samples: int) -> None:
        self._position += samples
        self._read += samples

    def _next(self, samples: int) -> bytes:
        parts: list[bytes] = []
        missing = samples
        while missing:
            if not self._step:
                self._decide(missing)
            count = min(missing, self._run - self._done) if self._run else missing
            if self.depth < count + AFTER and (self._step or self.depth < count):
                parts.append(self._run_dry(missing))
                break
            parts.append(self._warp(count) if self._step else self._copy(count))
            missing -= count
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _copy(self, count: int) -> bytes:
        start = 2 * self._position
        self._skip(count)
        self._done = self._run = 0
        return bytes(self._buffer[start : start + 2 * count])

    def _warp(self, count: int) -> bytes:
        first = self._step * self._done / self._run
        self._done += count
        last = self._step * self._done / self._run
        start = self._position - BEFORE
        sound = warp(bytes(self._buffer[2 * start : 2 * (self._position + count + AFTER)]), count, first, last)
        self._skip(count)
        if self._done == self._run:
            self._skip(self._step)
            self._slack.shift(-self._step)
            self.squeezed += self._step > 0
            self.stretched += self._step < 0
            self._step = self._run = self._done = 0
        return sound

    def _run_dry(self, missing: int) -> bytes:
        """What there is, fading out, and silence."""
        count = min(self.depth, missing)
        sound = self._copy(count)
        self._step = 0
        self._dry = True
        self.underruns += 1
        self.dry_samples += missing - count
        edge = max(0, len(sound) - 2 * self._fade)
        return sound[:edge] + _ramp(sound[edge:], rising=False) + bytes(2 * (missing - count))

    # --- the delay ----------------------------------------------------------------------------------------------------

    def _decide(self, ahead: int) -> None:
        """At a whole sample: is the delay right, and how is it made so?"""
        error = self._slack.value - self._target()
        too_long, too_short = error - self._tolerance, -error
        short_gain = _GAIN_SHORT
        if self._fixed is not None:  # nothing runs dry there, and the earliest is known late
            too_short -= self._tolerance
            short_gain = _GAIN_LONG
        if too_long <= 0 and too_short <= 0 or self._shorten(error, ahead) or self._lengthen(error):
            self._run = self._done = 0
            return
        pace = _SLOWEST + (_GAIN_LONG * too_long if too_long > 0 else short_gain * too_short) / self.rate
        self._run, self._done = round(1 / min(_FASTEST, pace)), 0
        self._step = 1 if too_long > 0 else -1

    def _shorten(self, error: float, ahead: int) -> bool:
        """Cut, where the delay is beyond all measure, or where nobody hears it."""
        excess = min(int(error), self.depth - ahead - self._fade)
        if excess < self._cut:
            return False
        if self.depth - ahead <= self._most:
            excess = self._cut
            if not self._quiet(excess + self._fade):
                return False
        start = 2 * self._position
        size = 2 * self._fade
        old = _ramp(bytes(self._buffer[start : start + size]), rising=False)
        start += 2 * excess
        new = _ramp(bytes(self._buffer[start : start + size]), rising=True)
        joined = np.frombuffer(old, "<i2") + np.frombuffer(new, "<i2")
        self._buffer[start : start + size] = joined.tobytes()
        self._skip(excess)
        self._slack.shift(-excess)
        self.cut_samples += excess
        return True

    def _lengthen(self, error: float) -> bool:
        """Nobody hears a silence that lasts longer, either; only for a reader whose delay is fixed: another takes what
        there is, and waits where there is nothing."""
        if self._fixed is None or -error < self._cut or not self._quiet(self._fade):
            return False
        self._insert(int(-error))
        self._slack.shift(int(-error))
        return True

    def _quiet(self, samples: int) -> bool:
        """What comes next."""
        start = 2 * self._position
        sound = np.frombuffer(bytes(self._buffer[start : start + 2 * samples]), "<i2")
        return len(sound) > 0 and int(np.abs(sound.astype(np.int32)).max()) <= _QUIET


def _ramp(pcm: bytes, *, rising: bool) -> bytes:
    samples = np.frombuffer(pcm, "<i2")
    gain = (np.arange(len(samples)) + 0.5) / max(1, len(samples))
    return np.rint(samples * (gain if rising else 1 - gain)).astype("<i2").tobytes()
