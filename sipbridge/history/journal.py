"""Where a call's facts go: a `Journal` takes them at once, and never raises or waits."""

from __future__ import annotations

from typing import Final, Protocol

from sipbridge.history.facts import Fact


class Journal(Protocol):
    record: str
    """Names the call for good (`Entry.record`)."""

    def note(self, fact: Fact) -> None:
        """It has happened now. Called on the loop that the audio lives on: costs a few microseconds."""


class _Nowhere:
    record = ""

    def note(self, fact: Fact) -> None:
        pass


NOWHERE: Final[Journal] = _Nowhere()
"""History is switched off."""
