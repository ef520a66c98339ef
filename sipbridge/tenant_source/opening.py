"""Where a gateway's tenants come from, by its configuration."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from sipbridge.config import Config
from sipbridge.configfile import state_directory
from sipbridge.tenant_source.directory import TenantDirectory
from sipbridge.tenant_source.source import TenantSource
from sipbridge.tenant_source.versions import Versions
from sipbridge.tenant_source.watch import TenantWatch


def load_directory(config: Config, base: Path, *, keep: bool = False) -> TenantDirectory:
    """The tenants that are files beside `sipbridge.yaml`, which lies in `base`; none where only a backend is asked, or
    where there is no such directory beside one. `keep`: their versions are kept, and the last one of a tenant whose
    file is wrong now is in force. Raises `ConfigError`."""
    if not has_directory(config, base):
        return TenantDirectory([])
    return TenantDirectory.load(config, base, versions=versions_of(config, base) if keep else None)


def look_at_directory(config: Config, base: Path) -> TenantDirectory:
    """The same for whoever asks beside a gateway: what is wrong is `refused`, and the others are there all the same."""
    if not has_directory(config, base):
        return TenantDirectory([])
    return TenantDirectory.look(config, base, versions_of(config, base))


def has_directory(config: Config, base: Path) -> bool:
    """Tenants are files, too."""
    if config.tenants.backend is None:
        return True
    return config.tenants.source != "http" and (base / config.tenants.directory).is_dir()


def versions_of(config: Config, base: Path) -> Versions | None:
    """Where the versions of tenants' files are kept, if they are."""
    return None if config.tenants.versions is None else Versions(state_directory(base) / config.tenants.versions)


@asynccontextmanager
async def watched(
    config: Config, directory: TenantDirectory, path: Path, *, settled: Callable[[int], None] = lambda count: None
) -> AsyncIterator[Callable[[], None]]:
    """While it is entered, the directory's tenants are what the files beside `path` (sipbridge.yaml) say; `settled` is
    told how many have changed, after each look at them. What it yields has them looked at now."""
    if not has_directory(config, path.parent):
        yield lambda: None
        return
    async with TenantWatch(config, path, directory, settled=settled) as watch:
        yield watch.look


@asynccontextmanager
async def opened_tenants(config: Config, directory: TenantDirectory, base: Path) -> AsyncIterator[TenantSource]:
    """What the gateway asks, with all that has to run for it."""
    if config.tenants.backend is None:
        yield directory
        return
    from sipbridge.tenant_source.backend import TenantBackend  # its HTTP client takes time to import

    async with TenantBackend(config, base / config.tenants.directory, beside=directory) as backend:
        yield backend
