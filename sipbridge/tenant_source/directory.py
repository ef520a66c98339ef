"""Tenants of a directory: one YAML file each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from prometheus_client.registry import Collector

from sipbridge import tenant_checks
from sipbridge.call_fields import CallFields
from sipbridge.config import Config
from sipbridge.configfile import located
from sipbridge.errors import ConfigError
from sipbridge.matching import mismatch, refuse_ties, specificity
from sipbridge.tenant_config import load_tenant
from sipbridge.tenants import Tenant


class TenantDirectory:
    """All tenants of one gateway."""

    def __init__(self, tenants: Sequence[Tenant]) -> None:
        self.tenants = tuple(tenants)
        refuse_ties(self.tenants)

    @classmethod
    def load(cls, config: Config, base: Path) -> TenantDirectory:
        """Read every `*.yaml` of the tenants' directory. Raises `ConfigError` with everything that is wrong."""
        directory = base / config.tenants.directory
        if not directory.is_dir():
            raise ConfigError(f"{directory}: the tenants' directory does not exist (tenants.directory)")
        tenants: list[Tenant] = []
        problems: list[str] = []
        for path in sorted((*directory.glob("*.yaml"), *directory.glob("*.yml"))):
            try:
                tenant = Tenant(path.stem, load_tenant(path))
                problems.extend(
                    located(path, place, problem) for place, problem in tenant_checks.faults(tenant.config, config)
                )
                tenants.append(tenant)
            except ConfigError as error:
                problems.append(str(error))
        if not tenants and not problems and config.tenants.backend is None:
            raise ConfigError(f"{directory}: there is no tenant, so nobody could be answered")
        if problems:
            raise ConfigError("\n".join(problems))
        return cls(tenants)

    def collectors(self) -> Sequence[Collector]:
        return ()

    def get(self, tenant_id: str) -> Tenant | None:
        return next((tenant for tenant in self.tenants if tenant.id == tenant_id), None)

    async def fetch(self, tenant_id: str) -> Tenant | None:
        return self.get(tenant_id)

    def find(self, fields: CallFields) -> Tenant | None:
        """As `TenantSource` has it."""
        return self.resolve(fields)

    def resolve(self, fields: CallFields) -> Tenant | None:
        """The tenant that a call is for, or None."""
        fitting = [
            (weight, tenant)
            for tenant in self.tenants
            if (weight := specificity(tenant.config.match, fields)) is not None
        ]
        return max(fitting, key=lambda found: found[0])[1] if fitting else None

    def explain(self, fields: CallFields) -> Iterator[tuple[str, str]]:
        """Per tenant, why it was or was not chosen: (id, reason), the chosen one first."""
        chosen = self.resolve(fields)
        if chosen:
            yield chosen.id, "chosen: the most specific match"
        for tenant in self.tenants:
            if tenant is not chosen:
                why = mismatch(tenant.config.match, fields)
                yield tenant.id, why or "matches, but is less specific"
