"""What `sipbridge check` says of one thing that it has looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and what to do if it is not well."""

    verdict: Literal["ok", "warning", "failed"]
    subject: str
    text: str
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.verdict:8} {self.subject}: {self.text}{'; ' if self.cure else ''}{self.cure}"
