"""The versions of tenants' files: numbered per tenant, kept in one SQLite file, a hundred of each.

The same text is no new version, and no new number. A text in which secrets are written out is kept without them: it
can be compared but not put back. What cannot be kept costs nobody a call: the number is then 0, which is none.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sipbridge.errors import ConfigError

KEPT = 100
"""Of each tenant; the oldest goes first."""
_BUSY_S = 5.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS versions (
    tenant TEXT NOT NULL, number INTEGER NOT NULL, at REAL NOT NULL, digest TEXT NOT NULL,
    text TEXT NOT NULL, complete INTEGER NOT NULL, note TEXT NOT NULL, PRIMARY KEY (tenant, number)
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Version:
    tenant: str
    number: int
    at: float
    """When it was first seen, in seconds since 1970."""
    digest: str
    """SHA-256 of the file, in hex."""
    complete: bool
    """Nothing of it was left out, so it can be put back."""
    note: str
    """How it came about, where that is known."""


@dataclass(frozen=True, slots=True)
class Text:
    """Of a tenant's file, to be kept. `shown` is what of it may be."""

    tenant: str
    text: str
    shown: str

    @property
    def digest(self) -> str:
        return digest_of(self.text)


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Versions:
    """All tenants' versions. Opened anew for each use: nobody uses it often, and several processes may."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "versions.db"

    @contextmanager
    def _opened(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """Raises `sqlite3.Error`, `OSError`."""
        if write:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        elif not self._path.exists():
            raise FileNotFoundError(2, "no version has been kept yet", str(self._path))
        with closing(sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)) as database:
            if write:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = NORMAL")
                database.execute(_SCHEMA)
            yield database

    def keep(self, texts: Iterable[Text], *, at: float | None = None, note: str = "") -> dict[str, int]:
        """tenant -> the number of its text, which is a new one unless it is that of the newest version. Raises
        `ConfigError` where nothing can be kept."""
        now = time.time() if at is None else at
        try:
            with self._opened(write=True) as database:
                database.execute("BEGIN IMMEDIATE")
                numbers = {each.tenant: _kept(database, each, now, note) for each in texts}
                database.execute("COMMIT")
                return numbers
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"{self._path}: cannot be written: {error}") from error

    def history(self, tenant: str | None = None) -> Sequence[Version]:
        """The versions of one tenant or of all, the newest first. Raises `ConfigError` where they cannot be read."""
        where, values = ("", ()) if tenant is None else (" WHERE tenant = ?", (tenant,))
        with self._read() as database:
            rows = database.execute(f"SELECT {_COLUMNS} FROM versions{where} ORDER BY tenant, number DESC", values)
            return [_version(*row) for row in rows]

    def text(self, tenant: str, number: int) -> str | None:
        """As it is kept. Raises `ConfigError` as `history` does."""
        with self._read() as database:
            query = "SELECT text FROM versions WHERE tenant = ? AND number = ?"
            row = database.execute(query, (tenant, number)).fetchone()
        return None if row is None else str(row[0])

    def newest(self, tenants: Iterable[str]) -> dict[str, tuple[Version, str]]:
        """The newest version of each that has any, with its text. Raises `ConfigError` as `history` does."""
        query = f"SELECT {_COLUMNS}, text FROM versions WHERE tenant = ? ORDER BY number DESC LIMIT 1"
        if not self._path.exists():
            return {}
        with self._read() as database:
            rows = (database.execute(query, (tenant,)).fetchone() for tenant in tenants)
            return {row[0]: (_version(*row[:-1]), row[-1]) for row in rows if row is not None}

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._opened() as database:
                yield database
        except FileNotFoundError as error:
            raise ConfigError(f"{self._path.parent}: {error.strerror}") from error
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"{self._path}: cannot be read: {error}") from error


_COLUMNS = "tenant, number, at, digest, complete, note"


def _version(tenant: str, number: int, at: float, digest: str, complete: int, note: str) -> Version:
    return Version(tenant, number, at, digest, bool(complete), note)


def _kept(database: sqlite3.Connection, text: Text, at: float, note: str) -> int:
    query = "SELECT number, digest FROM versions WHERE tenant = ? ORDER BY number DESC LIMIT 1"
    number, digest = database.execute(query, (text.tenant,)).fetchone() or (0, "")
    if digest == text.digest:
        return int(number)
    number += 1
    values = (text.tenant, number, at, text.digest, text.shown, text.shown == text.text, note)
    database.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    database.execute("DELETE FROM versions WHERE tenant = ? AND number <= ?", (text.tenant, number - KEPT))
    return int(number)
