"""SRTP and SRTCP (RFC 3711, RFC 7714): packets in the clear to packets on the wire and back, by libsrtp.

An `SrtpSender` has the key that we send with, an `SrtpReceiver` the other side's. What does not pass (forged, in the
clear, repeated, no packet at all) is counted and is None: it is never decoded, and nothing is raised.

A receiver outlives a change of its key (`rekey`). Until the first packet of the new one has come, those of the old are
believed, so that a change has no gap; and a few after it, which were overtaken on the way. RFC 3711 §8.1 has the
rollover counter go on when the key changes, many a peer begins again at zero: whichever fits the first packet is taken.
A key that comes back finds what was received under it, or a recording of that time could be played back.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pylibsrtp import Session

_MAX_SSRCS = 64
"""Of one key: a PBX that connects its next leg brings a new one, and each costs memory. Those above are refused."""
_REPLAY_WINDOW = 256  # packets; libsrtp's 128 are less than three seconds of 20 ms
_MAX_KEYS = 4  # that may come back, with what was received under them
_OVERTAKEN = 16  # packets of an old key that are believed after the first of the new one
_UPPER, _LOWER = 0xC0, 0x40  # of a sequence number's first octet: what lies between the two is no wrap
_HEADER = struct.Struct("!BBHII")
_STRIDE = 0x4000  # in sequence numbers: what cannot be taken for a step back


@dataclass(frozen=True, slots=True)
class Suite:
    """A crypto suite under its name in SDP (RFC 4568 §6.2, RFC 7714 §14.2)."""

    name: str
    key_length: int
    salt_length: int
    profile: str
    """As DTLS names it (RFC 5764 §4.1.2, RFC 7714 §14.2), in OpenSSL's words."""
    libsrtp: str
    """As libsrtp names it."""

    @property
    def master_length(self) -> int:
        """Octets of key and salt."""
        return self.key_length + self.salt_length


SUITES = {
    suite.name: suite
    for suite in (
        Suite("AES_CM_128_HMAC_SHA1_80", 16, 14, "SRTP_AES128_CM_SHA1_80", "SRTP_PROFILE_AES128_CM_SHA1_80"),
        Suite("AES_CM_128_HMAC_SHA1_32", 16, 14, "SRTP_AES128_CM_SHA1_32", "SRTP_PROFILE_AES128_CM_SHA1_32"),
        Suite("AEAD_AES_128_GCM", 16, 12, "SRTP_AEAD_AES_128_GCM", "SRTP_PROFILE_AEAD_AES_128_GCM"),
        Suite("AEAD_AES_256_GCM", 32, 12, "SRTP_AEAD_AES_256_GCM", "SRTP_PROFILE_AEAD_AES_256_GCM"),
    )
}
"""In the order in which they are offered: what every PBX knows comes first."""


@dataclass(frozen=True, slots=True)
class MasterKey:
    """Key and salt of one direction. They are not in its repr."""

    suite: Suite
    octets: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.octets) != self.suite.master_length:
            raise ValueError(f"{self.suite.name} wants {self.suite.master_length} octets, not {len(self.octets)}")


def load() -> None:
    """Load the library, so that no call has to wait for it."""
    import_module("pylibsrtp")


class SrtpSender:
    """What we send. The RTP sequence number has to begin in its lower half (see `Sequencer`), and with a new key there
    is to be a new SSRC: then the other side cannot be mistaken about the rollover counter."""

    def __init__(self, key: MasterKey) -> None:
        self.key = key
        session, self._errors = _session(key, outbound=True)
        self._rtp, self._rtcp = session.protect, session.protect_rtcp

    def protect(self, packet: bytes) -> bytes | None:
        """None for what cannot be sent: too long, or no packet."""
        try:
            return self._rtp(packet)
        except self._errors:
            return None

    def protect_rtcp(self, packet: bytes) -> bytes | None:
        try:
            return self._rtcp(packet)
        except self._errors:
            return None


