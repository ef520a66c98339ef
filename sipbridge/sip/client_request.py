"""One request of ours until its final response: where it is sent, and sent again (RFC 3261 §8.1.2, RFC 3263 §4.3).

It stands between whoever makes a request and the transaction layer. Each attempt is a transaction of its own, with a
new branch, and a copy of the request; the next hop that does not answer, answers 503 or cannot be connected to is
followed by the next one, and a challenge (401, 407) by the same request with credentials. Its user sees one request:
the object that he made, whose header fields are those of the newest attempt, and one final response.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from sipbridge.sip.dialog import Dialog
from sipbridge.sip.flow import Flow, Target
from sipbridge.sip.message import Headers, Request, Response
from sipbridge.sip.transaction import ClientTransaction
from sipbridge.sip.transaction_layer import TransactionUser

if TYPE_CHECKING:
    from sipbridge.sip.core import Core

Hop: TypeAlias = Target | Flow
HopFound: TypeAlias = Callable[[Hop | None, float], None]
Prepare: TypeAlias = Callable[[Request, Flow], None]
"""Called with the request before each attempt, once its flow is known: for header fields that depend on that."""

MAX_DATAGRAM = 1300
"""§18.1.1: a longer request goes over TCP, since a datagram of that size may be fragmented, and then lost."""
_MAX_CHALLENGES = 4
"""Proxies on the way may each ask for credentials, and a nonce may be stale; more is a peer that plays with us."""


class Hops(Protocol):
    """Where a request may be sent, best first; finding the next one may take a while."""

    @property
    def exhausted(self) -> bool:
        """Nothing follows for sure."""

    def next(self, found: HopFound, now: float) -> None:
        """Call `found`, once, with the next one, or with None where there is none."""


class ListedHops:
    """Next hops that are known beforehand."""

    def __init__(self, hops: Iterable[Hop]) -> None:
        self._hops = deque(hops)

    @property
    def exhausted(self) -> bool:
        return not self._hops

    def next(self, found: HopFound, now: float) -> None:
        found(self._hops.popleft() if self._hops else None, now)


class Authorizer(Protocol):
    """What answers challenges: `digest.DigestClient`."""

    def authorize(self, request: Request, response: Response, new_token: Callable[[], str]) -> bool:
        """Set the request's credentials for this 401 or 407; False: there is no answer to it."""

    def apply(self, request: Request) -> None:
        """Set credentials at once, where an earlier challenge says which."""


@dataclass(eq=False, slots=True)
class _Attempt:
    request: Request
    """The copy that this transaction has."""
    transaction: ClientTransaction
    flow: Flow
    provisional: bool = False


