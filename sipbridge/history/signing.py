"""Who sent it, and that nobody has changed it: the signatures of Standard Webhooks. Pure.

Source: Standard Webhooks 1.0.0, "Webhook headers" and "Signature scheme" (HMAC-SHA256 over `ID.TIMESTAMP.BODY`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

_PREFIX = "whsec_"


def keys_of(secret: str) -> tuple[bytes, ...]:
    """The keys to sign with. After `whsec_` comes the key in base64; any other secret is the key, as it is written.

    Libraries for receivers take a secret without that prefix for base64, too: where it could be, a second signature is
    made for them. Raises `ValueError`, which never quotes it.
    """
    if secret.startswith(_PREFIX):
        key = _decoded(secret.removeprefix(_PREFIX))
        if not key:
            raise ValueError(f"after {_PREFIX} base64 is expected")
        return (key,)
    other = _decoded(secret)
    return (secret.encode(), other) if other else (secret.encode(),)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)  # some leave its end out
    except (binascii.Error, ValueError):
        return b""


def signature(keys: Sequence[bytes], identity: str, timestamp: int, body: bytes) -> str:
    """For `webhook-signature`: one for each key, any of which proves it."""
    content = f"{identity}.{timestamp}.".encode() + body
    return " ".join(f"v1,{base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()}" for key in keys)


def signed(keys: Sequence[bytes], identity: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The header fields of one attempt. `identity` stays the same over all attempts, `timestamp` is now."""
    headers = {"webhook-id": identity, "webhook-timestamp": str(timestamp)}
    return {**headers, "webhook-signature": signature(keys, identity, timestamp, body)} if keys else headers
