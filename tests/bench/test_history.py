"""What the measurement of the history is made of."""

from __future__ import annotations

import json

from bench.history import FACTS, facts
from sipbridge.history.call_journal import CallJournal


def test_a_call_of_the_measurement_is_a_whole_call() -> None:
    journal = CallJournal(wall=1000.0, clock=lambda: 0.0)
    for fact in facts(journal):
        journal.note(fact())
    entries = journal.take()
    assert len(entries) == FACTS
    assert (entries[0].kind, entries[-1].kind) == ("call.started", "call.ended")
    assert sum(len(json.dumps(entry.data)) for entry in entries) > 10_000
