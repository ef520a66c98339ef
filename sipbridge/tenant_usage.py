"""What tenants have used today, in a file that survives a restart and that several processes of a machine add to.

SQLite, in a thread of its own. What cannot be written is said, and counts until it can, or the process ends. A damaged
file is set aside.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import structlog

from sipbridge.sqlite_files import is_damage, set_aside
from sipbridge.tenant_limits import Used

log = structlog.get_logger(__name__)

_KEPT_DAYS = 7
_SCHEMA = """
CREATE TABLE IF NOT EXISTS used (
    tenant TEXT NOT NULL, day TEXT NOT NULL, seconds REAL NOT NULL, spend REAL NOT NULL, PRIMARY KEY (tenant, day)
)
"""


class TenantUsage:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "usage")

    async def load(self) -> dict[str, list[Used]]:
        """Of the last days, by tenant. Nothing where it cannot be read."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, _load, self._path)
        except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
            self._given_up(error)
            log.error("what tenants have used is not known", file=str(self._path), error=str(error))
            return {}

    async def add(self, more: Mapping[str, Used]) -> dict[str, Used] | None:
        """Returns what that makes of each; None where it could not be written."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, _add, self._path, more)
        except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
            self._given_up(error)
            log.error("what tenants have used is not kept", file=str(self._path), error=str(error))
            return None

    def _given_up(self, error: BaseException) -> None:
        """A damaged file is, for a new one."""
        if is_damage(error):
            with suppress(OSError):
                set_aside(self._path)

    def close(self) -> None:
        self._thread.shutdown(wait=True)


def _load(path: Path) -> dict[str, list[Used]]:
    found: dict[str, list[Used]] = {}
    if path.exists():
        with closing(_connect(path)) as db:
            for tenant, day, seconds, spend in db.execute("SELECT tenant, day, seconds, spend FROM used ORDER BY day"):
                found.setdefault(tenant, []).append(Used(day, seconds, spend))
    return found


def _add(path: Path, more: Mapping[str, Used]) -> dict[str, Used]:
    totals: dict[str, Used] = {}
    with closing(_connect(path)) as db, db:
        for tenant, used in more.items():
            (row,) = db.execute(
                "INSERT INTO used VALUES (?, ?, ?, ?) ON CONFLICT (tenant, day) DO UPDATE"
                " SET seconds = seconds + excluded.seconds, spend = spend + excluded.spend RETURNING seconds, spend",
                (tenant, used.day, used.seconds, used.spend),
            ).fetchall()
            totals[tenant] = Used(used.day, *row)
        newest = max((used.day for used in more.values()), default="")
        db.execute("DELETE FROM used WHERE day < date(?, ?)", (newest, f"-{_KEPT_DAYS} days"))
    return totals


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=5.0)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db
