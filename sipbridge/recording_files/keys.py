"""The keys that recordings are sealed with: 32 bytes from the configuration, and those before them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field

from sipbridge.errors import ConfigError

KEY_BYTES = 32
ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class Key:
    secret: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Key:
        """32 bytes in base64 (either alphabet) or hexadecimal. Raises `ConfigError`, which never quotes it."""
        text = text.strip()
        try:
            secret = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else _base64(text)
        except (ValueError, binascii.Error):
            raise ConfigError(f"{_WANTED}; this is neither") from None
        if len(secret) != KEY_BYTES:
            raise ConfigError(f"{_WANTED}; these are {len(secret)} bytes")
        return cls(secret)

    @property
    def id(self) -> bytes:
        """Tells keys apart, and says nothing of them."""
        return hmac.digest(self.secret, b"sipbridge recordings: key id", hashlib.sha256)[:ID_BYTES]


_WANTED = "a key is 32 bytes in base64 or hexadecimal (openssl rand -base64 32)"


def _base64(text: str) -> bytes:
    return base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)


class KeyRing:
    """`current` seals; it and those before open."""

    def __init__(self, current: Key, before: Iterable[Key] = ()) -> None:
        self.current = current
        self._by_id = {key.id: key for key in (*before, current)}

    def find(self, key_id: bytes) -> Key | None:
        return self._by_id.get(key_id)
