from __future__ import annotations

import numpy as np
import pytest

from sipbridge.media.vad import SpeechEnded, SpeechStarted, Vad, VadEvent, VadSettings

RATE = 16000


def tone(ms: int, level_db: float = -20.0, *, rate: int = RATE, hertz: float = 300.0) -> bytes:
    time = np.arange(rate * ms // 1000) / rate
    peak = 32768 * 10 ** (level_db / 20) * np.sqrt(2)
    return bytes((peak * np.sin(2 * np.pi * hertz * time)).astype("<i2"))


def noise(ms: int, level_db: float, *, rate: int = RATE, seed: int = 1) -> bytes:
    samples = np.random.default_rng(seed).normal(0.0, 32768 * 10 ** (level_db / 20), rate * ms // 1000)
    return bytes(samples.clip(-32768, 32767).astype("<i2"))


def silence(ms: int, *, rate: int = RATE) -> bytes:
    return bytes(rate * ms // 1000 * 2)


def add(one: bytes, other: bytes) -> bytes:
    mixed = np.frombuffer(one, "<i2").astype(int) + np.frombuffer(other, "<i2")
    return bytes(mixed.clip(-32768, 32767).astype("<i2"))


@pytest.mark.parametrize("rate", [8000, 16000, 24000])
def test_speech_begins_and_ends_where_it_was_in_the_stream(rate: int) -> None:
    vad = Vad(rate)
    stream = silence(1000, rate=rate) + tone(800, rate=rate) + silence(1000, rate=rate)
    assert vad.feed(stream) == [SpeechStarted(1000), SpeechEnded(1800)]
    assert vad.position_ms == 2800


def test_the_decision_comes_after_onset_and_after_silence() -> None:
    vad = Vad(RATE, VadSettings(onset_ms=60, silence_ms=300))
    vad.feed(silence(500))
    assert vad.feed(tone(50)) == []
    assert vad.feed(tone(10)) == [SpeechStarted(500)]
    assert vad.speaking
    assert vad.feed(tone(100) + silence(290)) == []
    assert vad.feed(silence(10)) == [SpeechEnded(660)]
    assert not vad.speaking


@pytest.mark.parametrize("chunk", [2, 66, 320, 1000, 6400])
def test_the_chunks_do_not_matter(chunk: int) -> None:
    stream = noise(700, -55) + tone(430, -25) + noise(900, -55) + tone(250, -30) + noise(800, -55)
    whole = Vad(RATE).feed(stream)
    vad = Vad(RATE)
    cut: list[VadEvent] = []
    for start in range(0, len(stream), chunk):
        cut += vad.feed(stream[start : start + chunk])
    assert cut == whole
    assert len(cut) == 4


def test_a_click_is_no_speech_and_does_not_keep_a_turn_open() -> None:
    vad = Vad(RATE)
    assert vad.feed(silence(500) + (tone(10, -6) + silence(90)) * 20) == []
    assert vad.feed(tone(200)) == [SpeechStarted(2500)]
    assert vad.feed((silence(90) + tone(10, -6)) * 5) == [SpeechEnded(2700)]


def test_a_gap_shorter_than_the_silence_is_part_of_the_speech() -> None:
    stream = silence(300) + tone(400) + silence(450) + tone(400) + silence(600)
    assert Vad(RATE).feed(stream) == [SpeechStarted(300), SpeechEnded(1550)]


@pytest.mark.parametrize("level", [-70.0, -60.0, -50.0, -42.0])
def test_a_noisy_line_is_quiet_and_speech_over_it_is_heard(level: float) -> None:
    vad = Vad(RATE)
    assert vad.feed(noise(4000, level)) == []
    assert vad.floor_db == pytest.approx(min(level, -45), abs=2.5)
    events = vad.feed(add(noise(600, level, seed=2), tone(600, -22)) + noise(600, level, seed=3))
    assert events == [SpeechStarted(4000), SpeechEnded(4600)]


def test_noise_that_becomes_louder_is_learned_within_three_seconds() -> None:
    vad = Vad(RATE)
    vad.feed(noise(2000, -65))
    events = vad.feed(noise(6000, -40, seed=4))
    assert isinstance(events[0], SpeechStarted)
    assert isinstance(events[1], SpeechEnded)
    assert len(events) == 2
    assert events[1].at_ms <= 2000 + 3100


@pytest.mark.parametrize("level", [-10.0, -20.0, -30.0, -35.0])
def test_a_steady_tone_stays_speech(level: float) -> None:
    vad = Vad(RATE)
    assert vad.feed(silence(300) + tone(20_000, level) + silence(600)) == [SpeechStarted(300), SpeechEnded(20_300)]


def test_speech_from_the_first_sample_is_heard() -> None:
    assert Vad(8000).feed(tone(500, -28, rate=8000))[0] == SpeechStarted(0)


def test_a_direct_current_offset_is_not_loud() -> None:
    assert Vad(RATE).feed(np.full(RATE, 4000, "<i2").tobytes()) == []


def test_an_odd_byte_waits_for_its_other_half() -> None:
    vad = Vad(RATE)
    stream = silence(300) + tone(300) + silence(700)
    events = vad.feed(stream[:4001]) + vad.feed(stream[4001:])
    assert events == [SpeechStarted(300), SpeechEnded(600)]
