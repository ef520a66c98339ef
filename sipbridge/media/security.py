"""A leg's encryption: what was agreed on (`keying`) made to happen. SRTP once there are keys, DTLS until there are.

`protect` and `unprotect` are for RTP, their twins for RTCP; each gives None for what must not leave, or must not be
believed: without keys that is everything. DTLS datagrams go to `receive_dtls`, and `outgoing` has what to send.

A handshake is made with the address that SDP names, or that the leg has learned. Somebody behind a NAT comes from
another: a hello of his is heard, too, but only where SDP's address is one that cannot be, or has been silent for a
while; and whatever he does is undone as soon as that address speaks. That he is who he says is shown by his certificate
alone.
"""

from __future__ import annotations

from collections.abc import Callable

from sipbridge.media.addresses import Address, is_inside
from sipbridge.media.dtls import HANDSHAKE_SECONDS, DtlsIdentity, Handshake
from sipbridge.media.keying import DtlsParams, SdesParams, SecurityParams
from sipbridge.media.srtp import MasterKey, SrtpReceiver, SrtpSender

Process = Callable[[bytes], bytes | None]

_SDP_FIRST_SECONDS = 0.8
"""Less than until a hello is repeated (1 s): somebody behind a NAT is heard with his second."""
_IDLE_SECONDS = 2.0
_MAX_ATTEMPTS = 5
_MAX_STRANGERS = 5  # hellos from elsewhere that are answered at all: each costs half a millisecond


def _nothing(packet: bytes) -> bytes | None:
    return None


class _Early:
    """What came before there were keys."""

    packets = 0

    def count(self, packet: bytes) -> bytes | None:
        self.packets += 1
        return None


