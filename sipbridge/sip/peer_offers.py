"""What the peer asks of the session, by re-INVITE, UPDATE or PRACK (RFC 3261 §14.2, RFC 3311 §5.2, RFC 3262 §5).

One such request waits for the owner of the call at a time. What comes at the wrong time is refused here: 491 where it
crosses something of ours, 500 with Retry-After where one of the peer's is still waiting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipbridge.sip.body import session_description
from sipbridge.sip.dialog import Dialog
from sipbridge.sip.events import ReinviteReceived
from sipbridge.sip.exchange import Turn
from sipbridge.sip.message import Request
from sipbridge.sip.part import CallPart
from sipbridge.sip.replies import Reply
from sipbridge.sip.session_timer import is_too_brief
from sipbridge.sip.transaction import ServerTransaction

if TYPE_CHECKING:
    from sipbridge.sip.core import Core
    from sipbridge.sip.invite import Invite


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that waits for its answer."""

    request: Request
    transaction: ServerTransaction
    dialog: Dialog
    offer: bytes | None


class PeerOffers(CallPart):
    """Those of one call."""

    def __init__(self, core: Core, call: Invite) -> None:
        super().__init__(core, call)
        self.pending: Pending | None = None

    def receive(self, request: Request, transaction: ServerTransaction, dialog: Dialog, now: float) -> None:
        """A re-INVITE or an UPDATE."""
        offer = session_description(request)
        refusal = self._refusal(request, dialog, offer)
        if refusal is not None:
            self._call.respond(transaction, refusal.status, now, headers=refusal.headers)
        elif offer is None and request.method == "UPDATE":
            dialog.refresh_target(request)
            self._call.agree(transaction, dialog, b"", now)
        else:
            self.wait(request, transaction, dialog, offer)

    def wait(self, request: Request, transaction: ServerTransaction, dialog: Dialog, offer: bytes | None) -> None:
        """Ask the owner of the call, who is to `accept` or `reject`."""
        self.pending = Pending(request, transaction, dialog, offer)
        if offer is not None:
            dialog.exchange.receive_offer(offer)
        self._core.emit(ReinviteReceived(self._call, request, offer))

    def accept(self, sdp: bytes, now: float) -> None:
        pending, self.pending = self.pending, None
        if pending is None:
            return
        exchange = pending.dialog.exchange
        if pending.offer is None:
            exchange.send_offer(sdp)
        else:
            exchange.send_answer(sdp)
        if pending.request.method != "PRACK":
            pending.dialog.refresh_target(pending.request)
        self._call.agree(pending.transaction, pending.dialog, sdp, now)

    def reject(self, status: int, now: float, *, reason: str | None = None) -> None:
        pending, self.pending = self.pending, None
        if pending is None:
            return
        if pending.offer is not None:
            pending.dialog.exchange.withdraw()
        self._call.respond(pending.transaction, status, now, reason=reason)

    def retry_later(self, request: Request) -> Reply:
        """500: the peer's last offer waits. The time is to be random (§14.2), and differs by the request."""
        seconds = int(self._core.stateless_tag(str(request.via), request.call_id), 16) % 11
        return Reply(500, (("Retry-After", str(seconds)),))

    def _refusal(self, request: Request, dialog: Dialog, offer: bytes | None) -> Reply | None:
        settings = self._core.session_timers
        if is_too_brief(request, settings):
            return Reply(422, (("Min-SE", str(settings.min_s)),))
        if request.method == "INVITE":
            return self._reinvite_refusal(request, dialog)
        return self._update_refusal(request, dialog, offer)

    def _reinvite_refusal(self, request: Request, dialog: Dialog) -> Reply | None:
        if self.pending is not None:
            return self.retry_later(request)
        if not self._call.is_settled or dialog.exchange.turn is not Turn.NOBODY:
            # Glare (§14.2), or a re-INVITE that overtook the ACK before it (RFC 5407 §3.1.4).
            return Reply(491)
        return None

    def _update_refusal(self, request: Request, dialog: Dialog, offer: bytes | None) -> Reply | None:
        pending = self.pending
        if pending is not None and (offer is not None or pending.request.method == "UPDATE"):
            return self.retry_later(request)
        if offer is None:
            return None
        exchange = dialog.exchange
        if exchange.turn is Turn.OURS:
            return self.retry_later(request)
        if exchange.turn is Turn.THEIRS or not exchange.is_established or self._call.is_reinviting:
            return Reply(491)
        return None
