"""Calls that the gateway refuses before there is a conversation: they have a record too, but not more of them than a
history can bear, for anybody may try a thousand numbers a second."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from sipbridge.call_fields import CallFields
from sipbridge.history.facts import Started
from sipbridge.history.journal import NOWHERE, Journal
from sipbridge.history.last_words import LastWords
from sipbridge.history.privacy import Storage
from sipbridge.outcome import CallReport, Ended
from sipbridge.sip.ladder import Ladders
from sipbridge.tenants import Tenant

log = structlog.get_logger(__name__)

_BURST = 50
_PER_SECOND = 5.0


class Refusals:
    """A bucket of them: `allowed` takes one out."""

    def __init__(self, *, burst: float = _BURST, per_second: float = _PER_SECOND) -> None:
        self._burst = burst
        self._per_second = per_second
        self._left = burst
        self._at: float | None = None
        self.left_out = 0
        """That were too many."""

    def allowed(self, now: float) -> bool:
        if self._at is not None:
            self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            self.left_out += 1
            return False
        self._left -= 1
        return True


class RefusedCalls:
    """Of one gateway. `journal` makes one for a call of this tenant, or of none: then as much of it is kept as the
    storage level says."""

    def __init__(
        self,
        journal: Callable[[Tenant | None, Storage], Journal],
        last_words: LastWords,
        ladders: Ladders,
        clock: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._last_words = last_words
        self._ladders = ladders
        self._clock = clock
        self._rate = Refusals()

    def note(
        self,
        fields: Callable[[], CallFields],
        ended: Ended,
        status: int | None,
        *,
        tenant: Tenant | None = None,
        detail: str = "",
    ) -> None:
        """A call was refused, or was gone before it had begun. `fields` is asked only where there is to be a record.
        Never raises: whoever has refused a call has nothing more to do for it."""
        if not self._rate.allowed(self._clock()):
            return
        try:
            self._note(fields(), ended, status, tenant, detail)
        except Exception:
            log.exception("there is no record of a call that was refused")

    def _note(self, fields: CallFields, ended: Ended, status: int | None, tenant: Tenant | None, detail: str) -> None:
        # Whose it would have been nobody knows, but of one who is nobody's: it may have been a discreet tenant's.
        journal = self._journal(tenant, "everything" if ended is Ended.NO_TENANT else "no_personal_data")
        report = report_of_none(fields, ended, status, detail=detail, tenant=tenant, journal=journal)
        journal.note(Started.of(report))
        self._last_words.note(journal, report, self._ladders.get(report.call_id))


def report_of_none(
    fields: CallFields,
    ended: Ended,
    status: int | None,
    *,
    detail: str = "",
    tenant: Tenant | None = None,
    journal: Journal = NOWHERE,
    outbound: bool = False,
) -> CallReport:
    """Of a call of which there is nothing to tell but how it ended."""
    agent = None if tenant is None else tenant.config.agent
    return CallReport(
        call_id=fields.call_id,
        tenant="" if tenant is None else tenant.id,
        direction="outbound" if outbound else "inbound",
        trunk=fields.trunk,
        ended=ended,
        detail=detail,
        status=status,
        codec=None,
        setup_ms=None,
        seconds=0.0,
        replies=0,
        barge_ins=0,
        false_alarms=0,
        late_bytes_dropped=0,
        uplink_dropped_ms=0.0,
        provider="" if agent is None else agent.provider,
        record=journal.record,
        began_at=journal.began_at,
        caller=fields.caller,
        to=fields.to,
        tenant_version=0 if tenant is None else tenant.version,
        model="" if agent is None else agent.model or "",
    )
