"""What was said, compared as a listener would: letters, capitals, punctuation and invisible characters apart. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
"""Scripts that put no spaces between words (Thai, Lao, Burmese, Khmer, Japanese, Chinese): each character is one."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+(?:'[^\W_{_UNSPACED}]+)*")
_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "\u00b4": "'", "`": "'"})

Words = tuple[str, ...]


def plain_words(text: str) -> Words:
    """The words of a text, in NFKC and without case. What is no letter and no digit only parts them; soft hyphens and
    the like don't even do that."""
    visible = "".join(character for character in text if unicodedata.category(character) != "Cf")
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", visible).translate(_APOSTROPHES).casefold()))


def says(words: Words, phrase: Words) -> bool:
    """Whether the phrase is in it, as whole words in that order."""
    size = len(phrase)
    return 0 < size <= len(words) and any(words[at : at + size] == phrase for at in range(len(words) - size + 1))


def says_any(words: Words, phrases: Sequence[Words]) -> bool:
    return any(says(words, phrase) for phrase in phrases)


# --- yes and no -------------------------------------------------------------------------------------------------------


def _phrases(text: str) -> tuple[Words, ...]:
    return tuple(plain_words(phrase) for phrase in text.split("|"))


_NO = _phrases("no|nope|nah|nein|nö|nee|non|não|nej|nie|нет|ne|いいえ|不")
_NOT_THAT = _phrases(
    "please don't|don't want|don't bother|do not want|rather not|not now|not interested|no need"
    "|bitte nicht|lieber nicht|möchte nicht|möchte ich nicht|will nicht|will ich nicht|nicht nötig|nicht jetzt"
    "|kein interesse|pas maintenant|pas besoin|je ne veux pas|surtout pas|no quiero|mejor no|ahora no|no hace falta"
    "|non voglio|meglio di no|não quero|agora não|liever niet|niet nodig|не надо|結構です|不要|不用"
)
_YES = _phrases(
    "yes|yeah|yep|sure|okay|ok|go ahead|please do|fine|no problem|why not|alright"
    "|ja|gerne|klar|kein problem|warum nicht|oui|d'accord|volontiers|pas de problème|pourquoi pas"
    "|sí|claro|vale|de acuerdo|por qué no|sim|certo|va bene|graag|да|はい|好|可以"
)
_BEGINNING = 3
"""A no stands among the first words of an answer, behind "oh" or "um"; later it may be anything."""


def declines(text: str) -> bool:
    """Whether an answer to "shall I?" is plainly a no. Where it can be taken either way, it isn't."""
    words = plain_words(text)
    if says_any(words, _YES):
        return False
    return says_any(words[:_BEGINNING], _NO) or says_any(words, _NOT_THAT)
