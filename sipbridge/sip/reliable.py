"""Provisional responses that are sure to arrive (RFC 3262), both roles: pure, responses and time in, responses out.

`ReliableProvisionals` is the callee's: one response at a time, repeated until its PRACK. `ProvisionalOrder` is the
caller's, one for each early dialog: which of them is new, which only repeats, and which came too early.
"""

from __future__ import annotations

import re
from collections import deque
from enum import Enum
from typing import NamedTuple

from sipbridge.errors import SipParseError
from sipbridge.sip.body import session_description
from sipbridge.sip.message import Request, Response
from sipbridge.sip.timers import Timers

OPTION = "100rel"

_rseq = re.compile(r"0*([0-9]{1,10})")
_rack = re.compile(r"0*([0-9]{1,10})[ \t]++0*([0-9]{1,10})[ \t]++(\S++)")
_LARGEST = 2**32 - 1


class RAck(NamedTuple):
    """Which provisional response a PRACK means (§7.2)."""

    rseq: int
    sequence: int
    """The CSeq number of the INVITE."""
    method: str

    @classmethod
    def of(cls, prack: Request) -> RAck:
        """Raises SipParseError: a PRACK without a readable RAck is malformed."""
        match = _rack.fullmatch(prack.headers.get("RAck") or "")
        if match is None or max(rack := (int(match[1]), int(match[2]))) > _LARGEST:
            raise SipParseError("PRACK needs one RAck")
        return cls(*rack, match[3])

    def __str__(self) -> str:
        return f"{self.rseq} {self.sequence} {self.method}"


def has_option(tags: tuple[str, ...], option: str) -> bool:
    """Whether Supported or Require names an extension; option tags know no case (RFC 3261 §7.3.1)."""
    return any(tag.lower() == option for tag in tags)


def rseq_of(response: Response) -> int | None:
    """The RSeq of a provisional response that wants a PRACK; None: it wants none, or cannot be acknowledged (§4)."""
    if not 100 < response.status < 200 or not has_option(response.require, OPTION):
        return None
    match = _rseq.fullmatch(response.headers.get("RSeq") or "")
    return int(match[1]) if match is not None and 0 < int(match[1]) <= _LARGEST else None


class ReliableProvisionals:
    """Those of one INVITE, as the callee sends them (§3): the next one waits until the one before is acknowledged.

    Repeated after T1, then at doubled intervals, by whatever transport; given up after 64*T1.
    """

    def __init__(self, first: int, timers: Timers) -> None:
        """`first` is the first RSeq, a random number below 2^31."""
        self._rseq = first
        self._timers = timers
        self._waiting: deque[Response] = deque()
        self._outstanding: Response | None = None
        self._interval = 0.0
        self._next: float | None = None
        self._end = 0.0

    @property
    def holds_session(self) -> bool:
        """A response with a session description is not acknowledged, or not even sent: the 2xx has to wait (§3)."""
        responses = self._waiting if self._outstanding is None else (self._outstanding, *self._waiting)
        return any(session_description(response) is not None for response in responses)

    def send(self, response: Response, now: float) -> Response | None:
        """Make `response` reliable. It is returned when it is to be sent now; else its turn comes with a PRACK."""
        self._waiting.append(response)
        return self._advance(now)

    def acknowledge(self, rack: RAck, now: float) -> tuple[bool, Response | None]:
        """Whether a PRACK means the response that waits for one (no: 481), and which is to be sent next."""
        response = self._outstanding
        if response is None or rack != (self._rseq - 1, response.cseq.number, response.cseq.method):
            return False, None
        self._outstanding = self._next = None
        return True, self._advance(now)

    def stop(self) -> None:
        """A final response is given: nothing is repeated or begun, but a PRACK on its way still finds its response."""
        self._next = None
        self._waiting.clear()

    def get_timer(self) -> float | None:
        return None if self._next is None else min(self._next, self._end)

    def is_over(self, now: float) -> bool:
        """The PRACK did not come in time: the INVITE is to be refused."""
        return self._next is not None and now >= self._end

    def due(self, now: float) -> Response | None:
        """What is to be repeated now."""
        if self._next is None or now < self._next:
            return None
        self._interval *= 2
        self._next = max(self._next, now - self._interval) + self._interval
        return self._outstanding

    def _advance(self, now: float) -> Response | None:
        if self._outstanding is not None or not self._waiting:
            return None
        response = self._outstanding = self._waiting.popleft()
        response.headers.add("Require", OPTION)
        response.headers.add("RSeq", str(self._rseq))
        self._rseq += 1
        self._interval = self._timers.t1
        self._next = now + self._timers.t1
        self._end = now + self._timers.transaction_timeout
        return response


class Arrival(Enum):
    """What a reliable provisional response is to the caller (§4)."""

    NEW = "new"
    REPEATED = "repeated"
    EARLY = "early"
    """One before it is missing, and will be repeated: this one, too, so it is dropped."""


class ProvisionalOrder:
    """The order of reliable provisional responses in one early dialog."""

    def __init__(self) -> None:
        self._last: int | None = None

    def receive(self, rseq: int) -> Arrival:
        if self._last is not None and rseq != self._last + 1:
            return Arrival.REPEATED if rseq <= self._last else Arrival.EARLY
        self._last = rseq
        return Arrival.NEW
