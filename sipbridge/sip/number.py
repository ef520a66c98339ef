"""Telephone numbers in URIs (RFC 3966; RFC 3261 §19.1.6 for those inside a SIP URI): URI in, frozen value out.

A number is kept as it was dialled, national or E.164; nothing is guessed about plans and prefixes. Only ASCII digits
are digits, and percent-escapes are undone once, so that a list of allowed numbers sees what a switch would dial.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sipbridge.sip.headers import Uri, unescape

MAX_DIGITS = 64
_MAX_PARAM = 128

_separators = re.compile(r"[-.()]")
_global = re.compile(r"\+[0-9]{1,64}")
_local = re.compile(r"[0-9*#]{1,64}")
_keys = re.compile(r"[0-9A-Da-d*#]{1,64}")


@dataclass(frozen=True, slots=True)
class Number:
    """What a telephone dials. Extension and the rest are "" where they are not there."""

    digits: str
    """Without visual separators: `+15550100`, `0100`, `*21#`."""
    extension: str = ""
    """To be dialled after the answer (`ext`)."""
    subaddress: str = ""
    """ISDN (`isub`)."""
    context: str = ""
    """Where a local number is valid: a domain or a global prefix (`phone-context`)."""

    @property
    def is_global(self) -> bool:
        """E.164, with its plus sign; any other is good only where it was dialled."""
        return self.digits.startswith("+")

    def __str__(self) -> str:
        return self.digits

    @classmethod
    def of(cls, uri: Uri) -> Number | None:
        """The number that a tel URI holds, or the user part of a sip URI; None where it is no number."""
        if uri.scheme == "tel":
            digits, params = uri.user or "", {name: value or "" for name, value in uri.params.items()}
        elif uri.scheme in ("sip", "sips") and uri.user:
            digits, _, rest = uri.user.partition(";")
            params = _user_params(rest)
        else:
            return None
        plain = _separators.sub("", unescape(digits)) if len(digits) <= 4 * MAX_DIGITS else ""
        # The letters of DTMF belong to a number only where it is said to be one: `sip:abba@` is a name.
        local = _keys if uri.scheme == "tel" or uri.params.get("user") == "phone" else _local
        if not _global.fullmatch(plain) and not local.fullmatch(plain):
            return None
        return cls(plain, _param(params, "ext"), _param(params, "isub"), _param(params, "phone-context"))


def user_params(uri: Uri) -> Mapping[str, str]:
    """The telephone-subscriber's parameters of a URI, by lower-case name, wherever they are written."""
    if uri.scheme == "tel":
        return {name: value or "" for name, value in uri.params.items()}
    return _user_params((uri.user or "").partition(";")[2])


def _user_params(text: str) -> dict[str, str]:
    params: dict[str, str] = {}
    for param in text.split(";")[:16] if text else ():
        name, _, value = param.partition("=")
        params.setdefault(unescape(name).strip().lower(), value)
    return params


def _param(params: Mapping[str, str], name: str) -> str:
    value = unescape(params.get(name, ""))[:_MAX_PARAM]
    return value if value.isascii() and value.isprintable() else ""
