"""Stereo sound files that can be played at any moment of their making, also when nobody lived to close them.

WAV: the header's two lengths are set right after each piece. FLAC: whole blocks are in the file as soon as they are
full, and the header says how many samples those are. Nothing is forced to the disk: it is killed processes that a file
outlives, not power cuts.
"""

from __future__ import annotations

import errno
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import soundfile

SoundFormat: TypeAlias = Literal["wav", "flac"]

_HEADER = struct.Struct("<4sI8sIHHIIHH4sI")
_FRAME_BYTES = 4
_MOST_WAV_BYTES = 0xFFFFFFFF - _HEADER.size - 0xFFFF
# libsndfile's scale of 0 to 1, a quarter of which is FLAC's level 2: blocks of 1152 samples, so that 144 ms at 8 kHz is
# all that a kill costs. Higher levels wait for half a second and save a few per cent.
_FLAC_LEVEL = 0.25
_FLAC_BLOCK = 1152
_FLAC_SAMPLES_AT = 22  # the lower 32 bits of the number of samples, in STREAMINFO (RFC 9639 §8.2)


class SoundFile(Protocol):
    def write(self, pcm: bytes, /) -> None:
        """Interleaved 16-bit PCM. Raises OSError; then only `close` is left."""

    def close(self) -> None:
        """Raises OSError."""


class WavFile:
    def __init__(self, descriptor: int, rate: int) -> None:
        """The file becomes its own. Raises OSError."""
        self._descriptor = descriptor
        self._rate = rate
        self._size = 0
        _write_all(descriptor, self._header())

    def write(self, pcm: bytes, /) -> None:
        if self._size + len(pcm) > _MOST_WAV_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        _write_all(self._descriptor, pcm)
        self._size += len(pcm)
        os.pwrite(self._descriptor, self._header(), 0)

    def close(self) -> None:
        os.close(self._descriptor)

    def _header(self) -> bytes:
        size, rate = self._size, self._rate
        return _HEADER.pack(
            b"RIFF",
            size + _HEADER.size - 8,
            b"WAVEfmt ",
            16,
            1,
            2,
            rate,
            rate * _FRAME_BYTES,
            _FRAME_BYTES,
            16,
            b"data",
            size,
        )


class FlacFile:
    def __init__(self, descriptor: int, rate: int) -> None:
        self._descriptor = descriptor
        self._samples = 0
        try:
            self._file = soundfile.SoundFile(
                descriptor, "w", rate, 2, "PCM_16", format="FLAC", closefd=False, compression_level=_FLAC_LEVEL
            )
        except soundfile.LibsndfileError as error:
            raise OSError(errno.EIO, str(error)) from error

    def write(self, pcm: bytes, /) -> None:
        try:
            self._file.buffer_write(pcm, dtype="int16")
        except (soundfile.LibsndfileError, AssertionError) as error:  # the latter: not all of it was taken
            raise OSError(errno.EIO, str(error) or "not written") from error
        self._samples += len(pcm) // _FRAME_BYTES
        # A block is written when the sample after it is there.
        whole = max(0, self._samples - 1) // _FLAC_BLOCK * _FLAC_BLOCK
        if whole:
            os.pwrite(self._descriptor, (whole & 0xFFFFFFFF).to_bytes(4, "big"), _FLAC_SAMPLES_AT)

    def close(self) -> None:
        try:
            self._file.close()
        except soundfile.LibsndfileError as error:
            raise OSError(errno.EIO, str(error)) from error
        finally:
            os.close(self._descriptor)


def create(path: Path, rate: int, sound_format: SoundFormat) -> SoundFile:
    """A new file that only its owner may read. Raises OSError, FileExistsError among them."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        return WavFile(descriptor, rate) if sound_format == "wav" else FlacFile(descriptor, rate)
    except OSError:
        os.close(descriptor)
        with suppress(OSError):
            path.unlink()
        raise


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
