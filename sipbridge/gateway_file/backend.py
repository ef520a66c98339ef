"""The configuration's shape: those keys of `tenants:` that are about an HTTP backend, and about all tenants."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from sipbridge.configfile import Patterns, Section, written
from sipbridge.logins import Secret


class Permit(Section):
    """What a backend's document may name of this machine, as globs. Files it never may, but for sounds in the tenants'
    directory."""

    secrets: Patterns = ("*",)
    """Variables of the environment; those that sipbridge.yaml itself names are never a tenant's."""
    python: Patterns = ()
    """Functions, for `tools.python`."""
    programs: Patterns = ()
    """Commands, for `tools.mcp`."""


class BackendKeys(Section):
    url: str | None = Field(default=None, max_length=2000)
    token: Secret | None = None
    """Shown to the backend: `Authorization: Bearer`."""
    timeout_seconds: float = Field(default=3, gt=0, le=60, allow_inf_nan=False)
    """From the question to the tenant, attempts and all."""
    cache: Annotated[Path, Field(validate_default=True)] = Path("var/tenants.db")
    """A file of this machine: what the backend has answered last."""
    permit: Permit = Permit()
    usage: Annotated[Path, Field(validate_default=True)] = Path("var/usage.db")
    """A file of this machine: what tenants have used today."""

    @property
    def url_to_show(self) -> str:
        """Without what may be secret in its query."""
        return (self.url or "").partition("?")[0]

    @field_validator("url")
    @classmethod
    def _to_be_asked(cls, url: str | None) -> str | None:
        if url is None:
            return url
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
        except ValueError:
            usable = False
        if not usable or parts.fragment or any(c.isspace() or not c.isprintable() for c in url):
            raise ValueError("https://HOST[:PORT]/PATH is expected, or http://")
        if parts.username is not None:
            raise ValueError("a URL is no place for a password; see tenants.token")
        return url

    _start_at_the_state = field_validator("cache", "usage")(written)
