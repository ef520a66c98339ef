"""What a rule of `why` answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from sipbridge.history.reading.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Cause:
    name: str
    """A stable word."""
    what: str
    """In plain words."""
    because: str
    """What it is told by: the figures, or somebody else's words."""
    fix: str
    """"": nothing is to be done."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


Rule: TypeAlias = Callable[[Evidence], Cause | None]
