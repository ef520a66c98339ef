"""Recordings whose time is over: deleted.

By the tenant's `retention_days` as it is now; of a tenant that is no more, by what it was when the call was recorded. A
recording is as old as the last change to its file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from sipbridge.recording_files.about import folder_name
from sipbridge.recording_files.keys import KeyRing
from sipbridge.recording_files.library import RecordingFile, about, is_being_written, recording_files
from sipbridge.recording_files.sealed import SealError

log = structlog.get_logger(__name__)

_DAY_S = 86_400.0


def delete_expired(
    directory: Path,
    days_of: Mapping[str, int],
    keys: KeyRing | None,
    now: float,
    pause: Callable[[], object] = lambda: None,
) -> int:
    """`days_of`: by tenant. How many were deleted; what could not be is said, and tried again another time."""
    days = {folder_name(tenant): number for tenant, number in days_of.items()}
    deleted = 0
    for file in list(recording_files(directory)):
        pause()
        try:
            age = (now - file.path.stat().st_mtime) / _DAY_S
            if age < 1 or not _expired(file, age, days, keys):
                continue
            if file.part and is_being_written(file.path):
                continue
            file.path.unlink()
        except (OSError, SealError) as error:
            log.warning("recording kept: nobody can say for how long", path=str(file.path), error=str(error))
            continue
        deleted += 1
        log.info("recording deleted: its time is over", path=str(file.path), days=round(age))
    return deleted


def _expired(file: RecordingFile, age: float, days: Mapping[str, int], keys: KeyRing | None) -> bool:
    number = days.get(file.path.parent.name)
    if number is None:
        known = about(file, keys)
        number = None if known is None else known.retention_days
    return number is not None and age >= number
