"""The history that a configuration asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import import_module

import structlog

from sipbridge.config import Config
from sipbridge.errors import ConfigError, SipbridgeError
from sipbridge.history.facts import Entry
from sipbridge.history.history import STORE, History
from sipbridge.history.http_store import HttpStore
from sipbridge.history.sink import Pace, Sink, SinkUnavailableError, Store
from sipbridge.history.sqlite_store import SqliteStore
from sipbridge.history.webhooks import webhooks_of

log = structlog.get_logger(__name__)


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[History | None]:
    """None where it is switched off, and nobody else is to be told."""
    if not config.history.enabled and not config.webhooks:
        yield None
        return
    # What cannot be, such as a secret that is not there, is told before anybody calls.
    webhooks_of(config.webhooks)
    if config.history.enabled and config.history.store.startswith("http"):
        open_store(config)
    async with History(config.history, lambda: sinks_of(config), node=config.node.name) as history:
        yield history


def sinks_of(config: Config) -> dict[str, Sink]:
    """By the names under which they are owed what they have not taken. A store that cannot be opened is owed everything
    until it can."""
    sinks: dict[str, Sink] = {STORE: _store(config)} if config.history.enabled else {}
    return {**sinks, **{webhook.name: webhook for webhook in webhooks_of(config.webhooks)}}


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


def _store(config: Config) -> Sink:
    try:
        return open_store(config)
    except SipbridgeError as error:
        log.error("no store", error=str(error))
        return Unusable(STORE, str(error))


class Unusable:
    """In the place of a sink that could not be made."""

    pace = Pace()

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        self._why = why

    def wants(self, entry: Entry) -> bool:
        return True

    async def deliver(self, entries: Sequence[Entry]) -> None:
        raise SinkUnavailableError(self._why)

    async def close(self) -> None:
        pass
