"""Globs as data: what fits one, whether two can fit the same text, and what texts that fit have to begin and end with.

`*` is any text, `?` any character, `[...]` one of several; letter case counts. Pure.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from functools import lru_cache

_EXACT = 1000
"""What a pattern without wildcards weighs more: no wildcard is as specific, however long its literal part is."""


@dataclass(frozen=True, slots=True, eq=False)
class Glob:
    text: str
    exact: bool
    prefix: str
    """What every text that fits begins with; of an exact one all of it."""
    suffix: str
    """What it ends with. Prefix and suffix may overlap in it."""
    weight: int
    """How specific it is: the length of its literal part."""
    _fits: re.Pattern[str] = field(repr=False)

    def fits(self, value: str) -> bool:
        return value == self.text if self.exact else self._fits.match(value) is not None

    def overlaps(self, other: Glob) -> bool:
        """Whether some text fits both. Character classes count as '?': too careful rather than too lax."""
        if self.exact and other.exact:
            return self.text == other.text
        return _overlap(_simple(self.text), _simple(other.text))


@lru_cache(maxsize=65536)
def glob(text: str) -> Glob:
    places = [place for place, character in enumerate(text) if character in "*?["]
    if not places:
        return Glob(text, True, text, text, len(text) + _EXACT, re.compile(re.escape(text)))
    # What follows the last class is hard to tell from what is in it: it counts as nothing.
    last = len(text) if "[" in text else places[-1] + 1
    weight = len(text) - text.count("*") - text.count("?")
    return Glob(text, False, text[: places[0]], text[last:], weight, re.compile(fnmatch.translate(text)))


_CLASS = re.compile(r"\[!?\]?[^\]]*\]")


def _simple(text: str) -> str:
    """With `?` for each class, and one `*` for several."""
    return re.sub(r"\*+", "*", _CLASS.sub("?", text) if "[" in text else text)


def _overlap(a: str, b: str) -> bool:
    """By what can be reached: `reached` holds, for a part of `a`, how much of `b` may have been used up with it. Its
    time is the product of the lengths, whatever stands in them."""
    reached = _past_stars({0}, b)
    for character in a:
        here = set()
        if character == "*":
            here = set(range(min(reached, default=len(b) + 1), len(b) + 1))
        else:
            for place in reached:
                if place < len(b) and b[place] == "*":
                    here.add(place)
                elif place < len(b) and (b[place] == character or "?" in (b[place], character)):
                    here.add(place + 1)
        reached = _past_stars(here, b)
    return len(b) in reached


def _past_stars(places: set[int], b: str) -> set[int]:
    """A star may stand for nothing."""
    return places | {place + 1 for place in places if place < len(b) and b[place] == "*"}
