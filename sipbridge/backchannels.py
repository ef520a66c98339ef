"""Backchannels: the small words by which somebody who listens shows that he does, and takes no turn.

"Mm-hm", "ja, ja", "d'accord": said while somebody else speaks they mean "go on" (V. Yngve, "On getting a word in
edgewise", 1970). The same word is an answer when it is said to silence; so the list is only asked of what was said
while the agent spoke (`turn.py`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from sipbridge.wording import Words, plain_words

DEFAULT = (
    # no language's own: sounds, as transcribers spell them
    *("mm", "mmm", "mhm", "mm hm", "mm hmm", "hm", "hmm", "uh", "uh huh", "uhum", "ah", "aha", "oh", "eh", "huh"),
    *("yeah", "yep", "yes", "yup", "ok", "okay", "right", "sure", "i see", "got it", "alright", "all right"),  # en
    *("ja", "jo", "genau", "klar", "gut", "verstehe", "ach so", "achso", "stimmt", "alles klar", "soso"),  # de
    *("oui", "ouais", "d'accord", "ah bon", "bien", "je vois", "voilà", "c'est ça", "entendu"),  # fr
    *("sí", "vale", "ajá", "claro", "bueno", "ya", "de acuerdo", "entiendo", "exacto"),  # es
)
"""Where a tenant names none of its own."""
_MOST_WORDS = 6
"""Whoever says more than that has something to say."""


class Backchannels:
    """Knows them again in any case, with any punctuation and accents, and in a row ("yeah, okay, right")."""

    def __init__(self, phrases: Iterable[str] = DEFAULT) -> None:
        self._phrases = frozenset(filter(None, map(_words, phrases)))
        self._longest = max(map(len, self._phrases), default=0)

    def match(self, text: str) -> bool:
        """Whether that is all that it says. Also where it says nothing at all: a cough has no words."""
        words = _words(text)
        return len(words) <= _MOST_WORDS and self._made_of(words)

    def may_become(self, text: str) -> bool:
        """Whether what was said up to here, perhaps in the middle of a word, may still turn out to be no more."""
        words = _words(text)
        return len(words) <= _MOST_WORDS and self._begins(words)

    def _begins(self, words: Words) -> bool:
        beginning = " ".join(words)
        return any(
            " ".join(phrase).startswith(beginning)
            or (words[: len(phrase)] == phrase and self._begins(words[len(phrase) :]))
            for phrase in self._phrases
        )

    def _made_of(self, words: Words) -> bool:
        return not words or any(
            words[:length] in self._phrases and self._made_of(words[length:])
            for length in range(1, min(self._longest, len(words)) + 1)
        )


def _words(text: str) -> Words:
    """As they are compared: without accents, too, which not every transcriber writes."""
    plain = unicodedata.normalize("NFKD", text)
    return plain_words("".join(character for character in plain if not unicodedata.combining(character)))
