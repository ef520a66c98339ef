"""Tenants of a directory: one YAML file each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from prometheus_client.registry import Collector

from sipbridge.call_fields import CallFields
from sipbridge.config import Config
from sipbridge.errors import ConfigError
from sipbridge.matching import Index, Rule, mismatch, why_less
from sipbridge.tenant_source.files import checked, said_twice, tenant_files, text_of, ties
from sipbridge.tenants import Tenant

_MOST_TOLD = 20
"""Of tenants that are equally specific: whoever copied a file a thousand times has read enough by then."""


class TenantDirectory:
    """All tenants of one gateway. They may change (`take`, `drop`); a call keeps the one it was given."""

    def __init__(self, tenants: Sequence[Tenant], paths: Mapping[str, Path] | None = None) -> None:
        """Raises `ConfigError` where a call may be for two of them. `paths`: the files that they are from."""
        self._tenants: dict[str, Tenant] = {}
        self._index = Index()
        for tenant in tenants:
            self.take(tenant)
        if problems := [words for _, words in islice(ties(self._index, paths or {}), _MOST_TOLD)]:
            raise ConfigError("\n".join(problems))

    @classmethod
    def load(cls, config: Config, base: Path) -> TenantDirectory:
        """Read every `*.yaml` of the tenants' directory. Raises `ConfigError` with everything that is wrong."""
        directory = base / config.tenants.directory
        if not directory.is_dir():
            raise ConfigError(f"{directory}: the tenants' directory does not exist (tenants.directory)")
        paths = tenant_files(directory)
        tenants: list[Tenant] = []
        problems = [words for _, words in said_twice(paths)]
        for path in paths:
            try:
                tenants.append(Tenant(path.stem, checked(text_of(path), path, config)))
            except ConfigError as error:
                problems.append(str(error))
        if not tenants and not problems and config.tenants.backend is None:
            raise ConfigError(f"{directory}: there is no tenant, so nobody could be answered")
        if problems:
            raise ConfigError("\n".join(problems))
        return cls(tenants, {path.stem: path for path in paths})

    @property
    def tenants(self) -> Sequence[Tenant]:
        return tuple(self._tenants.values())

    def take(self, tenant: Tenant) -> None:
        """It is there from now on, in the place of the one with its id. That nobody ties with it is known already."""
        before = self._tenants.get(tenant.id)
        self._tenants[tenant.id] = tenant
        if before is None or before.config.match != tenant.config.match:
            self._index.add(tenant.id, tenant.config.match)

    def drop(self, tenant_id: str) -> None:
        """It is not there any more."""
        if self._tenants.pop(tenant_id, None) is not None:
            self._index.remove(tenant_id)

    def collectors(self) -> Sequence[Collector]:
        return ()

    def get(self, tenant_id: str) -> Tenant | None:
        return self._tenants.get(tenant_id)

    async def fetch(self, tenant_id: str) -> Tenant | None:
        return self.get(tenant_id)

    def find(self, fields: CallFields) -> Tenant | None:
        """As `TenantSource` has it."""
        return self.resolve(fields)

    def resolve(self, fields: CallFields) -> Tenant | None:
        """The tenant that a call is for, or None."""
        best = self._index.best(fields)
        return None if best is None else self._tenants[best.id]

    def explain(self, fields: CallFields) -> Iterator[tuple[str, str]]:
        """Per tenant, why it was or was not chosen: (id, reason), the chosen one first."""
        best = self._index.best(fields)
        if best is not None:
            yield best.id, "chosen: the most specific match"
        for tenant in self._tenants.values():
            if best is None or tenant.id != best.id:
                why = mismatch(tenant.config.match, fields)
                yield tenant.id, why or f"matches, but is less specific: {self._why_less(tenant, best, fields)}"

    def _why_less(self, tenant: Tenant, best: Rule | None, fields: CallFields) -> str:
        own = self._index.best(fields, of=tenant.id)
        return "" if own is None or best is None else why_less(own, best)
