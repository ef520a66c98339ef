"""The caller's side of a call before it is answered (RFC 3261 §13.2, §9.1): call, hear it ring, acknowledge, cancel.

The 2xx of an INVITE is the UAC core's own business: each one is acknowledged, each repetition again with the same ACK,
whichever of several forked callees it comes from and however late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipbridge.sip.body import session_description
from sipbridge.sip.dialog import Dialog
from sipbridge.sip.events import Answered, EndCause, Progress
from sipbridge.sip.flow import Flow
from sipbridge.sip.headers import NameAddr, Uri
from sipbridge.sip.invite import CallState, Invite, reason_header_of
from sipbridge.sip.message import Request, Response

if TYPE_CHECKING:
    from sipbridge.sip.client_request import ClientRequest
    from sipbridge.sip.core import Core


_MAX_EARLY_DIALOGS = 32
"""Of one INVITE; whoever rings beyond that may still answer."""


class OutgoingInvite(Invite):
    """A call that we make. `dialog` is None until it is answered."""

    def __init__(self, core: Core, request: Request, remote_party: NameAddr) -> None:
        super().__init__(core, request, remote_party, None)
        self._sending: ClientRequest | None = None
        self._final = False
        """The INVITE has had its final response, or never will."""
        self._early: dict[str, Dialog] = {}
        self._acks: dict[str, tuple[Flow, bytes] | None] = {}
        """By the callee's tag; None while there is no flow yet to send it by."""
        self._deadline: float | None = None

    def begin(self, hop: Uri, now: float, *, transport: str | None = None, proxy: Uri | None = None) -> None:
        self._sending = self._core.send_out_of_dialog(
            self.request, hop, self, now, credentials=self.authorizer, transport=transport, proxy=proxy
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
        if self.state is CallState.CONFIRMED:
            self._bye_reason = reason_header
            self._end(EndCause.LOCAL_BYE, None, "hung up here", now)
            self._drop_answer()
            self._send_bye(now)
        else:
            self.cancel(now, reason_header)

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
        else:
            self._receive_failure(response.status, response.reason, now, header=reason_header_of(response))

    def request_failed(self, request: Request, status: int, now: float) -> None:
        if request is not self.request:
            super().request_failed(request, status, now)
        elif status == 408:
            self._finish(EndCause.TIMEOUT, status, "no answer to the INVITE", now)
        else:
            self._finish(EndCause.FLOW_FAILED, status, "the peer could not be reached", now)

    def _receive_provisional(self, response: Response, now: float) -> None:
        if self.state is CallState.ENDED:
            return
        self._set_deadline(now + self._core.timers.c)
        if response.status == 100:
            return
        tag = response.to.tag
        if tag is not None and tag not in self._early and len(self._early) < _MAX_EARLY_DIALOGS:
            self._early[tag] = Dialog.as_uac(self.request, response)
            self._adopt(self._early[tag])
        self.state = CallState.RINGING
        self._core.emit(Progress(self, response))

    def _receive_success(self, response: Response, now: float) -> None:
        tag = response.to.tag or ""
        if tag in self._acks:
            self._acknowledge_again(tag, now)
            return
        self._final = True
        self._set_deadline(None)
        dialog = self._early.get(tag) or Dialog.as_uac(self.request, response)
        dialog.confirm(response)
        first = self.dialog is None
        if first:
            self._keep_only(dialog)
            self.dialog = dialog
        self._acknowledge(dialog, now)
        if not first:
            self._hang_up_fork(dialog, now)
        elif self.state is CallState.ENDED:
            self._send_bye(now)  # our CANCEL crossed the 200 (§9.1): the call was made, so it has to be hung up
        else:
            self.state = CallState.CONFIRMED
            self._core.emit(Answered(self, response, session_description(response) or b""))

    def _receive_failure(self, status: int, reason: str, now: float, *, header: str | None) -> None:
        """The transaction acknowledges it (§17.1.1.3)."""
        if self._final:
            return
        self._finish(EndCause.REJECTED, status, reason, now, header=header)

    # time

    def get_timer(self) -> float | None:
        deadlines = (super().get_timer(), self._deadline)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def handle_timer(self, now: float) -> None:
        if self._deadline is None or now < self._deadline:
            super().handle_timer(now)
        else:
            self._set_deadline(None)
            self._bye_reason = None
            self._end(EndCause.TIMEOUT, 408, "it rang, and nobody answered", now)
            self._send_cancel(now)

    # private

    def _acknowledge(self, dialog: Dialog, now: float) -> None:
        tag = dialog.id.remote_tag
        self._acks[tag] = None
        ack = dialog.request("ACK", sequence=self.request.cseq.number)

        def sent(flow: Flow, data: bytes) -> None:
            self._acks[tag] = (flow, data)

        self._core.send_ack(dialog, ack, sent, now, beside=self.flow)

    def _acknowledge_again(self, tag: str, now: float) -> None:
        self._core.counters["ack_repeated"] += 1
        sent = self._acks[tag]
        if sent is not None:
            self._core.transmit(*sent, None, now)

    def _hang_up_fork(self, dialog: Dialog, now: float) -> None:
        """Another callee answered the same INVITE (§13.2.2.4). Its BYE's answer interests nobody."""
        self._core.counters["forked_answer"] += 1
        self._core.send_in_dialog(dialog, dialog.request("BYE"), self, now, beside=self.flow)

    def _send_cancel(self, now: float) -> None:
        self._set_deadline(None)
        if self._sending is None or not self._sending.cancel(now, self._bye_reason):
            self._forget()  # it was never sent

    def _finish(self, cause: EndCause, status: int, reason: str, now: float, *, header: str | None = None) -> None:
        """The INVITE came to nothing."""
        self._final = True
        self._end(cause, status, reason, now, header=header)
        self._forget()

    def _keep_only(self, dialog: Dialog) -> None:
        """One callee has answered: the early dialogs with others are none of ours any more (§13.2.2.4)."""
        for other in self._dialogs:
            self._core.remove_dialog(other)
        self._dialogs.clear()
        self._early.clear()
        self._adopt(dialog)

    def _stop_waiting(self) -> None:
        self._set_deadline(None)

    def _set_deadline(self, deadline: float | None) -> None:
        self._deadline = deadline
        self._core.schedule.update(self)

    def _invite_outstanding(self) -> bool:
        return not self._final
