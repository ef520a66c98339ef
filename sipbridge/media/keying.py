"""What offer and answer say about encryption: SDES (RFC 4568), DTLS-SRTP (RFC 5763, 8122, 8842), or neither.

`sdp` asks here for each m= line. The line's profile stays as it was offered: RTP/AVP and RTP/AVPF are plain, or
encrypted where both sides put a=crypto there, as PBXs do that take either; RTP/SAVP and RTP/SAVPF are encrypted,
UDP/TLS/RTP/SAVP and UDP/TLS/RTP/SAVPF by DTLS. What came out of it is `SecurityParams`; `security` makes it happen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from sipbridge.media.addresses import Address, is_inside
from sipbridge.media.sdes import Crypto, answered, offer_lines, own_key, parse_lines
from sipbridge.media.session_description import Attribute, MediaDescription, SessionDescription
from sipbridge.media.srtp import MasterKey

Policy = Literal["off", "optional", "required"]
Offers = Literal["plain", "try_sdes", "sdes", "dtls"]
Role = Literal["client", "server"]

_PLAIN = frozenset({"RTP/AVP", "RTP/AVPF"})
_SECURE = frozenset({"RTP/SAVP", "RTP/SAVPF"})
_DTLS = frozenset({"UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF"})
PROFILES = _PLAIN | _SECURE | _DTLS
"""In capitals, as they are compared."""

_MAX_FINGERPRINTS = 8
_STRENGTH = {"sha-1": 20, "sha-224": 28, "sha-256": 32, "sha-384": 48, "sha-512": 64}
"""Octets. RFC 8122 §5 knows md5 and md2, too, which must not be used."""
_FINGERPRINT = re.compile(r"([A-Za-z0-9-]{1,16})[ \t]+([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){15,63})[ \t]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """a=fingerprint (RFC 8122): the hash of a certificate."""

    algorithm: str
    """In small letters, as SDP names it."""
    digest: bytes

    @classmethod
    def parse(cls, value: str) -> Fingerprint | None:
        """None for one that is wrong, or of a hash that is not to be trusted."""
        match = _FINGERPRINT.fullmatch(value)
        if match is None:
            return None
        algorithm, digest = match[1].lower(), bytes.fromhex(match[2].replace(":", ""))
        return cls(algorithm, digest) if _STRENGTH.get(algorithm) == len(digest) else None

    def __str__(self) -> str:
        return f"{self.algorithm} {self.digest.hex(':').upper()}"


@dataclass(frozen=True, slots=True)
class SdesParams:
    """A key for each direction."""

    tag: int
    send: MasterKey
    receive: MasterKey


@dataclass(frozen=True, slots=True)
class DtlsParams:
    """A handshake to make, or one that holds as long as nothing of this changes (RFC 8842 §3.1)."""

    role: Role
    """Ours: the client begins."""
    fingerprints: tuple[Fingerprint, ...]
    """The other side's certificate is to have one of them."""
    peer: Address | None
    """Where it is, as far as SDP says."""


SecurityParams: TypeAlias = SdesParams | DtlsParams


@dataclass(frozen=True, slots=True)
class LocalSecurity:
    """What our side can and wants."""

    policy: Policy = "off"
    secret: bytes = field(default=b"", repr=False)
    """32 random octets, of this leg alone: its SDES keys come from them. Empty: no SDES."""
    fingerprint: Fingerprint | None = None
    """Of our certificate. None: no DTLS."""
    offers: Offers = "plain"
    """What our own offer is; `try_sdes`: RTP/AVP with a=crypto, for the other side to take or to leave."""


@dataclass(frozen=True, slots=True)
class Keying:
    """Of one m= line: how it can be taken. `refusal`, in words, where it cannot."""

    security: SecurityParams | None = None
    attributes: tuple[Attribute, ...] = ()
    """For our line of the answer."""
    refusal: str = ""


_NOT_ENCRYPTED = Keying(refusal="SRTP is required here, and the other side wants none")
_SWITCHED_OFF = Keying(refusal="SRTP is switched off here, and the other side insists on it")
_NO_KEY = Keying(refusal="SRTP without a key or fingerprint that could be used")


def answer_line(
    theirs: SessionDescription,
    media: MediaDescription,
    local: LocalSecurity,
    *,
    remote: Address | None,
    address: str,
    previous: SecurityParams | None,
) -> Keying:
    """How to answer one line of an offer, of one of the `PROFILES`. `remote`: where SDP has us send; `address`: ours;
    `previous`: what held before, in a re-INVITE."""
    profile = media.protocol.upper()
    if local.policy == "off":
        return Keying() if profile in _PLAIN else _SWITCHED_OFF
    lines = () if profile in _DTLS or not local.secret else parse_lines(media.values("crypto"))
    if lines:
        chosen = lines[0]
        own = Crypto(chosen.tag, own_key(local.secret, chosen.suite))
        return Keying(SdesParams(own.tag, send=own.key, receive=chosen.key), (("crypto", str(own)),))
    if profile in _PLAIN:
        return Keying() if local.policy == "optional" else _NOT_ENCRYPTED
    fingerprints = _fingerprints(theirs, media)
    role = _role(_value(theirs, media, "setup") or "active", remote, address, previous)
    if not fingerprints or role is None or local.fingerprint is None:
        return _NO_KEY
    params = DtlsParams(role, fingerprints, _peer(remote, previous))
    return Keying(params, _dtls_attributes(local.fingerprint, "active" if role == "client" else "passive"))


