"""The caller's side of a call before it is answered (RFC 3261 §13.2, §9.1): call, hear it ring, acknowledge, cancel.

The 2xx of an INVITE is the UAC core's own business: each one is acknowledged, each repetition again with the same ACK,
whichever of several forked callees it comes from and however late. Until then each callee that rings has an early
dialog of its own, with a session and an order of reliable responses of its own (RFC 3262).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipbridge.sip.body import session_description
from sipbridge.sip.dialog import Dialog
from sipbridge.sip.events import Answered, EndCause, Progress
from sipbridge.sip.exchange import Turn
from sipbridge.sip.flow import Flow
from sipbridge.sip.headers import NameAddr, Uri
from sipbridge.sip.invite import CallState, Invite
from sipbridge.sip.message import Request, Response
from sipbridge.sip.reliable import Arrival, ProvisionalOrder, rseq_of
from sipbridge.sip.transaction import ServerTransaction

if TYPE_CHECKING:
    from sipbridge.sip.client_request import ClientRequest
    from sipbridge.sip.core import Core


_MAX_EARLY_DIALOGS = 32
"""Of one INVITE; whoever rings beyond that may still answer."""
_MAX_INTERVALS = 3
"""How often a session interval that was too small (422) is made larger: each proxy on the way may ask for more."""


@dataclass(eq=False, slots=True)
class _Early:
    """One place where it rings."""

    dialog: Dialog
    order: ProvisionalOrder = field(default_factory=ProvisionalOrder)
    preview: bytes = b""
    """The answer, as an unreliable response gave it: it counts where the 200 has none."""
    unanswered: Response | None = None
    """A reliable response that makes an offer; its PRACK waits for our answer."""


class OutgoingInvite(Invite):
    """A call that we make. `dialog` is None until it is answered."""

    made_call_id = True

    def __init__(self, core: Core, request: Request, remote_party: NameAddr) -> None:
        super().__init__(core, request, remote_party, None)
        self._sending: ClientRequest | None = None
        self._final = False
        """The INVITE has had its final response, or never will."""
        self._early: dict[str, _Early] = {}
        self._deadline: float | None = None
        self._intervals = 0
        self._way: tuple[Uri | Flow, str | None] | None = None

    def begin(self, hop: Uri | Flow, now: float, *, transport: str | None = None, proxy: Uri | None = None) -> None:
        self._way = (hop, transport)
        for name, value in self.session_timer.request_headers():
            self.request.headers.set(name, value)
        self._sending = self._core.send_out_of_dialog(
            self.request, hop, self, now, credentials=self.digest, transport=transport, proxy=proxy
        )

    # commands

    def cancel(self, now: float, reason_header: str | None = None) -> None:
        """Give the call up before it is answered. If the peer answers all the same, it gets its ACK and a BYE."""
        if self.state not in (CallState.INVITED, CallState.RINGING):
            return
        self._bye_reason = reason_header
        self._end(EndCause.CANCELLED, None, "cancelled here", now)
        self._send_cancel(now)

    def hang_up(self, now: float, reason_header: str | None = None) -> None:
        if self.state in (CallState.ANSWERED, CallState.CONFIRMED):
            self._bye_reason = reason_header
            if self.state is CallState.ANSWERED and self.dialog is not None:
                # The offer stays without an answer: the ACK is owed all the same.
                self.acks.send(self.dialog, self.request, b"", now, beside=self.flow)
            self._end(EndCause.LOCAL_BYE, None, "hung up here", now)
            self._answer.drop()
            self._send_bye(now)
        else:
            self.cancel(now, reason_header)

    def acknowledge(self, sdp: bytes, now: float) -> None:
        """Answer the offer of the 200 in the ACK; before there is one, that of a reliable response in its PRACK."""
        early = next((early for early in self._early.values() if early.unanswered is not None), None)
        if self.state is CallState.ANSWERED and self.dialog is not None:
            self.dialog.exchange.send_answer(sdp)
            self.acks.send(self.dialog, self.request, sdp, now, beside=self.flow)
            self.state = CallState.CONFIRMED
            self._settled(now)
        elif self.state is CallState.RINGING and early is not None and early.unanswered is not None:
            response, early.unanswered = early.unanswered, None
            early.dialog.exchange.send_answer(sdp)
            self.pracks.send(early.dialog, response, sdp, now)
        else:
            super().acknowledge(sdp, now)

    # input

    def receive_response(self, request: Request, response: Response, now: float) -> None:
        if request is not self.request:
            super().receive_response(request, response, now)
            return
        if self._sending is not None:
            self.flow = self._sending.flow
        if response.status < 200:
            self._receive_provisional(response, now)
        elif response.status < 300:
            self._receive_success(response, now)
        elif not self._ask_for_longer_interval(response, now):
            self._receive_failure(response, now)

    def request_failed(self, request: Request, status: int, now: float) -> None:
        if request is not self.request:
            super().request_failed(request, status, now)
        elif status == 408:
            self._finish(EndCause.TIMEOUT, status, "no answer to the INVITE", now)
        else:
            trouble = "" if self._sending is None else self._sending.trouble
            text = f"the peer could not be reached{': ' if trouble else ''}{trouble}"
            self._finish(EndCause.FLOW_FAILED, status, text, now)

    def _receive_provisional(self, response: Response, now: float) -> None:
        rseq = rseq_of(response)
        if self.state is CallState.ENDED and rseq is None:
            return
        if self.state is not CallState.ENDED:
            self._set_deadline(now + self._core.timers.c)
        if response.status == 100:
            return
        early = None if self.pracks.are_too_many else self._early_dialog(response)
        if rseq is not None and (early is None or early.order.receive(rseq) is not Arrival.NEW):
            return  # repeated, or one before it is missing (RFC 3262 §4)
        answer, needs_answer = b"", False
        if early is not None:
            answer, needs_answer = self._take_session(early, response, reliable=rseq is not None)
            if needs_answer and self.state is not CallState.ENDED:
                early.unanswered = response
            elif rseq is not None:
                self.pracks.send(early.dialog, response, b"", now)
            if response.status == 199:
                self._drop_early(response.to.tag or "")
        if self.state is not CallState.ENDED:
            self.state = CallState.RINGING
            self._core.emit(Progress(self, response, answer, needs_answer))

    def _early_dialog(self, response: Response) -> _Early | None:
        """Where it rings; None where that makes no dialog, or there are too many."""
        tag = response.to.tag
        if tag is None or (tag not in self._early and len(self._early) >= _MAX_EARLY_DIALOGS):
            return None
        early = self._early.get(tag)
        if early is None:
            early = self._early[tag] = _Early(self._new_dialog(response))
            self._adopt(early.dialog)
        elif rseq_of(response) is not None:
            early.dialog.learn(response)
            early.dialog.refresh_target(response)
        return early

    def _new_dialog(self, response: Response) -> Dialog:
        dialog = Dialog.as_uac(self.request, response)
        if self.request.body:
            dialog.exchange.send_offer(self.request.body)
        return dialog

    def _take_session(self, early: _Early, response: Response, *, reliable: bool) -> tuple[bytes, bool]:
        """What a provisional response says of the session, and whether that is an offer."""
        body = session_description(response) or b""
        exchange = early.dialog.exchange
        if body and exchange.turn is Turn.THEIRS and not exchange.is_established:
            early.preview = body
            if reliable:
                exchange.receive_answer(body)
            return body, False
        if body and reliable and exchange.turn is Turn.NOBODY and not exchange.is_established:
            exchange.receive_offer(body)
            return body, True
        return b"", False

    def _drop_early(self, tag: str) -> None:
        early = self._early.pop(tag, None)
        if early is not None:
            self.dialogs.remove(early.dialog)
            self._core.remove_dialog(early.dialog)

    def _receive_success(self, response: Response, now: float) -> None:
        if self.acks.repeat(response, now, beside=self.flow):
            return
        tag = response.to.tag or ""
        if self.state is CallState.ANSWERED and self.dialog is not None and self.dialog.id.remote_tag == tag:
            return  # our answer, and with it the ACK, is on its way
        self._final = True
        self._set_deadline(None)
        early = self._early.get(tag) or _Early(self._new_dialog(response))
        dialog = early.dialog
        dialog.confirm(response)
        if self.dialog is not None:
            self._hang_up_fork(dialog, now)
            return
        self._keep_only(dialog)
        self.dialog = dialog
        if self.state is CallState.ENDED:
            # Our CANCEL crossed the 200 (§9.1): the call was made, so it has to be hung up.
            self.acks.send(dialog, self.request, b"", now, beside=self.flow)
            self._send_bye(now)
        else:
            self._answered(early, response, now)

    def _answered(self, early: _Early, response: Response, now: float) -> None:
        dialog, exchange = early.dialog, early.dialog.exchange
        body = session_description(response) or b""
        needs_answer = False
        if exchange.turn is Turn.THEIRS and not exchange.is_established:
            exchange.receive_answer(body or early.preview)
        elif exchange.turn is Turn.NOBODY and not exchange.is_established and body:
            exchange.receive_offer(body)
            needs_answer = True
        self.state = CallState.ANSWERED if needs_answer else CallState.CONFIRMED
        if not needs_answer:
            self.acks.send(dialog, self.request, b"", now, beside=self.flow)
        self.session_timer.accepted(self.request, response, now)
        answer = b"" if exchange.rounds > 1 else exchange.remote
        self._core.emit(Answered(self, response, body if needs_answer else answer, needs_answer))
        self._settled(now)

    def _receive_failure(self, response: Response, now: float) -> None:
        """The transaction acknowledges it (§17.1.1.3)."""
        if not self._final:
            self._finish(EndCause.REJECTED, response.status, response.reason, now, response)

    def _ask_for_longer_interval(self, response: Response, now: float) -> bool:
        """RFC 4028 §7.3: a 422 names the least; the same INVITE goes out again with that."""
        if response.status != 422 or self.state is CallState.ENDED or self._intervals >= _MAX_INTERVALS:
            return False
        if self._way is None or not self.session_timer.raise_to(response):
            return False
        self._intervals += 1
        for tag in list(self._early):
            self._drop_early(tag)
        headers = self.request.headers.copy()
        headers.remove("Via")
        headers.set("CSeq", f"{self.request.cseq.number + 1} INVITE")
        self.request = Request("INVITE", self.request.uri, headers, self.request.body)
        hop, transport = self._way
        self._set_deadline(None)
        self.begin(hop, now, transport=transport)  # a proxy's Route is in the request by now
        return True

    def _receive_bye(self, request: Request, transaction: ServerTransaction, now: float) -> None:
        if self._final or self.dialog is not None:
            super()._receive_bye(request, transaction, now)
            return
        # §15 knows no such BYE: it ends one early dialog, and with the last of them the call.
        self.respond(transaction, 200, now)
        self._drop_early(request.from_.tag or "")
        if not self._early and self.state is not CallState.ENDED:
            self._end(EndCause.REMOTE_BYE, None, "hung up by the peer", now, said=request)
            self._send_cancel(now)

    # time

    def _deadlines(self) -> Iterable[float | None]:
        return (*super()._deadlines(), self._deadline)

    def handle_timer(self, now: float) -> None:
        if self._deadline is None or now < self._deadline:
            super().handle_timer(now)
        else:
            self._set_deadline(None)
            self._bye_reason = None
            self._end(EndCause.TIMEOUT, 408, "it rang, and nobody answered", now)
            self._send_cancel(now)

    # private

    def _hang_up_fork(self, dialog: Dialog, now: float) -> None:
        """Another callee answered the same INVITE (§13.2.2.4). Its BYE's answer interests nobody."""
        self._core.counters["forked_answer"] += 1
        self.acks.send(dialog, self.request, b"", now, beside=self.flow)
        self._core.send_in_dialog(dialog, dialog.request("BYE"), self, now, beside=self.flow, digest=self.digest)

    def _send_cancel(self, now: float) -> None:
        self._set_deadline(None)
        if self._sending is None or not self._sending.cancel(now, self._bye_reason):
            self._forget()  # it was never sent

    def _finish(self, cause: EndCause, status: int, reason: str, now: float, said: Response | None = None) -> None:
        """The INVITE came to nothing."""
        self._final = True
        self._end(cause, status, reason, now, said)
        self._forget()

    def _forget(self) -> None:
        super()._forget()
        self._sending = None  # it knows us, too

    def _keep_only(self, dialog: Dialog) -> None:
        """One callee has answered: the early dialogs with others are none of ours any more (§13.2.2.4)."""
        for other in self.dialogs:
            self._core.remove_dialog(other)
        self.dialogs.clear()
        self._early.clear()
        self._adopt(dialog)

    def _stop_waiting(self) -> None:
        self._set_deadline(None)

    def _set_deadline(self, deadline: float | None) -> None:
        self._deadline = deadline
        self._core.schedule.update(self)

    def _invite_outstanding(self) -> bool:
        return not self._final
