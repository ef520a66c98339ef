"""InboundLeg: a call that came in."""

from __future__ import annotations

from sipbridge.audio import AudioFormat
from sipbridge.errors import EncryptionError
from sipbridge.leg import LegParts, SipLeg
from sipbridge.media import sdp
from sipbridge.sip.uas import IncomingInvite


class InboundLeg(SipLeg):
    def __init__(self, invite: IncomingInvite, offer: bytes | None, parts: LegParts) -> None:
        super().__init__(parts)
        self._invite = self._incoming = invite
        self._offer = offer
        self._warning = ""
        self._answered = False

    def negotiate(self) -> None:
        """The SDP is the answer to the offer or, where the INVITE had none, an offer of ours."""
        super().negotiate()
        assert self._local is not None
        if self._offer is None:
            self._body = sdp.offer(self._local)
            self._answer_due = True
        else:
            try:
                self._negotiated = sdp.answer(self._offer, self._local)
            except EncryptionError as error:
                self._warning = str(error)
                raise
            self._body = self._negotiated.sdp

    def begin(self, uplink: AudioFormat, downlink: AudioFormat, *, early_media: bool = False) -> None:
        """Ring: 180 or, where there is to be early media and the INVITE has an offer to answer, 183 (RFC 3960). Then
        sound goes to where the offer says before anybody has confirmed to be there: the operator allows that."""
        super().begin(uplink, downlink)
        if early_media and self._negotiated is not None:
            self._incoming.ring(self._clock(), 183, self._body)
            self._use(self._negotiated)
        else:
            self._incoming.ring(self._clock())

    async def answer(self) -> None:
        self._answer()

    def pick_up(self, uplink: AudioFormat, downlink: AudioFormat) -> None:
        """`begin` and `answer` in one, without ringing: nobody has to be waited for."""
        super().begin(uplink, downlink)
        self._answer()

    def _answer(self) -> None:
        """200 OK."""
        self._answered = True
        self._incoming.answer(self._body, self._clock())
        if self._negotiated is not None:
            self._use(self._negotiated, confirmed=False)
            self._answered_now()

    def close(self, reason: str, status: int | None = None) -> None:
        if self._dialog_open and status is not None and not self._answered:
            self.reject(status, reason)
        super().close(reason, status)

    def reject(self, status: int, reason: str) -> None:
        """Refuse with a Reason header field's value (RFC 3326); 503 says when to come back, too."""
        headers = [("Reason", reason)]
        if status == 503:
            headers.append(("Retry-After", "5"))
        if self._warning:
            headers.append(("Warning", f'399 sipbridge "{self._warning}"'))
        self._dialog_open = False
        self._incoming.reject(status, now=self._clock(), headers=tuple(headers))
