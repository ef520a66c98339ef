"""The INVITE usage of a dialog (RFC 3261 §13-15): one call, from the INVITE to the answer to its BYE.

This module holds what both roles share once there is a dialog: BYE, re-INVITE, the 2xx that is repeated until its ACK,
REFER. `uas.py` and `uac.py` add what the callee and the caller do before.

A call's commands may be given at any time: one that comes after the call has ended does nothing, since its `CallEnded`
is on its way; one that the protocol does not allow in a living call raises `LocalProtocolError`. `CallEnded` comes as
soon as the call is over for us; the core cleans up behind it.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from sipbridge.errors import LocalProtocolError
from sipbridge.sip.answer import PendingAnswer
from sipbridge.sip.body import SDP, session_description
from sipbridge.sip.client_request import Authorizer
from sipbridge.sip.dialog import Dialog, Order
from sipbridge.sip.events import (
    Acknowledged,
    CallEnded,
    EndCause,
    ReferAccepted,
    ReferFailed,
    ReferProgress,
    ReinviteReceived,
)
from sipbridge.sip.flow import Flow
from sipbridge.sip.headers import NameAddr
from sipbridge.sip.message import Request, Response
from sipbridge.sip.refer import ReferSubscription
from sipbridge.sip.screening import ACCEPT, ALLOW, OPTIONS_HEADERS
from sipbridge.sip.transaction import ServerTransaction

if TYPE_CHECKING:
    from sipbridge.sip.core import Core


class CallState(Enum):
    INVITED = "invited"
    """The INVITE has been received or sent."""
    RINGING = "ringing"
    """A provisional response other than 100 has been sent or received."""
    ANSWERED = "answered"
    """We gave a 2xx that is not acknowledged yet (callee only)."""
    CONFIRMED = "confirmed"
    ENDED = "ended"
    """CallEnded has been emitted."""


class Invite:
    """One call. Created by the user agent, as `IncomingInvite` or `OutgoingInvite`."""

    def __init__(self, core: Core, request: Request, remote_party: NameAddr, flow: Flow | None) -> None:
        self.request = request
        """The INVITE that began the call."""
        self.remote_party = remote_party
        self.call_id = request.call_id
        self.state = CallState.INVITED
        self.dialog: Dialog | None = None
        """Ours as callee; as caller that of the peer who answered."""
        self.flow = flow
        """Where the peer's last request came from, or ours went."""
        self.authorizer: Authorizer | None = None
        """What answers the challenges that requests in this call's dialogs meet."""
        self._core = core
        self._answer: PendingAnswer | None = None
        self._reinvite: tuple[Request, ServerTransaction] | None = None
        self._refers: list[ReferSubscription] = []
        self._bye: Request | None = None
        self._bye_reason: str | None = None
        self._dialogs: list[Dialog] = []
        core.calls.add(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.call_id} {self.state.value}>"

    @property
    def local_tag(self) -> str | None:
        return None if self.dialog is None else self.dialog.id.local_tag

    # commands

    def hang_up(self, now: float, reason_header: str | None = None) -> None:
        """End the call as its state asks: BYE, CANCEL or a refusal; `reason_header` is RFC 3326's, whole."""
        raise NotImplementedError

    def accept_reinvite(self, sdp: bytes, now: float) -> None:
        """200 to the pending re-INVITE. Nothing happens where none is pending: it may have been cancelled meanwhile."""
        pending, self._reinvite = self._reinvite, None
        if pending is None or self.state is CallState.ENDED or self.dialog is None:
            return
        request, transaction = pending
        self.dialog.refresh_target(request)
        self._send_answer(transaction, sdp, now)

    def reject_reinvite(self, status: int, now: float, *, reason: str | None = None) -> None:
        """Refuse the pending re-INVITE: the session stays as it was."""
        pending, self._reinvite = self._reinvite, None
        if pending is not None:
            self._respond(pending[1], status, now, reason=reason)

    def refer(self, target: str, now: float, *, referred_by: str | None = None) -> None:
        """Ask the peer to call `target`, a URI, instead of us (RFC 3515). `ReferAccepted` or `ReferFailed` answers,
        then `ReferProgress` until it is final; a peer that never tells is for the caller to time out."""
        if self.state is CallState.ENDED:
            return
        if self.state is not CallState.CONFIRMED or self.dialog is None:
            raise LocalProtocolError(f"REFER in a call that is {self.state.value}")
        request = self.dialog.request("REFER")
        request.headers.add("Refer-To", f"<{target}>")
        if referred_by is not None:
            request.headers.add("Referred-By", f"<{referred_by}>")
        self._refers.append(ReferSubscription(request.cseq.number))
        self._core.send_in_dialog(self.dialog, request, self, now, beside=self.flow)

    # input: requests inside the dialog

    def receive_request(
        self, request: Request, dialog: Dialog, transaction: ServerTransaction, flow: Flow, now: float
    ) -> None:
        """Any request of one of our dialogs but ACK and CANCEL, screened and not seen before."""
        if dialog.receive_sequence(request) is Order.OLD:
            self._core.counters["cseq_out_of_order"] += 1
            self._respond(transaction, 500, now, reason="Server Internal Error: CSeq out of order")
            return
        self.flow = flow
        if request.method == "BYE":
            self._receive_bye(request, transaction, now)
        elif self.state is CallState.ENDED and request.method != "NOTIFY":
            self._respond(transaction, 481, now)
        elif request.method == "INVITE":
            self._receive_reinvite(request, transaction, now)
        elif request.method == "NOTIFY":
            self._receive_notify(request, transaction, now)
        elif request.method == "REFER":
            # Placing calls at a stranger's word is toll fraud's front door: not before there are rules for it.
            self._respond(transaction, 403, now)
        else:
            self._respond(transaction, 200, now, headers=OPTIONS_HEADERS if request.method == "OPTIONS" else ())

    def receive_ack(self, ack: Request, now: float) -> None:
        """The ACK of a 2xx of ours; repeated and stray ones change nothing."""
        if self._answer is None or ack.cseq.number != self._answer.sequence:
            return
        self._drop_answer()
        if self.state is CallState.ENDED:
            self._send_bye(now)  # hung up while the ACK was on its way (§15)
            return
        self.state = CallState.CONFIRMED
        self._core.emit(Acknowledged(self, session_description(ack) or b""))

    def receive_cancel(self, cancel: Request, now: float) -> None:
        """The peer takes an INVITE back; the CANCEL itself has been answered. Without a re-INVITE the call goes on."""
        if self._reinvite is not None and self._reinvite[0].cseq.number == cancel.cseq.number:
            self.reject_reinvite(487, now)

    def _receive_bye(self, request: Request, transaction: ServerTransaction, now: float) -> None:
        self._respond(transaction, 200, now)
        self._drop_answer()
        self._end(EndCause.REMOTE_BYE, None, "hung up by the peer", now, header=reason_header_of(request))
        if self._bye is None:
            self._forget()

    def _receive_reinvite(self, request: Request, transaction: ServerTransaction, now: float) -> None:
        if self._reinvite is not None:
            # §14.2: a second one before the first is answered. The time is to be random, and differs by the request.
            seconds = int(self._core.stateless_tag(str(request.via), request.call_id), 16) % 11
            self._respond(transaction, 500, now, headers=(("Retry-After", str(seconds)),))
        elif self.state is not CallState.CONFIRMED or self._answer is not None or self._invite_outstanding():
            # Glare (§14.2), or a re-INVITE that overtook the ACK before it (RFC 5407 §3.1.4).
            self._respond(transaction, 491, now)
        else:
            self._reinvite = (request, transaction)
            self._core.emit(ReinviteReceived(self, request, session_description(request)))

    def _invite_outstanding(self) -> bool:
        """An INVITE of our own in this dialog waits for its final response."""
        return False

    def _receive_notify(self, request: Request, transaction: ServerTransaction, now: float) -> None:
        subscription = next((refer for refer in self._refers if refer.matches(request)), None)
        if subscription is None:
            self._respond(transaction, 481, now)
            return
        self._respond(transaction, 200, now)
        notification = subscription.receive(request)
        if subscription.terminated:
            self._refers.remove(subscription)
        if notification is not None and self.state is not CallState.ENDED:
            self._core.emit(ReferProgress(self, notification.status, notification.reason, notification.final))

    # input: responses to requests inside the dialog

    def receive_response(self, request: Request, response: Response, now: float) -> None:
        if response.status < 200:
            return
        if request.method == "REFER":
            self._refer_answered(request, response.status)
        elif request is self._bye:
            self._forget()

    def request_failed(self, request: Request, status: int, now: float) -> None:
        if request.method == "REFER":
            self._refer_answered(request, status)
        elif request is self._bye:
            self._forget()

    def _refer_answered(self, request: Request, status: int) -> None:
        if status >= 300:
            number = request.cseq.number
            self._refers = [refer for refer in self._refers if refer.sequence != number]
        if self.state is not CallState.ENDED:
            self._core.emit(ReferAccepted(self) if status < 300 else ReferFailed(self, status))

    # time

    def get_timer(self) -> float | None:
        return None if self._answer is None else self._answer.get_timer()

    def handle_timer(self, now: float) -> None:
        answer = self._answer
        if answer is None:
            return
        if answer.is_over(now):
            self._drop_answer()
            self._end(EndCause.ACK_TIMEOUT, None, "no ACK for our 200", now)
            self._send_bye(now)
        elif (response := answer.due(now)) is not None:
            self._core.respond(answer.transaction, response, now)
        self._core.schedule.update(self)

    # for both roles

    def _respond(
        self,
        transaction: ServerTransaction,
        status: int,
        now: float,
        *,
        reason: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        response = transaction.request.response(status, reason, to_tag=self.local_tag)
        for name, value in headers:
            response.headers.add(name, value)
        self._core.respond(transaction, response, now)

    def _send_answer(
        self, transaction: ServerTransaction, sdp: bytes, now: float, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        """200 with a session description, repeated until it is acknowledged (§13.3.1.4)."""
        assert self.flow is not None
        response = transaction.request.response(200, to_tag=self.local_tag)
        response.headers.add("Contact", self._core.contact(self.flow))
        response.headers.add("Allow", ALLOW)
        response.headers.add("Accept", ACCEPT)
        for name, value in headers:
            response.headers.add(name, value)
        if sdp:
            response.headers.add("Content-Type", SDP)
            response.body = sdp
        self._answer = PendingAnswer(transaction, response, now, self._core.timers)
        self._core.respond(transaction, response, now)
        self._core.unacknowledged[self._answer.key] = self
        self._core.schedule.update(self)

    def _drop_answer(self) -> None:
        if self._answer is not None:
            self._core.unacknowledged.pop(self._answer.key, None)
            self._answer = None
            self._core.schedule.update(self)

    def _end(self, cause: EndCause, status: int | None, reason: str, now: float, *, header: str | None = None) -> None:
        """The call is over for us: say so, once. A re-INVITE that still waits is refused (§15.1.2)."""
        if self.state is CallState.ENDED:
            return
        self.state = CallState.ENDED
        self.reject_reinvite(487, now)
        self._core.emit(CallEnded(self, cause, status, reason, header))

    def _send_bye(self, now: float) -> None:
        if self.dialog is None or self._bye is not None:
            return
        self._bye = self.dialog.request("BYE")
        if self._bye_reason is not None:
            self._bye.headers.add("Reason", self._bye_reason)
        self._core.send_in_dialog(self.dialog, self._bye, self, now, beside=self.flow)

    def _adopt(self, dialog: Dialog) -> None:
        """Requests in this dialog are for this call."""
        self._dialogs.append(dialog)
        self._core.add_dialog(dialog, self)

    def _forget(self) -> None:
        """Nothing is left to do: leave the tables."""
        self._drop_answer()
        self._stop_waiting()
        for dialog in self._dialogs:
            self._core.remove_dialog(dialog)
        self._dialogs.clear()
        self._core.calls.discard(self)

    def _stop_waiting(self) -> None:
        """Drop the deadlines of a call that is not answered yet."""


def reason_header_of(message: Request | Response) -> str | None:
    """The Reason header fields (RFC 3326), which may be several."""
    return ", ".join(message.headers.get_all("Reason")) or None
