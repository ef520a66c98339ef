"""What a storage level keeps of each fact. Pure.

everything          all of it
no_personal_data    the same without numbers, names, addresses and what a tool was told
attributes          when, how long, how well, at what cost: not a word of what was said
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from sipbridge.history.facts import Fact, Summarised, Turn

Storage: TypeAlias = Literal["everything", "no_personal_data", "attributes"]


class Filter:
    """Of one call, whose facts it is given in their order: a name that was said is known from then on."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def keeps(self, fact: Fact) -> bool:
        """Whether there is to be an entry of it at all."""
        if self._storage != "attributes":
            return True
        return not isinstance(fact, Summarised) and not (isinstance(fact, Turn) and not fact.final)

    def data(self, fact: Fact) -> dict[str, Any]:
        """What is kept."""
        return fact.to_json()
