"""A tenant as a backend tells it: JSON in the shape of a tenant's file, with its `id` and `version` beside. Pure.

It comes over a network and may be written by somebody who has no other business on this machine. So it is held to more
than a file: what it names of the machine has to be permitted (`tenants.permit`), and it is refused whole where anything
in it is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sipbridge import tenant_checks
from sipbridge.config import Config, secrets_of
from sipbridge.configfile import Place, dotted, validated
from sipbridge.errors import ConfigError
from sipbridge.gateway_file.backend import Permit
from sipbridge.logins import Secret
from sipbridge.tenant_config import Match, TenantConfig
from sipbridge.tenant_source.files import TENANT_ID


@dataclass(frozen=True, slots=True)
class Document:
    id: str
    config: TenantConfig
    version: int = 0

    @property
    def match(self) -> Match | None:
        """For which calls it is meant beside the one that it was asked for, where it says so."""
        return self.config.match if "match" in self.config.model_fields_set else None


def read_document(body: bytes, *, name: str, config: Config, directory: Path, nameless: str) -> Document:
    """`name` stands for it in messages; sounds are looked for in `directory`; `nameless` is its id where it has none.
    Raises `ConfigError` with everything that is wrong."""
    data = _mapping(body, name)
    given_id, version = data.pop("id", None), data.pop("version", None)
    known_as = nameless if given_id is None else given_id
    if not isinstance(known_as, str) or not TENANT_ID.fullmatch(known_as):
        raise ConfigError(f"{name}: id: a name is expected: 1 to 128 characters, no slash, no dot in front")
    if version is not None and (not isinstance(version, int) or isinstance(version, bool) or version < 0):
        raise ConfigError(f"{name}: version: a whole number is expected, 0 or more")
    context = {"directory": directory, "confined": True}
    document = Document(known_as, validated(data, TenantConfig, name, context), version or 0)
    # The latter imports functions that are named, which is to run what they lie in.
    problems = [*_not_permitted(document.config, config)] or [*tenant_checks.faults(document.config, config)]
    if problems:
        raise ConfigError("\n".join(f"{name}: {dotted(place)}: {problem}" for place, problem in problems))
    return document


def _mapping(body: bytes, name: str) -> dict[str, Any]:
    try:
        data = json.loads(body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
        raise ConfigError(f"{name}: no JSON: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{name}: an object is expected, not {type(data).__name__}")
    return data


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [key for key, _ in pairs]
        raise ValueError(f"key given twice: {next(key for key in names if names.count(key) > 1)}")
    return found


def _no_number(word: str) -> object:
    raise ValueError(f"{word} is no number")


# --- what may be named ------------------------------------------------------------------------------------------------


def _not_permitted(tenant: TenantConfig, config: Config) -> Iterator[tuple[Place, str]]:
    permit = config.tenants.permit
    ours = {name for _, secret in secrets_of(config) for name in secret.variables}
    for place, secret in _secrets(tenant, ()):
        if secret.path is not None:
            yield place, "a backend may not name files of this machine; ${NAME} or the value itself is expected"
        for name in secret.variables:
            if name in ours or not _fits(name, permit.secrets):
                yield place, f"the variable {name} is not for tenants (tenants.permit.secrets)"
    yield from _code(tenant, permit)


def _code(tenant: TenantConfig, permit: Permit) -> Iterator[tuple[Place, str]]:
    for number, function in enumerate(tenant.tools.python):
        if not _fits(function, permit.python):
            yield ("tools", "python", number), f"the function {function} is not permitted (tenants.permit.python)"
    for number, server in enumerate(tenant.tools.mcp):
        if server.command is not None and not _fits(server.command, permit.programs):
            words = f"the program {server.command} is not permitted (tenants.permit.programs)"
            yield ("tools", "mcp", number, "command"), words


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _secrets(value: object, place: Place) -> Iterator[tuple[Place, Secret]]:
    """All of them, wherever they stand."""
    inner: Iterator[tuple[str | int, object]]
    if isinstance(value, Secret):
        yield place, value
        return
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        inner = ((fields[key].alias or key, getattr(value, key)) for key in fields)
    elif isinstance(value, Mapping):
        inner = ((str(key), each) for key, each in value.items())
    elif isinstance(value, (list, tuple)):
        inner = ((number, each) for number, each in enumerate(value))
    else:
        return
    for part, each in inner:
        yield from _secrets(each, (*place, part))
