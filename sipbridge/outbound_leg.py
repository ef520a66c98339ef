"""OutboundLeg: a call that we make, as a conversation uses it; see `leg.py`.

It rings, perhaps something is heard before the answer; then it is as any other leg, or it has come to nothing
(`CallNotAnsweredError`). Where the far end names another place, whoever made the leg decides whether that is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from sipbridge.audio import AudioFormat
from sipbridge.codecs import Codec, select
from sipbridge.errors import CallNotAnsweredError, SdpError, SipbridgeError
from sipbridge.leg import LegParts, SipLeg
from sipbridge.machine import machine_of
from sipbridge.media import sdp
from sipbridge.sip.events import Answered, CallEnded, EndCause, Progress, SipEvent
from sipbridge.sip.headers import NameAddr
from sipbridge.sip.uac import OutgoingInvite

Place: TypeAlias = Callable[[bytes], OutgoingInvite]
"""Sends an INVITE with this offer. Raises `SipbridgeError` where nothing can be sent."""
Redirect: TypeAlias = Callable[[tuple[NameAddr, ...]], Place | None]
"""What to do with the Contacts of a 3xx; None: they are not followed."""

_MOST_REDIRECTIONS = 3


def stay(contacts: tuple[NameAddr, ...]) -> Place | None:
    return None


class OutboundLeg(SipLeg):
    """A call that we make."""

    outbound = True

    def __init__(
        self,
        place: Place,
        parts: LegParts,
        *,
        ring_seconds: float,
        hears_early: bool = False,
        redirect: Redirect = stay,
    ) -> None:
        super().__init__(parts)
        self._redirect = redirect
        self._redirections = 0
        self._place = place
        self._ring_seconds = ring_seconds
        self._give_up_at = 0.0
        self.not_answered: CallNotAnsweredError | None = None
        self.hears_early = hears_early
        self._answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_progress: Callable[[int, str], None] = lambda status, reason: None
        """Told of each provisional response."""
        self.rang = False
        """The far end has said that it knows whom to ring."""

    @property
    def likely_codec(self) -> Codec | None:
        """Until it is answered: the first that we offer. An agent that was opened for PCM can go with any answer; one
        that was opened for G.711 hears no more than that even where the answer is better: that order was asked for."""
        return self.codec or next(iter(select(self._choices.codecs)), None)

    def negotiate(self) -> None:
        super().negotiate()
        assert self._local is not None
        self._body = sdp.offer(self._local)

    def begin(self, uplink: AudioFormat, downlink: AudioFormat, *, early_media: bool = False) -> None:
        super().begin(uplink, downlink)
        self._give_up_at = asyncio.get_running_loop().time() + self._ring_seconds
        self._invite = self._place(self._body)

    async def answer(self) -> None:
        """Wait for it. Raises `CallNotAnsweredError`, after which only `close` is left."""
        try:
            async with asyncio.timeout_at(self._give_up_at):
                await asyncio.shield(self._answered)
        except TimeoutError:
            self._fail(f"no answer within {self._ring_seconds:g} s", 487)
            await self._answered

    def reject(self, status: int, reason: str) -> None:
        """Give the call up; there is nobody to be told a status."""
        self.close(reason)

    def sip_event(self, event: SipEvent) -> None:
        match event:
            case CallEnded(contacts=contacts) if contacts and self._redirected(contacts):
                return  # this leg is of another call now
            case Progress(response=response, answer=early):
                self.rang = True
                self.on_progress(response.status, response.reason)
                if early:
                    self._heard_early(early)
            case Answered(response=response, answer=answer):
                self.machine = machine_of(response.headers)
                self._picked_up(answer)
            case _:
                super().sip_event(event)
        if isinstance(event, CallEnded):
            status = event.status or (503 if event.cause is EndCause.FLOW_FAILED else 408)
            self._fail(f"{status} {event.reason}", status, event.reason_header)

    def _redirected(self, contacts: tuple[NameAddr, ...]) -> bool:
        place = None if self._answered.done() or not self._dialog_open else self._redirect(contacts)
        if place is None or self._redirections >= _MOST_REDIRECTIONS:
            return False
        self._redirections += 1
        try:
            self._invite = place(self._body)
        except SipbridgeError:
            return False  # no budget: it stays with the 3xx
        return True

    def _heard_early(self, body: bytes) -> None:
        """Early media. The port is read from now on, lest what comes in the meantime be taken for what is said later;
        who hears it is the conversation's affair. A description that cannot be used is no reason to give up yet: the
        answer may have another."""
        assert self._local is not None
        if self._predecessor is not None:
            return  # the port is still that of a living conversation
        with suppress(SdpError):
            self._use(sdp.accept(body, self._local, offered=self._body, previous=self._negotiated))

    def _picked_up(self, answer: bytes) -> None:
        """A 200 without a description confirms that of the 183 (RFC 3261 §13.2.1)."""
        if answer or self._negotiated is None:
            self._accept(answer, "in the 200")
        if self._answered.done():
            return
        if self.failure:
            self._fail(self.failure, 488)
        else:
            self._answered_now()
            self._answered.set_result(None)

    def _fail(self, text: str, status: int, reason: str | None = None) -> None:
        if not self._answered.done():
            self.not_answered = CallNotAnsweredError(text, status=status, reason=reason, rang=self.rang)
            self._answered.set_exception(self.not_answered)
            self._answered.exception()  # where nobody waits for it, it is in the call's report
