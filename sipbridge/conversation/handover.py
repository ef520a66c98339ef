"""Legs: the leg that a conversation is on, the one that it may move to, the one that it has left; and a second one,
where the caller is to talk to somebody else over us (`bridge.py`).

A conversation moves where its far end says so: an INVITE with Replaces (RFC 3891) puts another telephone in its place,
a REFER (RFC 3515) makes us call one. Whether it may is decided before (`trunks.py`, `switchboard.py`). The new leg
takes over the old one's port, so the sound stops for no longer than it takes the new telephone to be heard from; if it
comes to nothing, the conversation has not noticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

import structlog

from sipbridge.audio import AudioFormat
from sipbridge.errors import CallNotPlacedError, MediaError, SipbridgeError
from sipbridge.inbound_leg import InboundLeg
from sipbridge.leg import SipLeg
from sipbridge.media.events import MediaStats
from sipbridge.outbound_leg import OutboundLeg
from sipbridge.outcome import Ended, reason_header
from sipbridge.sip.events import CallEnded, ReferReceived, SipEvent
from sipbridge.sip.notifier import ReferNotifier

log = structlog.get_logger(__name__)

_PARTING_S = 2.0
"""After a transfer that succeeded the far end that asked for it hangs up; so long it is left the time."""
_REASON = reason_header(Ended.TRANSFERRED)


TransferLeg: TypeAlias = Callable[[ReferReceived], OutboundLeg]
"""Makes the leg that calls whom the far end asks for. Raises `CallNotPlacedError`."""


def refuse_transfer(event: ReferReceived) -> OutboundLeg:
    raise CallNotPlacedError("no trunk permits it")


class Legs:
    def __init__(
        self,
        leg: SipLeg,
        clock: Callable[[], float],
        transfer_leg: TransferLeg,
        log: structlog.stdlib.BoundLogger = log,
    ) -> None:
        self.current = leg
        self._log = log
        self._clock = clock
        self._transfer_leg = transfer_leg
        self._next: SipLeg | None = None
        self._left: SipLeg | None = None
        self._parting: asyncio.TimerHandle | None = None
        self._past: list[MediaStats] = []  # of legs that the conversation has left
        self._beside: list[MediaStats] = []  # of second ones
        self.second: SipLeg | None = None
        """Whom the caller is to be handed over to, called by us."""
        self.consulting = False
        """The agent talks to the second one."""
        self.bridged = False
        """The two talk to each other, and nobody of ours with them."""
        self.moves = 0
        self.abandoned = False
        """The far end has hung up while we were still calling whom it wanted us to call."""

    def use_formats(self, uplink: AudioFormat, downlink: AudioFormat) -> None:
        """What the caller's sound is handed on in, and what is played, from now on."""
        for leg in (self.current, self._next, self.second):
            if leg is not None:
                leg.use_formats(uplink, downlink)

    @property
    def addressed(self) -> SipLeg:
        """Whom the agent, and what speaks in its place, talks to."""
        return self.second if self.consulting and self.second is not None else self.current

    @property
    def moving(self) -> bool:
        return self._next is not None

    @property
    def figures(self) -> tuple[MediaStats, ...]:
        """Of the sound of each leg so far, in their order; second ones come last."""
        up = [leg.figures for leg in (self.current, self.second) if leg is not None]
        return (*self._past, *(figures for figures in up if figures is not None), *self._beside)

    def sip_event(self, event: SipEvent) -> bool:
        """Whether it concerns the conversation, which it does where it is of the leg that this one is on."""
        call = getattr(event, "call", None)
        known = (self.current, self._next, self._left)
        leg = next((leg for leg in known if leg is not None and leg.owns(call)), None)
        if leg is None:
            return False
        leg.sip_event(event)
        # A leg that was redirected is of another call by now, and has not ended with this one.
        ended, current = isinstance(event, CallEnded) and leg.owns(call), leg is self.current
        if isinstance(event, CallEnded) and not ended:
            return False
        if leg is self._next:
            if leg.stream is not None:
                self._move(leg)
            elif ended or leg.failure:
                self._next = None
                leg.close(_REASON)
        elif leg is self._left and ended:
            self._part()
        elif ended and self.moving:
            self.abandoned = True
            return False
        return current

    def _move(self, leg: SipLeg) -> None:
        """The sound is with the new leg already."""
        self._past += [stats] if (stats := self.current.figures) is not None else []
        self._left, self.current, self._next = self.current, leg, None
        self.moves += 1
        if not leg.outbound or self.abandoned:
            self._part()  # RFC 3891 §3: who replaces a dialog ends it; the one who sent a REFER does so itself

    # --- two ways to move -------------------------------------------------------------------------

    def replaced(self, leg: InboundLeg) -> None:
        """Another telephone takes the far end's place: answer it, and hang up on the old one."""
        leg.taking_over(self.current)
        try:
            leg.negotiate()
        except MediaError as error:
            leg.reject(error.sip_status, reason_header(Ended.REFUSED, error.label))
            return
        self._next = leg
        leg.pick_up(*self.current.formats)
        if leg.stream is not None:
            self._move(leg)
        # Else the INVITE had no offer: its ACK has the answer, and until then the old telephone is talked to.

    async def referred(self, event: ReferReceived) -> str:
        """Call whom the far end wants us to call, tell it how that goes, and move when it is answered. Returns what
        went wrong; then the conversation is where it was."""
        target = str(event.refer_to.uri)
        try:
            if self.moving:
                raise CallNotPlacedError("it is about to move already")
            leg = self._transfer_leg(event)
        except CallNotPlacedError as error:
            self._log.warning("transfer refused", call_id=event.call.call_id, to=target, reason=str(error))
            event.call.reject_refer(error.sip_status, self._clock())
            return str(error)
        notifier = event.call.accept_refer(self._clock())
        failure = await self._call_on(leg, notifier)
        self._log.info("transfer over", call_id=event.call.call_id, to=target, failure=failure)
        return failure

    async def _call_on(self, leg: OutboundLeg, notifier: ReferNotifier) -> str:
        def tell(status: int, reason: str) -> None:
            notifier.notify(status, reason, self._clock())

        self._next = leg
        leg.taking_over(self.current)
        leg.on_progress = tell
        self.abandoned = False
        try:
            leg.negotiate()
            leg.begin(*self.current.formats)
            await leg.answer()
        except SipbridgeError as error:
            tell(error.sip_status, "")
            return str(error)
        finally:
            if leg is not self.current:
                self._next = None
                leg.close(_REASON)
        tell(200, "OK")
        if self._left is not None:
            self._parting = asyncio.get_running_loop().call_later(_PARTING_S, self._part)
        return ""

    # --- somebody else beside it ------------------------------------------------------------------

    def hang_up_second(self, reason: str) -> None:
        """The caller is with us alone again."""
        second, self.second = self.second, None
        self.consulting = self.bridged = False
        if second is not None:
            second.close(reason)
            self._beside += [stats] if (stats := second.figures) is not None else []

    # --- the end ----------------------------------------------------------------------------------

    def _part(self) -> None:
        if self._parting is not None:
            self._parting.cancel()
            self._parting = None
        left, self._left = self._left, None
        if left is not None:
            left.close(_REASON)

    def close(self, reason: str, status: int | None = None) -> None:
        """Hang up whatever is up; a caller who was not answered yet is refused with `status`."""
        self._part()
        for leg in (self._next, self.second):
            if leg is not None:
                leg.close(reason)
        self.current.close(reason, status)
