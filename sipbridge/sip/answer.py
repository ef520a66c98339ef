"""A 2xx to an INVITE that waits for its ACK (RFC 3261 §13.3.1.4): the UAS core repeats it, by whatever transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from sipbridge.sip.body import describe_session
from sipbridge.sip.message import Request, Response
from sipbridge.sip.part import CallPart
from sipbridge.sip.screening import ACCEPT, ALLOW, SUPPORTED
from sipbridge.sip.timers import Timers
from sipbridge.sip.transaction import ServerTransaction

if TYPE_CHECKING:
    from sipbridge.sip.core import Core
    from sipbridge.sip.invite import Invite


Fields: TypeAlias = tuple[tuple[str, str], ...]
"""Header fields to be added: names and values."""


def success(request: Request, sdp: bytes, *, to_tag: str, contact: str, headers: Fields) -> Response:
    """200 to INVITE, UPDATE or PRACK, with all that the peer may want to know of us."""
    known = (("Contact", contact), ("Allow", ALLOW), ("Accept", ACCEPT), ("Supported", SUPPORTED))
    response = request.response(200, to_tag=to_tag, headers=(*known, *headers))
    describe_session(response, sdp)
    return response


class PendingAnswer:
    """Repeated after T1, then at doubled intervals up to T2, given up after 64*T1."""

    def __init__(
        self, transaction: ServerTransaction, response: Response, now: float, timers: Timers, *, makes_offer: bool
    ) -> None:
        self.transaction = transaction
        self.response = response
        self.makes_offer = makes_offer
        """Its answer is to come with the ACK."""
        request = transaction.request
        self.sequence = request.cseq.number
        self.key = (request.call_id, request.from_.tag or "", self.sequence)
        """By which its ACK is known."""
        self._longest = timers.t2
        self._interval = timers.t1
        self._next = now + timers.t1
        self._end = now + timers.transaction_timeout

    def get_timer(self) -> float:
        return min(self._next, self._end)

    def is_over(self, now: float) -> bool:
        return now >= self._end

    def due(self, now: float) -> Response | None:
        if now < self._next:
            return None
        self._interval = min(2 * self._interval, self._longest)
        following = self._next + self._interval
        self._next = following if following > now else now + self._interval
        return self.response


class GivenAnswer(CallPart):
    """The answer of one call that waits for its ACK; there is never more than one."""

    def __init__(self, core: Core, call: Invite) -> None:
        super().__init__(core, call)
        self._pending: PendingAnswer | None = None

    @property
    def is_pending(self) -> bool:
        return self._pending is not None

    def give(self, transaction: ServerTransaction, response: Response, now: float, *, makes_offer: bool) -> None:
        pending = PendingAnswer(transaction, response, now, self._core.timers, makes_offer=makes_offer)
        self._core.respond(transaction, response, now)
        self._core.unacknowledged[pending.key] = self._call
        self._pending = pending
        self._core.schedule.update(self._call)

    def acknowledge(self, ack: Request) -> PendingAnswer | None:
        """The answer that this ACK means; None for one that is repeated, or stray."""
        pending = self._pending
        if pending is None or ack.cseq.number != pending.sequence:
            return None
        self.drop()
        return pending

    def drop(self) -> None:
        """Wait no longer."""
        if self._pending is not None:
            self._core.unacknowledged.pop(self._pending.key, None)
            self._pending = None
            self._core.schedule.update(self._call)

    def get_timer(self) -> float | None:
        return None if self._pending is None else self._pending.get_timer()

    def handle_timer(self, now: float) -> bool:
        """Repeat it, if it is time to. True: the ACK has not come and will not come any more."""
        pending = self._pending
        if pending is None:
            return False
        if pending.is_over(now):
            self.drop()
            return True
        if (response := pending.due(now)) is not None:
            self._core.respond(pending.transaction, response, now)
        return False