class SrtpReceiver:
    """What comes in, of all the SSRCs of one peer. Takes whatever a stranger sent."""

    def __init__(self, key: MasterKey) -> None:
        self.key = key
        self.unauthenticated = 0
        """Forged, in the clear, or under another key."""
        self.replayed = 0
        self.malformed = 0
        self.refused = 0
        """Genuine, but of one SSRC too many."""
        self._current = _Context(key)
        self._errors: tuple[type[Exception], ...] = (*self._current.errors, _TooManySsrcs)
        self._resumed: _Context | None = None  # the present key, with the rollover counter of the one before
        self._old: _Context | None = None
        self._old_left = 0
        self._past: dict[MasterKey, _Context] = {}

    def rekey(self, key: MasterKey) -> None:
        """The other side has a new key. Nothing happens where it is the same one."""
        if key == self.key:
            return
        before, self.key = self._current, key
        self._past[before.key] = before
        if len(self._past) > _MAX_KEYS:
            del self._past[next(iter(self._past))]
        self._current = self._past.pop(key) if key in self._past else _Context(key)
        self._current.heard = False
        self._resumed = None
        if before.heard:  # else nothing has come under it, and what was there before it is still the one to believe
            self._old, self._old_left = before, _OVERTAKEN
        if self._old is not None and self._old.rollover:
            self._resumed = _Context(key, self._old)

    def unprotect(self, packet: bytes) -> bytes | None:
        """The RTP packet; None where it is not genuine, has been there before, or is none."""
        try:
            return self._current.unprotect(packet)
        except self._errors as error:
            return self._otherwise(packet, error)

    def _otherwise(self, packet: bytes, error: Exception) -> bytes | None:
        resumed, old = self._resumed, self._old
        if resumed is not None and not self._current.heard:
            try:
                clear = resumed.unprotect(packet)
            except self._errors:
                pass
            else:
                self._current = resumed
                return clear
        if old is not None:
            try:
                clear = old.unprotect(packet)
            except self._errors:
                pass
            else:
                self._one_less_of_old()
                return clear
        self._count(error)
        return None

    def _one_less_of_old(self) -> None:
        if self._current.heard:
            self._resumed = None
            self._old_left -= 1
            if self._old_left <= 0:
                self._old = None

    def unprotect_rtcp(self, packet: bytes) -> bytes | None:
        """The RTCP packet, or None."""
        try:
            return self._current.unprotect_rtcp(packet)
        except self._errors as error:
            if self._old is not None:
                try:
                    return self._old.unprotect_rtcp(packet)
                except self._errors:
                    pass
            self._count(error)
            return None

    def _count(self, error: Exception) -> None:
        text = str(error)
        if isinstance(error, _TooManySsrcs):
            self.refused += 1
        elif text.startswith("authentication") or text.startswith("unable to perform"):  # the second: SRTCP in clear
            self.unauthenticated += 1
        elif text.startswith("replay") or text.endswith("too old to consider"):
            self.replayed += 1
        else:
            self.malformed += 1


class _TooManySsrcs(Exception):
    pass


class _Context:
    """One key with all that was received under it."""

    __slots__ = ("_high", "_rtcp", "_rtp", "_session", "_ssrcs", "errors", "heard", "key", "rollover", "ssrc")

    def __init__(self, key: MasterKey, before: _Context | None = None) -> None:
        """`before`: go on where that one is."""
        self.key = key
        self.heard = False
        """RTP has come since it is the key that was agreed on last."""
        self._session, self.errors = _session(key)
        self._rtp, self._rtcp = self._session.unprotect, self._session.unprotect_rtcp
        self._ssrcs: set[bytes] = set()
        self._high = 0  # first octet of the last sequence number
        self.ssrc = b""
        """Of the last RTP packet; empty until there was one."""
        self.rollover = 0
        """Of that SSRC: how often its sequence numbers have begun anew."""
        if before is not None:
            self._wind(key, before)

    def _wind(self, key: MasterKey, before: _Context) -> None:
        """libsrtp is told where it is by packets: as few as lead there."""
        sender, _ = _session(key, outbound=True)
        (number,) = struct.unpack("!I", before.ssrc)
        index = before.rollover << 16 | before._high << 8
        for step in (*range(0, index, _STRIDE), index):
            self._rtp(sender.protect(_HEADER.pack(0x80, 0, step & 0xFFFF, 0, number)))
        self._ssrcs.add(before.ssrc)
        self.rollover = before.rollover

    def unprotect(self, packet: bytes) -> bytes:
        """Raises one of `errors`, or _TooManySsrcs."""
        clear = self._rtp(packet)
        high = clear[2]
        if clear[8:12] != self.ssrc:
            self._admit(clear[8:12])
            if self.ssrc:
                self.rollover = 0
            self.ssrc, self._high = clear[8:12], high
        if high != self._high:
            if high < _LOWER and self._high >= _UPPER:
                self.rollover += 1
            elif high >= _UPPER and self._high < _LOWER and self.rollover:
                self.rollover -= 1
            self._high = high
        self.heard = True
        return clear

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        clear = self._rtcp(packet)
        self._admit(clear[4:8])
        return clear

    def _admit(self, ssrc: bytes) -> None:
        if ssrc not in self._ssrcs:
            if len(self._ssrcs) >= _MAX_SSRCS:
                self._session.remove_stream(int.from_bytes(ssrc))
                raise _TooManySsrcs
            self._ssrcs.add(ssrc)


def _session(key: MasterKey, *, outbound: bool = False) -> tuple[Session, tuple[type[Exception], ...]]:
    """And what it raises."""
    import pylibsrtp  # at first use: most calls have none

    policy = pylibsrtp.Policy(
        key=key.octets,
        ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND if outbound else pylibsrtp.Policy.SSRC_ANY_INBOUND,
        srtp_profile=getattr(pylibsrtp.Policy, key.suite.libsrtp),
    )
    policy.window_size = _REPLAY_WINDOW
    return pylibsrtp.Session(policy), (pylibsrtp.Error, ValueError)
