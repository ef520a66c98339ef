"""SipLeg: one SIP call with its sound, as a conversation uses it.

Offer and answer, ringing, answering, re-INVITE, transfer and hang-up of one dialog, together with the media stream that
the SDP speaks of. Who talks on it, and about what, is `call.py`'s affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sipbridge.audio import AudioFormat
from sipbridge.codecs import Codec
from sipbridge.errors import SdpError
from sipbridge.media import sdp
from sipbridge.media.engine import LocalPort, MediaEngine, MediaParams
from sipbridge.media.stream import MediaStream
from sipbridge.sip.events import (
    Acknowledged,
    CallEnded,
    ReferAccepted,
    ReferFailed,
    ReferProgress,
    ReinviteReceived,
    SipEvent,
)
from sipbridge.sip.invite import CallState
from sipbridge.sip.uas import IncomingInvite

_TRANSFER_S = 32.0
"""How long the far end may take to say how a transfer went; as long as a transaction may (RFC 3261 Timer F)."""


@dataclass(frozen=True, slots=True)
class MediaChoices:
    """What of the gateway's configuration goes into a leg's SDP."""

    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    """By preference."""
    public_address: str | None = None
    """Named in the SDP instead of the address that the port is bound to."""


class OpenStream(Protocol):
    def __call__(self, port: LocalPort, params: MediaParams) -> MediaStream: ...


class SipLeg:
    """An inbound call. `sip_event` is fed everything that signalling brings for it."""

    def __init__(
        self,
        invite: IncomingInvite,
        offer: bytes | None,
        *,
        engine: MediaEngine,
        open_stream: OpenStream,
        choices: MediaChoices,
        session_id: str,
        clock: Callable[[], float],
    ) -> None:
        self._invite = invite
        self._offer = offer
        self._engine = engine
        self._open_stream = open_stream
        self._choices = choices
        self._session_id = session_id
        self._clock = clock
        self._dialog_open = True
        self._port: LocalPort | None = None
        self._local: sdp.LocalAudio | None = None
        self._body = b""
        self._negotiated: sdp.Negotiated | None = None
        self._answer_due = False
        self._formats: tuple[AudioFormat, AudioFormat] | None = None
        self._transfer: asyncio.Future[str] | None = None
        self.stream: MediaStream | None = None
        self.media_open = asyncio.Event()
        """Set once the caller can hear us."""
        self.transfer_accepted = False
        self.failure = ""
        """Why the leg is of no more use, where it found out by itself."""

    @property
    def codec(self) -> Codec | None:
        """The codec agreed on; None as long as the far end has not said a word about media."""
        return self._negotiated.codec if self._negotiated else None

    # --- setting up -------------------------------------------------------------------------------

    def negotiate(self) -> None:
        """Bind a port, then write the SDP that names it: the answer to the offer or, where the INVITE had none, an
        offer of ours. Raises `MediaError`."""
        self._port = self._engine.reserve()
        self._local = sdp.LocalAudio(
            address=self._choices.public_address or self._port.address,
            port=self._port.port,
            codecs=self._choices.codecs,
            session_id=self._session_id,
        )
        if self._offer is None:
            self._body = sdp.offer(self._local)
            self._answer_due = True
        else:
            self._negotiated = sdp.answer(self._offer, self._local)
            self._body = self._negotiated.sdp

    def ring(self) -> None:
        self._invite.ring(self._clock())

    def answer(self, uplink: AudioFormat, downlink: AudioFormat) -> None:
        """200 OK. `uplink` is what the caller's audio shall arrive in, `downlink` what `stream.play` will be given."""
        self._formats = (uplink, downlink)
        self._invite.answer(self._body, self._clock())
        if self._negotiated is not None:
            self._use(self._negotiated)

    def reject(self, status: int, reason: str) -> None:
        """Refuse with a Reason header field's value (RFC 3326); 503 says when to come back, too."""
        headers = [("Reason", reason)]
        if status == 503:
            headers.append(("Retry-After", "5"))
        self._dialog_open = False
        self._invite.reject(status, now=self._clock(), headers=tuple(headers))

    # --- what signalling brings -------------------------------------------------------------------

    def sip_event(self, event: SipEvent) -> None:
        match event:
            case Acknowledged(body=body):
                self._acknowledged(body)
            case ReinviteReceived(offer=offer):
                self._renegotiate(offer)
            case ReferAccepted():
                self.transfer_accepted = True
            case ReferProgress(status=status, reason=reason, final=True):
                self._transfer_over("" if 200 <= status < 300 else f"{status} {reason}".strip())
            case ReferFailed(status=status):
                self._transfer_over(f"refused with {status}")
            case CallEnded():
                self._dialog_open = False
            case _:
                pass

    def _acknowledged(self, body: bytes) -> None:
        """The ACK matters where it carries the answer to our offer (RFC 3261 §13.2.1)."""
        if not self._answer_due:
            return
        self._answer_due = False
        assert self._local is not None
        try:
            self._use(sdp.accept(body, self._local, offered=self._body))
        except SdpError as error:
            self.failure = f"no usable answer in the ACK: {error}"

    def _renegotiate(self, offer: bytes | None) -> None:
        """A re-INVITE: hold, resume, another address or codec. What is said on the leg goes on."""
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
            self._invite.reject_reinvite(error.sip_status, self._clock())
            return
        self._invite.accept_reinvite(body, self._clock())

    def _use(self, negotiated: sdp.Negotiated) -> None:
        assert self._formats is not None
        assert self._port is not None
        self._negotiated = negotiated
        uplink, downlink = self._formats
        params = MediaParams.agreed(negotiated, uplink=uplink, downlink=downlink)
        if self.stream is None:
            self.stream = self._open_stream(self._port, params)
            self.media_open.set()
        else:
            self.stream.update(params)

    # --- transfer and end -------------------------------------------------------------------------

    async def refer(self, target: str) -> str:
        """Ask the far end to call `target` instead (RFC 3515), follow how that goes, and return what went wrong: an
        empty text means that it succeeded. One at a time."""
        if self._transfer is not None:
            return "another transfer is under way"
        if self._invite.state is not CallState.CONFIRMED:
            return "the caller's side has not confirmed the call"
        if self._transfer is not None:
            return "another transfer is under way"
        self._transfer = asyncio.get_running_loop().create_future()
        try:
            self._invite.refer(target, self._clock())
            async with asyncio.timeout(_TRANSFER_S):
                return await self._transfer
        except TimeoutError:
            return "no answer"
        finally:
            self._transfer = None
            # A far end that hangs up later does so for reasons of its own.
            self.transfer_accepted = self.transfer_accepted and not self._dialog_open

    def _transfer_over(self, failure: str) -> None:
        if self._transfer is not None and not self._transfer.done():
            self._transfer.set_result(failure)

    def close(self, reason: str) -> None:
        """Hang up if the far end has not, with a Reason header field's value; no more sound. Idempotent."""
        if self._dialog_open:
            self._dialog_open = False
            self._invite.hang_up(self._clock(), reason_header=reason)
        if self.stream is not None:
            self.stream.close()
        elif self._port is not None:
            self._engine.release(self._port)
        self._port = None
