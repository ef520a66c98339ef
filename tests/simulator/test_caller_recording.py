from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from sipbridge.errors import ConfigError
from sipbridge.media.vad import SpeechEnded, SpeechStarted
from sipbridge.simulator.caller_recording import Recording, read_speech, sound_of
from tests.media.test_vad import silence, tone


def eight(ms: int, hertz: float = 300.0) -> bytes:
    return tone(ms, rate=8000, hertz=hertz)


def quiet(ms: int) -> bytes:
    return silence(ms, rate=8000)


def hear(recording: Recording, pcm: bytes, at: float) -> list[object]:
    """20 ms at once, the first of them at `at`."""
    events: list[object] = []
    for start in range(0, len(pcm), 320):
        events += recording.hear(pcm[start : start + 320], at)
        at += 0.02
    return events


def test_a_position_in_the_recording_is_a_moment_of_the_call() -> None:
    recording = Recording()
    events = hear(recording, quiet(200) + eight(400) + quiet(400), at=0.5)
    assert events == [SpeechStarted(700), SpeechEnded(1100)]
    assert recording.duration_ms == 1500
    assert recording.heard_ms == 400


def test_a_hole_in_the_stream_is_silence_and_jitter_is_none() -> None:
    recording = Recording()
    recording.hear(eight(20), 0.0)
    recording.hear(eight(20), 0.1)
    assert recording.duration_ms == 40
    recording.hear(eight(20), 1.0)
    assert recording.duration_ms == 1020


def test_speech_that_the_end_cuts_off_counts() -> None:
    recording = Recording()
    hear(recording, eight(500), at=0.0)
    recording.finish()
    assert recording.heard_ms == 500


def test_mono_is_what_was_heard_and_stereo_both(tmp_path: Path) -> None:
    recording = Recording()
    hear(recording, quiet(100) + eight(100), at=0.0)
    recording.say(eight(50, hertz=1000), at=0.3)
    recording.write(tmp_path / "mono.wav")
    recording.write(tmp_path / "both.wav", stereo=True)
    with wave.open(str(tmp_path / "mono.wav")) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (1, 8000, 1600)
        assert file.readframes(1600) == quiet(100) + eight(100)
    with wave.open(str(tmp_path / "both.wav")) as file:
        assert (file.getnchannels(), file.getnframes()) == (2, 2800)
        both = np.frombuffer(file.readframes(2800), "<i2").reshape(-1, 2)
    assert both[2400:, 0].tobytes() == eight(50, hertz=1000)
    assert both[:1600, 1].tobytes() == quiet(100) + eight(100)
    assert not both[:2400, 0].any()
    assert not both[1600:, 1].any()


def write(path: Path, samples: bytes, *, width: int, channels: int, rate: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setsampwidth(width)
        file.setnchannels(channels)
        file.setframerate(rate)
        file.writeframes(samples)
    return path


def test_any_common_wav_can_be_said(tmp_path: Path) -> None:
    expected = np.frombuffer(eight(500), "<i2").astype(float)
    wide = np.repeat(np.frombuffer(tone(500, rate=44100), "<i2"), 2)
    speech = read_speech(write(tmp_path / "a.wav", wide.tobytes(), width=2, channels=2, rate=44100))
    assert len(speech) == pytest.approx(8000, abs=4)
    got = np.frombuffer(speech, "<i2")[500:3500].astype(float)
    assert np.abs(got - expected[500:3500]).max() < 100
    eight_bit = (expected / 256 + 128).astype("u1").tobytes()
    speech = read_speech(write(tmp_path / "b.wav", eight_bit, width=1, channels=1, rate=8000))
    assert np.abs(np.frombuffer(speech, "<i2") - expected).max() < 300
    deep = b"".join(b"\x00" + eight(500)[n : n + 2] for n in range(0, 8000, 2))
    assert read_speech(write(tmp_path / "c.wav", deep, width=3, channels=1, rate=8000)) == eight(500)


def test_what_is_no_wav_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing.wav"):
        read_speech(tmp_path / "missing.wav")
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(ConfigError, match="no WAV"):
        read_speech(tmp_path / "text.wav")
    with pytest.raises(ConfigError, match="0 bytes"):
        read_speech(write(tmp_path / "empty.wav", b"", width=2, channels=1, rate=8000))


def test_where_the_sound_is_in_a_file() -> None:
    assert sound_of(quiet(250) + eight(400) + quiet(900) + eight(300) + quiet(100)) == (250, 1850)
    assert sound_of(quiet(250)) == (0, 250)
