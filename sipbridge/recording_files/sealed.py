"""Sealed files: what is written to a file, sealed piece by piece while it is written, with AES-256-GCM.

The format is ours and documented in docs/recordings.md. A header of 76 bytes, then records:

    header   magic (8)  key id (8)  nonce (12)  the file's own key, wrapped (32 + 16)
    record   length of what follows (4)  sealed (length)

The file's own key is random; it is wrapped with the key whose id is in the header. Record number N is sealed under the
nonce `000000 N(8) END(1)` with the whole header as additional data, and holds one or more writes: `offset(8) length(4)
bytes`. Played in order they make the plain file, so that also its beginning can be written again (the lengths of a WAV
header) though nothing sealed is ever touched again. END is 0 but for the last record, which holds nothing: 1 says that
who wrote the file came to its end, 2 that it was closed after a crash.

So a record that is changed, left out, doubled, moved or from another file does not open; a file that is cut has no last
record; and one that its writer did not live to close can be read up to its last whole record. One nonce is never used
twice: a number is used once, and the key once (NIST SP 800-38D §8.2.1).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sipbridge.errors import SipbridgeError
from sipbridge.recording_files.keys import ID_BYTES, KEY_BYTES, Key, KeyRing

MAGIC: Final = b"SIPBREC\x01"
_NONCE, _TAG = 12, 16
HEADER_BYTES: Final = len(MAGIC) + ID_BYTES + _NONCE + KEY_BYTES + _TAG
_LENGTH = struct.Struct(">I")
_WRITE = struct.Struct(">QI")
_MOST_RECORD_BYTES = 4 * 1024 * 1024
"""What is longer was not written by us."""
_PIECE_BYTES = 1024 * 1024


class SealError(SipbridgeError):
    """A sealed file cannot be opened, or not all of it; says why."""

    label = "recording"


class KeyUnknownError(SealError):
    """It was sealed with a key that is not configured."""


class Closing(Enum):
    """How a sealed file ends."""

    CLOSED = 1
    RECOVERED = 2
    """Its writer was killed: closed later, at the last record that was whole."""


class Sealer:
    """Seals records of one new file: what it returns is to be written one after the other."""

    def __init__(self, key: Key) -> None:
        secret, nonce = AESGCM.generate_key(256), os.urandom(_NONCE)
        start = MAGIC + key.id
        self.header = start + nonce + AESGCM(key.secret).encrypt(nonce, secret, start)
        self._sealing = _Sealing(secret, self.header)
        self._number = 0

    def records(self, writes: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
        """Of what is written where: one record, so that a kill leaves all or nothing of it; more where it is huge."""
        plain = bytearray()
        for offset, data in writes:
            for start in range(0, len(data), _PIECE_BYTES):
                piece = data[start : start + _PIECE_BYTES]
                if plain and len(plain) + len(piece) > _PIECE_BYTES:
                    yield self._record(plain)
                    plain.clear()
                plain += _WRITE.pack(offset + start, len(piece)) + piece
        if plain:
            yield self._record(plain)

    def _record(self, plain: bytes | bytearray) -> bytes:
        record = self._sealing.seal(self._number, bytes(plain), 0)
        self._number += 1
        return record

    def last(self) -> bytes:
        return self._sealing.seal(self._number, b"", Closing.CLOSED.value)


@dataclass(frozen=True, slots=True)
class _Sealing:
    secret: bytes
    header: bytes

    def seal(self, number: int, plain: bytes, end: int) -> bytes:
        sealed = AESGCM(self.secret).encrypt(_nonce(number, end), plain, self.header)
        return _LENGTH.pack(len(sealed)) + sealed

    def open(self, number: int, sealed: bytes, end: int) -> bytes | None:
        try:
            return AESGCM(self.secret).decrypt(_nonce(number, end), sealed, self.header)
        except InvalidTag:
            return None


def _nonce(number: int, end: int) -> bytes:
    return b"\0\0\0" + number.to_bytes(8, "big") + bytes([end])


class SealedReader:
    """A sealed file, read from its beginning. Raises `SealError` where the header cannot be opened."""

    def __init__(self, file: BinaryIO, keys: KeyRing | None) -> None:
        self._file = file
        header = file.read(HEADER_BYTES)
        if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
            raise SealError("this is no sealed recording")
        key_id = header[len(MAGIC) :][:ID_BYTES]
        key = None if keys is None else keys.find(key_id)
        if key is None:
            raise KeyUnknownError(
                f"it was sealed with the key {key_id.hex()}, which is neither recordings.key nor in recordings.old_keys"
            )
        start, wrapped = header[: len(MAGIC) + ID_BYTES], header[len(MAGIC) + ID_BYTES :]
        try:
            secret = AESGCM(key.secret).decrypt(wrapped[:_NONCE], wrapped[_NONCE:], start)
        except InvalidTag:
            raise SealError("its header was changed") from None
        self._sealing = _Sealing(secret, header)
        self._number = 0
        self.good_bytes = HEADER_BYTES
        """Up to the last record that opened."""
        self.closing: Closing | None = None
        """Known when all has been read; None: it has no end."""

    def records(self) -> Iterator[list[tuple[int, bytes]]]:
        """What was written where, record by record. Raises `SealError` at one that does not open; a file that just
        stops, in mid-record too, is no error but has no `closing`."""
        while True:
            head = self._file.read(_LENGTH.size)
            if len(head) < _LENGTH.size:
                return
            (length,) = _LENGTH.unpack(head)
            if not _TAG <= length <= _MOST_RECORD_BYTES:
                raise SealError(f"record {self._number} was changed")
            sealed = self._file.read(length)
            if len(sealed) < length:
                return
            writes = self._open(sealed)
            self._number += 1
            self.good_bytes += _LENGTH.size + length
            if writes is None:
                if self._file.read(1):
                    raise SealError("something was put behind its end")
                return
            yield writes

    def _open(self, sealed: bytes) -> list[tuple[int, bytes]] | None:
        """None: this is the end."""
        plain = self._sealing.open(self._number, sealed, 0)
        if plain is not None:
            return list(_writes(plain))
        for closing in Closing:
            if self._sealing.open(self._number, sealed, closing.value) is not None:
                self.closing = closing
                return None
        raise SealError(f"record {self._number} was changed, or does not belong here")

    def end_after_crash(self) -> bytes:
        """The last record of a file that has none, to stand at `good_bytes`."""
        return self._sealing.seal(self._number, b"", Closing.RECOVERED.value)


def _writes(plain: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(plain):
        offset, length = _WRITE.unpack_from(plain, at)
        at += _WRITE.size
        yield offset, plain[at : at + length]
        at += length
