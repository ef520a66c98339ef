"""What becomes of a peer's request (RFC 3261 §8.2, §12.2.2): the UAS core, from the parser to the call it is for.

In this order: a repetition is its transaction's affair, an ACK its call's; whoever has to prove who he is does so
(`authentication.py`); a REGISTER goes to the registrar; what is left is screened (`screening.py`) and served in its
dialog or, if it may begin one, by a new call. Refusals need no transaction, so nothing of a stranger's request stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from sipbridge.sip.authentication import Authentication
from sipbridge.sip.body import session_description
from sipbridge.sip.core import NOBODY, Core
from sipbridge.sip.events import InviteReceived
from sipbridge.sip.flow import Flow
from sipbridge.sip.message import Request
from sipbridge.sip.nat import stamp
from sipbridge.sip.registrar import Registrar
from sipbridge.sip.replaces import replaced_call
from sipbridge.sip.replies import Replies, Reply
from sipbridge.sip.screening import OPTIONS_HEADERS, screen
from sipbridge.sip.session_timer import is_too_brief
from sipbridge.sip.uas import IncomingInvite
from sipbridge.sip.unsolicited import outside

_FULL_S = "32"
"""Retry-After where there is no room for a transaction: by then those that are there have ended."""
MayCall: TypeAlias = Callable[[Flow, str | None], bool]


class RequestServer:
    """Part of one `UserAgent`, which sets who has to authenticate and who may register."""

    def __init__(self, core: Core, replies: Replies) -> None:
        self._core = core
        self._replies = replies
        self.authentication: Authentication | None = None
        self.registrar: Registrar | None = None
        self.unavailable: int | None = None
        self.may_call: MayCall = lambda flow, username: True

    def receive(self, request: Request, flow: Flow, now: float) -> None:
        core = self._core
        stamp(request.headers, request.via, flow)
        if core.transactions.receive_request(request, now):
            return
        if request.method == "ACK":
            self._receive_ack(request, now)
        elif self.authentication is None or request.method == "CANCEL":
            self.serve(request, flow, None, now)
        else:
            self.authentication.receive(request, flow, now)

    def serve(self, request: Request, flow: Flow, username: str | None, now: float) -> None:
        """A request from somebody who may make it; `username` if he has proven who he is."""
        if self._core.transactions.is_full and request.method not in ("BYE", "CANCEL"):
            self._core.counters["transactions_full"] += 1
            self._replies.reply(request, Reply(503, (("Retry-After", _FULL_S),)), flow, now)
            return
        if request.method == "REGISTER" and self.registrar is not None:
            self._register(self.registrar, request, flow, username, now)
            return
        fault = screen(request)
        if fault is not None:
            self._replies.reply(request, fault, flow, now)
        elif request.method == "CANCEL":
            self._receive_cancel(request, flow, now)
        elif request.to.tag is not None:
            self._receive_in_dialog(request, flow, now)
        else:
            self._receive_out_of_dialog(request, flow, username, now)

    def _register(self, registrar: Registrar, request: Request, flow: Flow, username: str | None, now: float) -> None:
        """In a transaction: a repetition gets the same answer, and its credentials are not taken for a replay."""
        core = self._core
        if core.transactions.is_merged(request):
            self._replies.reply(request, Reply(482), flow, now)
            return
        transaction = core.transactions.serve(request, flow, NOBODY, now)
        answer = registrar.register(request, username, flow, now)
        core.counters[f"register_{answer.status}"] += 1
        tag = self._replies.tag(request)
        response = request.response(answer.status, answer.reason, to_tag=tag, headers=answer.headers)
        core.respond(transaction, response, now)
        core.schedule.update(registrar)

    def _receive_ack(self, ack: Request, now: float) -> None:
        """The ACK of a 2xx, which no transaction claims (§17.1.1.3)."""
        call = self._core.unacknowledged.get((ack.call_id, ack.from_.tag or "", ack.cseq.number))
        if call is None:
            self._core.counters["stray_ack"] += 1
        else:
            call.receive_ack(ack, now)

    def _receive_cancel(self, cancel: Request, flow: Flow, now: float) -> None:
        found = self._core.transactions.cancelled_by(cancel)
        if found is None and self.authentication is not None and self.authentication.cancel(cancel, now):
            found = (None, None)
        if found is None:
            self._replies.reply(cancel, Reply(481), flow, now)
            return
        tag, call = found
        self._replies.send(cancel.response(200, to_tag=tag or self._replies.tag(cancel)), flow, now)
        if call is not None:
            call.receive_cancel(cancel, now)

    def _receive_in_dialog(self, request: Request, flow: Flow, now: float) -> None:
        core = self._core
        found = core.find_dialog(request)
        if found is None:
            self._replies.reply(request, Reply(481), flow, now)
            return
        dialog, call = found
        transaction = core.transactions.serve(request, flow, call, now)
        call.receive_request(request, dialog, transaction, flow, now)

    def _receive_out_of_dialog(self, request: Request, flow: Flow, username: str | None, now: float) -> None:
        core = self._core
        if core.transactions.is_merged(request):
            self._replies.reply(request, Reply(482), flow, now)
        elif (answer := outside(request)) is not None:
            self._replies.reply(request, answer, flow, now)
        elif request.method == "INVITE" and not self.may_call(flow, username):
            self._replies.reply(request, Reply(403), flow, now)
        elif self.unavailable is not None:
            self._replies.reply(request, Reply(503, (("Retry-After", str(self.unavailable)),)), flow, now)
        elif request.method == "OPTIONS":
            self._replies.reply(request, Reply(200, OPTIONS_HEADERS), flow, now)
        elif is_too_brief(request, core.session_timers):
            self._replies.reply(request, Reply(422, (("Min-SE", str(core.session_timers.min_s)),)), flow, now)
        elif isinstance(replaced := replaced_call(request, flow, core), Reply):
            self._replies.reply(request, replaced, flow, now)
        else:
            call = IncomingInvite(core, request, flow)
            call.begin(core.transactions.serve(request, flow, call, now), now)
            core.emit(InviteReceived(call, request, session_description(request), flow, username, replaced))
