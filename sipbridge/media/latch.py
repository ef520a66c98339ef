"""Whose packets are believed, and where ours are sent: symmetric RTP (RFC 4961) with a lock against injection.

We send to the address that SDP named. The source is learned from the first packet that comes from there, or from five
consistent packets of another address: behind a NAT the phone does not know its own. Then address and SSRC are locked.
Another source can only take over soon after a new offer or answer, or once the locked one has been silent for two
seconds: by being what SDP names, or again with five in a row. A locked address may change its SSRC (a PBX that connects
its next leg does, without telling): five packets in a row without one of the old SSRC between them.

What SDP names goes before whoever was learned from packets: five of its own, whatever comes in between, take over at
any time. Else a stranger who is quicker than the phone's first packet, or sends while it is mute, would have the call
for as long as he goes on.

Before the other side has confirmed the call nothing is sent: over UDP a forged INVITE names any address it likes, and
whoever lives there would get our packets. An ACK shows that our answer arrived where it says it is; a packet that is
believed does so, too.

RTP attacks like AST-2017-008 live from relearning at will: hence no packet of a stranger is ever used or answered to
while the known source speaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from sipbridge.media.addresses import Address, usable

_CONSISTENT_PACKETS = 5
_SILENCE_SECONDS = 2.0
# Even five in a row fit between two packets of the known source, if they are sent quickly enough: it must have paused,
# too.
_HANDOVER_SECONDS = 0.08
_OPEN_SECONDS = 5.0
_MAX_CANDIDATES = 8
_MAX_STEP = 3  # how far the sequence number may move between two consistent packets: a lost one or two are forgiven


class Verdict(Enum):
    ACCEPTED = auto()
    NEW_SOURCE = auto()
    """Accepted, and it is the first packet of a source: what was known of the stream before is void."""
    WRONG_SOURCE = auto()


@dataclass(slots=True)
class _Candidate:
    sequence_number: int
    count: int


class Latch:
    """One leg's. Give it only packets that are RTP with a payload type that was negotiated."""

    def __init__(self, remote: Address | None, *, enabled: bool = True, confirmed: bool = True) -> None:
        """`remote` as SDP says; None where that is no address. Not `enabled`: nothing is learned, only that address is
        believed and sent to. Not `confirmed`: nothing is sent there before `confirm`."""
        self._enabled = enabled
        self._remote = usable(remote)
        self._source: Address | None = None
        self._ssrc = 0
        self._heard_at = 0.0
        self._open_until = 0.0
        self._candidates: dict[tuple[Address, int], _Candidate] = {}
        self.confirmed = confirmed
        """The other side has shown that it is there."""
        self.target = self._remote if confirmed else None
        """Where to send: None until one is known, and confirmed."""
        self.authenticated = False
        """Packets are given to `judge` only if they are genuine (SRTP): one is as good as five."""

    @property
    def source(self) -> Address | None:
        """The locked source."""
        return self._source

    @property
    def ssrc(self) -> int:
        """Of the locked source."""
        return self._ssrc

    def update(self, remote: Address | None, now: float) -> None:
        """A new offer or answer: for some seconds the source may be learned anew. Until one is, the old one is
        believed.

        Where the address in SDP is as before we go on sending to what was learned, else to the new one.
        """
        named = usable(remote)
        if named != self._remote:
            self._remote = named
            if named is not None and self.confirmed:
                self.target = named
        self._open_until = now + _OPEN_SECONDS
        self._candidates.clear()

    def confirm(self) -> None:
        """The other side has got our answer."""
        if not self.confirmed:
            self.confirmed = True
            self.target = self._remote

    def prove(self, source: Address) -> None:
        """Somebody who comes from there has shown who he is (DTLS): send there, until packets tell otherwise."""
        if self._enabled:
            self.confirm()
            self.target = source

    def judge(self, source: Address, ssrc: int, sequence_number: int, now: float) -> Verdict:
        """What to do with a packet. Anything but WRONG_SOURCE means that it may be used."""
        if source == self._source and ssrc == self._ssrc:
            self._heard_at = now
            if self._candidates:
                self._not_in_a_row()
            return Verdict.ACCEPTED
        if not self._may_learn(source, now):
            return Verdict.WRONG_SOURCE
        # What SDP names needs no proof, unless it is locked already and only the SSRC is new.
        proven = self.authenticated or (source == self._remote and source != self._source and self._is_free(now))
        if not proven and not self._is_consistent(source, ssrc, sequence_number, now):
            return Verdict.WRONG_SOURCE
        self._lock(source, ssrc, now)
        return Verdict.NEW_SOURCE

    def _may_learn(self, source: Address, now: float) -> bool:
        if not self._enabled:
            return source == self._remote
        return source in (self._source, self._remote) or self._is_free(now)

    def _is_free(self, now: float) -> bool:
        """Nobody is locked, or he may be followed by another."""
        return self._source is None or now < self._open_until or now - self._heard_at >= _SILENCE_SECONDS

    def _not_in_a_row(self) -> None:
        """A packet of the locked source came between those of the candidates."""
        if self._source == self._remote:
            self._candidates.clear()
        else:
            self._candidates = {key: found for key, found in self._candidates.items() if key[0] == self._remote}

    def _is_consistent(self, source: Address, ssrc: int, sequence_number: int, now: float) -> bool:
        key = (source, ssrc)
        candidate = self._candidates.get(key)
        if candidate is None:
            if len(self._candidates) >= _MAX_CANDIDATES:
                del self._candidates[next(iter(self._candidates))]
            self._candidates[key] = _Candidate(sequence_number, 1)
            return False
        step = (sequence_number - candidate.sequence_number) & 0xFFFF
        candidate.sequence_number = sequence_number
        candidate.count = candidate.count + 1 if 0 < step <= _MAX_STEP else 1
        named = source == self._remote and source != self._source
        if self._source is not None and not named and now - self._heard_at < _HANDOVER_SECONDS:
            return False
        return candidate.count >= _CONSISTENT_PACKETS

    def _lock(self, source: Address, ssrc: int, now: float) -> None:
        self._source = source
        self._ssrc = ssrc
        self._heard_at = now
        self._open_until = 0.0
        self._candidates.clear()
        self.confirm()
        if self._enabled:
            self.target = source
