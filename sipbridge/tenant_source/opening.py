"""Where a gateway's tenants come from, by its configuration."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sipbridge.config import Config
from sipbridge.tenant_source.directory import TenantDirectory
from sipbridge.tenant_source.source import TenantSource


def load_directory(config: Config, base: Path) -> TenantDirectory:
    """The tenants that are files beside `sipbridge.yaml`, which lies in `base`; none where only a backend is asked, or
    where there is no such directory beside one. Raises `ConfigError`."""
    if config.tenants.backend is not None:
        alone = config.tenants.source == "http"
        if alone or not (base / config.tenants.directory).is_dir():
            return TenantDirectory([])
    return TenantDirectory.load(config, base)


@asynccontextmanager
async def opened_tenants(config: Config, directory: TenantDirectory, base: Path) -> AsyncIterator[TenantSource]:
    """What the gateway asks, with all that has to run for it."""
    if config.tenants.backend is None:
        yield directory
        return
    from sipbridge.tenant_source.backend import TenantBackend  # its HTTP client takes time to import

    async with TenantBackend(config, base / config.tenants.directory, beside=directory) as backend:
        yield backend
