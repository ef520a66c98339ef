"""Text on its way to a voice: cut where a speaker would pause, and found again by how much of it was heard."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable

_LONGEST = 240
"""Characters without any end of a sentence; such a piece is cut between words."""
_SHORTEST = 12
""""Dr. " is no sentence."""
_FIRST_CLAUSE = 24
"""What comes first need not be a sentence: the sooner it can be spoken the sooner the caller hears something."""
_SENTENCE_END = re.compile(r"[.!?…:;]+[\"'”’)\]]*\s+|[。！？；]+[」』”]*\s*|\n+")
_CLAUSE_END = re.compile(r"[,–—]\s+|[，、]\s*")
_SPACE, _NO_SPACE = re.compile(r"\s*"), re.compile(r"\S*")
_NEAR = 40
"""Characters within which a timed word is looked for."""
_NOTHING_MS = 20
"""What is left of a text after this is no word any more."""
_CHARACTERS_PER_SECOND = 15
"""Of speech whose words are not timed."""


class Sentences:
    """Feed what the model writes; it hands out pieces that make the same text when put together."""

    def __init__(self) -> None:
        self._rest = ""
        self._first = True

    def feed(self, text: str) -> list[str]:
        self._rest += text
        pieces = []
        while end := self._end_of_piece():
            pieces.append(self._rest[:end])
            self._rest, self._first = self._rest[end:], False
        return pieces

    def flush(self) -> str:
        """The rest, however it ends."""
        rest, self._rest = self._rest, ""
        return rest

    def _end_of_piece(self) -> int:
        """0: there is no whole piece yet. One that ends with the text may go on: more spaces, another dot."""
        ends = [match.end() for match in _SENTENCE_END.finditer(self._rest) if match.end() >= _SHORTEST]
        if self._first:
            ends += [match.end() for match in _CLAUSE_END.finditer(self._rest) if match.end() >= _FIRST_CLAUSE]
        if ends:
            return min(ends)
        if len(self._rest) < _LONGEST:
            return 0
        return self._rest.rfind(" ", 1, _LONGEST) + 1 or _LONGEST


def spread(text: str, from_ms: int, until_ms: int) -> tuple[tuple[str, int, int], ...]:
    """Times for the words of a text that took so long, where nobody has timed them: by their lengths."""
    words = text.split()
    each = (until_ms - from_ms) / max(1, sum(len(word) + 1 for word in words))
    timed, at = [], float(from_ms)
    for word in words:
        began, at = at, at + each * (len(word) + 1)
        timed.append((word, round(began), round(at)))
    return tuple(timed)


class Spoken:
    """A text that is being spoken, and when each of its words is heard."""

    def __init__(self) -> None:
        self.text = ""
        self._middles: list[float] = []
        self._ends: list[int] = []
        """Of each timed word: when half of it is heard, and where in the text it ends."""
        self._timed_ms = 0

    def add(self, text: str) -> None:
        self.text += text

    def time(self, words: Iterable[tuple[str, int, int]]) -> None:
        """Words are looked for in the text, in order; one that is not there as such (a number read out) stands for the
        next one that is."""
        for word, began_ms, ended_ms in words:
            self._ends.append(self._end_of(word.strip(), self._ends[-1] if self._ends else 0))
            self._middles.append(max(self._middles[-1] if self._middles else 0, (began_ms + ended_ms) / 2))
            self._timed_ms = max(self._timed_ms, ended_ms)

    def _end_of(self, word: str, position: int) -> int:
        space = _SPACE.match(self.text, position)
        position = space.end() if space else position
        if word and not self.text.startswith(word, position):
            found = self.text.find(word, position, position + _NEAR)
            position, word = (found, word) if found >= 0 else (position, "")
        rest = _NO_SPACE.match(self.text, position + len(word))
        return rest.end() if rest else position

    def heard(self, played_ms: float, whole_ms: float | None) -> str:
        """The words of which at least half was heard. `whole_ms`: how long all of the text takes, where it is known."""
        if whole_ms is not None and played_ms >= whole_ms - _NOTHING_MS:
            return self.text
        known = bisect_right(self._middles, played_ms)
        position = self._ends[known - 1] if known else 0
        if known == len(self._ends) and played_ms > self._timed_ms:
            position = self._guess(position, played_ms, whole_ms)
        return self.text[:position].rstrip()

    def _guess(self, position: int, played_ms: float, whole_ms: float | None) -> int:
        """Beyond the timed words, by the length of the text: rather too little than half a word."""
        rest = len(self.text) - position
        characters = (played_ms - self._timed_ms) * _CHARACTERS_PER_SECOND / 1000
        if whole_ms is not None and whole_ms > self._timed_ms:
            characters = rest * (played_ms - self._timed_ms) / (whole_ms - self._timed_ms)
        limit = min(len(self.text), position + round(characters))
        if limit == len(self.text):
            return limit
        return max(position, self.text.rfind(" ", position, limit + 1))
