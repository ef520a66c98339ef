"""A 2xx to an INVITE that waits for its ACK (RFC 3261 §13.3.1.4): the UAS core repeats it, by whatever transport."""

from __future__ import annotations

from sipbridge.sip.message import Response
from sipbridge.sip.timers import Timers
from sipbridge.sip.transaction import ServerTransaction


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
