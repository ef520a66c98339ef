"""Recordings whose process was killed: finished, so that they can be played up to their last moment.

A plain file gets its lengths set right, a sealed one is closed behind its last whole record; then each gets its final
name. One that a process still writes (it is locked) is left alone, and so is one whose key is not there: it waits.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import structlog

from sipbridge.recording_files.about import HEAD_BYTES, About
from sipbridge.recording_files.keys import KeyRing
from sipbridge.recording_files.library import RecordingFile, Replay, recording_files, replay
from sipbridge.recording_files.medium import lock
from sipbridge.recording_files.sealed import SealedReader, SealError
from sipbridge.sound_files import finish_wav, seconds_of

log = structlog.get_logger(__name__)

_YOUNG_S = 60.0
"""An empty file may be one that somebody makes right now."""
_MOST_SAME_NAMES = 1000


@dataclass(frozen=True, slots=True)
class Recovered:
    path: Path
    seconds: float
    sealed: bool
    about: About | None


def recover(directory: Path, keys: KeyRing | None, pause: Callable[[], object] = lambda: None) -> Iterator[Recovered]:
    """Finish all that is left; each is yielded when it is done. `pause` is called between pieces of work."""
    for file in list(recording_files(directory)):
        if not file.part:
            continue
        pause()
        try:
            recovered = _finish(file, keys, pause)
        except (OSError, SealError) as error:
            log.error("recording not finished: it stays as it is", path=str(file.path), error=str(error))
            continue
        if recovered is not None:
            log.warning("recording finished after a crash", path=str(recovered.path), seconds=recovered.seconds)
            yield recovered


def _finish(file: RecordingFile, keys: KeyRing | None, pause: Callable[[], object]) -> Recovered | None:
    """None: nobody needs it, or somebody has it."""
    with file.path.open("r+b") as opened:
        if not lock(opened.fileno()) or _just_made(opened):
            return None
        seen = _close_sealed(opened, keys, pause) if file.sealed else _close_plain(opened, file)
        seconds = round(seconds_of(bytes(seen.head), seen.size), 2)
        if not seconds:
            file.path.unlink()
            return None
        final = _free(file.finished_path)
        file.path.rename(final)
    return Recovered(final, seconds, file.sealed, seen.about)


def _just_made(opened: BinaryIO) -> bool:
    status = os.fstat(opened.fileno())
    return not status.st_size and time.time() - status.st_mtime < _YOUNG_S


def _close_sealed(opened: BinaryIO, keys: KeyRing | None, pause: Callable[[], object]) -> Replay:
    reader = SealedReader(opened, keys)
    seen = Replay(bytearray())
    try:
        replay(reader, seen=seen, pause=pause)
    except SealError as error:  # of a file that may end anywhere, after a power cut with anything
        log.warning("recording cut where it is damaged", path=opened.name, error=str(error))
    if reader.closing is None:
        end = reader.end_after_crash()
        opened.seek(reader.good_bytes)
        opened.truncate()
        opened.write(end)
    return seen


def _close_plain(opened: BinaryIO, file: RecordingFile) -> Replay:
    if file.kind == "wav":
        finish_wav(opened)
    size = opened.seek(0, os.SEEK_END)
    opened.seek(0)
    return Replay(bytearray(opened.read(HEAD_BYTES)), size)


def _free(path: Path) -> Path:
    """A name that is not taken: nothing is written over."""
    stem, dot, suffix = path.name.partition(".wav") if ".wav" in path.name else path.name.partition(".flac")
    numbers = ("", *(f".{number}" for number in range(2, _MOST_SAME_NAMES)))
    names = (path.with_name(f"{stem}{number}{dot}{suffix}") for number in numbers)
    another = path.with_name(f"{stem}.{os.urandom(8).hex()}{dot}{suffix}")
    return next((name for name in names if not name.exists()), another)
