"""From one audio format to another, as a stream: G.711 to PCM and back, and the sample rate. Equal formats cost
nothing."""

from __future__ import annotations

from collections.abc import Sequence

from sipbridge import codecs
from sipbridge.audio import AudioFormat
from sipbridge.media.resample import Resampler, process_together


class Converter:
    """One direction of one leg. It may hold back up to a few samples, and its filter delays by `delay_ms`."""

    def __init__(self, source: AudioFormat, target: AudioFormat) -> None:
        self.source = source
        self.target = target
        self.transparent = source == target
        decoding, encoding = codecs.lookup(source.encoding), codecs.lookup(target.encoding)
        # codecs.lookup knows no "pcm16": such audio needs neither.
        self._decode = None if decoding is None or self.transparent else decoding.new_decoder().decode
        self._encode = None if encoding is None or self.transparent else encoding.new_encoder().encode
        self._resampler = None if source.rate == target.rate else Resampler(source.rate, target.rate)
        self.delay_ms = 0.0 if self._resampler is None else self._resampler.delay_ms
        self._odd = b""  # half a sample that ended the last chunk

    def process(self, data: bytes) -> bytes:
        if self.transparent:
            return data
        if self._decode is not None:
            data = self._decode(data)
        elif self._odd or len(data) % 2:
            data = self._odd + data
            whole = len(data) & ~1
            data, self._odd = data[:whole], data[whole:]
        if self._resampler is not None:
            data = self._resampler.process(data)
        return data if self._encode is None else self._encode(data)

    def flush(self) -> bytes:
        """What the filter still holds; then as new."""
        self._odd = b""
        if self._resampler is None:
            return b""
        data = self._resampler.flush()
        return data if self._encode is None else self._encode(data)

    def reset(self) -> None:
        """Forget the stream so far."""
        self._odd = b""
        if self._resampler is not None:
            self._resampler.reset()


def convert_together(converters: Sequence[Converter], chunks: Sequence[bytes]) -> list[bytes]:
    """What `process` of each would return; for many legs at once that is cheaper."""
    out = list(chunks)
    waiting: list[int] = []
    resamplers: list[Resampler] = []
    pcm: list[bytes] = []
    for index, converter in enumerate(converters):
        if converter.transparent:
            continue
        if converter._resampler is None or converter._decode is None:
            out[index] = converter.process(chunks[index])
        else:
            waiting.append(index)
            resamplers.append(converter._resampler)
            pcm.append(converter._decode(chunks[index]))
    for index, data in zip(waiting, process_together(resamplers, pcm), strict=True):
        encode = converters[index]._encode
        out[index] = data if encode is None else encode(data)
    return out