def offer_line(
    local: LocalSecurity, held: SecurityParams | None, protocol: str | None
) -> tuple[str, tuple[Attribute, ...]]:
    """Profile and attributes of our offer. In a call that is up, `protocol` is its profile and `held` what holds: that
    is offered again, so that nothing has to change (RFC 5763 §6.6)."""
    if protocol is not None and isinstance(held, SdesParams):
        return protocol, (("crypto", str(Crypto(held.tag, held.send))),)
    wanted = local.offers if protocol is None else "plain" if held is None else "dtls"
    if wanted == "dtls" and local.fingerprint is not None:
        return protocol or "UDP/TLS/RTP/SAVP", _dtls_attributes(local.fingerprint, "actpass")
    if wanted in ("sdes", "try_sdes") and local.secret:
        lines = tuple(("crypto", str(line)) for line in offer_lines(local.secret))
        return "RTP/SAVP" if wanted == "sdes" else "RTP/AVP", lines
    return protocol or "RTP/AVP", ()


def accept_line(
    own: MediaDescription,
    theirs: SessionDescription,
    media: MediaDescription,
    *,
    remote: Address | None,
    previous: SecurityParams | None,
) -> Keying:
    """What the answer to our line `own` agrees to."""
    encrypted = own.protocol.upper() not in _PLAIN
    offered = parse_lines(own.values("crypto"))
    if offered:
        pair = answered(parse_lines(media.values("crypto")), offered)
        if pair is not None:
            line, mine = pair
            return Keying(SdesParams(mine.tag, send=mine.key, receive=line.key))
    elif encrypted:
        fingerprints = _fingerprints(theirs, media)
        # RFC 4145 §4: passive is what an answer means that does not say.
        role: Role = "server" if (_value(theirs, media, "setup") or "").lower() == "active" else "client"
        if fingerprints:
            return Keying(DtlsParams(role, fingerprints, _peer(remote, previous)))
    if encrypted:
        return _NO_KEY if media.protocol.upper() not in _PLAIN else _NOT_ENCRYPTED
    return Keying() if media.protocol.upper() in _PLAIN else _NO_KEY


# DTLS.


def _dtls_attributes(fingerprint: Fingerprint, setup: str) -> tuple[Attribute, ...]:
    return (("fingerprint", str(fingerprint)), ("setup", setup))


def _value(theirs: SessionDescription, media: MediaDescription, name: str) -> str | None:
    """Of the line, else of the session (RFC 4145 §4, RFC 8122 §5)."""
    return media.attribute(name) or next((value for key, value in theirs.attributes if key == name and value), None)


def _fingerprints(theirs: SessionDescription, media: MediaDescription) -> tuple[Fingerprint, ...]:
    """Those of the strongest hash that they have: a weaker one beside it is for others (RFC 8122 §5.1)."""
    values = list(media.values("fingerprint"))
    values = values or [value for key, value in theirs.attributes if key == "fingerprint" and value is not None]
    found = [parsed for value in values[:_MAX_FINGERPRINTS] if (parsed := Fingerprint.parse(value)) is not None]
    strongest = max((len(fingerprint.digest) for fingerprint in found), default=0)
    return tuple(dict.fromkeys(fingerprint for fingerprint in found if len(fingerprint.digest) == strongest))


def _role(setup: str, remote: Address | None, address: str, previous: SecurityParams | None) -> Role | None:
    """Ours, where they say this of theirs (RFC 4145 §4.1, RFC 5763 §5); None for what is no way to begin."""
    match setup.lower():
        case "active":
            return "server"
        case "passive":
            return "client"
        case "actpass" if isinstance(previous, DtlsParams):
            return previous.role  # RFC 8842 §5.3: else the association would have to be made anew
        case "actpass":
            # Who answers begins, which saves half a round trip; but somebody behind a NAT would not hear us.
            return "server" if remote is not None and is_inside(remote[0]) and not is_inside(address) else "client"
        case _:
            return None


def _peer(remote: Address | None, previous: SecurityParams | None) -> Address | None:
    """A hold by 0.0.0.0 is not another place."""
    if remote is None and isinstance(previous, DtlsParams):
        return previous.peer
    return remote
