"""Tenants of a directory: one YAML file each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sipbridge.call_fields import CallFields
from sipbridge.config import Config
from sipbridge.errors import ConfigError
from sipbridge.matching import Index, Rule, mismatch, why_less
from sipbridge.tenant_source.files import checked, misnamed, tenant_files, tenant_of, text_of, ties, without_secrets
from sipbridge.tenant_source.intake import Candidate, Intake
from sipbridge.tenant_source.versions import Text, Versions, digest_of
from sipbridge.tenants import Tenant

log = structlog.get_logger(__name__)

_MOST_TOLD = 20
"""Of tenants that are equally specific: whoever copied a file a thousand times has read enough by then."""


class TenantDirectory:
    """All tenants of one gateway. They may change (`take`, `drop`); a call keeps the one it was given."""

    def __init__(self, tenants: Sequence[Tenant]) -> None:
        """Raises `ConfigError` where a call may be for two of them."""
        self._tenants: dict[str, Tenant] = {}
        self._index = Index()
        self.digests: dict[str, str] = {}
        """Of the texts of those that are from files."""
        self._changed: Callable[[Tenant], None] = lambda tenant: None
        self._gone: Callable[[str], None] = lambda tenant_id: None
        self.changes = 0
        """Versions that have taken the place of others, or of none, since it was loaded."""
        self.refused: dict[str, str] = {}
        """tenant -> why what its file says now is not in force."""
        for tenant in tenants:
            self.take(tenant)
        if problems := [words for _, words in islice(ties(self._index, {}), _MOST_TOLD)]:
            raise ConfigError("\n".join(problems))

    @classmethod
    def load(cls, config: Config, base: Path, *, versions: Versions | None = None) -> TenantDirectory:
        """Read every `*.yaml` of the tenants' directory. Raises `ConfigError` with everything that is wrong. With
        `versions` they are numbered, and a file that is wrong leaves its tenant as it was at last."""
        taken, refused = _in_force(config, base, versions)
        if lost := refused.keys() - {each.id for each in taken}:
            raise ConfigError("\n".join(islice((refused[tenant] for tenant in refused if tenant in lost), 1000)))
        if not taken and config.tenants.backend is None:
            raise ConfigError(f"{base / config.tenants.directory}: there is no tenant, so nobody could be answered")
        return cls._of(taken, refused, versions)

    @classmethod
    def look(cls, config: Config, base: Path, versions: Versions | None) -> TenantDirectory:
        """As a gateway has them now, for whoever asks beside it: a file that is wrong (`refused`) takes nobody else's
        answer away, and where a version of it is kept its tenant is that. Nothing is written."""
        taken, refused = _in_force(config, base, versions)
        made = cls([Tenant(each.id, each.config) for each in taken])
        made.refused = refused
        return made

    @classmethod
    def _of(cls, taken: Sequence[Candidate], refused: dict[str, str], versions: Versions | None) -> TenantDirectory:
        numbers: dict[str, int] = {}
        if versions is not None:
            try:
                numbers = versions.keep(Text(each.id, each.text, without_secrets(each.text)) for each in taken)
            except ConfigError as error:
                log.warning("versions of tenants not kept", error=str(error))
        made = cls([])
        for each in taken:
            made.take(Tenant(each.id, each.config, numbers.get(each.id, 0)))
            made.digests[each.id] = digest_of(each.text)
        made.refused = refused
        for tenant, why in refused.items():
            log.error("tenant's file refused, its last version is in force", tenant=tenant, error=why)
        return made

    @property
    def tenants(self) -> Sequence[Tenant]:
        return tuple(self._tenants.values())

    def __len__(self) -> int:
        return len(self._tenants)

    def take(self, tenant: Tenant) -> None:
        """It is there from now on, in the place of the one with its id. That nobody ties with it is known already."""
        before = self._tenants.get(tenant.id)
        self._tenants[tenant.id] = tenant
        if before is None or before.config.match != tenant.config.match:
            self._index.add(tenant.id, tenant.config.match)
        self._changed(tenant)

    def drop(self, tenant_id: str) -> None:
        """It is not there any more."""
        self.digests.pop(tenant_id, None)
        if self._tenants.pop(tenant_id, None) is not None:
            self._index.remove(tenant_id)
            self._gone(tenant_id)

    def subscribe(self, changed: Callable[[Tenant], None], gone: Callable[[str], None]) -> None:
        """As `TenantSource` has it."""
        self._changed, self._gone = changed, gone

    def collectors(self) -> Sequence[Collector]:
        return (_DirectoryMetrics(self),)

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
        for id, words in self.refused.items():
            if id not in self._tenants:
                yield id, f"is not there, because its file is refused: {words}"
        for tenant in self._tenants.values():
            if best is None or tenant.id != best.id:
                why = mismatch(tenant.config.match, fields)
                yield tenant.id, why or f"matches, but is less specific: {self._why_less(tenant, best, fields)}"

    def _why_less(self, tenant: Tenant, best: Rule | None, fields: CallFields) -> str:
        own = self._index.best(fields, of=tenant.id)
        return "" if own is None or best is None else why_less(own, best)


def _in_force(config: Config, base: Path, versions: Versions | None) -> tuple[list[Candidate], dict[str, str]]:
    """By id; and why the files of some are not in force: of those a version of before is, as far as one is kept. Raises
    `ConfigError` where there is no directory."""
    directory = base / config.tenants.directory
    if not directory.is_dir():
        raise ConfigError(f"{directory}: the tenants' directory does not exist (tenants.directory)")
    intake = Intake({})
    taken = intake.step(*read_all(directory, config)).taken
    refused = dict(intake.refused)
    if refused and versions is not None:
        taken += intake.step(_kept(versions, refused, directory, config), {}).taken
    return sorted(taken, key=lambda each: each.id), refused


def read_all(directory: Path, config: Config) -> tuple[list[Candidate], dict[str, str]]:
    """What each file says, and of those that are wrong by themselves (tenant ->) what is wrong. Raises `OSError`."""
    paths = tenant_files(directory)
    candidates: list[Candidate] = []
    problems = dict(misnamed(paths))
    for path in paths:
        if (tenant := tenant_of(path)) not in problems:
            try:
                text = text_of(path)
                candidates.append(Candidate(tenant, path, text, checked(text, path, config)))
            except ConfigError as error:
                problems[tenant] = str(error)
    return candidates, problems


class _DirectoryMetrics(Collector):
    """Names as in docs/counters.md."""

    def __init__(self, directory: TenantDirectory) -> None:
        self._directory = directory

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        there, broken = float(len(self._directory)), float(len(self._directory.refused))
        yield GaugeMetricFamily("sipbridge_tenants", "Tenants from files that are in force.", there)
        yield GaugeMetricFamily("sipbridge_tenants_broken", "Files that are wrong: not in force as they are.", broken)
        changes = float(self._directory.changes)
        yield CounterMetricFamily("sipbridge_tenants_changes", "Versions of files that came into force.", changes)


def _kept(versions: Versions, refused: dict[str, str], directory: Path, config: Config) -> list[Candidate]:
    """The last versions of tenants whose files are wrong, as far as they are complete and still right."""
    found = []
    try:
        for tenant, (version, text) in versions.newest(refused).items():
            path = directory / f"{tenant}.yaml"
            if version.complete:
                found.append(Candidate(tenant, path, text, checked(text, path, config)))
    except ConfigError as error:
        log.warning("version of a tenant not in force", error=str(error))
    return found
