from __future__ import annotations

from structlog.testing import capture_logs

from sipbridge.call_fields import CallFields
from sipbridge.history.journal import NOWHERE, Journal
from sipbridge.history.last_words import LastWords
from sipbridge.history.privacy import Storage
from sipbridge.history.refusals import RefusedCalls
from sipbridge.outcome import Ended
from sipbridge.sip.ladder import Ladders
from sipbridge.tenants import Tenant


def test_a_record_that_cannot_be_made_costs_nobody_anything() -> None:
    def journal(tenant: Tenant | None, storage: Storage) -> Journal:
        return NOWHERE

    def fields() -> CallFields:
        raise ValueError("nobody has foreseen this")

    refused = RefusedCalls(journal, LastWords(lambda: 0.0), Ladders(), lambda: 0.0)
    with capture_logs() as logs:
        refused.note(fields, Ended.NO_TENANT, 404)
    assert [entry["event"] for entry in logs] == ["there is no record of a call that was refused"]
