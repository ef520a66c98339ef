"""What one leg says, played to another: routes between legs, and the mixing where more than one sound meets.

A route reads the source's stream by the sink's clock (`playout`) at the sink's rate. Two legs that only hear each other
cost no mixing: what is read is sent. Where several sources, or a source and the agent's speech, meet at one sink they
are added; what is too loud for 16 bits is cut off at the edge.

Who hears whom is not decided here. Pure.
"""

from __future__ import annotations

import numpy as np

from sipbridge import codecs
from sipbridge.audio import AudioFormat
from sipbridge.media.convert import Converter
from sipbridge.media.events import Handle
from sipbridge.media.playout import Playout


class Route:
    """From one leg to another."""

    def __init__(self, gain: float) -> None:
        self.gain = gain
        self.playout: Playout | None = None
        self._converter: Converter | None = None

    def hear(self, sound: bytes, audio_format: AudioFormat, now: float, live: bool = True) -> None:
        """What the source says; see `Tap.received`."""
        if self.playout is None:
            return  # the sink has not asked yet: nobody knows at what rate it wants it
        converter = self._converter
        if converter is None or converter.source != audio_format:
            converter = self._converter = Converter(audio_format, AudioFormat("pcm16", self.playout.rate))
        self.playout.write(converter.process(sound), now, live=live)

    def read(self, samples: int, rate: int, now: float) -> bytes | None:
        """PCM for the sink's next packet; None while the source is silent."""
        if self.playout is None or self.playout.rate != rate:
            self.playout, self._converter = Playout(rate), None
        sound = self.playout.read(samples, now)
        return None if sound == bytes(len(sound)) else sound


class Mixer:
    """Everything that is routed to one leg."""

    def __init__(self) -> None:
        self.routes: dict[Handle, Route] = {}
        """By source."""
        self._format: AudioFormat | None = None
        self._codec: codecs.Codec | None = None

    def mix(self, own: bytes | None, samples: int, audio_format: AudioFormat, now: float) -> bytes | None:
        """The next packet's sound, where `own` is the agent's; both in the leg's ring format. None: silence."""
        sounds = []
        for route in self.routes.values():
            sound = route.read(samples, audio_format.rate, now)
            if sound is not None and route.gain:
                sounds.append((sound, route.gain))
        if not sounds:
            return own
        if audio_format != self._format:
            self._format, self._codec = audio_format, codecs.lookup(audio_format.encoding)  # None for PCM
        codec = self._codec
        if own is not None:
            sounds.append((own if codec is None else codec.new_decoder(audio_format.rate).decode(own), 1.0))
        pcm = sounds[0][0] if len(sounds) == 1 and sounds[0][1] == 1.0 else _add(sounds)
        return pcm if codec is None else codec.new_encoder({}, audio_format.rate).encode(pcm)


def _add(sounds: list[tuple[bytes, float]]) -> bytes:
    total = np.zeros(len(sounds[0][0]) // 2)
    for sound, gain in sounds:
        samples = np.frombuffer(sound, "<i2")
        total += samples if gain == 1.0 else samples * gain
    return np.clip(np.rint(total), -32768, 32767).astype("<i2").tobytes()
