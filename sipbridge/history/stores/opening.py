"""The store that a configuration names. Only what that one needs is loaded: `sipbridge history` answers at once."""

from __future__ import annotations

from sipbridge.config import Config
from sipbridge.history.sink import Store
from sipbridge.history.stores.sqlite_store import SqliteStore


def open_store(config: Config, *, read_only: bool = False) -> Store:
    """Nothing is connected yet. Raises `ConfigError`."""
    path = config.history.sqlite_path
    if path is not None:
        return SqliteStore(path, read_only=read_only)
    if config.history.store.startswith("postgresql"):
        from sipbridge.history.stores.sql_store import SqlStore

        return SqlStore(config.history.store_url())
    from sipbridge.history.stores.http_store import HttpStore

    return HttpStore(config.history)
