"""The files of a directory of tenants, and what is wrong with them, said with file, line and key."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import yaml

from sipbridge import tenant_checks
from sipbridge.config import Config
from sipbridge.configfile import located_in, parse
from sipbridge.errors import ConfigError
from sipbridge.matching import Index, Rule
from sipbridge.tenant_config import TenantConfig
from sipbridge.yamltext import YamlTextError, read

TENANT_ID = re.compile(r"[^\x00-\x20\x7f/\\.][^\x00-\x1f\x7f/\\]{0,127}")
ID_EXPECTED = "a tenant's name has 1 to 128 characters, none of them a slash, and no dot in front"
_LONGEST = 4_000_000
"""Octets of a file; more is somebody's mistake."""


def tenant_files(directory: Path) -> list[Path]:
    """What is a tenant's, in the order of names. Raises `OSError`."""
    return sorted(path for path in directory.iterdir() if path.suffix in (".yaml", ".yml") and path.name[0] != ".")


def file_of(directory: Path, tenant: str) -> Path:
    """Where a tenant's file is, or would be. Raises `ConfigError` where there cannot be such a file."""
    if not tenant or tenant[0] == "." or "/" in tenant or "\0" in tenant:
        raise ConfigError(f"no tenant can be called {tenant!r}: its file's name is its id")
    short = directory / f"{tenant}.yml"
    return short if short.exists() else directory / f"{tenant}.yaml"


def tenant_of(path: Path) -> str:
    """Whose file it is: its name without the ending, printable whatever octets that has."""
    return os.fsencode(path.stem).decode("utf-8", "backslashreplace")


def misnamed(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """(tenant, what is wrong) of files that can be no tenant's by their names: acme.yaml beside acme.yml, or a name
    that no record, metric or terminal could show."""
    first: dict[str, Path] = {}
    for path in paths:
        tenant = tenant_of(path)
        if not TENANT_ID.fullmatch(tenant):
            yield tenant, f"{str(path.parent / tenant)!r}: {ID_EXPECTED}"
        elif (other := first.setdefault(tenant, path)) != path:
            yield tenant, f"{path}:1: tenant {tenant} is in {other.name} already"


def checked(text: str, path: Path, config: Config) -> TenantConfig:
    """What the text of one tenant's file says. Raises `ConfigError` with everything that is wrong with it by itself."""
    tenant = parse(text, TenantConfig, str(path), directory=path.parent)
    if problems := [located_in(text, str(path), place, words) for place, words in tenant_checks.faults(tenant, config)]:
        raise ConfigError("\n".join(problems))
    return tenant


def text_of(path: Path) -> str:
    """Raises `ConfigError`."""
    try:
        with opened(path) as file:
            return text_in(file, path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error


def opened(path: Path) -> BinaryIO:
    """Raises `OSError`. What is no file (a pipe that nobody writes to) is not waited for."""
    return open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def text_in(file: BinaryIO, path: Path) -> str:
    """Raises `ConfigError`, `OSError`."""
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise ConfigError(f"{path}: cannot be read: it is no file")
    content = file.read(_LONGEST + 1)
    if len(content) > _LONGEST:
        raise ConfigError(f"{path}: cannot be read: it is longer than {_LONGEST // 1_000_000} MB")
    try:
        return content.decode("utf-8")  # line ends as they are: it may be put back one day
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: cannot be read: it is not UTF-8") from error


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
