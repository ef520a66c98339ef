"""Secrets by reference, and the sections of the configuration that hold them: users here and elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, field_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from sipbridge.configfile import Section
from sipbridge.errors import ConfigError, SipParseError
from sipbridge.sip.headers import Uri


class Secret:
    """A secret by reference: `${NAME}` (environment) or `file:PATH`; shown by nobody, read when it is needed."""

    def __init__(self, reference: str) -> None:
        self._reference = reference

    def __repr__(self) -> str:
        return "Secret(...)"

    def __eq__(self, other: object) -> bool:
        """They are the same reference, so a file that is read again says the same."""
        return isinstance(other, Secret) and other._reference == self._reference

    def __hash__(self) -> int:
        return hash(self._reference)

    def __str__(self) -> str:
        """Where it comes from; nothing of one that is written out."""
        return "***" if self.in_plain_sight else self._reference

    @property
    def in_plain_sight(self) -> bool:
        """Written out in the file, where everybody who may read the configuration can read it."""
        return not self._reference.startswith("file:") and not _VARIABLE.search(self._reference)

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of the environment that it is made of."""
        return () if self.path is not None else tuple(_VARIABLE.findall(self._reference))

    @property
    def path(self) -> Path | None:
        """Of the file that it is in."""
        return Path(self._reference.removeprefix("file:")) if self._reference.startswith("file:") else None

    def reveal(self) -> str:
        """The value. Raises `ConfigError` naming the variable or file that is missing."""
        if self._reference.startswith("file:"):
            path = Path(self._reference.removeprefix("file:"))
            try:
                return path.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise ConfigError(f"the secret file {path} cannot be read: {error.strerror}") from error
        return expanded(self._reference)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(_secret, core_schema.str_schema())

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            "type": "string",
            "pattern": r"\S",
            "description": "${NAME} of the environment, or file:PATH.",
        }


def _secret(reference: str) -> Secret:
    """Raises `ValueError`, which never quotes it."""
    if not reference.strip():
        raise ValueError("a secret is ${NAME} or file:PATH, not nothing")
    if "${" in _VARIABLE.sub("", reference):
        raise ValueError("a secret of the environment is ${NAME}: letters, digits and _")
    return Secret(reference)


_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def expanded(text: str, each: Callable[[str], str] = str) -> str:
    """With the environment's values, made fit by `each`, for `${NAME}`. Raises `ConfigError` naming one that is not
    set."""

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise ConfigError(f"the environment variable {match[1]} is not set")
        return each(found)

    return _VARIABLE.sub(value, text)


class Login(Section):
    """Somebody who proves by digest who he is."""

    username: str = Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x20\x7f]+$")
    password: Secret


class RegisterAt(Section):
    """Where we register, and as whom."""

    server: str
    username: str = Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x20\x7f]+$")
    password: Secret
    user: str | None = Field(default=None, min_length=1, max_length=128, pattern=r"^[A-Za-z0-9\-_.!~*'()&=+$,;?/%]+$")
    """The number or name there, where it is not the username."""
    expires: int = Field(default=300, ge=30, le=86_400)

    @field_validator("server")
    @classmethod
    def _host(cls, server: str) -> str:
        try:
            uri = Uri.parse(server)
        except SipParseError as error:
            raise ValueError(f"sip:HOST[:PORT] is expected, not {server!r}") from error
        if uri.scheme not in ("sip", "sips") or uri.user is not None or uri.headers:
            raise ValueError(f"sip:HOST[:PORT] is expected, not {server!r}")
        return server
