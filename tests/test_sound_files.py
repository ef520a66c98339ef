"""Sound files as others read them, at every moment of their making."""

from __future__ import annotations

import io
import os
import stat
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sipbridge.recording_files.medium import PlainFile
from sipbridge.sound_files import FlacFile, SoundFormat, WavFile, create

NOISE = np.random.default_rng(1).integers(-3000, 3000, (40000, 2)).astype("<i2")
FORMATS: list[SoundFormat] = ["wav", "flac"]


@pytest.mark.parametrize("sound_format", FORMATS)
@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_file_that_was_closed_is_whole(tmp_path: Path, sound_format: SoundFormat, rate: int) -> None:
    path = tmp_path / f"a.{sound_format}"
    file = create(path, rate, sound_format)
    for start in range(0, 40000, 1700):
        file.write(NOISE[start : start + 1700].tobytes())
    file.close()
    sound, read_rate = soundfile.read(path, dtype="int16")
    assert read_rate == rate
    assert np.array_equal(sound, NOISE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("sound_format", FORMATS)
def test_a_file_can_be_read_while_it_grows(tmp_path: Path, sound_format: SoundFormat) -> None:
    path = tmp_path / f"a.{sound_format}"
    file = create(path, 8000, sound_format)
    for end in range(2000, 40001, 2000):
        file.write(NOISE[end - 2000 : end].tobytes())
        sound, _ = soundfile.read(io.BytesIO(path.read_bytes()), dtype="int16")
        assert np.array_equal(sound, NOISE[: len(sound)])
        assert end - len(sound) <= (0 if sound_format == "wav" else 1152)
    file.close()


def test_wav_needs_no_library_to_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    create(path, 8000, "wav").write(NOISE.tobytes())  # not closed
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (2, 8000, 40000)
        assert file.readframes(40000) == NOISE.tobytes()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        create(path, 8000, "wav")
    (tmp_path / "link.wav").symlink_to(tmp_path / "elsewhere.wav")
    with pytest.raises(OSError, match="link"):
        create(tmp_path / "link.wav", 8000, "wav")
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize("kind", [WavFile, FlacFile])
def test_no_space_is_an_os_error(kind: type[WavFile] | type[FlacFile]) -> None:
    descriptor = os.open("/dev/full", os.O_RDWR)
    with pytest.raises(OSError):  # noqa: PT011
        kind(PlainFile(descriptor), 8000).write(NOISE.tobytes() * 4)
    os.close(descriptor)


def test_a_wav_file_ends_before_its_lengths_do(tmp_path: Path) -> None:
    file = create(tmp_path / "a.wav", 8000, "wav")
    assert isinstance(file, WavFile)
    file._size = 0xFFFFFFFF - 70_000
    with pytest.raises(OSError, match="large"):
        file.write(bytes(8000))
    file.close()
