"""One request of ours until its final response: where it is sent, and sent again (RFC 3261 §8.1.2, RFC 3263 §4.3).

It stands between whoever makes a request and the transaction layer. Each attempt is a transaction of its own, with a
new branch, and a copy of the request; the next hop that does not answer, answers 503 or cannot be connected to is
followed by the next one, and a challenge (401, 407) by the same request with credentials. Its user sees one request:
the object that he made, whose header fields are those of the newest attempt, and one final response.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from sipbridge.sip.ack import SentAcks
from sipbridge.sip.dialog import Dialog
from sipbridge.sip.digest import DigestClient
from sipbridge.sip.flow import Flow, Target
from sipbridge.sip.hops import Hop, Hops
from sipbridge.sip.message import Headers, Request, Response
from sipbridge.sip.transaction import ClientTransaction, State
from sipbridge.sip.transaction_layer import RequestUser

if TYPE_CHECKING:
    from sipbridge.sip.core import Core

Prepare: TypeAlias = Callable[[Request, Flow], None]
"""Called with the request before each attempt, once its flow is known: for header fields that depend on that."""

MAX_DATAGRAM = 1300
"""§18.1.1: a longer request goes over TCP, since a datagram of that size may be fragmented, and then lost."""
_REPEATABLE = frozenset({"BYE", "OPTIONS", "REGISTER"})
_WAITING = (State.CALLING, State.TRYING, State.PROCEEDING)
_MAX_CANCELS = 2
"""Of one attempt: the second one where the connection of the first is gone."""
_MAX_CHALLENGES = 4
"""Proxies on the way may each ask for credentials, and a nonce may be stale; more is a peer that plays with us."""


@dataclass(eq=False, slots=True)
class _Attempt:
    request: Request
    """The copy that this transaction has."""
    transaction: ClientTransaction
    flow: Flow
    hop: Hop
    provisional: bool = False
    taken_back: bool = False
    """By a CANCEL or a BYE, after it had been given up."""
    cancels: int = 0
    """How many CANCELs have been sent for it."""


class ClientRequest:
    """Made by `Core.send_out_of_dialog` and `Core.send_in_dialog`. The user may be called before those return."""

    def __init__(
        self,
        core: Core,
        request: Request,
        user: RequestUser,
        hops: Hops,
        *,
        digest: DigestClient | None = None,
        dialog: Dialog | None = None,
        beside: Flow | None = None,
        prepare: Prepare | None = None,
    ) -> None:
        self.request = request
        self.flow: Flow | None = None
        """By which the newest attempt was sent; None before the first."""
        self.trouble = ""
        """Why the last target could not be asked, for people; "" where that is not known."""
        self._core = core
        self._user = user
        self._hops = hops
        self._digest = digest
        self._dialog = dialog
        self._beside = beside
        self._prepare = prepare
        self._addressed: Flow | None = None
        """The flow that Via and Contact are made for already."""
        self._attempt: _Attempt | None = None
        self._superseded: list[_Attempt] = []
        """Given up because they stayed silent, or because their connection broke before they said anything: who answers
        late all the same has to be told (INVITE)."""
        self._acks = SentAcks(core)
        """Of those who answered late."""
        self._wanted = False
        """The next hop is to be tried as soon as it is found; otherwise it is only looked for."""
        self._looking = False
        self._spare: Hop | None = None
        self._challenges = 0
        self._refusal: Response | None = None
        """The last 503 that somebody else was asked after."""
        self._status = 503
        """What the last attempt came to, where there was no response."""
        self._over = False
        self._cancelled = False
        self._reason_header: str | None = None
        self._look_on_at: float | None = None
        self._give_up_at: float | None = None

    def __repr__(self) -> str:
        return f"<ClientRequest {self.request.method} {self.request.uri}>"

    # commands

    def begin(self, now: float) -> None:
        self._try_next(now)

    def cancel(self, now: float, reason_header: str | None = None) -> bool:
        """Take an INVITE back (§9.1): CANCEL, as soon as there was a provisional response. The final response is still
        told, or a failure (408) where none comes in time. False: nothing will be told, since nobody is being asked."""
        if self._attempt is None:
            self.abandon()
            return False
        if not self._over and not self._cancelled:
            self._cancelled = True
            self._reason_header = reason_header
            self._set_timers()
            if self._attempt.provisional:
                self._send_cancel(self._attempt, now)
                self._set_timers(give_up_at=now + self._core.timers.transaction_timeout)
        return True

    def abandon(self) -> None:
        """Wait no longer: nothing more is sent, and nothing is told."""
        self._end()
        if self._attempt is not None:
            self._core.transactions.abandon(self._attempt.transaction)

    # input, from the transactions

    def receive_response(self, request: Request, response: Response, now: float) -> None:
        attempt = self._attempt
        if attempt is None or request is not attempt.request:
            attempt = next((attempt for attempt in self._superseded if attempt.request is request), None)
            if attempt is None:
                return  # the response to a CANCEL
            if not self._takes_back(attempt, response):
                self._receive_late(attempt, response, now)
                return
            self._return_to(attempt)
        self.flow = attempt.flow = self._core.transactions.flow_of(attempt.transaction) or attempt.flow
        self._core.reached(attempt.flow, attempt.hop, response)
        if response.status < 200:
            self._receive_provisional(attempt, now)
        elif self._authorized(response):
            self._send_again(attempt, now)
            return
        elif (earlier := self._has_been_there(attempt, response)) is not None:
            self._refusal = response
            self._return_to(earlier)
            return
        elif response.status == 503 and self._try_another(attempt, response, now):
            return
        else:
            self._end()
        self._user.receive_response(self.request, response, now)

    def request_failed(self, request: Request, status: int, now: float) -> None:
        attempt = self._attempt
        if request.method == "CANCEL":
            self._cancel_failed(request, status, now)
        if attempt is None or request is not attempt.request or self._over:
            return
        if request.method == "INVITE" and status == 503 and attempt.provisional:
            self._connection_lost(now)
            return
        if request.method == "INVITE" and status == 503:
            self._superseded.append(attempt)
        if self._cancelled or attempt.provisional:
            self._end()
            self._user.request_failed(self.request, status, now)
        else:
            self._attempt_failed(attempt, status, now)

    # time

    def get_timer(self) -> float | None:
        if self._look_on_at is None or self._give_up_at is None:
            return self._look_on_at or self._give_up_at
        return min(self._look_on_at, self._give_up_at)

    def handle_timer(self, now: float) -> None:
        if self._give_up_at is not None and now >= self._give_up_at:
            # §9.1: 64*T1 after the CANCEL the INVITE counts as cancelled, whether its 487 came or not. A re-INVITE
            # whose connection broke has failed by now, but its call may be well: over TCP no refusal is sent twice.
            self.abandon()
            self._user.request_failed(self.request, 408 if self._cancelled else 503, now)
        elif self._look_on_at is not None and now >= self._look_on_at:
            self._set_timers()
            self._look_ahead(now)

    # private: the next hop

    def _try_next(self, now: float) -> None:
        self._attempt = None
        self._wanted = True
        self._set_timers()
        if self._spare is not None:
            self._next_found(self._spare, now)
        else:
            self._look_ahead(now)

    def _look_ahead(self, now: float) -> None:
        if not self._looking and self._spare is None:
            self._looking = True
            self._hops.next(self._next_found, now)

    def _next_found(self, hop: Hop | None, now: float) -> None:
        self._looking = False
        self._spare = None
        if self._over:
            return
        attempt = self._attempt
        if self._wanted:
            self._wanted = False
            if self._digest is not None:
                self._digest.apply(self.request)  # a nonce that is known, with a count of its own
            self._try_hop(hop, now)
        elif hop is None or attempt is None:
            return  # whoever is asked now is the last one
        elif self._cancelled or attempt.provisional or self._core.is_unreachable(hop, now):
            self._spare = hop
        else:
            self._superseded.append(attempt)
            self._attempt_failed(attempt, 408, now, then=hop)

    def _try_hop(self, hop: Hop | None, now: float) -> None:
        if hop is None:
            if self.flow is None and not self.trouble:
                self.trouble = "no address is known"  # nobody was found to be tried
            self._fail(now)
        elif isinstance(hop, Flow):
            self._send(hop, hop, now)
        else:
            self._core.flows.find(hop, lambda flow, now: self._flow_found(flow, hop, now), now, beside=self._beside)

    def _flow_found(self, flow: Flow | None, hop: Hop, now: float) -> None:
        if self._over or self._attempt is not None:
            return  # an earlier attempt has been answered meanwhile
        if flow is None:
            self._status = 503
            if isinstance(hop, Target):
                why = self._core.flows.unreachable.why(hop)
                self.trouble = why or f"no {hop.transport} listener of ours leads to {hop.host}"
            self._try_next(now)
            return
        self._address(flow)
        length = self.request.length() if flow.transport == "udp" else 0
        self._core.find_for_length(flow, length, lambda flow, now: self._send(flow, hop, now), now)

    def _attempt_failed(self, attempt: _Attempt, status: int, now: float, then: Hop | None = None) -> None:
        if isinstance(attempt.hop, Target):
            self._core.flows.unreachable.add(attempt.hop, now)
        self._status = status
        self._spare = then or self._spare
        self._try_next(now)

    def _try_another(self, attempt: _Attempt, response: Response, now: float) -> bool:
        """503: this server is full, or going down (§21.5.4)."""
        seconds = response.retry_after
        if isinstance(attempt.hop, Target) and seconds is not None:
            self._core.flows.unreachable.add(attempt.hop, now, seconds)
        if self._cancelled or (self._spare is None and self._hops.exhausted and not self._looking):
            return False
        self._refusal = response
        self._try_next(now)
        return True

    def _fail(self, now: float) -> None:
        """There is nobody left to ask: what the last one said is the outcome, or that nobody said anything."""
        self._end()
        if self._refusal is not None:
            self._user.receive_response(self.request, self._refusal, now)
        else:
            self._user.request_failed(self.request, self._status, now)

    # private: attempts

    def _address(self, flow: Flow) -> None:
        self._core.own.address_request(self.request, flow)
        if self._prepare is not None:
            self._prepare(self.request, flow)
        self._addressed = flow

    def _send(self, flow: Flow, hop: Hop, now: float) -> None:
        if self._over or self._attempt is not None:
            return
        request = self.request
        if self._addressed != flow:
            self._address(flow)
        self._addressed = None  # the next attempt gets a new branch
        copy = Request(request.method, request.uri, request.headers.copy(), request.body)
        self.flow = flow
        self._attempt = _Attempt(copy, self._core.transactions.request(copy, flow, self, now), flow, hop)
        if not self._cancelled and not self._hops.exhausted and self._may_be_doubled():
            self._set_timers(look_on_at=now + self._core.timers.failover)

    def _may_be_doubled(self) -> bool:
        """It does no harm if a slow server acts on it after another one has: what follows the first answer sees to it,
        or nothing changes by it. Others go on to the next server when their transaction has timed out."""
        method = self.request.method
        return method in _REPEATABLE or (method == "INVITE" and self._dialog is None)

    def _send_again(self, attempt: _Attempt, now: float) -> None:
        """To the one who challenged us."""
        self._attempt = None
        if self._core.flows.is_open(attempt.flow) and attempt.flow.reliable:
            self._send(attempt.flow, attempt.hop, now)
        else:
            self._try_hop(attempt.hop, now)

    def _authorized(self, response: Response) -> bool:
        """The response is a challenge, and the request now has the answer to it (§22.2): a new request, for CSeq."""
        if self._digest is None:
            return False
        self._digest.receive(response)
        if response.status not in (401, 407) or self._cancelled:
            return False
        self._challenges += 1
        if self._challenges > _MAX_CHALLENGES:
            return False
        if not self._digest.authorize(self.request, response, self._core.new_token):
            return False
        number = self.request.cseq.number + 1
        if self._dialog is not None:
            number = self._dialog.local_sequence = self._dialog.local_sequence + 1
        self.request.headers.set("CSeq", f"{number} {self.request.method}")
        return True

    def _receive_provisional(self, attempt: _Attempt, now: float) -> None:
        first, attempt.provisional = not attempt.provisional, True
        if first:
            self._set_timers()
            if self._cancelled:
                self._send_cancel(attempt, now)
                self._set_timers(give_up_at=now + self._core.timers.transaction_timeout)

    def _connection_lost(self, now: float) -> None:
        """Of an INVITE that is being served: nothing is left for us to send, so nothing has failed. Figure 5 has no
        transport error in Proceeding, and the callee, or a proxy that has connected again, answers by a connection to
        where we listen (§18.2.2). A call that rings goes on ringing, as over UDP: until somebody answers, its caller
        has enough of it, or Timer C fires (`uac.py`). A re-INVITE has no such timer, and holds up its call."""
        if self._dialog is not None and self._give_up_at is None:
            self._set_timers(give_up_at=now + self._core.timers.transaction_timeout)

    def _takes_back(self, attempt: _Attempt, response: Response) -> bool:
        """One that had been given up is answered, while the newest is not: who speaks first is the one. The other may
        even be the same server, which says that to it by a 482 (§8.2.2.2)."""
        silent = self._attempt is None or not self._attempt.provisional
        return silent and response.status < 300 and self._may_return_to(attempt)

    def _has_been_there(self, newest: _Attempt, response: Response) -> _Attempt | None:
        """The earlier attempt that this response speaks of. 482: the same request has come by another way, and is
        served (§8.2.2.2); inside a dialog that is a 500, since CSeq is not higher than the last (§12.2.2)."""
        if response.status != (482 if self._dialog is None else 500):
            return None
        earlier = [attempt for attempt in self._superseded if attempt.transaction.state in _WAITING]
        return next(filter(self._may_return_to, reversed(earlier)), None)

    def _may_return_to(self, attempt: _Attempt) -> bool:
        """Nobody has been told anything to the contrary."""
        same = attempt.request.cseq == self.request.cseq
        return same and not attempt.taken_back and not self._over and not self._cancelled

    def _return_to(self, attempt: _Attempt) -> None:
        """What was given up goes on, and what took its place is given up."""
        self._superseded.remove(attempt)
        if self._attempt is not None:
            self._superseded.append(self._attempt)
        self._attempt, self.flow = attempt, attempt.flow
        self._wanted = False
        self._addressed = None
        self.request.headers = attempt.request.headers.copy()
        self._set_timers()

    def _receive_late(self, attempt: _Attempt, response: Response, now: float) -> None:
        """From a server that had been given up for the next one: the INVITE is taken back there, and a call that was
        answered there all the same is hung up (§13.2.2.4)."""
        request = attempt.request
        if request.method != "INVITE":
            return
        attempt.taken_back = True
        if response.status < 200:
            if not attempt.provisional:
                attempt.provisional = True
                self._send_cancel(attempt, now)
        elif response.status < 300:
            flow = self._core.transactions.flow_of(attempt.transaction) or attempt.flow
            if self._acks.repeat(response, now, beside=flow):
                return
            if self._dialog is None:
                self._core.hang_up_stray(self._acks, request, response, flow, now)
            else:  # a re-INVITE: the call goes on, with the session that it had for us
                self._acks.send(self._dialog, request, b"", now, beside=flow)

    def _send_cancel(self, attempt: _Attempt, now: float) -> None:
        """CANCEL goes the way of its INVITE, with its branch (§9.1); where that connection is gone, by a new one."""
        attempt.cancels += 1
        flow, hop = self._core.transactions.flow_of(attempt.transaction) or attempt.flow, attempt.hop
        if self._core.flows.is_open(flow):
            self._core.send_request(self._make_cancel(attempt.request), flow, self, now)
        elif isinstance(hop, Target):
            self._core.flows.find(
                replace(hop, transport=flow.transport), lambda found, now: self._cancel_by(attempt, found, now), now
            )

    def _cancel_by(self, attempt: _Attempt, flow: Flow | None, now: float) -> None:
        if flow is not None and attempt.transaction.state is State.PROCEEDING:
            self._core.send_request(self._make_cancel(attempt.request), flow, self, now)

    def _cancel_failed(self, cancel: Request, status: int, now: float) -> None:
        """Its connection is gone, and it may have been lost with it."""
        for attempt in filter(None, (self._attempt, *self._superseded)):
            is_served = attempt.transaction.state is State.PROCEEDING
            meant = is_served and attempt.request.via.branch == cancel.via.branch
            if meant and status == 503 and attempt.cancels < _MAX_CANCELS:
                self._send_cancel(attempt, now)

    def _make_cancel(self, invite: Request) -> Request:
        headers = Headers()
        for name in ("Via", "Max-Forwards", "From", "To", "Call-ID"):
            headers.add(name, invite.headers.get(name) or "")
        headers.add("CSeq", f"{invite.cseq.number} CANCEL")
        for route in invite.headers.get_all("Route"):
            headers.add("Route", route)
        if self._reason_header is not None:
            headers.add("Reason", self._reason_header)
        return Request("CANCEL", invite.uri, headers, b"")

    def _end(self) -> None:
        self._over = True
        self._set_timers()

    def _set_timers(self, *, look_on_at: float | None = None, give_up_at: float | None = None) -> None:
        if (look_on_at, give_up_at) != (self._look_on_at, self._give_up_at):
            self._look_on_at, self._give_up_at = look_on_at, give_up_at
            self._core.schedule.update(self)
