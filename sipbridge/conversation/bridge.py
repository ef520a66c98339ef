"""Bridge: a second leg beside the caller's, to somebody whom the tenant's file names, and the two connected over us.

    call()      it rings, is answered, or comes to nothing
    connect()   from now on the two hear each other (routes within the media engine), and keys go through, too
    give_up()   it is hung up, and the caller is ours again

What is said of it all, and when, is decided in `transfers.py`. Once they are connected either of the two hanging up
ends the call for both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from sipbridge.conversation.context import CallContext
from sipbridge.conversation.keypad import Keypad
from sipbridge.errors import CallNotPlacedError, SipbridgeError
from sipbridge.leg import SipLeg
from sipbridge.media.events import Audio, Drained, EncryptionFailed, KeyPressed, MediaEvent, MediaTimeout
from sipbridge.outbound_leg import OutboundLeg
from sipbridge.outcome import Ended, reason_header
from sipbridge.sip.events import CallEnded, InfoReceived, ReferReceived, SipEvent

SecondLeg: TypeAlias = Callable[[str, float], OutboundLeg]
"""Makes the leg that calls a target (a URI of the tenant's file), for so many seconds. Raises `CallNotPlacedError`."""
_REASON = reason_header(Ended.TRANSFERRED)


def nobody_to_call(target: str, ring_seconds: float) -> OutboundLeg:
    raise CallNotPlacedError("there is no way to place a call")


class Bridge:
    def __init__(self, call: CallContext, second_leg: SecondLeg) -> None:
        self._call = call
        self._second_leg = second_leg
        self._keys = Keypad(None)
        self._keys.take(self._second_pressed)
        self._relayed: dict[bool, asyncio.Queue[str]] = {}
        self.on_key: Callable[[str], None] = lambda key: None
        """Told of the keys that the second one presses before the two are connected."""
        self.on_end: Callable[[str], None] = lambda why: None
        """Told that the second one is gone (`gone`)."""
        self.gone = ""
        """Why the second one is not there any more. Empty: he is, or nobody has been called."""
        self._name = ""

    async def call(self, target: str, ring_seconds: float) -> str:
        """Call somebody beside the caller; returns when he has answered, and else why not."""
        legs = self._call.legs
        if legs.second is not None:
            return "somebody is being called already"
        self.gone = ""
        try:
            leg = legs.second = self._second_leg(target, ring_seconds)
            leg.negotiate()
            leg.begin(*legs.current.formats)
            await leg.answer()
            await leg.media_open.wait()
        except SipbridgeError as error:
            self.give_up()
            return str(error)
        except asyncio.CancelledError:
            self.give_up()
            raise
        self._call.log.info("the target has answered", target=target, codec=leg.codec and leg.codec.name)
        return self.gone  # it may be, in the very moment

    def give_up(self) -> None:
        """Hang up on the second one, whoever and whether he is."""
        self._call.legs.hang_up_second(_REASON)

    def connect(self, name: str) -> None:
        """The two hear each other, and nobody else. `name`: of the target, for the call's report."""
        legs = self._call.legs
        self._name = name
        caller, second = legs.current.stream, legs.second.stream if legs.second is not None else None
        assert legs.second is not None
        assert caller is not None
        assert second is not None
        legs.consulting, legs.bridged = False, True
        second.discard()
        for leg in (legs.current, legs.second):
            leg.relay()
        caller.route(second)
        second.route(caller)
        for to_second in (True, False):
            self._relayed[to_second] = asyncio.Queue(64)
            self._call.spawn(self._press(to_second))

    # --- keys -------------------------------------------------------------------------------------

    def key_pressed(self, key: str, *, by_second: bool) -> None:
        """By one of the two, who are connected."""
        relayed = self._relayed[not by_second]
        if not relayed.full():  # else somebody's finger is stuck
            relayed.put_nowait(key)

    async def _press(self, to_second: bool) -> None:
        while True:
            key = await self._relayed[to_second].get()
            legs = self._call.legs
            leg = legs.second if to_second else legs.current
            failure = "" if leg is None else await leg.press(key)
            if failure:
                self._call.log.warning("key not passed on", failure=failure)

    def _second_pressed(self, key: str) -> None:
        if self._call.legs.bridged:
            self.key_pressed(key, by_second=True)
        else:
            self.on_key(key)

    # --- what happens on the second leg -----------------------------------------------------------

    def sip_event(self, event: SipEvent) -> bool:
        """Whether it was of the second leg."""
        leg, call = self._call.legs.second, getattr(event, "call", None)
        if leg is None or not leg.owns(call):
            return False
        leg.sip_event(event)
        match event:
            case CallEnded() if leg.owns(call):  # not where it was redirected: it is of another call by now
                self._over(leg, event.reason)
            case InfoReceived(key=key) if key is not None:
                self._keys.press(key.key, "info", self._call.clock())
            case ReferReceived():
                event.call.reject_refer(403, self._call.clock())  # there is no agent whom he talks to
            case _ if leg.failure:
                self._over(leg, leg.failure)
        return True

    def media_event(self, event: MediaEvent) -> bool:
        """The same; what was heard to its end is for all who wait for that."""
        leg = self._call.legs.second
        if leg is None or leg.stream is None or event.handle != leg.stream.handle:
            return False
        match event:
            case Drained():
                return False
            case KeyPressed(digit=digit):
                self._keys.press(digit, "rtp", self._call.clock())
            case MediaTimeout(seconds=seconds):
                self._over(leg, f"no audio for {seconds:g} s", Ended.MEDIA_TIMEOUT)
            case EncryptionFailed(reason=reason):
                self._over(leg, reason, Ended.ENCRYPTION_FAILED)
            case Audio() | _:
                pass
        return True

    def _over(self, leg: SipLeg, why: str, ended: Ended = Ended.TRANSFERRED) -> None:
        if isinstance(leg, OutboundLeg) and leg.not_answered is not None:
            return  # `call` is told
        self.gone = f"the call was not taken: {why}"
        self.on_end(self.gone)
        if self._call.legs.bridged:
            self._call.end(ended, f"{self._name}: {why}")
