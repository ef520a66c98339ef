"""The configuration's shape: `history:` of sipbridge.yaml."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from pydantic import Field, ValidationInfo, field_validator

from sipbridge.configfile import Section, written
from sipbridge.logins import Secret, expanded

_SQLITE = "sqlite:///"
_DRIVERS = ("alembic", "asyncpg", "sqlalchemy", "greenlet")
_STORES = re.compile(r"sqlite:///.+|postgresql(\+asyncpg)?://.+|https?://.+")


class Retry(Section):
    """So often a store or a webhook is asked again before it is left alone for a while; entries wait meanwhile."""

    attempts: int = Field(default=5, ge=1, le=100)
    backoff_seconds: float = Field(default=1, gt=0, le=3600, allow_inf_nan=False)
    """Before the second attempt; each one after that waits twice as long."""


class HistoryConfig(Section):
    store: Annotated[str, Field(validate_default=True)] = "sqlite:///var/history.db"
    """`sqlite:///PATH`, `postgresql://...`, or `https://...` of a backend. May contain `${NAME}`."""
    secret: Secret | None = None
    """What a backend's requests are signed with."""
    outbox: Annotated[Path, Field(validate_default=True)] = Path("var/outbox")
    """A directory of this machine: what no store or webhook has taken yet."""
    enabled: bool = True
    queue_max: int = Field(default=1000, ge=10, le=1_000_000)
    """Entries of one call that wait for the outbox."""
    retention_days: int | None = Field(default=None, ge=1, le=36_500)
    """Then calls are deleted from the store; None: never."""
    retry: Retry = Retry()
    drain_seconds: float = Field(default=10, ge=0, le=3600)
    """So long the end of the gateway may take for what waits."""

    @field_validator("store")
    @classmethod
    def _a_store(cls, store: str, info: ValidationInfo) -> str:
        if not _STORES.fullmatch(store):
            raise ValueError("sqlite:///PATH, postgresql://USER:PASSWORD@HOST/NAME or https://HOST/PATH is expected")
        if store.startswith(_SQLITE):
            return f"{_SQLITE}{written(Path(store.removeprefix(_SQLITE)), info)}"
        if store.startswith("postgresql") and (missing := [name for name in _DRIVERS if find_spec(name) is None]):
            raise ValueError(f"{', '.join(missing)} is not installed: pip install 'sipbridge[postgres]'")
        return store

    _starts_at_the_state = field_validator("outbox")(written)

    def store_url(self) -> str:
        """`store` with what `${NAME}` stands for; in front of the host, where names and passwords are, it is escaped as
        URLs want it. Raises `ConfigError` naming the variable that is not set."""
        scheme, mark, rest = self.store.partition("://")
        authority, slash, path = rest.partition("/")
        login, at, host = authority.rpartition("@")
        escaped = expanded(login, lambda value: quote(value, safe=""))
        return f"{scheme}{mark}{escaped}{at}{expanded(host)}{slash}{expanded(path)}"

    @property
    def sqlite_path(self) -> Path | None:
        """Where the store is a file."""
        return Path(self.store.removeprefix(_SQLITE)) if self.store.startswith(_SQLITE) else None
