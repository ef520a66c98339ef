"""Concealment alone: what is put between two stretches of sound, at every rate in use."""

from __future__ import annotations

import numpy as np
import pytest

from sipbridge import codecs
from sipbridge.media.plc import Concealer, Samples, conceal

RATES = (8000, 16000, 24000, 48000)


def voice(rate: int, ms: int, pitch: float = 140.0) -> Samples:
    """A buzz with formants, like a vowel: periodic, and not a sine."""
    time = np.arange(ms * rate // 1000) / rate
    sound = np.zeros(len(time))
    for harmonic in range(1, 20):
        level = np.exp(-(((harmonic * pitch - 600) / 500) ** 2)) + 0.3 * np.exp(
            -(((harmonic * pitch - 1800) / 400) ** 2)
        )
        sound += level * np.sin(2 * np.pi * harmonic * pitch * time + harmonic)
    scaled: Samples = 6000 * sound / np.abs(sound).max()
    return scaled


def ms(rate: int, milliseconds: float) -> int:
    return int(rate * milliseconds / 1000)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("pitch", [75.0, 140.0, 220.0, 390.0])
@pytest.mark.parametrize("lost_ms", [10, 20, 40])
def test_a_steady_vowel_goes_on_as_it_was(rate: int, pitch: float, lost_ms: int) -> None:
    sound = voice(rate, 300, pitch)
    begin, end = ms(rate, 100), ms(rate, 100 + lost_ms)
    made = conceal(sound[begin - ms(rate, 40) : begin], sound[end : end + ms(rate, 40)], end - begin, rate)
    missing = sound[begin:end]
    error = np.sum(np.square(made - missing)) / np.sum(np.square(missing))
    assert error < (0.25 if lost_ms < 40 else 0.5)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("pitch", [90.0, 143.7, 251.3])
@pytest.mark.parametrize("lost_ms", [20, 60, 200])
@pytest.mark.parametrize("known", ["both", "before", "after"])
def test_there_is_no_click_where_it_begins_and_ends(rate: int, pitch: float, lost_ms: int, known: str) -> None:
    sound = voice(rate, 500, pitch)
    begin, end = ms(rate, 100), ms(rate, 100 + lost_ms)
    before = sound[begin - ms(rate, 40) : begin] if known != "after" else sound[:0]
    after = sound[end : end + ms(rate, 40)] if known != "before" else sound[:0]
    made = conceal(before, after, end - begin, rate)
    assert len(made) == end - begin
    steepest = np.abs(np.diff(sound)).max()
    joined = np.concatenate([before, made, after])
    assert np.abs(np.diff(joined)).max() < 1.6 * steepest
    assert np.abs(made).max() <= 1.3 * np.abs(sound).max()


@pytest.mark.parametrize("rate", RATES)
def test_it_fades_to_silence_within_100_ms(rate: int) -> None:
    sound = voice(rate, 100)
    made = conceal(sound, sound[:0], ms(rate, 200), rate)
    assert not made[ms(rate, 100) :].any()
    levels = [np.sqrt(np.mean(np.square(made[ms(rate, t) : ms(rate, t + 20)]))) for t in (0, 20, 40, 60, 80)]
    assert levels[0] > 0.8 * np.sqrt(np.mean(np.square(sound)))
    assert levels[1:] == sorted(levels[1:], reverse=True)


def test_a_long_loss_is_silent_in_the_middle_and_meets_what_comes_after_it() -> None:
    sound = voice(8000, 500)
    made = conceal(sound[:320], sound[:320], 8 * 400, 8000)
    assert not made[8 * 100 : -8 * 100].any()
    assert np.abs(made[-8 * 20 :]).max() > 3000


@pytest.mark.parametrize("rate", RATES)
def test_in_pieces_it_fades_as_in_one(rate: int) -> None:
    """The clock asks again and again, with what it was given before as the end of what is known."""
    concealer = Concealer(rate)
    concealer.recent.append(concealer.octets(voice(rate, 60)))
    made = b""
    for age in range(0, 140, 20):
        concealer.recent.append(concealer.bridge(ms(rate, 20), age=ms(rate, age)))
        made += concealer.recent[-1]
    sound = np.frombuffer(made, "<i2").astype(float)
    assert not sound[ms(rate, 100) :].any()
    assert np.abs(np.diff(sound)).max() < 1.6 * np.abs(np.diff(voice(rate, 60))).max()
    assert np.abs(sound[: ms(rate, 20)]).max() > 4000


@pytest.mark.parametrize("codec", [codecs.PCMU, codecs.PCMA])
def test_octets_of_g711(codec: codecs.Codec) -> None:
    coder, decoder = codec.new_encoder(), codec.new_decoder()
    concealer = Concealer(8000, decoder.decode, coder.encode)
    pcm = concealer_pcm(voice(8000, 200))
    octets = coder.encode(pcm)
    for start in range(0, 800, 160):
        concealer.recent.append(octets[start : start + 160])
    made = concealer.bridge(160, octets[960:1280])
    heard = np.frombuffer(decoder.decode(made), "<i2").astype(float)
    missing = np.frombuffer(pcm, "<i2").astype(float)[800:960]
    assert len(made) == 160
    assert np.sum(np.square(heard - missing)) < 0.25 * np.sum(np.square(missing))


def concealer_pcm(sound: Samples) -> bytes:
    return np.rint(sound).astype("<i2").tobytes()


def test_joining_changes_four_milliseconds_and_no_more() -> None:
    concealer = Concealer(8000)
    sound = voice(8000, 200)
    concealer.recent.append(concealer_pcm(sound[:480]))
    concealer.recent.append(concealer.bridge(160, age=0))
    chunk = concealer_pcm(sound[800:960])
    joined = concealer.join(chunk, age=160)
    assert joined[64:] == chunk[64:]
    stream = np.frombuffer(concealer.recent[-1] + joined, "<i2").astype(float)
    assert np.abs(np.diff(stream)).max() < 1.6 * np.abs(np.diff(sound)).max()


@pytest.mark.parametrize("before", [0, 1, 5, 39, 160])
@pytest.mark.parametrize("after", [0, 1, 5, 39, 160])
@pytest.mark.parametrize("samples", [0, 1, 7, 160])
def test_too_little_to_go_by_is_harmless(before: int, after: int, samples: int) -> None:
    loud = np.full(160, 32767.0)
    made = conceal(loud[:before], loud[:after], samples, 8000)
    assert len(made) == samples
    assert np.isfinite(made).all()


def test_silence_stays_silent() -> None:
    assert not conceal(np.zeros(320), np.zeros(320), 160, 8000).any()


@pytest.mark.parametrize("seed", range(5))
def test_noise_stays_as_loud_as_it_was(seed: int) -> None:
    noise = np.random.default_rng(seed).standard_normal(1000) * 1000
    made = conceal(noise[:320], noise[480:800], 160, 8000)
    assert 500 < made.std() < 1400
