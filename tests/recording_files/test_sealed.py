"""Sealed files, and everything that can be done to one."""

from __future__ import annotations

import base64
import io
import os

import pytest

from sipbridge.errors import ConfigError
from sipbridge.recording_files.keys import Key, KeyRing
from sipbridge.recording_files.library import replay
from sipbridge.recording_files.sealed import (
    HEADER_BYTES,
    Closing,
    KeyUnknownError,
    SealedReader,
    Sealer,
    SealError,
)

KEY, OTHER = Key(bytes(range(32))), Key(bytes(32))
RING = KeyRing(KEY)


def sealed(*, last: bool = True, words: bytes = b"abcdefghij") -> list[bytes]:
    """Header and records."""
    sealer = Sealer(KEY)
    writes = [[(0, b"....")], *([(4 + n, words[n : n + 1])] for n in range(10)), [(14, b"!"), (0, b"HEAD")]]
    parts = [sealer.header, *(record for write in writes for record in sealer.records(write))]
    assert len(parts) == 13
    return [*parts, sealer.last()] if last else parts


def opened(data: bytes, ring: KeyRing | None = RING) -> tuple[bytes, Closing | None]:
    reader, into = SealedReader(io.BytesIO(data), ring), io.BytesIO()
    replay(reader, into=into)
    return into.getvalue(), reader.closing


def test_what_was_written_comes_back_and_is_nowhere_in_the_file() -> None:
    data = b"".join(sealed())
    assert opened(data) == (b"HEADabcdefghij!", Closing.CLOSED)
    assert b"HEAD" not in data
    assert KEY.secret not in data


def test_what_is_huge_is_sealed_in_pieces() -> None:
    sealer, data = Sealer(KEY), os.urandom(5_000_000)
    records = list(sealer.records([(0, data), (5, b"here")]))
    assert 4 < len(records) < 8
    assert opened(sealer.header + b"".join(records)) == (data[:5] + b"here" + data[9:], None)


def test_two_files_have_nothing_in_common_but_the_key() -> None:
    first, second = b"".join(sealed()), b"".join(sealed())
    assert first[:16] == second[:16]
    assert first[16:28] != second[16:28]
    assert first[28:] != second[28:]


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_file_that_is_cut_has_no_end(cut: int) -> None:
    plain, closing = opened(b"".join(sealed())[:-cut])
    assert closing is None
    assert plain[4:] in b"abcdefghij!"


def test_every_bit_counts() -> None:
    data = b"".join(sealed())
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << (at % 8)
        try:
            assert opened(bytes(changed))[1] is None, at  # a length was changed: it seems cut
        except SealError:
            continue


def test_records_have_one_order_and_one_file() -> None:
    parts, others = sealed(), sealed()
    wrong = [
        [*parts[:3], parts[4], parts[3], *parts[5:]],
        [*parts[:3], *parts[4:]],
        [*parts[:4], *parts[3:]],
        [*parts[:3], others[3], *parts[4:]],
        [*parts, parts[-1]],
        [*parts[:-1], others[-1]],
        [others[0], *parts[1:]],
    ]
    for data in wrong:
        with pytest.raises(SealError):
            opened(b"".join(data))


def test_after_a_crash_it_is_closed_where_it_is_whole() -> None:
    data = b"".join(sealed(last=False))[:-5]
    file = io.BytesIO(data)
    reader = SealedReader(file, RING)
    replay(reader)
    file.seek(reader.good_bytes)
    file.truncate()
    file.write(reader.end_after_crash())
    assert opened(file.getvalue()) == (b"....abcdefghij", Closing.RECOVERED)


def test_keys_change_and_old_files_open() -> None:
    data = b"".join(sealed())
    assert opened(data, KeyRing(OTHER, [KEY]))[1] is Closing.CLOSED
    for ring in (KeyRing(OTHER), None):
        with pytest.raises(KeyUnknownError, match=KEY.id.hex()):
            opened(data, ring)


@pytest.mark.parametrize("data", [b"", b"RIFF" + bytes(100), b"SIPBREC\x01", os.urandom(HEADER_BYTES)])
def test_what_is_no_sealed_file(data: bytes) -> None:
    with pytest.raises(SealError):
        opened(data)


def test_a_key_is_32_bytes() -> None:
    secret = os.urandom(32)
    for text in (
        secret.hex(),
        base64.b64encode(secret).decode(),
        base64.urlsafe_b64encode(secret).decode().rstrip("="),
    ):
        assert Key.parse(f" {text}\n").secret == secret
    for text in ("", "hello", "x" * 64, secret[:16].hex(), base64.b64encode(secret + b"!").decode()):
        with pytest.raises(ConfigError) as raised:
            Key.parse(text)
        assert not text or text not in str(raised.value)
    assert secret.hex() not in repr(Key(secret))
