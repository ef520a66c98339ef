"""Entry: a number that is being entered by keys, and when it is complete. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from sipbridge.tenant_file.digits import DigitsField

_DIGITS: Final = frozenset("0123456789")


class Entered(enum.Enum):
    """How an entry is over."""

    WHOLE = "whole"
    SHORT = "short"
    """The caller says that this is all, and it is too little."""
    LATE = "late"
    """No key has come for too long, and it is too little."""
    AGAIN = "again"
    """The caller wants to hear once more what he is to enter."""


@dataclass(frozen=True, slots=True)
class Collected:
    how: Entered
    count: int
    """How many digits there are."""
    digits: str = ""
    """Empty where they are nobody's business but a tool's."""


class Entry:
    """One try. `digits` is what was entered so far."""

    def __init__(self, wanted: DigitsField) -> None:
        self._wanted = wanted
        self.digits = ""

    def press(self, key: str) -> Entered | None:
        """None: more may come. Keys that mean nothing here are passed over."""
        wanted = self._wanted
        if key == wanted.terminator:
            return None if not self.digits else Entered.WHOLE if self._enough else Entered.SHORT
        if key == wanted.clear:
            again = Entered.AGAIN if not self.digits else None
            self.digits = ""
            return again
        if key in _DIGITS:
            self.digits += key
        return Entered.WHOLE if len(self.digits) == wanted.most else None

    def wait_no_longer(self) -> Entered:
        """No key has come for `timeout_seconds`."""
        return Entered.WHOLE if self._enough else Entered.LATE

    @property
    def _enough(self) -> bool:
        return len(self.digits) >= self._wanted.least
