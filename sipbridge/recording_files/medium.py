"""What a sound file is written to: a plain file, or a sealed one. Both are locked while somebody writes them."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from sipbridge.recording_files.keys import Key
from sipbridge.recording_files.sealed import Sealer


class Medium(Protocol):
    def write(self, *writes: tuple[int, bytes]) -> None:
        """Each at its place: behind what is there, or over it. Killed in the middle of it, a plain file has a part of
        it, a sealed one all or nothing. Raises OSError."""

    def close(self, *, whole: bool = True) -> None:
        """Not `whole`: as if the process had been killed. Raises OSError."""


class PlainFile:
    def __init__(self, descriptor: int) -> None:
        """The file becomes its own."""
        self._descriptor = descriptor

    def write(self, *writes: tuple[int, bytes]) -> None:
        for offset, data in writes:
            view = memoryview(data)
            while view:
                written = os.pwrite(self._descriptor, view, offset)
                view, offset = view[written:], offset + written

    def close(self, *, whole: bool = True) -> None:
        os.close(self._descriptor)


class SealedFile:
    def __init__(self, descriptor: int, key: Key) -> None:
        """Likewise. Raises OSError."""
        self._file = PlainFile(descriptor)
        self._sealer = Sealer(key)
        self._size = 0
        self._append(self._sealer.header)

    def write(self, *writes: tuple[int, bytes]) -> None:
        for record in self._sealer.records(writes):
            self._append(record)

    def close(self, *, whole: bool = True) -> None:
        try:
            if whole:
                self._append(self._sealer.last())
        finally:
            self._file.close()

    def _append(self, data: bytes) -> None:
        self._file.write((self._size, data))
        self._size += len(data)


def create_medium(path: Path, key: Key | None) -> Medium:
    """A new file that only its owner may read. Raises OSError, FileExistsError among them."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        lock(descriptor)
        return PlainFile(descriptor) if key is None else SealedFile(descriptor, key)
    except OSError:
        discard(path, descriptor)
        raise


def discard(path: Path, descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)
    with suppress(OSError):
        path.unlink()


def lock(descriptor: int) -> bool:
    """Whether it is ours now, until it is closed or this process is gone. Where files cannot be locked (some network
    file systems) it always is."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
