"""The history that a configuration asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

from sipbridge.config import Config
from sipbridge.errors import ConfigError
from sipbridge.history.history import STORE, History
from sipbridge.history.http_store import HttpStore
from sipbridge.history.sink import Sink, Store
from sipbridge.history.sqlite_store import SqliteStore
from sipbridge.history.webhooks import webhooks_of


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[History | None]:
    """None where it is switched off. Raises `ConfigError` where the store or a webhook cannot be what is configured."""
    if not config.history.enabled:
        yield None
        return
    async with History(config.history, lambda: sinks_of(config), node=config.node.name) as history:
        yield history


def sinks_of(config: Config) -> dict[str, Sink]:
    """By the names under which they are owed what they have not taken. Raises `ConfigError`."""
    return {STORE: open_store(config)} | {webhook.name: webhook for webhook in webhooks_of(config.webhooks)}


def open_store(config: Config, *, read_only: bool = False) -> Store:
    """Nothing is connected yet. Raises `ConfigError`."""
    path = config.history.sqlite_path
    if path is not None:
        return SqliteStore(path, read_only=read_only)
    if config.history.store.startswith("postgresql"):
        try:
            sql_store = import_module("sipbridge.history.sql_store")
        except ImportError as error:
            raise ConfigError(f"history.store: {error.name} is missing: pip install 'sipbridge[postgres]'") from error
        store: Store = sql_store.SqlStore(config.history.store)
        return store
    return HttpStore(config.history)
