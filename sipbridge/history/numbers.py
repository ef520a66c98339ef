"""One person's number, however it is written: what is compared where somebody is looked for, or erased. Pure.

    +1 555-0100   tel:+1-555-0100   <sip:+15550100@pbx.example.com;user=phone>   0015550100   15550100

are one number: of two that differ in nothing but the sign for "international", one is the other as some PBX writes it.
National numbers stay what they are (`0555 0100` is nobody's but its own), and names are compared without case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sipbridge.errors import SipParseError
from sipbridge.sip.headers import NameAddr, Uri
from sipbridge.sip.number import Number

_MOST_TEXT = 1000
_FEWEST_DIGITS = 7
"""What has less is an extension: there 00 is no prefix, and + none that could be left out."""
_separators = re.compile(r"[\s\-.()/]")
_digits = re.compile(r"\+?[0-9]{1,64}")


def same_number(text: str) -> str:
    """The same for all forms of one number or name; "" where there is neither."""
    user = _user(text.strip()[:_MOST_TEXT])
    plain = _separators.sub("", user)
    if not _digits.fullmatch(plain):
        return user.casefold()
    bare = plain.removeprefix("+") if plain.startswith("+") else plain.removeprefix("00")
    return bare if len(bare) >= _FEWEST_DIGITS else plain


def forms_of(number: str, among: Iterable[str]) -> list[str]:
    """Those that are this number."""
    wanted = same_number(number)
    return [text for text in among if wanted and same_number(text) == wanted]


def _user(text: str) -> str:
    """Of a URI or an address; what is neither is itself."""
    if not re.match(r"(?i)(.*<)?(sips?|tel):", text):
        return text
    try:
        uri = NameAddr.parse(text).uri if "<" in text else Uri.parse(text)
    except SipParseError:
        return text
    number = Number.of(uri)
    return number.digits if number is not None else uri.user or ""
