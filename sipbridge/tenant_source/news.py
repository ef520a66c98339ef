"""What the process that reads the tenants' files says to the one that serves calls, and how: pickled, each with its
length. It is our own child, started by us; nobody else writes there."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sipbridge.config import Config
from sipbridge.tenant_config import Match, TenantConfig

LENGTH = struct.Struct("!I")


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


def framed(message: Start | News) -> bytes:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(data)) + data


def write(message: News, out: BinaryIO) -> None:
    out.write(framed(message))
    out.flush()


def read_start(source: BinaryIO) -> Start:
    (length,) = LENGTH.unpack(source.read(LENGTH.size))
    start = pickle.loads(source.read(length))
    assert isinstance(start, Start)
    return start
