"""A telephone made of our own SIP stack, silent, for what no telephone at hand can do: attended transfers."""

from __future__ import annotations

import asyncio
import queue
import secrets
import socket
import threading
from types import TracebackType
from typing import Any, Self, TypeVar

from sipbridge.sip.events import Answered, ReferProgress, ReinviteReceived, SipEvent
from sipbridge.sip.transport import SipTransport
from sipbridge.sip.uac import OutgoingInvite
from sipbridge.sip.user_agent import UserAgent

E = TypeVar("E", bound=SipEvent)
F = TypeVar("F", bound=SipEvent)


class Telephone:
    """Use as a context manager. Its RTP goes nowhere; commands may be given by any thread."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._events: queue.SimpleQueue[SipEvent] = queue.SimpleQueue()
        self._user_agent = UserAgent(new_token=lambda: secrets.token_hex(8))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="telephone")
        self._media = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._transport: SipTransport

    def __enter__(self) -> Self:
        self._media.bind((self.address, 0))
        self._thread.start()
        self._run(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._transport.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._media.close()

    def call(self, uri: str) -> OutgoingInvite:
        """Call, and return when somebody has answered."""

        async def invite() -> OutgoingInvite:
            caller = f"<sip:telephone@{self.address}>"
            return self._user_agent.invite(uri, from_=caller, offer=self._sdp(), now=self._transport.now())

        call: OutgoingInvite = self._run(invite())
        assert self.wait_for(Answered).call is call
        return call

    def transfer(self, call: OutgoingInvite, other: OutgoingInvite) -> None:
        """Connect the far ends of two calls."""

        async def refer() -> None:
            call.refer(None, self._transport.now(), replaces=other)

        self._run(refer())

    def hang_up(self, call: OutgoingInvite) -> None:
        self._loop.call_soon_threadsafe(lambda: call.hang_up(self._transport.now()))

    def wait_for(self, kind: type[E], timeout: float = 10) -> E:
        """The next event of this kind; those before it are passed over."""
        while not isinstance(event := self._events.get(timeout=timeout), kind):
            pass
        return event

    def wait_for_both(self, one: type[E], other: type[F], timeout: float = 10) -> tuple[E, F]:
        """The next event of each kind, in whichever order they come."""
        first, second = None, None
        while first is None or second is None:
            event = self._events.get(timeout=timeout)
            if first is None and isinstance(event, one):
                first = event
            elif second is None and isinstance(event, other):
                second = event
        return first, second

    async def _open(self) -> None:
        self._transport = await SipTransport.open(
            self._user_agent, [f"udp://{self.address}:0"], on_event=self._on_event
        )

    def _on_event(self, event: SipEvent) -> None:
        if isinstance(event, ReinviteReceived):
            event.call.accept_reinvite(self._sdp(), self._transport.now())
        if isinstance(event, ReferProgress) and not event.final:
            return  # how it ends is what is waited for
        self._events.put(event)

    def _sdp(self) -> bytes:
        lines = ("v=0", f"o=- 1 1 IN IP4 {self.address}", "s=-", f"c=IN IP4 {self.address}", "t=0 0")
        port = self._media.getsockname()[1]
        return "\r\n".join((*lines, f"m=audio {port} RTP/AVP 0", "a=rtpmap:0 PCMU/8000", "")).encode()

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)
