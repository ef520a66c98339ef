from __future__ import annotations

import numpy as np
import pytest

from sipbridge import codecs
from sipbridge.audio import PCM_8K, PCM_16K, PCM_24K, PCMA, PCMU, AudioFormat
from sipbridge.media.convert import Converter, convert_together
from sipbridge.media.resample import Resampler, process_together

FORMATS = (PCM_8K, PCM_16K, PCM_24K, PCMU, PCMA)


def noise(seed: int, octets: int) -> bytes:
    return np.random.default_rng(seed).bytes(octets)


@pytest.mark.parametrize("audio_format", FORMATS)
def test_equal_formats_pass_untouched(audio_format: AudioFormat) -> None:
    converter = Converter(audio_format, audio_format)
    data = noise(1, 333)
    assert converter.transparent
    assert converter.process(data) is data
    assert converter.flush() == b""


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_time_is_kept_whatever_the_pieces(source: AudioFormat, target: AudioFormat) -> None:
    converter = Converter(source, target)
    data = noise(2, 300 * source.bytes_per_ms)
    out = b"".join(converter.process(data[start : start + 77]) for start in range(0, len(data), 77))
    assert len(out) == 300 * target.bytes_per_ms
    assert out == Converter(source, target).process(data)
    assert target.duration_ms(converter.flush()) >= converter.delay_ms


def test_after_reset_nothing_is_left() -> None:
    converter = Converter(PCM_24K, PCMU)
    converter.process(noise(3, 4801))
    converter.reset()
    assert converter.process(bytes(4800)) == b"\xff" * 800


def test_one_law_becomes_the_other() -> None:
    octets = bytes(range(256))
    expected = codecs.PCMA.new_encoder().encode(codecs.PCMU.new_decoder().decode(octets))
    assert Converter(PCMU, PCMA).process(octets) == expected


@pytest.mark.parametrize("legs", [0, 1, 3, 20, 50])
def test_legs_converted_together_are_as_each_alone(legs: int) -> None:
    formats = [(PCMU, PCM_16K), (PCMA, PCM_16K), (PCMU, PCM_24K), (PCMU, PCMU), (PCMU, PCM_8K), (PCM_16K, PCMA)]
    pairs = [formats[n % 7 % len(formats)] for n in range(legs)]
    together = [Converter(*pair) for pair in pairs]
    alone = [Converter(*pair) for pair in pairs]
    for turn in range(5):
        sizes = [160 if (n + turn) % 5 else 8 * (n + 1) for n in range(legs)]
        chunks = [noise(100 * turn + n, size) for n, size in enumerate(sizes)]
        assert convert_together(together, chunks) == [
            converter.process(chunk) for converter, chunk in zip(alone, chunks, strict=True)
        ]


@pytest.mark.parametrize(
    ("source", "target"), [(8000, 16000), (8000, 24000), (24000, 8000), (16000, 24000), (48000, 16000)]
)
@pytest.mark.parametrize("streams", [3, 40])
def test_streams_resampled_together_are_as_each_alone(source: int, target: int, streams: int) -> None:
    together = [Resampler(source, target) for _ in range(streams)]
    alone = [Resampler(source, target) for _ in range(streams)]
    for turn, ms in enumerate((20, 20, 10, 60, 2, 20, 400, 20)):
        chunks = [noise(1000 * turn + n, 2 * source * ms // 1000) for n in range(streams)]
        assert process_together(together, chunks) == [
            stream.process(chunk) for stream, chunk in zip(alone, chunks, strict=True)
        ]
