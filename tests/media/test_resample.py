"""The streaming filters: exact whatever the chunks, and with the response that telephony needs."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from sipbridge.media.resample import Resampler, design

RATIOS = [
    (8000, 16000),
    (16000, 8000),
    (8000, 24000),
    (24000, 8000),
    (16000, 24000),
    (24000, 16000),
    (48000, 16000),
    (16000, 48000),
    (48000, 24000),
    (24000, 48000),
    (8000, 48000),
    (48000, 8000),
]
ODD = [(22050, 8000), (22050, 16000), (22050, 48000), (44100, 8000)]
"""What some servers' voices come in."""
Samples = NDArray[np.float64]


def noise(rate: int, milliseconds: int, seed: int = 7) -> bytes:
    return np.random.default_rng(seed).integers(-32768, 32768, rate * milliseconds // 1000).astype("<i2").tobytes()


def tone(frequency: float, rate: int, seconds: float, level: float = 16000.0) -> bytes:
    time = np.arange(int(rate * seconds)) / rate
    return np.rint(level * np.sin(2 * np.pi * frequency * time)).astype("<i2").tobytes()


def samples(pcm: bytes) -> Samples:
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def levels(pcm: bytes, rate: int) -> tuple[Samples, Samples]:
    """Frequencies and their levels, dB relative to full scale; the filter's run-in is cut off."""
    wave = samples(pcm)[rate // 50 :]
    window = np.blackman(len(wave))
    spectrum = np.abs(np.fft.rfft(wave * window)) * 2 / window.sum() / 32768
    decibels: Samples = 20 * np.log10(np.maximum(spectrum, 1e-9)).astype(np.float64)
    return np.fft.rfftfreq(len(wave), 1 / rate).astype(np.float64), decibels


@pytest.mark.parametrize(("source", "target"), [*RATIOS, *ODD])
def test_output_does_not_depend_on_how_the_stream_is_cut(source: int, target: int) -> None:
    pcm = noise(source, 700)
    whole = Resampler(source, target).process(pcm)
    random = np.random.default_rng(source + target)
    for longest in (1, 7, 333, 2000, 40000):
        resampler, pieces, position = Resampler(source, target), [], 0
        while position < len(pcm):
            step = int(random.integers(0, longest + 1))
            pieces.append(resampler.process(pcm[position : position + step]))
            position += step
            if longest < 100 and position > 2000:
                longest = 5000  # the rest in larger pieces, to keep the test short
        assert b"".join(pieces) == whole


@pytest.mark.parametrize(("source", "target"), RATIOS)
def test_output_is_as_long_as_the_input_times_the_ratio(source: int, target: int) -> None:
    resampler = Resampler(source, target)
    for milliseconds in (20, 1, 33, 0, 250):
        pcm = noise(source, milliseconds)
        assert len(resampler.process(pcm)) * source == len(pcm) * target


def test_an_incomplete_group_waits_for_its_rest() -> None:
    resampler = Resampler(24000, 8000)
    assert resampler.process(bytes(5)) == b""
    assert len(resampler.process(bytes(1))) == 2
    assert len(resampler.process(bytes(13))) == 4
    assert len(resampler.process(bytes(5))) == 2


@pytest.mark.parametrize(("source", "target"), RATIOS)
def test_flush_gives_the_rest_and_starts_anew(source: int, target: int) -> None:
    pcm = noise(source, 60)[:-2]
    resampler = Resampler(source, target)
    first = resampler.process(pcm) + resampler.flush()
    delay = resampler.delay_ms * target / 1000
    assert len(first) / 2 >= len(pcm) / 2 * target / source + delay
    assert len(first) / 2 <= len(pcm) / 2 * target / source + delay + 7
    assert resampler.process(pcm) + resampler.flush() == first


def test_reset_forgets_the_stream() -> None:
    resampler = Resampler(8000, 16000)
    resampler.process(noise(8000, 20) + b"\1")
    resampler.reset()
    assert resampler.process(bytes(320)) == bytes(640)


def test_equal_rates_pass_through() -> None:
    resampler = Resampler(16000, 16000)
    pcm = noise(16000, 20)
    assert resampler.process(pcm) == pcm
    assert resampler.flush() == b""
    assert resampler.delay_ms == 0
    resampler.reset()


@pytest.mark.parametrize(("source", "target"), [(44000, 8000), (8000, 22050), (8000, 0), (-8000, 8000), (8000, 64000)])
def test_rates_out_of_reach_are_refused(source: int, target: int) -> None:
    with pytest.raises(ValueError, match="cannot resample"):
        Resampler(source, target)


def test_full_scale_clips_instead_of_wrapping() -> None:
    square = np.where(np.arange(1600) // 8 % 2, 32767, -32768).astype("<i2")
    output = samples(Resampler(8000, 24000).process(square.tobytes()))
    assert output.max() == 32767
    assert output.min() == -32768
    assert np.abs(np.diff(output)).max() < 40000


@pytest.mark.parametrize(("source", "target"), RATIOS)
def test_constant_input_comes_out_unchanged(source: int, target: int) -> None:
    output = samples(Resampler(source, target).process(np.full(source // 10, -1234, "<i2").tobytes()))
    assert set(output[target // 100 :]) == {-1234.0}


def response(up: int, down: int, virtual_rate: int) -> tuple[Samples, Samples]:
    taps = design(up, down) / up
    spectrum = np.abs(np.fft.rfft(taps, 1 << 16))
    decibels: Samples = 20 * np.log10(np.maximum(spectrum, 1e-9)).astype(np.float64)
    return np.fft.rfftfreq(1 << 16, 1 / virtual_rate).astype(np.float64), decibels


@pytest.mark.parametrize(
    ("up", "down", "virtual_rate"), [(2, 1, 16000), (1, 2, 16000), (3, 1, 24000), (1, 3, 24000), (6, 1, 48000)]
)
def test_filter_is_flat_to_3400_hz_and_60_db_down_from_4600(up: int, down: int, virtual_rate: int) -> None:
    frequencies, gain = response(up, down, virtual_rate)
    assert np.abs(gain[frequencies <= 3400]).max() < 0.3
    assert gain[frequencies >= 4600].max() < -60


@pytest.mark.parametrize(("up", "down", "virtual_rate"), [(3, 2, 48000), (2, 3, 48000), (3, 1, 48000), (1, 3, 48000)])
def test_wideband_filter_is_flat_to_6800_hz_and_60_db_down_from_9200(up: int, down: int, virtual_rate: int) -> None:
    frequencies, gain = response(up, down, virtual_rate)
    assert np.abs(gain[frequencies <= 6800]).max() < 0.3
    assert gain[frequencies >= 9200].max() < -60


@pytest.mark.parametrize("target", [16000, 24000, 48000])
@pytest.mark.parametrize("frequency", [150, 1000, 2600, 3400])
def test_tone_keeps_its_level_and_its_images_stay_away(frequency: int, target: int) -> None:
    found, level = levels(Resampler(8000, target).process(tone(frequency, 8000, 0.5)), target)
    own = np.abs(found - frequency) < 60
    assert level[own].max() == pytest.approx(-6.2, abs=1)
    assert level[~own].max() < level[own].max() - 60


@pytest.mark.parametrize("source", [16000, 24000, 48000])
@pytest.mark.parametrize("alias", [100, 1000, 2600, 3390])
def test_what_would_fold_into_the_speech_band_is_60_db_down(alias: int, source: int) -> None:
    for frequency in (8000 - alias, 8000 + alias, 16000 - alias):
        if frequency >= source / 2:
            continue
        found, level = levels(Resampler(source, 8000).process(tone(frequency, source, 0.5)), 8000)
        assert level[found < 3450].max() < -6.2 - 60


@pytest.mark.parametrize(("source", "target"), RATIOS)
def test_delay_is_as_stated(source: int, target: int) -> None:
    pcm = np.zeros(source // 10, "<i2")
    pcm[source // 50] = 20000  # at 20 ms
    output = samples(Resampler(source, target).process(pcm.tobytes()))
    centre = float((output * np.arange(len(output))).sum() / output.sum()) * 1000 / target
    assert centre - 20 == pytest.approx(Resampler(source, target).delay_ms, abs=0.05)
    assert Resampler(source, target).delay_ms <= 2.0


@pytest.mark.parametrize(("source", "target"), [(8000, 16000), (8000, 24000), (24000, 8000), (16000, 8000)])
def test_speech_band_equals_soxr(source: int, target: int) -> None:
    """Noise of 100 to 3400 Hz: the difference to soxr's best, with both delays undone, is below -55 dB."""
    spectrum = np.fft.rfft(np.random.default_rng(3).standard_normal(source))
    frequencies = np.fft.rfftfreq(source, 1 / source)
    spectrum[(frequencies < 100) | (frequencies > 3400)] = 0
    wave = np.fft.irfft(spectrum)
    pcm = np.rint(wave / np.abs(wave).max() * 20000).astype("<i2")
    reference = soxr.resample(pcm.astype(np.float64), source, target, quality="VHQ")
    output = samples(Resampler(source, target).process(pcm.tobytes()))
    # Undo the delay, a fraction of a sample included, where it is exact: in the spectrum of the periodic signal.
    delay = Resampler(source, target).delay_ms * target / 1000
    shift = np.exp(2j * np.pi * np.fft.rfftfreq(len(output)) * delay)
    aligned = np.fft.irfft(np.fft.rfft(output) * shift, len(output))
    middle = slice(target // 10, -target // 10)
    error = aligned[middle] - reference[middle]
    assert 10 * np.log10((reference[middle] ** 2).mean() / (error**2).mean()) > 55


@pytest.mark.parametrize(("source", "target"), ODD)
def test_a_tone_of_an_odd_rate_comes_out_as_it_is_and_whole_groups_at_a_time(source: int, target: int) -> None:
    resampler = Resampler(source, target)
    out = resampler.process(tone(1000, source, 1.0))
    assert len(out) == 2 * target
    frequencies, decibels = levels(out, target)
    loudest = int(np.argmax(decibels))
    assert abs(frequencies[loudest] - 1000) < 2
    assert abs(decibels[loudest] - 20 * np.log10(16000 / 32768)) < 0.1
    elsewhere = decibels[np.abs(frequencies - 1000) > 50]
    assert elsewhere.max() < -80
    assert len(resampler.process(tone(1000, source, 0.055))) < 2 * target * 0.055
    assert resampler.flush()
