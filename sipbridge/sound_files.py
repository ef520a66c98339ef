"""Stereo sound files that can be played at any moment of their making, also when nobody lived to close them.

A comment says in either what the file is (`recording_files.about`); what it is written to may be sealed.

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
from typing import BinaryIO, Literal, Protocol, TypeAlias

import soundfile

from sipbridge.recording_files.keys import Key
from sipbridge.recording_files.medium import Medium, create_medium

SoundFormat: TypeAlias = Literal["wav", "flac"]

_WAV_START = struct.Struct("<4sI8sIHHIIHH")
_WAV_DATA = struct.Struct("<4sI")
_WAV_HEADER_BYTES = _WAV_START.size + _WAV_DATA.size
_FRAME_BYTES = 4
_MOST_HEADER_BYTES = 8192
_MOST_WAV_BYTES = 0xFFFFFFFF - _WAV_HEADER_BYTES - 0xFFFF
# libsndfile's scale of 0 to 1, a quarter of which is FLAC's level 2: blocks of 1152 samples, so that 144 ms at 8 kHz is
# all that a kill costs. Higher levels wait for half a second and save a few per cent.
_FLAC_LEVEL = 0.25
_FLAC_BLOCK = 1152
_FLAC_SAMPLES_AT = 22  # the lower 32 bits of the number of samples, in STREAMINFO (RFC 9639 §8.2)


class SoundFile(Protocol):
    def write(self, pcm: bytes, /) -> None:
        """Interleaved 16-bit PCM. Raises OSError; then only `close` is left."""

    def close(self, *, whole: bool = True) -> None:
        """Not `whole`: it could not be written to its end. Raises OSError."""


class WavFile:
    def __init__(self, medium: Medium, rate: int, comment: str = "") -> None:
        """The medium becomes its own. Raises OSError."""
        self._medium = medium
        self._rate = rate
        self._comment = _list_chunk(comment.encode()) if comment else b""
        self._size = 0
        medium.write((0, self._header()))

    def write(self, pcm: bytes, /) -> None:
        if self._size + len(pcm) > _MOST_WAV_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        at = len(self._comment) + _WAV_HEADER_BYTES + self._size
        self._size += len(pcm)
        self._medium.write((at, pcm), (0, self._header()))

    def close(self, *, whole: bool = True) -> None:
        self._medium.close(whole=whole)

    def _header(self) -> bytes:
        return wav_header(self._rate, self._comment, self._size)


class FlacFile:
    def __init__(self, medium: Medium, rate: int, comment: str = "") -> None:
        self._medium = medium
        self._samples = 0
        self._encoded = _Encoded()
        try:
            self._file = soundfile.SoundFile(
                self._encoded, "w", rate, 2, "PCM_16", format="FLAC", closefd=False, compression_level=_FLAC_LEVEL
            )
            if comment:
                self._file.comment = comment
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
        self._medium.write(
            *self._encoded.take(),
            *([(_FLAC_SAMPLES_AT, (whole & 0xFFFFFFFF).to_bytes(4, "big"))] if whole else []),
        )

    def close(self, *, whole: bool = True) -> None:
        try:
            self._file.close()
            if whole:
                self._medium.write(*self._encoded.take())
        except soundfile.LibsndfileError as error:
            raise OSError(errno.EIO, str(error)) from error
        finally:
            self._medium.close(whole=whole)


class _Encoded:
    """What libsndfile writes, and where, until it is taken. Nothing is raised in here: it is called from C."""

    def __init__(self) -> None:
        self._writes: list[tuple[int, bytes]] = []
        self._at = self._size = 0

    def take(self) -> list[tuple[int, bytes]]:
        writes, self._writes = self._writes, []
        return writes

    def write(self, data: bytes) -> int:
        self._writes.append((self._at, bytes(data)))
        self._at += len(data)
        self._size = max(self._size, self._at)
        return len(data)

    def read(self, size: int = -1) -> bytes:
        return b""  # who encodes does not look back

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at


def wav_header(rate: int, between: bytes, size: int) -> bytes:
    """`between`: whole chunks before the sound, of which there are `size` bytes."""
    start = _WAV_START.pack(
        b"RIFF",
        size + len(between) + _WAV_HEADER_BYTES - 8,
        b"WAVEfmt ",
        16,
        1,
        2,
        rate,
        rate * _FRAME_BYTES,
        _FRAME_BYTES,
        16,
    )
    return start + between + _WAV_DATA.pack(b"data", size)


def seconds_of(head: bytes, size: int) -> float:
    """How long such a file is, by its beginning and its size; 0: nothing can be heard yet."""
    if head.startswith(b"fLaC") and len(head) >= _FLAC_SAMPLES_AT + 4:
        # STREAMINFO (RFC 9639 §8.2): 20 bits of rate, 3 of channels, 5 of bits per sample, 36 of samples.
        packed = int.from_bytes(head[_FLAC_SAMPLES_AT - 4 : _FLAC_SAMPLES_AT + 4], "big")
        rate = packed >> 44
        return (packed & (1 << 36) - 1) / rate if rate else 0.0
    found = _wav_data(head)
    if found is None or size < found:
        return 0.0
    return (size - found) / (_rate_of(head) * _FRAME_BYTES)


def finish_wav(file: BinaryIO) -> float:
    """Set the header right of one whose writer was killed; how many seconds it has."""
    file.seek(0)
    head, size = file.read(_MOST_HEADER_BYTES), file.seek(0, os.SEEK_END)
    at = _wav_data(head)
    if at is None or size <= at:
        return 0.0
    sound = (size - at) // _FRAME_BYTES * _FRAME_BYTES
    file.truncate(at + sound)
    file.seek(0)
    file.write(wav_header(_rate_of(head), head[_WAV_START.size : at - _WAV_DATA.size], sound))
    return seconds_of(head, at + sound)


def _wav_data(head: bytes) -> int | None:
    """Where the sound begins, in a file of ours."""
    at = _WAV_START.size
    while head.startswith(b"RIFF") and at + 8 <= len(head):
        kind, length = struct.unpack_from("<4sI", head, at)
        at += 8
        if kind == b"data":
            return at if _rate_of(head) else None
        at += length
    return None


def _rate_of(head: bytes) -> int:
    return int.from_bytes(head[24:28], "little")


def _list_chunk(text: bytes) -> bytes:
    text += b"\0" * (2 - len(text) % 2)  # ends with a zero, has an even length
    return struct.pack("<4sI4s4sI", b"LIST", 12 + len(text), b"INFO", b"ICMT", len(text)) + text


def create(path: Path, rate: int, sound_format: SoundFormat, key: Key | None = None, comment: str = "") -> SoundFile:
    """A new file that only its owner may read, sealed with the key where there is one. Raises OSError, FileExistsError
    among them."""
    medium = create_medium(path, key)
    try:
        return (WavFile if sound_format == "wav" else FlacFile)(medium, rate, comment)
    except OSError:
        with suppress(OSError):
            medium.close(whole=False)
        with suppress(OSError):
            path.unlink()
        raise
