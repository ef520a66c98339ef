"""What the process that reads the tenants' files says to the one that serves calls (`child`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sipbridge.config import Config
from sipbridge.tenant_config import Match, TenantConfig


@dataclass(frozen=True, slots=True)
class Start:
    """What the reader is told first."""

    config: Config
    path: Path
    """sipbridge.yaml."""
    known: Mapping[str, tuple[str, Match]]
    """The tenants in force: the digests of their texts, and whose calls are theirs."""
    refused: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Changed:
    id: str
    config: TenantConfig
    version: int
    digest: str
    warnings: tuple[str, ...]
    lost: tuple[str, ...]
    """Keys that the file does not set any more: their defaults are in force."""


@dataclass(frozen=True, slots=True)
class Gone:
    id: str


@dataclass(frozen=True, slots=True)
class Refused:
    id: str
    why: str


@dataclass(frozen=True, slots=True)
class Mended:
    id: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that concerns all of them."""

    what: str
    error: str


@dataclass(frozen=True, slots=True)
class SettingsLookedAt:
    """sipbridge.yaml was read again: what of it differs from what is in force, or what is wrong with it."""

    differing: tuple[str, ...]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Settled:
    """All of one look has been said."""

    seconds: float


News = Changed | Gone | Refused | Mended | Trouble | SettingsLookedAt | Settled
