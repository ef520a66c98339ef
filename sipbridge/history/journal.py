"""Where a call's facts go: a `Journal` takes them at once, and never raises or waits."""

from __future__ import annotations

from typing import Final, Protocol

from sipbridge.history.facts import Fact


class Journal(Protocol):
    record: str
    """Names the call for good (`Entry.record`)."""
    began_at: float
    """Unix time, as the clock on the wall has it."""

    def note(self, fact: Fact, *, ago: float = 0.0) -> None:
        """It has happened now, or so many seconds ago. Called on the loop that the audio lives on: costs a few
        microseconds."""


class _Nowhere:
    record = ""
    began_at = 0.0

    def note(self, fact: Fact, *, ago: float = 0.0) -> None:
        pass


NOWHERE: Final[Journal] = _Nowhere()
"""History is switched off."""
