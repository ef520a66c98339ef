"""Texts without what says who somebody is: numbers, addresses, names as far as they can be told. Pure.

A number is easy to find, a name is not. What is known of the caller beforehand, how people introduce themselves and
how they are addressed is all there is to go by, in the languages below; what was found once is found everywhere after
it. That is a help and no promise: who needs one stores attributes only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

HIDDEN: Final = "***"
_MOST_WORDS = 200
"""That are remembered of one call."""
_AT_ONCE = 1000
"""Characters: whoever looks for a pattern keeps every other thread waiting."""

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_SPOKEN_EMAIL = re.compile(
    r"\b[\w.+-]{1,64}(?: (?:dot|punkt|point|punto) [\w-]{1,63}){0,3} (?:at|ät|arobase|arroba|chiocciola) "
    r"[\w-]{1,63}(?: (?:dot|punkt|point|punto) [\w-]{1,63})+",
    re.IGNORECASE,
)
_URI = re.compile(r"\b(sips?|tel|mailto):[^\s<>\"',;@]+(@)?", re.IGNORECASE)
_NUMBER = {least: re.compile(rf"\+?\d(?:[\s().\-/]{{0,2}}\d){{{least - 1},60}}") for least in (3, 5)}
_DIGIT_WORDS = (
    "zero|oh|nought|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    "|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|double|triple"
    "|null|eins|zwei|zwo|drei|vier|fünf|sechs|sieben|acht|neun|zehn|elf|zwölf|\\w{0,12}zig|\\w{0,12}zehn"
    "|zéro|un|deux|trois|quatre|cinq|sept|huit|neuf|dix|vingt|trente|quarante|cinquante|soixante"
    "|cero|uno|dos|tres|cuatro|cinco|seis|siete|ocho|nueve|diez|veinte|treinta|cuarenta|cincuenta"
    "|due|tre|quattro|cinque|sei|sette|otto|nove|dieci"
)
_SPOKEN_NUMBER = re.compile(rf"\b(?:{_DIGIT_WORDS})(?:[\s,.\-]{{1,3}}(?:{_DIGIT_WORDS}|\d)\b){{2,60}}", re.IGNORECASE)

_WORD = r"[^\W\d_][\w'’.-]{0,40}"
_CAPITAL = r"(?-i:[A-ZÀ-ÖØ-ÞĀ-Ž])[\w'’-]{1,40}"
_SURELY = re.compile(
    r"\b(?:my (?:full |first |last )?name(?: is|['’]s)|the name is|mein name (?:ist|lautet)|ich hei(?:ß|ss)e"
    r"|je m['’]appelle|mon nom est|me llamo|mi nombre es|mi chiamo|il mio nome è|ik heet|mijn naam is)\s+"
    rf"({_WORD}(?:\s+{_WORD}){{0,2}})",
    re.IGNORECASE,
)
_PERHAPS = re.compile(
    r"\b(?:i am|i['’]m|this is|it['’]s|call me|speaking to|speaking with|you are|ich bin|hier (?:ist|spricht)|je suis"
    r"|c['’]est|ici|soy|habla|sono)\s+"
    rf"({_CAPITAL}(?:\s+{_CAPITAL}){{0,2}})",
    re.IGNORECASE,
)
_ADDRESSED = re.compile(
    r"\b(?:(?:mr|mrs|ms|miss|mister|missis|dr|doctor|prof|professor|herrn?|frau|monsieur|madame|mademoiselle|señora?"
    rf"|signora?|meneer|mevrouw)\.?\s+){{1,3}}({_CAPITAL}(?:\s+{_CAPITAL})?)",
    re.IGNORECASE,
)
_GO_ON: Final = (
    "and or but from at in the a an is was it i you we he she they my your here there calling speaking again not so "
    "just with for of to on by please hello hi thanks thank und oder aber von aus ich sie wir der die das ein eine "
    "bitte hier et ou mais de du des le la les je vous y o pero desde el los las en un una e ma da il lo that this "
    "because have has would like want need can could will sorry yes no okay ok good fine"
)
_NO_NAME = frozenset(_GO_ON.split())


class Masker:
    """Of one call: what it has learned it goes on hiding."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def learn(self, text: str) -> None:
        """Every word of it says who somebody is."""
        for word in re.findall(r"[^\W_]{2,}", text):
            if word.lower() not in _NO_NAME and len(self._known) < _MOST_WORDS and word.lower() not in self._known:
                self._known.add(word.lower())
                self._pattern = None

    def known(self, text: str) -> str:
        """Without what was learned."""
        if not self._known:
            return text
        if self._pattern is None:
            words = "|".join(re.escape(word) for word in sorted(self._known, key=len, reverse=True))
            self._pattern = re.compile(rf"(?<![^\W_])(?:{words})(?![^\W_])", re.IGNORECASE)
        return self._pattern.sub(HIDDEN, text)

    def words(self, text: str) -> str:
        """What was said, by anyone."""
        return "".join(map(self._words, _pieces(text)))

    def _words(self, text: str) -> str:
        for pattern, surely in ((_SURELY, True), (_PERHAPS, False), (_ADDRESSED, False)):
            for match in pattern.finditer(text):
                self._learn_name(match[1], surely)
        return self.known(self._without_numbers(text, 3))

    def remark(self, text: str) -> str:
        """Words of ours or of a machine's about the call: a code of few digits says nothing about anybody."""
        return "".join(self.known(self._without_numbers(piece, 5)) for piece in _pieces(text))

    def _learn_name(self, found: str, surely: bool) -> None:
        for word in found.split():
            plain = word.strip(".,'’-")
            if plain.lower() in _NO_NAME:
                return  # the sentence goes on
            if surely or plain[:1].isupper():
                self.learn(plain)
            if word[-1:] in ".,":
                return

    @staticmethod
    def _without_numbers(text: str, least: int) -> str:
        text = _EMAIL.sub(HIDDEN, text)
        text = _URI.sub(lambda match: f"{match[1]}:{HIDDEN}{match[2] or ''}", text)
        text = _SPOKEN_EMAIL.sub(HIDDEN, text)
        text = _NUMBER[least].sub(HIDDEN, text)
        return _SPOKEN_NUMBER.sub(HIDDEN, text)


def _pieces(text: str) -> Iterator[str]:
    """Cut where there is a space, if there is one."""
    at = 0
    while len(text) - at > _AT_ONCE:
        end = text.rfind(" ", at + 1, at + _AT_ONCE)
        end = at + _AT_ONCE if end < 0 else end
        yield text[at:end]
        at = end
    yield text[at:]
