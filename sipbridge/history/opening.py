"""The history that a configuration asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sipbridge.config import Config
from sipbridge.errors import ConfigError, SipbridgeError
from sipbridge.history.facts import Entry
from sipbridge.history.history import History
from sipbridge.history.http_store import HttpStore
from sipbridge.history.sink import Pace, Sink, SinkUnavailableError, Store
from sipbridge.history.sqlite_store import SqliteStore
from sipbridge.history.webhooks import webhooks_of


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[History | None]:
    """None where it is switched off."""
    if not config.history.enabled:
        yield None
        return
    # What cannot be, such as a secret that is not there, is told before anybody calls.
    webhooks_of(config.webhooks)
    if config.history.store.startswith("http"):
        open_store(config)
    async with History(config.history, lambda: sinks_of(config), node=config.node.name) as history:
        yield history


def sinks_of(config: Config) -> list[Sink]:
    """The store first of all. One that cannot be made is owed everything until it can."""
    return [_made(config), *webhooks_of(config.webhooks)]


def open_store(config: Config, *, read_only: bool = False) -> Store:
    """Nothing is connected yet. Raises `ConfigError`."""
    path = config.history.sqlite_path
    if path is not None:
        return SqliteStore(path, read_only=read_only)
    if config.history.store.startswith("http"):
        return HttpStore(config.history)
    raise ConfigError(f"history.store: {config.history.store}: not there yet")


def _made(config: Config) -> Sink:
    try:
        return open_store(config)
    except SipbridgeError as error:
        return Unusable("store", str(error))


class Unusable:
    """In the place of a sink that could not be made."""

    pace = Pace()

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        self._why = why

    async def deliver(self, entries: Sequence[Entry]) -> None:
        raise SinkUnavailableError(self._why)

    async def close(self) -> None:
        pass
