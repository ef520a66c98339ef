"""SipLeg: one SIP call with its sound, as a conversation uses it.

Offer and answer, ringing, answering, re-INVITE, transfer and hang-up of one dialog, together with the media stream that
the SDP speaks of. `InboundLeg` (`inbound_leg.py`) was called, `OutboundLeg` (`outbound_leg.py`) calls; a conversation
uses both alike:

    negotiate()   bind a port and write our description
    begin()       tell the far end that it rings, or call it
    answer()      answer, or wait until we are answered; then sound flows

A leg can take the place of another (`taking_over`): it then speaks on that one's port, so that neither what waits to be
heard nor what was learned of the sound is lost. Who talks on a leg, and about what, is `call.py`'s affair.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from sipbridge.audio import AudioFormat
from sipbridge.codecs import Codec
from sipbridge.encryption import keys_in_the_clear
from sipbridge.errors import SdpError
from sipbridge.media import sdp
from sipbridge.media.dtmf import press_seconds
from sipbridge.media.engine import MediaEngine
from sipbridge.media.events import MediaStats
from sipbridge.media.keying import DtlsParams, LocalSecurity, SdesParams
from sipbridge.media.params import MediaParams
from sipbridge.media.ports import LocalPort
from sipbridge.media.stream import MediaStream
from sipbridge.referring import Referred, Referring
from sipbridge.sip.events import (
    Acknowledged,
    CallEnded,
    KeyTold,
    ReferAccepted,
    ReferFailed,
    ReferProgress,
    ReinviteReceived,
    SessionAnswered,
    SipEvent,
)
from sipbridge.sip.invite import CallState, Invite
from sipbridge.sip.reason import parse_reasons

log = structlog.get_logger(__name__)

_RELAYED_MS = 20
"""How much of a far end's sound another one waits for."""
_MOST_KEYS = 64
"""That wait for their turn, by INFO."""


@dataclass(frozen=True, slots=True)
class MediaChoices:
    """What of the gateway's configuration goes into a leg's SDP."""

    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    """By preference."""
    public_address: str | None = None
    """Named in the SDP instead of the address that the port is bound to."""
    uplink_ms: int = 20
    """How much of the far end's sound is handed on at once."""
    fade_ms: int = 10
    """How long sound that is interrupted takes to end."""
    security: LocalSecurity = LocalSecurity()
    """With a secret of this leg's own."""


class OpenStream(Protocol):
    def __call__(self, port: LocalPort, params: MediaParams) -> MediaStream: ...


@dataclass(frozen=True, slots=True)
class LegParts:
    """What every leg is made of."""

    engine: MediaEngine
    open_stream: OpenStream
    choices: MediaChoices
    session_id: str
    """Of its SDP: digits."""
    clock: Callable[[], float]


