"""What of the files' new contents is taken: what is right by itself, and whose calls would be nobody else's. Pure.

What is not taken leaves the tenant as it was. A tie waits: when the other file has changed it may be none any more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sipbridge.matching import Index
from sipbridge.tenant_config import Match, TenantConfig
from sipbridge.tenant_source.files import ties
from sipbridge.tenant_source.versions import digest_of


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a file says now, right by itself."""

    id: str
    path: Path
    text: str
    config: TenantConfig

    @property
    def digest(self) -> str:
        return digest_of(self.text)


@dataclass(frozen=True, slots=True)
class Step:
    taken: list[Candidate] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    """Tenants whose files are gone."""
    refused: list[tuple[str, str]] = field(default_factory=list)
    """(tenant, why) of those that are refused for another reason than before."""
    mended: list[str] = field(default_factory=list)
    """Of those that were refused before, which are not any more."""


class Intake:
    def __init__(self, taken: Mapping[str, Match], refused: Mapping[str, str] | None = None) -> None:
        """`taken`: the tenants that there are. `refused`: why the files of some of them are not in force."""
        self._taken = dict(taken)
        self._index = Index()
        for tenant, match in taken.items():
            self._index.add(tenant, match)
        self._waiting: dict[str, Candidate] = {}
        """Right by themselves, but tied."""
        self.refused = dict(refused or {})
        """tenant -> why its file is not in force."""

    def step(
        self,
        candidates: Collection[Candidate],
        faults: Mapping[str, str],
        gone: Collection[str] = (),
        back: Collection[str] = (),
    ) -> Step:
        """`candidates` and `faults` (tenant -> what is wrong) are the files that have changed, `gone` the tenants that
        have no file any more, `back` those whose files say again what is in force."""
        step, before = Step(), dict(self.refused)
        for tenant in back:
            self._forget(tenant)
        for tenant in gone:
            self._forget(tenant)
            if self._taken.pop(tenant, None) is not None:
                self._index.remove(tenant)
                step.dropped.append(tenant)
        for tenant, why in faults.items():
            self._forget(tenant)
            self.refused[tenant] = why
        trial = self._waiting | {candidate.id: candidate for candidate in candidates}
        for tenant in trial:
            self._forget(tenant)
        for tenant, why in self._untied(trial).items():
            self._waiting[tenant] = trial.pop(tenant)
            self.refused[tenant] = why
        for tenant, candidate in trial.items():
            self._taken[tenant] = candidate.config.match
            step.taken.append(candidate)
        step.refused.extend((tenant, why) for tenant, why in self.refused.items() if before.get(tenant) != why)
        step.mended.extend(tenant for tenant in before if tenant not in self.refused)
        return step

    def _forget(self, tenant: str) -> None:
        self._waiting.pop(tenant, None)
        self.refused.pop(tenant, None)

    def _untied(self, trial: Mapping[str, Candidate]) -> dict[str, str]:
        """Put all of `trial` into the index, and take out what ties there: tenant -> why. As they may have been meant
        together (two that swap their numbers), each is looked at beside all the others; where one is taken out, what
        it was before is back, with which another may tie."""
        changed = {id: each for id, each in trial.items() if self._taken.get(id) != each.config.match}
        for tenant, candidate in changed.items():
            self._index.add(tenant, candidate.config.match)
        tied: dict[str, str] = {}
        texts = {tenant: (candidate.path, candidate.text) for tenant, candidate in trial.items()}
        while changed and (
            found := {tenant: why for tenant, why in ties(self._index, texts, changed) if tenant not in tied}
        ):
            tied |= found
            for tenant in found:
                if (match := self._taken.get(tenant)) is None:
                    self._index.remove(tenant)
                else:
                    self._index.add(tenant, match)
                del changed[tenant]
        return tied
