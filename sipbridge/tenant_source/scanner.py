"""Which files of a directory have changed, and are finished: what somebody is still writing is not read.

A file is believed when it has been the same for a moment, nobody has it open for writing (where the system tells us),
and its last line has an end; whoever writes without one is believed a little later. A file that is gone is gone when it
stays so: some editors put a new one in the place of the old.
"""

from __future__ import annotations

import fcntl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sipbridge.errors import ConfigError
from sipbridge.tenant_source.files import misnamed, opened, tenant_files, tenant_of, text_in
from sipbridge.tenant_source.versions import digest_of

QUIET_S = 0.05
_GONE_S = 0.3
_NO_LAST_LINE_S = 2.0
_OPEN_S = 10.0
"""So long somebody may have it open for writing without writing."""

_Signature = tuple[int, ...] | None
"""What tells one content from another without reading it; None: there is no file."""


@dataclass(frozen=True, slots=True)
class Seen:
    texts: list[tuple[str, Path, str]] = field(default_factory=list)
    """(tenant, file, what it says now)."""
    faults: dict[str, str] = field(default_factory=dict)
    """tenant -> why its file cannot be read."""
    back: list[str] = field(default_factory=list)
    """Tenants whose files say again what is in force."""
    gone: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.texts or self.faults or self.back or self.gone)


class Scanner:
    def __init__(self, directory: Path, digests: Mapping[str, str]) -> None:
        """`digests`: of the texts that are in force, by tenant."""
        self._directory = directory
        self.digests = dict(digests)
        self._read: dict[str, _Signature] = {}
        """Of what was read last."""
        self._pending: dict[str, tuple[_Signature, float]] = {}
        """What was seen since when, and is not read yet."""

    @property
    def pending(self) -> bool:
        """Something is to be looked at again, in `QUIET_S`."""
        return bool(self._pending)

    def look(self, now: float) -> Seen:
        """Raises `OSError` where there is no such directory (any more)."""
        paths = tenant_files(self._directory)
        seen, misplaced = Seen(), dict(misnamed(paths))
        for path in paths:
            tenant = tenant_of(path)
            signature = _signature(path)
            if tenant not in misplaced:
                self._look_at(tenant, path, signature, now, seen)
            elif self._waited(tenant, (), now) >= QUIET_S:
                self._settled(tenant, ())
                seen.faults[tenant] = misplaced[tenant]
        there = {tenant_of(path) for path in paths}
        for tenant in (self._read.keys() | self.digests.keys()) - there:
            if self._waited(tenant, None, now) >= _GONE_S:
                del self._pending[tenant]
                self._read.pop(tenant, None)
                seen.gone.append(tenant)
        for tenant in self._pending.keys() - there - self._read.keys() - self.digests.keys():
            del self._pending[tenant]  # it came and went
        return seen

    def _look_at(self, tenant: str, path: Path, signature: _Signature, now: float, seen: Seen) -> None:
        waited = self._waited(tenant, signature, now)
        if waited < QUIET_S:
            return
        try:
            with opened(path) as file:
                if waited < _OPEN_S and _being_written(file.fileno()):
                    return
                text = text_in(file, path)
        except FileNotFoundError as error:  # gone since it was listed, or a link to nowhere
            if waited >= _GONE_S:
                self._refuse(tenant, signature, f"{path}: cannot be read: {error.strerror}", seen)
            return
        except (OSError, ConfigError) as error:
            words = str(error) if isinstance(error, ConfigError) else f"{path}: cannot be read: {error.strerror}"
            self._refuse(tenant, signature, words, seen)
            return
        if waited < _NO_LAST_LINE_S and not text.endswith("\n"):
            return
        self._settled(tenant, signature)
        if digest_of(text) == self.digests.get(tenant):
            seen.back.append(tenant)
        else:
            seen.texts.append((tenant, path, text))

    def _waited(self, tenant: str, signature: _Signature, now: float) -> float:
        """How long it has been like that, and nobody has read it; less than nothing where it was read like that."""
        if tenant in self._read and self._read[tenant] == signature:
            self._pending.pop(tenant, None)
            return -1.0
        before, since = self._pending.get(tenant, ((-1,), now))
        if before != signature:
            since = now
            self._pending[tenant] = signature, now
        return now - since

    def _refuse(self, tenant: str, signature: _Signature, words: str, seen: Seen) -> None:
        self._settled(tenant, signature)
        seen.faults[tenant] = words

    def _settled(self, tenant: str, signature: _Signature) -> None:
        self._read[tenant] = signature
        self._pending.pop(tenant, None)


def _signature(path: Path) -> _Signature:
    """Of what cannot be looked at, as a link to itself, that there is something."""
    try:
        status = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns


def _being_written(descriptor: int) -> bool:
    """Whether somebody has it open for writing: then no lease for reading is given (fcntl(2), "Leases"). False, too,
    where that is not ours to ask: on other people's files, other systems, some file systems."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    with suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