class Security:
    def __init__(self, params: SecurityParams, now: float, identity: DtlsIdentity | None = None) -> None:
        """`identity`: who we are, where DTLS is agreed on."""
        self.params = params
        self.failure = ""
        """Why there will be no keys. Said once: whoever reads it ends the call."""
        self.protect: Process = _nothing
        self.protect_rtcp: Process = _nothing
        self._early = _Early()
        self.unprotect: Process = self._early.count
        self.unprotect_rtcp: Process = self._early.count
        self.renewed = False
        """Our key is another: the stream is to begin anew (see `SrtpSender`). Whoever does that unsets it."""
        self.dtls_ignored = 0
        """DTLS datagrams of those who have no part in it, or too many."""
        self._identity = identity
        self._sender: SrtpSender | None = None
        self._receiver: SrtpReceiver | None = None
        self._handshake: Handshake | None = None
        self._partner: Address | None = None
        self._heard_at = now
        self._attempts = self._strangers = 0
        self._begin(params, now)

    def update(self, params: SecurityParams, now: float) -> None:
        """After a new offer and answer. Where nothing of it has changed, keys stay what they are; a handshake that is
        not done yet, or came to nothing while it rang, is given its time once more."""
        if params != self.params or self.failure:
            self.params = params
            self._begin(params, now)
        elif self._handshake is not None:
            self._handshake.deadline = now + HANDSHAKE_SECONDS

    def _begin(self, params: SecurityParams, now: float) -> None:
        self._handshake = None
        self.failure = ""
        match params:
            case SdesParams(send=send, receive=receive):
                self._use(send, receive)
            case DtlsParams():
                # What came under the old keys is believed until there are new ones, but nobody is spoken to: it may
                # be somebody else.
                self._sender = None
                self.protect = self.protect_rtcp = _nothing
                self._attempts = self._strangers = 0
                self._partner = None
                self._heard_at = now
                self._shake_hands(params, now + HANDSHAKE_SECONDS)

    def _use(self, send: MasterKey, receive: MasterKey) -> None:
        if self._receiver is None:
            receiver = self._receiver = SrtpReceiver(receive)
            self.unprotect, self.unprotect_rtcp = receiver.unprotect, receiver.unprotect_rtcp
        else:
            self._receiver.rekey(receive)
        if self._sender is None or self._sender.key != send:
            sender = self._sender = SrtpSender(send)
            self.protect, self.protect_rtcp = sender.protect, sender.protect_rtcp
            self.renewed = True

    @property
    def ready(self) -> bool:
        """Packets may leave."""
        return self._sender is not None

    @property
    def suite(self) -> str:
        """By which we send; empty as long as we do not."""
        return "" if self._sender is None else self._sender.key.suite.name

    @property
    def unauthenticated(self) -> int:
        """Packets, RTCP's among them, that were not genuine, or came before there were keys."""
        receiver, early = self._receiver, self._early.packets
        return early if receiver is None else early + receiver.unauthenticated + receiver.malformed

    @property
    def replayed(self) -> int:
        return 0 if self._receiver is None else self._receiver.replayed

    @property
    def refused(self) -> int:
        """Genuine packets of one SSRC too many."""
        return 0 if self._receiver is None else self._receiver.refused

    # --- DTLS ---------------------------------------------------------------------------------------------------------

    @property
    def shaking_hands(self) -> bool:
        """`handle_timer` is to be called, now and then."""
        return self._handshake is not None and not self._handshake.done and not self.failure

    @property
    def partner(self) -> Address | None:
        """With whom the handshake is being made, or was."""
        return self._partner

    def receive_dtls(self, datagram: bytes, source: Address, target: Address | None, now: float) -> None:
        """A datagram that looks like DTLS, from anyone; `target` is where our RTP goes."""
        handshake = self._handshake
        if handshake is None or self.failure or not self._takes_part(handshake, datagram, source, target, now):
            self.dtls_ignored += 1
            return
        handshake = self._handshake  # perhaps another
        assert handshake is not None
        self._heard_at = now
        if not handshake.receive(datagram):
            self.dtls_ignored += 1
        self._look_at(handshake, target)

    def handle_timer(self, now: float, target: Address | None, *, confirmed: bool = True) -> None:
        """Not `confirmed`: the other side is so far only what an INVITE says, which can be forged like its hello. It is
        answered once."""
        handshake = self._handshake
        if handshake is not None and self.shaking_hands:
            handshake.handle_timer(now, repeat=confirmed)
            if handshake.failure:
                self._failed(handshake, target, final=now >= handshake.deadline)

    def outgoing(self, target: Address | None) -> list[tuple[bytes, Address]]:
        """DTLS datagrams to send, and where; each once. They wait while nobody is known to send them to."""
        to = self._partner or target
        if self._handshake is None or to is None:
            return []
        return [(datagram, to) for datagram in self._handshake.messages_to_send()]

    def close(self) -> None:
        """`outgoing` may have a last word."""
        if self._handshake is not None:
            self._handshake.close()

    def _shake_hands(self, params: DtlsParams, deadline: float) -> None:
        if self._identity is None:
            self.failure = "DTLS failed: this side has no certificate"
            return
        self._handshake = Handshake(self._identity, params.role, params.fingerprints, deadline)

    def _takes_part(
        self, handshake: Handshake, datagram: bytes, source: Address, target: Address | None, now: float
    ) -> bool:
        """Whether a datagram is looked at; begins anew where it is of somebody who goes before."""
        params, partner = self.params, self._partner
        if source == partner:
            return True
        assert isinstance(params, DtlsParams)
        if source == target or source == params.peer:
            if partner is not None:
                if not self.shaking_hands:
                    return False
                self._shake_hands(params, handshake.deadline)
            self._partner = source
            return True
        if params.role == "client" or not self.shaking_hands or not _is_hello(datagram):
            return False
        if self._strangers >= _MAX_STRANGERS:
            return False
        if partner is None:
            may = target is None or _is_elsewhere(target, source) or now - self._heard_at >= _SDP_FIRST_SECONDS
        else:
            may = partner not in (target, params.peer) and now - self._heard_at >= _IDLE_SECONDS
            if may:
                self._shake_hands(params, handshake.deadline)
        if may:
            self._strangers += 1
            self._partner = source
        return may

    def _look_at(self, handshake: Handshake, target: Address | None) -> None:
        if handshake.failure:
            self._failed(handshake, target)
        elif handshake.done and self._sender is None:
            assert handshake.send_key is not None
            assert handshake.receive_key is not None
            self._use(handshake.send_key, handshake.receive_key)

    def _failed(self, handshake: Handshake, target: Address | None, *, final: bool = False) -> None:
        """Words in the clear can be anybody's: they end an attempt, not the call."""
        params = self.params
        assert isinstance(params, DtlsParams)
        named = self._partner is None or self._partner in (target, params.peer)
        self._attempts += named
        if final or (handshake.proved and named) or self._attempts >= _MAX_ATTEMPTS:
            self.failure = handshake.failure
            return
        self._partner = None
        self._shake_hands(params, handshake.deadline)


def _is_hello(datagram: bytes) -> bool:
    """A ClientHello, by its place (RFC 6347 §4.2.2)."""
    return len(datagram) > 13 and datagram[0] == 22 and datagram[13] == 1


def _is_elsewhere(named: Address, source: Address) -> bool:
    """SDP names an address of somebody's own network, and the datagram came from the outside."""
    return is_inside(named[0]) and not is_inside(source[0])
