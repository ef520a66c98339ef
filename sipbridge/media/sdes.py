"""a=crypto lines: SRTP keys in the session description (RFC 4568; RFC 7714 §14.2 for GCM).

A line is a tag, a suite, a master key and perhaps parameters of the session. What we cannot do as it is asked for
(other suites, an MKI, several keys, a session without encryption or authentication) is a line that is not there for us.
The keys of our own lines come from one secret per call, so that nothing here makes randomness.

Whoever reads the signalling reads the keys: SDES is worth as much as TLS between us and the peer.
"""

from __future__ import annotations

import binascii
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass

from sipbridge.media.srtp import SUITES, MasterKey, Suite

OFFERED = tuple(SUITES[name] for name in ("AES_CM_128_HMAC_SHA1_80", "AEAD_AES_256_GCM", "AEAD_AES_128_GCM"))
"""In this order: the first is what every PBX knows, and some look no further. AES_CM_128_HMAC_SHA1_32 is taken where it
is offered; who knows it knows the one with the longer tag, too."""

_MAX_LINES = 32
_LINE = re.compile(r"(\d{1,9})[ \t]+(\S{1,64})[ \t]+(\S{1,512})((?:[ \t]+\S{1,128}){0,16})[ \t]*", re.ASCII)
_INLINE = re.compile(r"inline:([A-Za-z0-9+/]{1,128}={0,2})(?:\|(?:2\^\d{1,2}|\d{1,15}))?", re.ASCII | re.IGNORECASE)
"""Key and lifetime. After so many packets (2^48 and 2^31 at most, RFC 3711 §9.2) their key is used up: a matter of who
sends with it, and decades of a call. An MKI, which would stand behind another bar, is not matched."""
_HARMLESS = re.compile(r"KDR=0|WSH=\d{1,9}|FEC_ORDER=\S+|-\S+", re.ASCII | re.IGNORECASE)
"""Session parameters that change nothing for us: the default of one, a hint, the order relative to a protocol that was
not agreed on, extensions marked as not essential (RFC 4568 §6.3)."""


@dataclass(frozen=True, slots=True)
class Crypto:
    """One line that we can use."""

    tag: int
    key: MasterKey

    @property
    def suite(self) -> Suite:
        return self.key.suite

    @classmethod
    def parse(cls, value: str) -> Crypto | None:
        """Of the attribute's value; None for what is wrong or not for us."""
        line = _LINE.fullmatch(value)
        if line is None:
            return None
        suite, inline = SUITES.get(line[2].upper()), _INLINE.fullmatch(line[3])
        if suite is None or inline is None or not all(map(_HARMLESS.fullmatch, line[4].split())):
            return None
        text = inline[1].rstrip("=")
        try:
            octets = binascii.a2b_base64(text + "=" * (-len(text) % 4))  # some leave the filling out
        except binascii.Error:
            return None
        return cls(int(line[1]), MasterKey(suite, octets)) if len(octets) == suite.master_length else None

    def __str__(self) -> str:
        """The attribute's value: with the key, so it belongs nowhere but into a description."""
        return f"{self.tag} {self.suite.name} inline:{binascii.b2a_base64(self.key.octets, newline=False).decode()}"


def parse_lines(values: Iterable[str]) -> tuple[Crypto, ...]:
    """Of one m= line, in the order of the other side's preference; a tag that comes twice counts once."""
    found: dict[int, Crypto] = {}
    for _, value in zip(range(_MAX_LINES), values, strict=False):
        crypto = Crypto.parse(value)
        if crypto is not None:
            found.setdefault(crypto.tag, crypto)
    return tuple(found.values())


def own_key(secret: bytes, suite: Suite) -> MasterKey:
    """The key that we send with under this suite; `secret` is 32 random octets of this call alone."""
    if len(secret) < 32:
        raise ValueError("a secret of 32 octets is needed")
    return MasterKey(suite, hmac.digest(secret, suite.name.encode(), "sha512")[: suite.master_length])


def offer_lines(secret: bytes) -> tuple[Crypto, ...]:
    return tuple(Crypto(tag, own_key(secret, suite)) for tag, suite in enumerate(OFFERED, 1))


def answered(theirs: Iterable[Crypto], ours: Iterable[Crypto]) -> tuple[Crypto, Crypto] | None:
    """Of an answer, and of what we offered: the line that was chosen, as both sides have it. There is to be one, with
    our tag (RFC 4568 §5.1.3); a wrong tag is forgiven where the suite is one that we offered."""
    own = tuple(ours)
    for line in theirs:
        same = [mine for mine in own if mine.suite is line.suite]
        if same:
            return line, next((mine for mine in same if mine.tag == line.tag), same[0])
    return None
