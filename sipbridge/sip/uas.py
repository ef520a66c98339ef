"""The callee's side of a call before it is answered (RFC 3261 §13.3): ring, answer, refuse, be cancelled.

Where the caller wants it, ringing is reliable (RFC 3262): what may be said when is in `reliable.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sipbridge.errors import LocalProtocolError, SipParseError
from sipbridge.sip.answer import Fields
from sipbridge.sip.body import describe_session, session_description
from sipbridge.sip.dialog import Dialog, answer_wants_sips
from sipbridge.sip.events import EndCause, SessionAnswered
from sipbridge.sip.exchange import Turn
from sipbridge.sip.flow import Flow
from sipbridge.sip.headers import delta_seconds
from sipbridge.sip.invite import CallState, Invite
from sipbridge.sip.message import Request, Response
from sipbridge.sip.reliable import OPTION, RAck, ReliableProvisionals, has_option
from sipbridge.sip.screening import ALLOW, SUPPORTED
from sipbridge.sip.status import reason_phrase
from sipbridge.sip.transaction import ServerTransaction

if TYPE_CHECKING:
    from sipbridge.sip.core import Core

PROGRESS_INTERVAL = 60.0
"""§13.3.1.1: a proxy gives an INVITE up that stays without a provisional response for three minutes."""

_RSEQS = 2**31 - 1
"""RFC 3262 §3: the first number is below this, so that the following ones have room."""


class IncomingInvite(Invite):
    """A call that came in. `dialog` exists from the beginning, early until it is answered."""

    made_call_id = False
    dialog: Dialog

    def __init__(self, core: Core, request: Request, flow: Flow) -> None:
        super().__init__(core, request, request.from_, flow)
        self.dialog = Dialog.as_uas(request, core.new_token())
        offer = session_description(request)
        if offer is not None:
            self.dialog.exchange.receive_offer(offer)
        self._transaction: ServerTransaction | None = None
        self._progress: tuple[int, bytes, bool] | None = None
        self._provisionals = ReliableProvisionals(1 + int(core.draw() * (_RSEQS - 1)), core.timers)
        self._waiting_answer: tuple[bytes, Fields] | None = None
        """A 2xx that may not be sent yet."""
        self._next_progress: float | None = None
        self._expires_at: float | None = None
        self._adopt(self.dialog)

    def begin(self, transaction: ServerTransaction, now: float) -> None:
        """Answer 100 and watch the INVITE's own Expires (§13.3.1)."""
        self._transaction = transaction
        self._core.respond(transaction, transaction.request.response(100), now)
        expires = delta_seconds(self.request.headers.get("Expires"))
        if expires is not None:
            self._expires_at = now + expires
            self._core.schedule.update(self)

    # commands

    @property
    def takes_reliable(self) -> bool:
        """Whether the caller knows reliable provisional responses (RFC 3262)."""
        return has_option(self.request.supported, OPTION) or self._must_be_reliable

    @property
    def is_awaited(self) -> bool:
        return super().is_awaited or self._provisionals.holds_session

    def ring(self, now: float, status: int = 180, body: bytes = b"", reliable: bool | None = None) -> None:
        """A provisional response that makes the dialog; with a session description where there is early media (183):
        the answer or, where the INVITE had none, an offer, which only a reliable response may carry.

        It is reliable where the caller requires that and, unless `reliable` says no, where the caller takes it and a
        body goes along; LocalProtocolError where it should be and cannot. Otherwise it is repeated every minute until
        the call is answered. Nothing happens once the answer has been given."""
        if not 100 < status < 200:
            raise LocalProtocolError(f"{status} is no provisional response")
        if self.state is CallState.ENDED or self._waiting_answer is not None:
            return
        self._require_unanswered("ring")
        if reliable and not self.takes_reliable:
            raise LocalProtocolError("a reliable provisional response to a caller that does not take it")
        if reliable is None:
            reliable = bool(body) and self.takes_reliable
        self.state = CallState.RINGING
        self._progress = (status, body, reliable or self._must_be_reliable)
        self._send_progress(now)

    def answer(self, sdp: bytes, now: float, *, headers: Fields = ()) -> None:
        """200, without `sdp` where offer and answer have been exchanged before (reliably, in a 183). It waits for the
        PRACK of a session description, if one is missing. `Acknowledged` follows, or `CallEnded(ACK_TIMEOUT)`."""
        if self.state is CallState.ENDED:
            return
        self._require_unanswered("answer")
        if self._waiting_answer is not None:
            raise LocalProtocolError("answer in a call that has its answer")
        self._waiting_answer = (sdp, headers)
        self._answer_if_allowed(now)

    def reject(self, status: int, reason: str | None = None, *, now: float, headers: Fields = ()) -> None:
        """A final response from 300 on; `headers` may hold Retry-After, Reason, Contact."""
        if not 300 <= status < 700:
            raise LocalProtocolError(f"{status} is no refusal")
        if self.state is CallState.ENDED:
            return
        self._require_unanswered("reject")
        self._refuse(status, now, reason=reason, headers=headers)
        self._end(EndCause.DECLINED, status, reason or reason_phrase(status), now)

    def hang_up(self, now: float, reason_header: str | None = None) -> None:
        if self.state in (CallState.INVITED, CallState.RINGING):
            headers = (("Reason", reason_header),) if reason_header is not None else ()
            self.reject(480, now=now, headers=headers)
        elif self.state is not CallState.ENDED:
            self._bye_reason = reason_header
            acknowledged = self.state is CallState.CONFIRMED
            self._end(EndCause.LOCAL_BYE, None, "hung up here", now)
            if acknowledged:
                self._answer.drop()  # of a re-INVITE: the BYE makes it pointless
                self._send_bye(now)
            # §15: the callee sends no BYE before the ACK has come, or will not come any more.

    # input

    def receive_cancel(self, cancel: Request, now: float) -> None:
        if self.state in (CallState.INVITED, CallState.RINGING):
            self._refuse(487, now)
            self._end(EndCause.CANCELLED, 487, "cancelled by the caller", now, said=cancel)
        else:
            super().receive_cancel(cancel, now)  # too late for the call itself (§9.2)

    def _receive_prack(self, request: Request, transaction: ServerTransaction, dialog: Dialog, now: float) -> None:
        try:
            rack = RAck.of(request)
        except SipParseError as error:
            self.respond(transaction, error.sip_status, now, reason=f"Bad Request: {error}")
            return
        matched, following = self._provisionals.acknowledge(rack, now)
        if not matched:
            super()._receive_prack(request, transaction, dialog, now)
            return
        self._receive_prack_body(request, transaction, dialog, now)
        if following is not None:
            self._send_provisional(following, now)
        self._settled(now)

    def _receive_prack_body(self, request: Request, transaction: ServerTransaction, dialog: Dialog, now: float) -> None:
        """The answer to the offer of our 183, or an offer that follows on what the 183 agreed to (RFC 3262 §5)."""
        body = session_description(request)
        exchange = dialog.exchange
        if body is not None and exchange.turn is Turn.NOBODY and not self.has_pending_offer:
            self._peers.wait(request, transaction, dialog, body)
            return
        if body is not None and exchange.turn is Turn.OURS:
            refusal = self._peers.retry_later(request)  # an offer on top of one that we have not answered
            self.respond(transaction, refusal.status, now, headers=refusal.headers)
            return
        self.agree(transaction, dialog, b"", now)
        if body is not None:
            exchange.receive_answer(body)
            self._core.emit(SessionAnswered(self, body))

    def _receive_bye(self, request: Request, transaction: ServerTransaction, now: float) -> None:
        if self.state in (CallState.INVITED, CallState.RINGING):
            # §15.1.2: a BYE in the early dialog ends the INVITE, too.
            self.respond(transaction, 200, now)
            self._refuse(487, now)
            self._end(EndCause.CANCELLED, 487, "given up by the caller", now, said=request)
        else:
            super()._receive_bye(request, transaction, now)

    # time

    def handle_timer(self, now: float) -> None:
        if self._expires_at is not None and now >= self._expires_at:
            self._refuse(487, now)
            self._end(EndCause.TIMEOUT, 487, "not answered before the INVITE expired", now)
        elif self._provisionals.is_over(now):
            self._refuse(504, now)
            self._end(EndCause.ACK_TIMEOUT, 504, "no PRACK for our provisional response", now)
        elif (repeated := self._provisionals.due(now)) is not None:
            self._send_provisional(repeated, now)
        elif self._next_progress is not None and now >= self._next_progress:
            self._send_progress(now)
        else:
            super().handle_timer(now)

    def _deadlines(self) -> Iterable[float | None]:
        return (*super()._deadlines(), self._next_progress, self._expires_at, self._provisionals.get_timer())

    # private

    def _require_unanswered(self, command: str) -> None:
        if self.state not in (CallState.INVITED, CallState.RINGING):
            raise LocalProtocolError(f"{command} in a call that is {self.state.value}")

    @property
    def _must_be_reliable(self) -> bool:
        return has_option(self.request.require, OPTION)

    def _send_progress(self, now: float) -> None:
        assert self._progress is not None
        assert self.flow is not None
        status, body, reliable = self._progress
        response = self.request.response(status, to_tag=self.local_tag)
        response.headers.add("Contact", self._core.own.contact(self.flow, sips=answer_wants_sips(self.request)))
        if self._may_carry_session(reliable=reliable):
            describe_session(response, body)
        if not reliable:
            self._send_provisional(response, now)
        else:
            response.headers.add("Allow", ALLOW)  # RFC 3311 §5.1: the caller may want to know of UPDATE
            response.headers.add("Supported", SUPPORTED)
            self._send_reliably(response, now)
        self._next_progress = now + PROGRESS_INTERVAL
        self._core.schedule.update(self)

    def _may_carry_session(self, *, reliable: bool) -> bool:
        """Not where offer and answer have been exchanged already; and an offer only where it is sure to arrive."""
        exchange = self.dialog.exchange
        return exchange.turn is Turn.OURS or (exchange.turn is Turn.NOBODY and not exchange.is_established and reliable)

    def _send_reliably(self, response: Response, now: float) -> None:
        exchange = self.dialog.exchange
        if response.body and exchange.turn is Turn.OURS:
            exchange.send_answer(response.body)
        elif response.body:
            exchange.send_offer(response.body)
        due = self._provisionals.send(response, now)
        if due is not None:
            self._send_provisional(due, now)

    def _send_provisional(self, response: Response, now: float) -> None:
        assert self._transaction is not None
        self._core.respond(self._transaction, response, now)
        self._core.schedule.update(self)

    def _settled(self, now: float) -> None:
        self._answer_if_allowed(now)
        super()._settled(now)

    def _answer_if_allowed(self, now: float) -> None:
        """RFC 3262 §3: no 2xx before the PRACK of what it builds on; nor before the offer that the PRACK made."""
        if self._waiting_answer is None or self._provisionals.holds_session or self.has_pending_offer:
            return
        assert self._transaction is not None
        (sdp, headers), self._waiting_answer = self._waiting_answer, None
        self._stop_waiting()
        exchange = self.dialog.exchange
        if exchange.turn is Turn.OURS:
            exchange.send_answer(sdp)
        elif exchange.is_established or exchange.turn is Turn.THEIRS:
            sdp = b""  # it has been said (§13.2.1)
        else:
            exchange.send_offer(sdp)
        self.state = CallState.ANSWERED
        self.dialog.confirmed = True
        self._send_answer(self._transaction, sdp, now, headers)

    def _refuse(
        self,
        status: int,
        now: float,
        *,
        reason: str | None = None,
        headers: Fields = (),
    ) -> None:
        assert self._transaction is not None
        self._stop_waiting()
        self.respond(self._transaction, status, now, reason=reason, headers=headers)
        self._forget()

    def _stop_waiting(self) -> None:
        self._next_progress = self._expires_at = self._waiting_answer = None
        self._provisionals.stop()
        self._core.schedule.update(self)
