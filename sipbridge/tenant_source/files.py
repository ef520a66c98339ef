"""The files of a directory of tenants, and what is wrong with them, said with file, line and key."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from sipbridge import tenant_checks
from sipbridge.config import Config
from sipbridge.configfile import located_in, parse
from sipbridge.errors import ConfigError
from sipbridge.matching import Index, Rule
from sipbridge.tenant_config import TenantConfig
from sipbridge.yamltext import YamlTextError, read


def tenant_files(directory: Path) -> list[Path]:
    """What is a tenant's, in the order of names. Raises `OSError`."""
    return sorted(path for path in directory.iterdir() if path.suffix in (".yaml", ".yml") and path.name[0] != ".")


def file_of(directory: Path, tenant: str) -> Path:
    """Where a tenant's file is, or would be. Raises `ConfigError` where there cannot be such a file."""
    if not tenant or tenant[0] == "." or "/" in tenant or "\0" in tenant:
        raise ConfigError(f"no tenant can be called {tenant!r}: its file's name is its id")
    short = directory / f"{tenant}.yml"
    return short if short.exists() else directory / f"{tenant}.yaml"


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


def text_of(path: Path) -> str:
    """Raises `ConfigError`."""
    try:
        return path.read_bytes().decode("utf-8")  # line ends as they are: it may be put back one day
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def ties(
    index: Index, texts: Mapping[str, tuple[Path, str]], of: Container[str] | None = None
) -> Iterator[tuple[str, str]]:
    """(tenant, what is wrong) of each, or of those `of`, that shares a call with another, equally specific one.
    `texts`: their files."""
    for mine, other in index.ties():
        if of is not None and mine.id not in of:
            continue
        words = f"{mine.to.text!r} {_and(mine, other)} overlap and are equally specific, so a call may be for either"
        path, text = texts.get(mine.id, (None, ""))
        yield (
            mine.id,
            f"tenant {mine.id}: match.to: {words}" if path is None else located_in(text, str(path), _TO, words),
        )


_TO = ("match", "to")


def _and(mine: Rule, other: Rule) -> str:
    return f"and {other.to.text!r} of tenant {other.id}"


# --- texts ------------------------------------------------------------------------------------------------------------

_SECRET_KEY = re.compile(r"secret|token(?!s)|passw|api_?key|authorization|cookie|credential", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"auth|key|token|secret|passw|cookie", re.IGNORECASE)
"""The same of headers and variables, whose names are others' choice."""


def without_secrets(text: str) -> str:
    """The text of a file that was parsed before, without the secrets that are written out in it."""
    parts, end = [], 0
    for start, stop in sorted(set(_secrets(read(text).root, "", ""))):
        parts += [text[end:start], '"***"']
        end = stop
    return "".join([*parts, text[end:]])


def _secrets(node: yaml.Node | None, parent: str, name: str) -> Iterator[tuple[int, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _secrets(value, name, str(key.value))
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _secrets(value, parent, name)
    elif isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str":
        pattern = _SECRET_VALUE if parent in ("headers", "env") else _SECRET_KEY
        if pattern.search(name) and not node.value.startswith("file:") and "${" not in node.value:
            yield node.start_mark.index, node.end_mark.index


def keys_of(text: str) -> frozenset[str]:
    """The keys that a file sets, with a dot between; lists are looked at as a whole. Nothing of one that is no YAML."""
    try:
        return frozenset(_keys(read(text).data, ""))
    except YamlTextError:
        return frozenset()


def _keys(data: object, at: str) -> Iterator[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield f"{at}{key}"
            yield from _keys(value, f"{at}{key}.")


def no_longer_set(before: str, now: str) -> list[str]:
    """The keys that a file has lost, of a section that is gone as a whole only the section."""
    lost = keys_of(before) - keys_of(now)
    return sorted(key for key in lost if key.rpartition(".")[0] not in lost)


def write_whole(path: Path, text: str) -> None:
    """In the place of what is there, at one moment: whoever reads finds one or the other. Raises `OSError`."""
    new = path.with_name(f".{path.name}.new")
    try:
        with new.open("wb") as file:
            with suppress(OSError):  # it is as readable as it was, by whom it was; as far as we may say so
                before = path.stat()
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
