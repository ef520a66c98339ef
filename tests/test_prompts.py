from __future__ import annotations

import wave

import pytest

from sipbridge.media.vad import SpeechEnded, SpeechStarted, Vad
from sipbridge.prompts import CALLER_WAV, DIRECTORY, PROMPTS, find_prompt, key_prompt, load_prompt


@pytest.mark.parametrize("name", sorted(PROMPTS))
def test_every_prompt_is_speech_at_a_sound_level(name: str) -> None:
    pcm = load_prompt(name, 8000)
    vad = Vad(8000)
    events = vad.feed(bytes(16000) + pcm + bytes(16000))
    assert isinstance(events[0], SpeechStarted)
    assert isinstance(events[-1], SpeechEnded)
    assert events[-1].at_ms - events[0].at_ms > len(pcm) / 16 * 0.5


@pytest.mark.parametrize("rate", [8000, 16000, 24000])
def test_a_prompt_lasts_as_long_at_every_rate(rate: int) -> None:
    assert len(load_prompt("greeting", rate)) / 2 / rate == pytest.approx(6.3, abs=0.1)


def test_an_unknown_prompt_is_an_error() -> None:
    with pytest.raises(KeyError):
        load_prompt("../greeting", 8000)


def test_prompts_are_found_by_what_they_say() -> None:
    assert find_prompt("  one moment,\nPLEASE ") == "one-moment"
    assert find_prompt("One moment") is None
    assert find_prompt("") is None


@pytest.mark.parametrize("key", list("0123456789*#"))
def test_every_key_has_a_prompt(key: str) -> None:
    name = key_prompt(key)
    assert name is not None
    assert name in PROMPTS


def test_a_key_without_a_prompt() -> None:
    assert key_prompt("A") is None


def test_the_caller_speaks_telephone_audio() -> None:
    with wave.open(str(CALLER_WAV)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)
        assert file.getnframes() / 8000 == pytest.approx(3.6, abs=0.2)


def test_the_files_stay_small() -> None:
    assert sum(path.stat().st_size for path in DIRECTORY.glob("*.wav")) < 1_500_000
