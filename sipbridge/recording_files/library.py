"""The recordings that there are: found, opened, looked through. Nothing here writes to one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sipbridge.recording_files.about import HEAD_BYTES, About
from sipbridge.recording_files.keys import KeyRing
from sipbridge.recording_files.medium import lock
from sipbridge.recording_files.sealed import Closing, SealedReader, SealError

SEALED_SUFFIX = ".sealed"
_NAME = re.compile(r"(?P<stem>.+?)(?P<part>\.part)?\.(?P<kind>wav|flac)(?P<sealed>\.sealed)?")
_RECORDS_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class RecordingFile:
    path: Path
    kind: str
    """`wav` or `flac`."""
    sealed: bool
    part: bool
    """It has not been finished: its call is up, or its process was killed, or it could not go on."""

    @property
    def finished_path(self) -> Path:
        """Where it belongs when it is finished."""
        return self.path.with_name(self.path.name.replace(f".part.{self.kind}", f".{self.kind}"))

    @classmethod
    def at(cls, path: Path) -> RecordingFile | None:
        match = _NAME.fullmatch(path.name)
        return match and cls(path, match["kind"], bool(match["sealed"]), bool(match["part"]))


def recording_files(directory: Path) -> Iterator[RecordingFile]:
    """`directory` is the one of all tenants. Raises OSError where it cannot be read; none is there: nothing."""
    if not directory.is_dir():
        return
    for folder in sorted(path for path in directory.iterdir() if path.is_dir() and not path.is_symlink()):
        for path in sorted(folder.iterdir()):
            file = RecordingFile.at(path)
            if file is not None and path.is_file() and not path.is_symlink():
                yield file


def is_being_written(path: Path) -> bool:
    """By a process that is alive."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return not lock(descriptor)
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class Replay:
    """A plain file as far as it was seen: its beginning, and its size."""

    head: bytearray
    size: int = 0

    @property
    def about(self) -> About | None:
        return About.find(bytes(self.head))

    def write(self, offset: int, data: bytes) -> None:
        if offset < HEAD_BYTES:
            kept = data[: HEAD_BYTES - offset]
            self.head[offset : offset + len(kept)] = kept
        self.size = max(self.size, offset + len(data))


def replay(
    reader: SealedReader,
    *,
    into: BinaryIO | None = None,
    seen: Replay | None = None,
    most_records: int | None = None,
    pause: Callable[[], object] = lambda: None,
) -> Replay:
    """Open record after record, and write what was written `into` a file. `pause` is called now and then.

    Raises `SealError` at a record that does not open; `into` and `seen` have what was before that.
    """
    seen = Replay(bytearray()) if seen is None else seen
    for number, writes in enumerate(reader.records(), 1):
        for offset, data in writes:
            if offset > seen.size:
                raise SealError("there is a hole in it: it was not written by sipbridge")
            seen.write(offset, data)
            if into is not None:
                into.seek(offset)
                into.write(data)
        if number == most_records:
            break
        if number % _RECORDS_AT_ONCE == 0:
            pause()
    return seen


def about(file: RecordingFile, keys: KeyRing | None) -> About | None:
    """What it says of itself; None: nothing. Raises `SealError`, OSError."""
    with file.path.open("rb") as opened:
        if not file.sealed:
            return About.find(opened.read(HEAD_BYTES))
        return replay(SealedReader(opened, keys), most_records=2).about


def export(file: RecordingFile, into: BinaryIO, keys: KeyRing | None) -> str:
    """Write the plain file, as far as it goes; returns what is to be said of it, "" if nothing. Raises `SealError`
    where nothing of it can be opened, OSError."""
    with file.path.open("rb") as opened:
        if not file.sealed:
            while piece := opened.read(1 << 20):
                into.write(piece)
            return "unfinished: its call is up, or its process was killed" if file.part else ""
        reader = SealedReader(opened, keys)
        try:
            replay(reader, into=into)
        except SealError as error:
            return f"damaged, and exported up to there: {error}"
    return _ending(reader, file)


def verify(file: RecordingFile, keys: KeyRing | None) -> str:
    """ "" where it is whole; else what is to be said. Raises `SealError` where it is not, OSError."""
    if not file.sealed:
        return "not encrypted: nothing shows whether it was changed"
    with file.path.open("rb") as opened:
        reader = SealedReader(opened, keys)
        seen = replay(reader)
        if reader.closing is None and not file.part:
            raise SealError("its end is missing: it was cut")
    known = seen.about
    if known is not None and not known.belongs_at(file.path):
        raise SealError(f"it is in the place of another: it is of the call {known.call_id} of tenant {known.tenant}")
    return _ending(reader, file)


def _ending(reader: SealedReader, file: RecordingFile) -> str:
    match reader.closing:
        case Closing.CLOSED:
            return ""
        case Closing.RECOVERED:
            return "closed after a crash: whole up to then"
        case None if file.part:
            return "unfinished: its call is up, or its process was killed"
        case None:
            return "its end is missing: it was cut"
