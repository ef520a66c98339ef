"""From when until when a certificate is valid (RFC 5280 §4.1.2.5): the one thing that Python's ssl does not tell of a
certificate that nobody has shown yet. PEM in, two times out; of the DER no more is read than leads there."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


def validity(pem: str) -> tuple[datetime, datetime]:
    """Of the first certificate in a file. Raises ValueError where there is none that can be read."""
    begin, end = pem.find("-----BEGIN CERTIFICATE-----"), pem.find("-----END CERTIFICATE-----")
    if begin < 0 or end < begin:
        raise ValueError("no certificate in it")
    der = ssl.PEM_cert_to_DER_cert(pem[begin:end] + "-----END CERTIFICATE-----\n")
    try:
        _, certificate, _ = _element(der)
        _, signed, _ = _element(certificate)
        kind, _, rest = _element(signed)
        fields = rest if kind == _VERSION else signed  # serial number, algorithm, issuer, then the validity
        for _ in range(3):
            _, _, fields = _element(fields)
        _, times, _ = _element(fields)
        kind, not_before, rest = _element(times)
        first = _time(kind, not_before)
        kind, not_after, _ = _element(rest)
        return first, _time(kind, not_after)
    except IndexError:
        raise ValueError("a certificate that ends too soon") from None


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag and content of the first element, and what follows it (X.690 §8.1)."""
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if start + length > len(data):
        raise IndexError
    return tag, data[start : start + length], data[start + length :]


def _time(kind: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if kind == _UTC_TIME:
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    elif kind != _GENERALIZED_TIME:
        raise ValueError("no time where one is expected")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
