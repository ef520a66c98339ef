"""What the environment says instead of sipbridge.yaml: `SIPBRIDGE__SIP__PUBLIC_ADDRESS=203.0.113.5`. Pure.

Two underscores lead one level down, a number is a position in a list (the next one that is free adds to it). A value is
read as YAML, as it would stand in the file; nothing at all is null. A variable for a whole section comes before those
for keys in it.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from sipbridge.yamltext import Place

PREFIX = "SIPBRIDGE__"


@dataclass(frozen=True, slots=True)
class Override:
    variable: str
    parts: tuple[str, ...]
    text: str


def of_environment(environment: Mapping[str, str]) -> tuple[Override, ...]:
    """In the order in which they are to be applied."""
    found = (
        Override(name, tuple(name.removeprefix(PREFIX).lower().split("__")), text)
        for name, text in environment.items()
        if name.startswith(PREFIX)
    )
    return tuple(sorted(found, key=lambda each: (len(each.parts), each.variable)))


def put(data: MutableMapping[str, Any], parts: Sequence[str], value: Any) -> Place:
    """Set it in the document; where that is. Raises `ValueError` where nothing can be put there."""
    here: Any = data
    place: list[str | int] = []
    for depth, part in enumerate(parts):
        key: str | int = _key(here, part, place)
        last = depth == len(parts) - 1
        if isinstance(key, int) and key == len(here):
            here.append(None)
        place.append(key)
        if last:
            here[key] = value
            break
        inner = here[key] if isinstance(key, int) else here.get(key)
        if inner is None:
            inner = here[key] = [] if parts[depth + 1].isdecimal() else {}
        here = inner
    return tuple(place)


def _key(here: Any, part: str, place: Sequence[str | int]) -> str | int:
    where = ".".join(map(str, place)) or "the file"
    if isinstance(here, dict):
        if not part:
            raise ValueError("a key is missing between its underscores")
        return next((key for key in here if isinstance(key, str) and key.lower() == part), part)
    if not isinstance(here, list):
        raise ValueError(f"{where} is neither a section nor a list, so there is nothing in it")
    if not part.isascii() or not part.isdecimal() or int(part[:9]) > len(here):
        raise ValueError(f"{where} is a list: a position is expected, 0 to {len(here)}, not {part!r}")
    return int(part)
