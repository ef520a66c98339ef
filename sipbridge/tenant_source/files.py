"""The files of a directory of tenants, and what is wrong with them, said with file, line and key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sipbridge import tenant_checks
from sipbridge.config import Config
from sipbridge.configfile import located, located_in, parse
from sipbridge.configfile import text_of as text_of
from sipbridge.errors import ConfigError
from sipbridge.matching import Index, Rule
from sipbridge.tenant_config import TenantConfig


def tenant_files(directory: Path) -> list[Path]:
    """What is a tenant's, in the order of names. Raises `OSError`."""
    return sorted(path for path in directory.iterdir() if path.suffix in (".yaml", ".yml") and path.name[0] != ".")


def said_twice(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Files that would be one tenant's: acme.yaml and acme.yml."""
    first: dict[str, Path] = {}
    for path in paths:
        if (other := first.setdefault(path.stem, path)) != path:
            yield path, f"{path}:1: tenant {path.stem} is in {other.name} already"


def checked(text: str, path: Path, config: Config) -> TenantConfig:
    """What the text of one tenant's file says. Raises `ConfigError` with everything that is wrong with it by itself."""
    tenant = parse(text, TenantConfig, str(path), directory=path.parent)
    if problems := [located_in(text, str(path), place, words) for place, words in tenant_checks.faults(tenant, config)]:
        raise ConfigError("\n".join(problems))
    return tenant


def ties(index: Index, paths: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """(tenant, what is wrong) of each that shares a call with another, equally specific one. `paths`: their files."""
    for mine, other in index.ties():
        words = f"{mine.to.text!r} {_and(mine, other)} overlap and are equally specific, so a call may be for either"
        path = paths.get(mine.id)
        yield mine.id, f"tenant {mine.id}: match.to: {words}" if path is None else located(path, _TO, words)


_TO = ("match", "to")


def _and(mine: Rule, other: Rule) -> str:
    return f"and {other.to.text!r} of tenant {other.id}"
