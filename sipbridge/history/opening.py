"""The history that a configuration asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sipbridge.config import Config
from sipbridge.history.history import STORE, History
from sipbridge.history.sink import Sink
from sipbridge.history.stores.opening import open_store
from sipbridge.history.summarist import Summarist
from sipbridge.history.webhooks import webhooks_of
from sipbridge.tenant_source.source import TenantSource


@asynccontextmanager
async def opened(config: Config, tenants: TenantSource) -> AsyncIterator[History | None]:
    """None where it is switched off and nobody else is to be told. `tenants` is looked at from the history's thread.
    Raises `ConfigError` where the store or a webhook cannot be what is configured."""
    if not config.history.enabled and not config.webhooks:
        yield None
        return

    def sinks() -> dict[str, Sink]:
        summarist = Summarist(tenants.get, config.prices, history.note_late)
        return sinks_of(config) | {summarist.name: summarist}

    history = History(config.history, sinks, node=config.node.name)
    async with history:
        yield history


def sinks_of(config: Config) -> dict[str, Sink]:
    """By the names under which they are owed what they have not taken. Raises `ConfigError`."""
    sinks: dict[str, Sink] = {webhook.name: webhook for webhook in webhooks_of(config.webhooks)}
    return {STORE: open_store(config), **sinks} if config.history.enabled else sinks