class SipLeg:
    """What both kinds of leg share. `sip_event` is fed everything that signalling brings for it."""

    outbound = False
    hears_early = False
    """What comes before the answer is meant for the agent."""

    def __init__(self, parts: LegParts) -> None:
        self._engine = parts.engine
        self._open_stream = parts.open_stream
        self._choices = parts.choices
        self._uplink_ms = parts.choices.uplink_ms
        self._session_id = parts.session_id
        self._clock = parts.clock
        self._invite: Invite | None = None
        self._dialog_open = True
        self._port: LocalPort | None = None
        self._local: sdp.LocalAudio | None = None
        self._body = b""
        self._negotiated: sdp.Negotiated | None = None
        self._answer_due = False
        self._formats: tuple[AudioFormat, AudioFormat] | None = None
        self._referring = Referring(parts.clock)
        self._keys_told: deque[asyncio.Future[int]] = deque()
        self._predecessor: SipLeg | None = None
        self._params: MediaParams | None = None
        self._before_us: MediaStats | None = None  # what of the stream's figures is of the leg that had it before
        self._figures: MediaStats | None = None
        self.stream: MediaStream | None = None
        self.media_open = asyncio.Event()
        """Set once the far end can hear us."""
        self.machine = ""
        """What SIP says of the machine that has answered (`machine.machine_of`)."""
        self._warned = False
        self.failure = ""
        """Why the leg is of no more use, where it found out by itself."""

    @property
    def codec(self) -> Codec | None:
        """The codec agreed on; None as long as the far end has not said a word about media."""
        return self._negotiated.codec if self._negotiated else None

    @property
    def likely_codec(self) -> Codec | None:
        """The same, or what it will probably be."""
        return self.codec

    def owns(self, call: Invite | None) -> bool:
        return call is not None and call is self._invite

    # --- setting up -------------------------------------------------------------------------------

    def taking_over(self, predecessor: SipLeg) -> None:
        """To be said before `negotiate`: when this leg is answered, the other's port and sound become its own."""
        self._predecessor = predecessor

    def negotiate(self) -> None:
        """Bind a port, then write the SDP that names it. Raises `MediaError`."""
        port = self._predecessor._port if self._predecessor is not None else None
        if port is None:
            port = self._port = self._engine.reserve()
        self._local = sdp.LocalAudio(
            address=self._choices.public_address or port.address,
            port=port.port,
            codecs=self._choices.codecs,
            session_id=self._session_id,
            security=self._choices.security,
        )

    def begin(self, uplink: AudioFormat, downlink: AudioFormat, *, early_media: bool = False) -> None:
        """`uplink` is what the far end's audio shall arrive in, `downlink` what `stream.play` will be given.
        `early_media`: a caller shall hear us before the answer; there is a `stream` then, where that can be."""
        self._formats = (uplink, downlink)

    def use_formats(self, uplink: AudioFormat, downlink: AudioFormat) -> None:
        """The same from now on, in mid-call: what waits to be heard is kept."""
        if self._formats == (uplink, downlink):
            return
        self._formats = (uplink, downlink)
        if self.stream is not None and self._params is not None:
            self._params = replace(self._params, uplink=uplink, downlink=downlink)
            self.stream.update(self._params)

    def relay(self) -> None:
        """From now on what is said here goes to another leg: as it is, for nobody else takes it, and at once."""
        assert self._negotiated is not None
        wire = self._negotiated.codec.wire_format(self.formats[1])
        self._uplink_ms = min(_RELAYED_MS, self._uplink_ms)
        if self._params is not None:
            self._params = replace(self._params, uplink_block_ms=self._uplink_ms)
        self.use_formats(wire, wire)

    @property
    def formats(self) -> tuple[AudioFormat, AudioFormat]:
        """What it hands on, and what `stream.play` takes; from `begin` on."""
        assert self._formats is not None
        return self._formats

    async def answer(self) -> None:
        raise NotImplementedError

    def reject(self, status: int, reason: str) -> None:
        raise NotImplementedError

    # --- what signalling brings -------------------------------------------------------------------

    def sip_event(self, event: SipEvent) -> None:
        match event:
            case Acknowledged(body=body):
                self._acknowledged(body)
            case ReinviteReceived(offer=offer):
                self._renegotiate(event.call, offer)
            case SessionAnswered(call=call, answer=answer):
                self._refreshed(call, answer)
            case ReferAccepted() | ReferProgress() | ReferFailed():
                self._referring.sip_event(event)
            case KeyTold(status=status):
                self._key_told(status)
            case CallEnded():
                self._dialog_open = False
                while self._keys_told:
                    self._key_told(481)
            case _:
                pass

    def _acknowledged(self, body: bytes) -> None:
        """The ACK shows that our answer arrived, and may carry the answer to our offer (RFC 3261 §13.2.1)."""
        if self.stream is not None:
            self.stream.confirm()
        if not self._answer_due:
            return
        self._answer_due = False
        self._accept(body, "in the ACK")

    def _accept(self, body: bytes, where: str) -> None:
        """An answer to what we offered."""
        assert self._local is not None
        try:
            self._use(sdp.accept(body, self._local, offered=self._body, previous=self._negotiated))
        except SdpError as error:
            self.failure = f"no usable answer {where}: {error}"

    def _renegotiate(self, call: Invite, offer: bytes | None) -> None:
        """A re-INVITE or UPDATE: hold, resume, another address or codec. What is said on the leg goes on."""
        assert self._local is not None
        try:
            if offer is None:
                body = self._body = sdp.offer(self._local, previous=self._negotiated)
                self._answer_due = True
            else:
                negotiated = sdp.answer(offer, self._local, previous=self._negotiated)
                body = negotiated.sdp
                self._use(negotiated)
        except SdpError as error:
            call.reject_reinvite(error.sip_status, self._clock())
            return
        call.accept_reinvite(body, self._clock())

    def _refreshed(self, call: Invite, answer: bytes) -> None:
        """The answer to a refresh of the session (RFC 4028) names another address, say. One that cannot be used
        changes nothing: we did not ask for a change."""
        if self._local is None or call.dialog is None:
            return
        with suppress(SdpError):
            offered = call.dialog.exchange.local
            self._use(sdp.accept(answer, self._local, offered=offered, previous=self._negotiated))

    def _use(self, negotiated: sdp.Negotiated, *, confirmed: bool = True) -> None:
        """What was agreed on holds from now on. Not `confirmed`: so far the far end is only what an INVITE says."""
        assert self._formats is not None
        unchanged = self.stream is not None and _sounds_alike(negotiated, self._negotiated)
        self._negotiated = negotiated
        if unchanged:
            return  # a refresh (RFC 4028): the sound has nothing to learn from it
        self._warn_of_readable_keys(negotiated)
        uplink, downlink = self._formats
        params = MediaParams.agreed(
            negotiated,
            uplink=uplink,
            downlink=downlink,
            uplink_block_ms=self._uplink_ms,
            fade_ms=self._choices.fade_ms,
            confirmed=confirmed,
        )
        if self.stream is None and self._predecessor is not None:
            self._port, self.stream, self._before_us = self._predecessor._surrender()
            self._predecessor = None
        if self.stream is not None:
            self.stream.update(params)
        else:
            assert self._port is not None
            self.stream = self._open_stream(self._port, params)
        self._params = params
        self.media_open.set()

    def _answered_now(self) -> None:
        """Somebody has picked up: who made no DTLS handshake while it rang has time for one from now on."""
        if self.stream is not None and self._params is not None and isinstance(self._params.security, DtlsParams):
            self.stream.update(self._params)

    def _warn_of_readable_keys(self, negotiated: sdp.Negotiated) -> None:
        call = self._invite
        if self._warned or call is None or not isinstance(negotiated.security, SdesParams):
            return
        if keys_in_the_clear(call.flow):
            self._warned = True
            log.warning("SRTP keys travel in the clear: the signalling is not TLS", call_id=call.call_id)

    def _surrender(self) -> tuple[LocalPort | None, MediaStream | None, MediaStats | None]:
        """Port and sound go to a successor; only the dialog remains."""
        port, stream = self._port, self.stream
        self._figures = self.figures
        until_now = None if stream is None else stream.part()
        self._port = self.stream = None
        return port, stream, until_now

    @property
    def figures(self) -> MediaStats | None:
        """Of its sound, as far as it has come; None where there was none."""
        if self.stream is None:
            return self._figures
        stats = self.stream.stats
        return stats if self._before_us is None else stats.since(self._before_us)

    # --- keys -------------------------------------------------------------------------------------

    async def press(self, keys: str) -> str:
        """Press keys of a telephone towards the far end, after those that wait: as telephone events in the sound (RFC
        4733) or, where none were agreed on, by INFO (RFC 6086). Returns when they have been sent: what went wrong, or
        an empty text. ValueError: one of them is no key."""
        if self.stream is None or self._params is None or not self._dialog_open:
            return "there is no call"
        if all([self.stream.send_key(key) for key in keys]):
            await asyncio.sleep(len(keys) * press_seconds(self._params.ptime_ms))
            return ""
        if self._invite is None or self._invite.state is not CallState.CONFIRMED:
            return "the far end has not confirmed the call"
        if len(self._keys_told) + len(keys) > _MOST_KEYS:
            return "too many keys wait already"
        told = [asyncio.get_running_loop().create_future() for _ in keys]
        self._keys_told.extend(told)
        for key in keys:
            self._invite.send_key(key, self._clock())
        refused = next((status for status in await asyncio.gather(*told) if status >= 300), None)
        return "" if refused is None else f"the far end takes no keys: no telephone-event, and {refused} to INFO"

    def _key_told(self, status: int) -> None:
        if self._keys_told and not (told := self._keys_told.popleft()).done():
            told.set_result(status)

    # --- transfer and end -------------------------------------------------------------------------

    async def refer(self, target: str, *, seconds: float = 32.0, replaces: SipLeg | None = None) -> Referred:
        """Ask the far end to call `target` instead of us (RFC 3515), or to take our place in the call that another leg
        has (`replaces`; RFC 5589 §7), and follow how that goes. `seconds`: how long it may take. One at a time."""
        if self._invite is None:
            return Referred("there is no call")
        return await self._referring.ask(self._invite, target, seconds, None if replaces is None else replaces._invite)

    @property
    def transfer_accepted(self) -> bool:
        """The far end has taken on a transfer of ours; if it hangs up now, that is why."""
        return self._referring.accepted

    def close(self, reason: str, status: int | None = None) -> None:
        """Hang up if the far end has not, with a Reason header field's value; no more sound. Idempotent. A caller who
        was not answered is refused, with `status` or 480."""
        if self._dialog_open:
            self._dialog_open = False
            if self._invite is not None:
                self._invite.hang_up(self._clock(), reason_header=reason)
        if self.stream is not None:
            self.stream.close(_words_of(reason))
        elif self._port is not None:
            self._engine.release(self._port)
        self._port = None


def _words_of(reason: str) -> str:
    """Of a Reason header field's value: what RTCP's BYE says, too."""
    return next((value.text for value in parse_reasons(reason)), "")


def _sounds_alike(one: sdp.Negotiated, other: sdp.Negotiated | None) -> bool:
    """Whether nothing but the descriptions' text and version differs."""
    return other is not None and replace(one, sdp=b"", version=0) == replace(other, sdp=b"", version=0)
