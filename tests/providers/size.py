"""How much a dialect holds: what a vendor can make grow has a bound."""

from __future__ import annotations

import gc
import sys
from types import FunctionType, ModuleType


def deep_size(thing: object) -> int:
    """Octets of everything that can be reached from it, but for code."""
    seen: set[int] = set()
    queue = [thing]
    size = 0
    while queue:
        value = queue.pop()
        if id(value) in seen or isinstance(value, type | ModuleType | FunctionType):
            continue
        seen.add(id(value))
        size += sys.getsizeof(value)
        queue += gc.get_referents(value)
    return size
