"""What an Identity header claims (RFC 8224, 8225; SHAKEN: RFC 8588), read WITHOUT checking its signature.

Whoever wants to rely on it has to verify it, or to trust the peer that handed it on. Text in, values out, never an
error: what cannot be read is left out.
"""

from __future__ import annotations

import binascii
import json
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from typing import Any

MAX_PASSPORTS = 4
_MAX_TOKEN = 8_192
_MAX_NUMBERS = 8


@dataclass(frozen=True, slots=True)
class UnverifiedPassport:
    """One PASSporT. Every field is the sender's word and nobody else's."""

    kind: str = ""
    """Its extension (`ppt`): "shaken", "div"."""
    attestation: str = ""
    """SHAKEN: A (the number is the caller's), B (the customer is known), C (neither)."""
    orig: str = ""
    """The calling number, or URI."""
    dest: tuple[str, ...] = ()
    issued_at: int | None = None
    """Seconds since 1970."""
    origination_id: str = ""
    certificate: str = ""
    """Where the certificate is said to be (`info`): an address of the sender's choice, never to be fetched blindly."""


def read_unverified(value: str) -> UnverifiedPassport | None:
    """One value of an Identity field; None where it cannot be read, or is in the compact form, which claims nothing
    that From and To do not."""
    token, *params = value.split(";")
    parts = token.strip().split(".")
    if len(parts) != 3 or len(token) > _MAX_TOKEN:
        return None
    header, claims = _decoded(parts[0]), _decoded(parts[1])
    if header is None or claims is None:
        return None
    info = next((param.partition("=")[2] for param in params if param.strip().lower().startswith("info=")), "")
    attestation = _text(claims.get("attest"))
    issued_at = claims.get("iat")
    return UnverifiedPassport(
        kind=_text(header.get("ppt")),
        attestation=attestation if attestation in ("A", "B", "C") else "",
        orig=next(iter(_parties(claims.get("orig"))), ""),
        dest=_parties(claims.get("dest")),
        issued_at=issued_at if type(issued_at) is int and 0 <= issued_at < 2**53 else None,
        origination_id=_text(claims.get("origid")),
        certificate=(info.strip().strip("<>") or _text(header.get("x5u")))[:512],
    )


def _decoded(part: str) -> dict[str, Any] | None:
    try:
        value = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _parties(value: object) -> tuple[str, ...]:
    """`{"tn": "15550100"}`, with lists or single texts, for numbers and for URIs."""
    if not isinstance(value, dict):
        return ()
    found: list[str] = []
    for key in ("tn", "uri"):
        listed = value.get(key)
        found += [
            text for item in (listed if isinstance(listed, list) else [listed])[:_MAX_NUMBERS] if (text := _text(item))
        ]
    return tuple(found[:_MAX_NUMBERS])


def _text(value: object) -> str:
    return value[:256] if isinstance(value, str) and value.isprintable() else ""