class ClientRequest:
    """Made by `Core.send_out_of_dialog` and `Core.send_in_dialog`. The user may be called before those return."""

    def __init__(
        self,
        core: Core,
        request: Request,
        user: TransactionUser,
        hops: Hops,
        *,
        authorizer: Authorizer | None = None,
        dialog: Dialog | None = None,
        beside: Flow | None = None,
        prepare: Prepare | None = None,
    ) -> None:
        self.request = request
        self.flow: Flow | None = None
        """By which the newest attempt was sent; None before the first."""
        self._core = core
        self._user = user
        self._hops = hops
        self._hop: Hop | None = None
        self._authorizer = authorizer
        self._dialog = dialog
        self._beside = beside
        self._prepare = prepare
        self._attempt: _Attempt | None = None
        self._challenges = 0
        self._refusal: Response | None = None
        self._status = 503
        """What the last attempt came to, where there was no response."""
        self._over = False
        self._cancelled = False
        self._reason_header: str | None = None
        self._deadline: float | None = None

    def __repr__(self) -> str:
        return f"<ClientRequest {self.request.method} {self.request.uri}>"

    # commands

    def begin(self, now: float) -> None:
        if self._authorizer is not None:
            self._authorizer.apply(self.request)
        self._hops.next(self._hop_found, now)

    def cancel(self, now: float, reason_header: str | None = None) -> bool:
        """Take an INVITE back (§9.1): CANCEL, as soon as there was a provisional response. The final response is still
        told, or a failure (408) where none comes in time. False: it was never sent, and nothing will be told."""
        if self._attempt is None:
            self.abandon()
            return False
        if not self._over and not self._cancelled:
            self._cancelled = True
            self._reason_header = reason_header
            if self._attempt.provisional:
                self._send_cancel(self._attempt, now)
        return True

    def abandon(self) -> None:
        """Wait no longer: nothing more is sent, and nothing is told."""
        self._end()
        if self._attempt is not None:
            self._core.transactions.abandon(self._attempt.transaction)

    # input, from the transactions

    @property
    def local_tag(self) -> str | None:
        return None

    def receive_ack(self, ack: Request, now: float) -> None:
        raise NotImplementedError("a client transaction hears of no ACK")

    def receive_cancel(self, cancel: Request, now: float) -> None:
        raise NotImplementedError("a client transaction hears of no CANCEL")

    def receive_response(self, request: Request, response: Response, now: float) -> None:
        attempt = self._attempt
        if attempt is None or request is not attempt.request:
            return  # to a CANCEL, or to an attempt that has been given up
        if response.status < 200:
            attempt.provisional = True
            if self._cancelled and self._deadline is None:
                self._send_cancel(attempt, now)
        elif self._authorized(response):
            self._send_again(attempt, now)
            return
        elif response.status == 503 and not self._cancelled and not self._hops.exhausted:
            self._refusal = response
            self._hops.next(self._hop_found, now)
            return
        else:
            self._end()
        self._user.receive_response(self.request, response, now)

    def request_failed(self, request: Request, status: int, now: float) -> None:
        attempt = self._attempt
        if attempt is None or request is not attempt.request or self._over:
            return
        if self._cancelled or attempt.provisional:
            self._end()
            self._user.request_failed(self.request, status, now)
        else:
            self._hop_failed(status, now)

    # time

    def get_timer(self) -> float | None:
        return self._deadline

    def handle_timer(self, now: float) -> None:
        """§9.1: 64*T1 after the CANCEL the INVITE counts as cancelled, whether its 487 came or not."""
        if self._deadline is not None and now >= self._deadline:
            self.abandon()
            self._user.request_failed(self.request, 408, now)

    # private: the next hop

    def _hop_found(self, hop: Hop | None, now: float) -> None:
        if self._over:
            return
        self._hop = hop
        if hop is None:
            self._fail(now)
        elif isinstance(hop, Flow):
            self._send(hop, now)
        else:
            self._core.flows.find(hop, self._flow_found, now, beside=self._beside)

    def _flow_found(self, flow: Flow | None, now: float) -> None:
        if self._over:
            return
        if flow is None:
            self._hop_failed(503, now)
        else:
            self._send(flow, now)

    def _hop_failed(self, status: int, now: float) -> None:
        self._status = status
        self._refusal = None
        self._hops.next(self._hop_found, now)

    def _fail(self, now: float) -> None:
        """There is nobody left to ask: the last one's answer is the answer."""
        self._end()
        if self._refusal is not None:
            self._user.receive_response(self.request, self._refusal, now)
        else:
            self._user.request_failed(self.request, self._status, now)

    # private: attempts

    def _send(self, flow: Flow, now: float) -> None:
        request = self.request
        self._core.address_request(request, flow)
        if self._prepare is not None:
            self._prepare(request, flow)
        copy = Request(request.method, request.uri, request.headers.copy(), request.body)
        self.flow = flow
        self._attempt = _Attempt(copy, self._core.transactions.request(copy, flow, self, now), flow)

    def _send_again(self, attempt: _Attempt, now: float) -> None:
        """To the one who challenged us."""
        if attempt.flow.reliable and self._core.flows.is_open(attempt.flow):
            self._send(attempt.flow, now)
        else:
            self._hop_found(self._hop, now)

    def _authorized(self, response: Response) -> bool:
        """The response is a challenge, and the request now has the answer to it (§22.2): a new request, for CSeq."""
        if response.status not in (401, 407) or self._authorizer is None or self._cancelled:
            return False
        self._challenges += 1
        if self._challenges > _MAX_CHALLENGES:
            return False
        if not self._authorizer.authorize(self.request, response, self._core.new_token):
            return False
        number = self.request.cseq.number + 1
        if self._dialog is not None:
            number = self._dialog.local_sequence = self._dialog.local_sequence + 1
        self.request.headers.set("CSeq", f"{number} {self.request.method}")
        return True

    def _send_cancel(self, attempt: _Attempt, now: float) -> None:
        """CANCEL goes the way of its INVITE, with its branch (§9.1)."""
        invite = attempt.request
        headers = Headers()
        for name in ("Via", "Max-Forwards", "From", "To", "Call-ID"):
            headers.add(name, invite.headers.get(name) or "")
        headers.add("CSeq", f"{invite.cseq.number} CANCEL")
        for route in invite.headers.get_all("Route"):
            headers.add("Route", route)
        if self._reason_header is not None:
            headers.add("Reason", self._reason_header)
        self._core.send_request(Request("CANCEL", invite.uri, headers, b""), attempt.flow, self, now)
        self._set_deadline(now + self._core.timers.transaction_timeout)

    def _end(self) -> None:
        self._over = True
        self._set_deadline(None)

    def _set_deadline(self, deadline: float | None) -> None:
        if deadline != self._deadline:
            self._deadline = deadline
            self._core.schedule.update(self)
