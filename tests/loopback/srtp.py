"""SRTP by hand, for AES_CM_128_HMAC_SHA1_80 alone: a second opinion, with nothing of libsrtp in it (RFC 3711)."""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

SUITE = "AES_CM_128_HMAC_SHA1_80"
MASTER_LENGTH = 30
_TAG_LENGTH = 10
_HEADER_LENGTH = 12


def _keystream(key: bytes, start: int, length: int) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.CTR(start.to_bytes(16))).encryptor()
    return cipher.update(bytes(length))


class Direction:
    """One direction of one stream; `master` is key and salt, as in a=crypto."""

    def __init__(self, master: bytes) -> None:
        assert len(master) == MASTER_LENGTH
        key, salt = master[:16], int.from_bytes(master[16:])
        # §4.3.1: the label stands above the index, which is zero.
        self.cipher_key, self.auth_key, session_salt = (
            _keystream(key, (salt ^ label << 48) << 16, length) for label, length in ((0, 16), (1, 20), (2, 14))
        )
        self._salt = int.from_bytes(session_salt)
        self._index: int | None = None

    def protect(self, packet: bytes) -> bytes:
        """The packets of a stream in their order."""
        index = self._find(int.from_bytes(packet[2:4]))
        self._index = index
        body = packet[:_HEADER_LENGTH] + self._crypt(packet, index)
        return body + self._tag(body, index)

    def unprotect(self, data: bytes) -> bytes:
        """An AssertionError for what is not genuine."""
        body, tag = data[:-_TAG_LENGTH], data[-_TAG_LENGTH:]
        index = self._find(int.from_bytes(body[2:4]))
        assert hmac.compare_digest(tag, self._tag(body, index)), "an SRTP packet that is not genuine"
        self._index = max(index, self._index or 0)
        return body[:_HEADER_LENGTH] + self._crypt(body, index)

    def _find(self, number: int) -> int:
        """The 48-bit index that is nearest to the last one (appendix A)."""
        if self._index is None:
            return number
        rollover = self._index >> 16
        return min(
            ((rollover + step) << 16 | number for step in (-1, 0, 1) if rollover + step >= 0),
            key=lambda index: abs(index - (self._index or 0)),
        )

    def _crypt(self, packet: bytes, index: int) -> bytes:
        payload = packet[_HEADER_LENGTH:]
        start = self._salt << 16 ^ int.from_bytes(packet[8:12]) << 64 ^ index << 16
        return bytes(a ^ b for a, b in zip(payload, _keystream(self.cipher_key, start, len(payload)), strict=True))

    def _tag(self, body: bytes, index: int) -> bytes:
        rollover = (index >> 16).to_bytes(4)
        return hmac.digest(self.auth_key, body + rollover, "sha1")[:_TAG_LENGTH]
