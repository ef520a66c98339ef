"""Sound that begins or ends without a click. Works on PCM and on G.711's octets alike; rarely needed, so numpy is fast
enough."""

from __future__ import annotations

import numpy as np

from sipbridge import codecs
from sipbridge.audio import AudioFormat


def ramp(audio_format: AudioFormat, sound: bytes, first: float, last: float) -> bytes:
    """All of `sound`, its level going from one to the other."""
    codec = codecs.lookup(audio_format.encoding)  # None for PCM
    pcm = codec.new_decoder().decode(sound) if codec else sound
    samples = np.frombuffer(pcm, "<i2")
    gain = np.linspace(first, last, len(samples), endpoint=last != 0.0)
    pcm = np.rint(samples * gain).astype("<i2").tobytes()
    return codec.new_encoder().encode(pcm) if codec else pcm


def mirrored(audio_format: AudioFormat, sound: bytes) -> bytes:
    """Backwards: what goes on from the end of `sound` without a step, for the few milliseconds in which it fades."""
    if audio_format.bytes_per_sample == 1:
        return sound[::-1]
    return np.frombuffer(sound, "<i2")[::-1].tobytes()


def run_out(audio_format: AudioFormat, heard: bytes, sound: bytes, room: int, size: int) -> bytes:
    """`sound`, and how it ends where no more has come: a fade of `size` octets, which takes as much of the `room`
    behind `sound` as it can, so that as little as possible of the sound itself is lost to it.

    `heard` is what was sent before `sound`. What it fades in that room is the sound's own mirror image.
    """
    after = mirrored(audio_format, (heard + sound)[-min(room, size) :]) if room else b""
    before = min(size - len(after), len(sound))
    kept = len(sound) - before
    return sound[:kept] + ramp(audio_format, sound[kept:] + after, 1.0, 0.0)
