"""SQLite files that are damaged: told from those that just cannot be used now, and set aside."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)


def is_damage(error: BaseException | None) -> bool:
    """No attempt will mend it. Else it is locked, full, not allowed ..."""
    if isinstance(error, sqlite3.OperationalError):
        return "Could not decode" in str(error)  # a text that is none: nobody has written that
    return isinstance(error, sqlite3.DatabaseError | UnicodeDecodeError)  # the latter: in a name


def set_aside(path: Path) -> None:
    """Renamed, with what belongs to it, so that a new one can be made. Raises OSError."""
    aside = path.with_name(f"{path.name}.damaged-{os.urandom(3).hex()}")
    log.error("file damaged: set aside, a new one is begun", path=str(path), aside=aside.name)
    path.rename(aside)
    for end in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(aside.with_name(aside.name + end))
