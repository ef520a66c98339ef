"""Changes of the session that we ask for, by re-INVITE or UPDATE (RFC 3261 §14.1, RFC 3311 §5.1), and its refreshes.

One at a time: a change that comes at a bad moment waits for a better one. One that crosses the peer's (491) is tried
again after the time that §14.1 gives to either side, so that they do not cross again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from sipbridge.errors import LocalProtocolError
from sipbridge.sip.body import describe_session, session_description
from sipbridge.sip.dialog import Dialog
from sipbridge.sip.events import SessionAnswered, SessionRefused
from sipbridge.sip.exchange import Turn
from sipbridge.sip.message import Request, Response
from sipbridge.sip.part import CallPart
from sipbridge.sip.reliable import Arrival, ProvisionalOrder, rseq_of
from sipbridge.sip.screening import ALLOW, SUPPORTED
from sipbridge.sip.usage import GONE

if TYPE_CHECKING:
    from sipbridge.sip.client_request import ClientRequest
    from sipbridge.sip.core import Core
    from sipbridge.sip.invite import Invite

Method: TypeAlias = Literal["INVITE", "UPDATE"]
Offer: TypeAlias = bytes | Callable[[], bytes]
"""An offer, or what makes it at the moment it is sent; the latter always fits what was agreed on meanwhile."""

_MAX_TRIES = 6
_LONGEST_RETRY_S = 99


@dataclass(eq=False, slots=True)
class _Change:
    method: Method
    dialog: Dialog
    offer: Offer | None
    """None: it changes nothing, but refreshes the session."""
    rounds: int
    """Of the exchange when the offer was made: it fits no other."""
    agreed: bytes = b""
    """What the peer had said before."""
    tries: int = 0
    request: Request | None = None
    """The newest attempt."""
    sdp: bytes = b""
    sending: ClientRequest | None = None
    order: ProvisionalOrder = field(default_factory=ProvisionalOrder)


class Renegotiation(CallPart):
    """Those of one call."""

    def __init__(self, core: Core, call: Invite) -> None:
        super().__init__(core, call)
        self._wanted: _Change | None = None
        """What the owner of the call asked for, or a try to be repeated; not sent yet."""
        self._refresh_wanted = False
        self._current: _Change | None = None
        """Waits for its final response."""
        self._unacknowledged: _Change | None = None
        """Its 2xx has made the offer that we had asked for."""
        self._retry_at: float | None = None

    @property
    def is_reinviting(self) -> bool:
        """A re-INVITE of ours waits for its final response, or its ACK for our answer."""
        return self._unacknowledged is not None or (self._current is not None and self._current.method == "INVITE")

    # commands

    def begin(self, method: Method, offer: Offer, dialog: Dialog, now: float) -> None:
        """Raises LocalProtocolError while an earlier change of the owner's is under way."""
        for change in (self._wanted, self._current, self._unacknowledged):
            if change is not None and change.offer is not None:
                raise LocalProtocolError("an earlier change of the session is under way")
        if self._wanted is not None:
            self._wanted, self._refresh_wanted = None, True  # a refresh that waits to be repeated comes later
        self._wanted = _Change(method, dialog, offer, dialog.exchange.rounds)
        self.pump(now)

    def refresh(self, now: float) -> None:
        """The session timer wants to be refreshed (RFC 4028 §7.4)."""
        self._refresh_wanted = True
        self.pump(now)

    def refreshed(self) -> None:
        """The session timer has been set anew by other means."""
        self._refresh_wanted = False
        if self._wanted is not None and self._wanted.offer is None:
            self._wanted = self._retry_at = None

    def acknowledge(self, sdp: bytes, now: float) -> bool:
        """Answer the offer that we asked for. False: there is none."""
        change, self._unacknowledged = self._unacknowledged, None
        if change is None:
            return False
        assert change.request is not None
        change.dialog.exchange.send_answer(sdp)
        self._call.acks.send(change.dialog, change.request, sdp, now, beside=self._call.flow)
        self.pump(now)
        return True

    def pump(self, now: float) -> None:
        """Send what waits, if now is the time. To be called whenever that may have become so."""
        if self._current is not None or self._unacknowledged is not None or self._retry_at is not None:
            return
        change = self._wanted or self._refreshing()
        if change is None:
            return
        if change.dialog not in self._call.dialogs:
            self._wanted = None
            self._core.emit(SessionRefused(self._call, 481))  # that early dialog is gone
        elif self._is_time(change):
            self._wanted = None
            self._send(change, now)

    def stop(self, now: float) -> None:
        """The call is over. A re-INVITE that is out is taken back."""
        self._wanted = self._retry_at = None
        self._refresh_wanted = False
        if self._unacknowledged is not None:
            self.acknowledge(b"", now)
        if self._current is not None and self._current.method == "INVITE" and self._current.sending is not None:
            self._current.sending.cancel(now)

    # input

    def receive_response(self, request: Request, response: Response, now: float) -> bool:
        """False: it is no request of ours here."""
        change = self._current
        if change is None or change.request is not request:
            return False
        if response.status < 200:
            self._receive_provisional(change, response, now)
            return True
        self._current = None
        if response.status < 300:
            self._succeeded(change, request, response, now)
        elif not self._is_tried_again(change, response, now):
            self._failed(change, response.status, now)
        self.pump(now)
        return True

    def request_failed(self, request: Request, status: int, now: float) -> bool:
        change = self._current
        if change is None or change.request is not request:
            return False
        self._current = None
        self._failed(change, status, now)
        self.pump(now)
        return True

    # time

    def get_timer(self) -> float | None:
        return self._retry_at

    def handle_timer(self, now: float) -> None:
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            self.pump(now)

    # private: sending

    def _refreshing(self) -> _Change | None:
        """RFC 4028 §7.4: UPDATE changes nothing; where the peer has none, an INVITE with the session as it is."""
        dialog = self._call.dialog
        if not self._refresh_wanted or dialog is None:
            return None
        self._refresh_wanted = False
        exchange = dialog.exchange
        method: Method = "UPDATE" if dialog.allows_update or not exchange.local else "INVITE"
        self._wanted = _Change(method, dialog, None, exchange.rounds)
        return self._wanted

    def _is_time(self, change: _Change) -> bool:
        call = self._call
        exchange = change.dialog.exchange
        if call.has_pending_offer or call.is_awaited or call.pracks.are_waiting(change.dialog):
            return False
        if change.method == "INVITE":
            return call.is_settled and exchange.turn is Turn.NOBODY
        return change.offer is None or (exchange.is_established and exchange.turn is Turn.NOBODY)

    def _send(self, change: _Change, now: float) -> None:
        call = self._call
        exchange = change.dialog.exchange
        if isinstance(change.offer, bytes) and change.rounds != exchange.rounds:
            self._core.emit(SessionRefused(call, 491))
            return
        if change.offer is None:
            change.sdp = exchange.local if change.method == "INVITE" else b""
        else:
            change.sdp = change.offer if isinstance(change.offer, bytes) else change.offer()
        request = change.dialog.request(change.method)
        request.headers.add("Allow", ALLOW)
        request.headers.add("Supported", SUPPORTED)
        if change.dialog.confirmed:
            for name, value in call.session_timer.request_headers():
                request.headers.add(name, value)
        describe_session(request, change.sdp)
        if change.sdp:
            exchange.send_offer(change.sdp)
        change.tries += 1
        change.rounds, change.agreed = exchange.rounds, exchange.remote
        change.request, change.order = request, ProvisionalOrder()
        self._current = change
        sending = self._core.send_in_dialog(change.dialog, request, call, now, beside=call.flow)
        if self._current is change:  # else it has failed already
            change.sending = sending

    # private: responses

    def _receive_provisional(self, change: _Change, response: Response, now: float) -> None:
        """RFC 3262 allows reliable ones to a re-INVITE, too."""
        rseq = rseq_of(response)
        if rseq is not None and not self._call.pracks.are_too_many and change.order.receive(rseq) is Arrival.NEW:
            body = session_description(response)
            if body is not None and change.sdp:
                change.dialog.exchange.receive_answer(body)
            self._call.pracks.send(change.dialog, response, b"", now)

    def _succeeded(self, change: _Change, request: Request, response: Response, now: float) -> None:
        call, dialog = self._call, change.dialog
        exchange = dialog.exchange
        body = session_description(response) or b""
        dialog.refresh_target(response)
        dialog.learn(response)
        asked = change.method == "INVITE" and not change.sdp
        if asked and body and not call.is_over:
            exchange.receive_offer(body)
            self._unacknowledged = change
        else:
            if change.sdp and body:
                exchange.receive_answer(body)
            elif change.sdp and exchange.turn is Turn.THEIRS:
                exchange.withdraw()  # its answer should have been there
            if change.method == "INVITE":
                call.acks.send(dialog, request, b"", now, beside=call.flow)
        if call.is_over:
            return
        if dialog.confirmed:
            self._refresh_wanted = False
            call.session_timer.accepted(request, response, now)
        answer = body
        if change.sdp:
            answer = exchange.remote if exchange.rounds > change.rounds else b""
        if change.offer is not None:
            self._core.emit(SessionAnswered(call, answer, asked and bool(body)))
        elif change.sdp and answer != change.agreed:
            self._core.emit(SessionAnswered(call, answer))

    def _is_tried_again(self, change: _Change, response: Response, now: float) -> bool:
        """Whether the refusal is one that time, or a change of words, may heal."""
        status = response.status
        if self._call.is_over or change.tries >= _MAX_TRIES:
            return False
        if status == 491:
            self._retry_at = now + self._glare_wait()
        elif status == 500 and (seconds := response.retry_after) is not None and seconds <= _LONGEST_RETRY_S:
            self._retry_at = now + seconds
        elif status in (405, 501) and change.method == "UPDATE" and change.dialog.confirmed:
            change.dialog.allows_update = False
            change.method = "INVITE"
        elif status != 422 or not self._call.session_timer.raise_to(response):
            return False
        self._withdraw(change)
        self._wanted = change
        return True

    def _failed(self, change: _Change, status: int, now: float) -> None:
        self._withdraw(change)
        if self._call.is_over:
            return
        if status in GONE and change.dialog.confirmed:
            self._call.lose(status, now)
            return
        if change.dialog.confirmed and change.offer is None:
            self._call.session_timer.refresh_failed(now)
        else:
            self._core.emit(SessionRefused(self._call, status))

    def _withdraw(self, change: _Change) -> None:
        exchange = change.dialog.exchange
        if change.sdp and exchange.turn is Turn.THEIRS:
            exchange.withdraw()

    def _glare_wait(self) -> float:
        """§14.1, in steps of 10 ms: who made the Call-ID waits 2.1 to 4 s, the other one less than that."""
        steps = int(self._core.draw() * 200)
        return 2.1 + min(steps, 190) / 100 if self._call.made_call_id else steps / 100
