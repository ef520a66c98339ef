"""The callee's side of a call before it is answered (RFC 3261 §13.3): ring, answer, refuse, be cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipbridge.errors import LocalProtocolError
from sipbridge.sip.body import SDP
from sipbridge.sip.dialog import Dialog
from sipbridge.sip.events import EndCause
from sipbridge.sip.flow import Flow
from sipbridge.sip.invite import CallState, Invite, reason_header_of
from sipbridge.sip.message import Request
from sipbridge.sip.status import reason_phrase
from sipbridge.sip.transaction import ServerTransaction

if TYPE_CHECKING:
    from sipbridge.sip.core import Core

PROGRESS_INTERVAL = 60.0
"""§13.3.1.1: a proxy gives an INVITE up that stays without a provisional response for three minutes."""


class IncomingInvite(Invite):
    """A call that came in. `dialog` exists from the beginning, early until it is answered."""

    dialog: Dialog

    def __init__(self, core: Core, request: Request, flow: Flow) -> None:
        super().__init__(core, request, request.from_, flow)
        self.dialog = Dialog.as_uas(request, core.new_token())
        self._transaction: ServerTransaction | None = None
        self._progress: tuple[int, bytes] | None = None
        self._next_progress: float | None = None
        self._expires_at: float | None = None
        self._adopt(self.dialog)

    def begin(self, transaction: ServerTransaction, now: float) -> None:
        """Answer 100 and watch the INVITE's own Expires (§13.3.1)."""
        self._transaction = transaction
        self._core.respond(transaction, transaction.request.response(100), now)
        expires = self.request.headers.get("Expires") or ""
        if expires.isascii() and expires.isdigit() and len(expires) <= 9:
            self._expires_at = now + int(expires)
            self._core.schedule.update(self)

    # commands

    def ring(self, now: float, status: int = 180, body: bytes = b"") -> None:
        """A provisional response that makes the dialog; with a session description where there is early media (183).
        It is repeated every minute until the call is answered."""
        if not 100 < status < 200:
            raise LocalProtocolError(f"{status} is no provisional response")
        if self.state is CallState.ENDED:
            return
        self._require_unanswered("ring")
        self.state = CallState.RINGING
        self._progress = (status, body)
        self._send_progress(now)

    def answer(self, sdp: bytes, now: float, *, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """200. `Acknowledged` follows, or `CallEnded(ACK_TIMEOUT)`."""
        if self.state is CallState.ENDED:
            return
        self._require_unanswered("answer")
        assert self._transaction is not None
        self._stop_waiting()
        self.state = CallState.ANSWERED
        self.dialog.confirmed = True
        self._send_answer(self._transaction, sdp, now, headers)

    def reject(
        self, status: int, reason: str | None = None, *, now: float, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
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
                self._drop_answer()  # of a re-INVITE: the BYE makes it pointless
                self._send_bye(now)
            # §15: the callee sends no BYE before the ACK has come, or will not come any more.

    # input

    def receive_cancel(self, cancel: Request, now: float) -> None:
        if self.state in (CallState.INVITED, CallState.RINGING):
            self._refuse(487, now)
            self._end(EndCause.CANCELLED, 487, "cancelled by the caller", now, header=reason_header_of(cancel))
        else:
            super().receive_cancel(cancel, now)  # too late for the call itself (§9.2)

    def _receive_bye(self, request: Request, transaction: ServerTransaction, now: float) -> None:
        if self.state in (CallState.INVITED, CallState.RINGING):
            # §15.1.2: a BYE in the early dialog ends the INVITE, too.
            self._respond(transaction, 200, now)
            self._refuse(487, now)
            self._end(EndCause.CANCELLED, 487, "given up by the caller", now, header=reason_header_of(request))
        else:
            super()._receive_bye(request, transaction, now)

    # time

    def get_timer(self) -> float | None:
        deadlines = (super().get_timer(), self._next_progress, self._expires_at)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def handle_timer(self, now: float) -> None:
        if self._expires_at is not None and now >= self._expires_at:
            self._refuse(487, now)
            self._end(EndCause.TIMEOUT, 487, "not answered before the INVITE expired", now)
        elif self._next_progress is not None and now >= self._next_progress:
            self._send_progress(now)
        else:
            super().handle_timer(now)

    # private

    def _require_unanswered(self, command: str) -> None:
        if self.state not in (CallState.INVITED, CallState.RINGING):
            raise LocalProtocolError(f"{command} in a call that is {self.state.value}")

    def _send_progress(self, now: float) -> None:
        assert self._transaction is not None
        assert self._progress is not None
        assert self.flow is not None
        status, body = self._progress
        response = self.request.response(status, to_tag=self.local_tag)
        response.headers.add("Contact", self._core.contact(self.flow))
        if body:
            response.headers.add("Content-Type", SDP)
            response.body = body
        self._core.respond(self._transaction, response, now)
        self._next_progress = now + PROGRESS_INTERVAL
        self._core.schedule.update(self)

    def _refuse(
        self,
        status: int,
        now: float,
        *,
        reason: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        assert self._transaction is not None
        self._stop_waiting()
        self._respond(self._transaction, status, now, reason=reason, headers=headers)
        self._forget()

    def _stop_waiting(self) -> None:
        self._next_progress = self._expires_at = None
        self._core.schedule.update(self)
