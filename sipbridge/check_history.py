"""`sipbridge check`: the history's outbox, and its store as far as it can be asked without changing it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryFile

from sipbridge.config import Config
from sipbridge.errors import ConfigError
from sipbridge.finding import Finding
from sipbridge.history.outbox import SUFFIX
from sipbridge.history.sink import Query, SinkUnavailableError
from sipbridge.history.stores.opening import open_store

_LITTLE_ROOM = 500_000_000
"""Bytes: a day or two of 100 calls a minute, should the store be away."""


async def look_at_history(config: Config) -> list[Finding]:
    """Nothing where nothing is kept."""
    if not config.history.enabled and not config.webhooks:
        return []
    found = [await asyncio.to_thread(_outbox, config.history.outbox)]
    if config.history.enabled:
        path = config.history.sqlite_path
        found.append(await _asked(config) if path is None else await asyncio.to_thread(_sqlite, path))
    return found


def _outbox(directory: Path) -> Finding:
    subject = f"history.outbox {directory}"
    cure = "history.outbox is to be a directory that we may write to, on a disk of this machine"
    try:
        free = _room(directory)
    except OSError as error:
        return Finding("failed", subject, error.strerror or str(error), cure)
    waiting = refused = 0
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2)) as db:
                waiting += db.execute("SELECT count(*) FROM entries").fetchone()[0]
                refused += db.execute("SELECT count(*) FROM refused").fetchone()[0]
        except sqlite3.Error as error:
            return Finding("warning", subject, f"{path.name}: {error}", "is a gateway just starting? else move it away")
    text = f"{waiting} entries wait" + (f", {refused} were refused and are set aside" if refused else "")
    if free < _LITTLE_ROOM:
        return Finding("warning", subject, f"{text}; {free // 1_000_000} MB are free", "make room there")
    return Finding("ok", subject, text)


def _sqlite(path: Path) -> Finding:
    subject = f"history.store {path}"
    try:
        if not path.exists():
            _room(path.parent)
            return Finding("ok", subject, "will be made with the first call")
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2)) as db:
            calls = db.execute("SELECT count(*) FROM calls").fetchone()[0]
        with path.open("r+b"):
            return Finding("ok", subject, f"{calls} calls")
    except OSError as error:
        return Finding("failed", subject, error.strerror or str(error), "history.store is to be where we may write to")
    except sqlite3.Error as error:
        cure = "move it away, and a new one is made; what cannot be stored waits in the outbox"
        return Finding("failed", subject, str(error), cure)


def _room(directory: Path) -> int:
    """Bytes that are free where files can be made. Raises `OSError`."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with TemporaryFile(dir=directory):
        return disk_usage(directory).free


async def _asked(config: Config) -> Finding:
    kind = config.history.store.partition(":")[0]
    subject = f"history.store {kind}"
    try:
        store = open_store(config)
    except ConfigError as error:
        return Finding("failed", subject, str(error), "see history.store")
    if kind.startswith("http"):
        await store.close()
        return Finding("ok", subject, "a backend: it is asked when there is something to keep")
    try:
        await store.calls(Query(limit=1))
    except SinkUnavailableError as error:
        return Finding("failed", subject, str(error), "is it up? entries wait in the outbox until it is")
    finally:
        await store.close()
    return Finding("ok", subject, "answers")
