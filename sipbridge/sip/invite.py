"""The INVITE usage of a dialog (RFC 3261 §13-15): one call, from the INVITE to the answer to its BYE.

This module holds what both roles share once there is a dialog: BYE, the 2xx that is repeated until its ACK, and the
parts that do the rest: `peer_offers.py` what the peer wants changed, `renegotiation.py` what we do, `transfers.py` who
is to be talked to instead, `session_timer.py` how long it may go on. `uas.py` and `uac.py` add what the callee and the
caller do before.

A call's commands may be given at any time: one that comes after the call has ended does nothing, since its `CallEnded`
is on its way; one that the protocol does not allow in a living call raises `LocalProtocolError`. `CallEnded` comes as
soon as the call is over for us; the core cleans up behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING

from sipbridge.errors import LocalProtocolError
from sipbridge.sip.ack import SentAcks, SentPracks
from sipbridge.sip.answer import Fields, GivenAnswer, success
from sipbridge.sip.body import session_description
from sipbridge.sip.dialog import Dialog, Order, answer_wants_sips
from sipbridge.sip.digest import Credentials, DigestClient
from sipbridge.sip.events import Acknowledged, CallEnded, EndCause, InfoReceived
from sipbridge.sip.exchange import Turn
from sipbridge.sip.flow import Flow
from sipbridge.sip.headers import CSeq, NameAddr
from sipbridge.sip.info import receive_info
from sipbridge.sip.message import Message, Request, Response
from sipbridge.sip.notifier import ReferNotifier
from sipbridge.sip.peer_offers import PeerOffers
from sipbridge.sip.reason import Reason
from sipbridge.sip.redirection import redirect_contacts
from sipbridge.sip.renegotiation import Offer, Renegotiation
from sipbridge.sip.screening import OPTIONS_HEADERS
from sipbridge.sip.sent_keys import SentKeys
from sipbridge.sip.session_timer import Due, SessionTimer
from sipbridge.sip.transaction import ServerTransaction
from sipbridge.sip.transfers import Transfers

if TYPE_CHECKING:
    from sipbridge.sip.core import Core


class CallState(Enum):
    INVITED = "invited"
    """The INVITE has been received or sent."""
    RINGING = "ringing"
    """A provisional response other than 100 has been sent or received."""
    ANSWERED = "answered"
    """The 2xx is not acknowledged yet: as caller we are, because it makes an offer that is still to be answered."""
    CONFIRMED = "confirmed"
    ENDED = "ended"
    """CallEnded has been emitted."""


class Invite:
    """One call. Created by the user agent, as `IncomingInvite` or `OutgoingInvite`."""

    made_call_id: bool
    """Whether the Call-ID is ours, which decides who waits longer after a collision (§14.1)."""

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
        self.digest: DigestClient | None = None
        """What answers the challenges that requests in this call's dialogs meet; see `credentials`."""
        self._core = core
        self.dialogs: list[Dialog] = []
        """Those whose requests are for this call: several, while it rings at several places."""
        self.acks = SentAcks(core)
        self.pracks = SentPracks(core, self)
        self.session_timer = SessionTimer(core.session_timers)
        self._peers = PeerOffers(core, self)
        self._ours = Renegotiation(core, self)
        self._answer = GivenAnswer(core, self)
        self._transfers = Transfers(core, self)
        self._keys = SentKeys(core, self)
        self._bye: Request | None = None
        self._bye_reason: str | None = None
        self._finished = False
        """Nothing is left to do but, perhaps, to tell of a transfer."""
        core.calls.add(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.call_id} {self.state.value}>"

    @property
    def credentials(self) -> Credentials | None:
        """With what challenges are answered."""
        return None if self.digest is None else self.digest.credentials

    @credentials.setter
    def credentials(self, credentials: Credentials | None) -> None:
        self.digest = None if credentials is None else DigestClient(credentials)

    @property
    def local_tag(self) -> str | None:
        return None if self.dialog is None else self.dialog.id.local_tag

    # commands

    def hang_up(self, now: float, reason_header: str | None = None) -> None:
        """End the call as its state asks: BYE, CANCEL or a refusal; `reason_header` is RFC 3326's, whole."""
        raise NotImplementedError

    def accept_reinvite(self, sdp: bytes, now: float) -> None:
        """200 to what the peer asked for with `ReinviteReceived`. Nothing happens where nothing is pending: it may have
        been cancelled meanwhile."""
        if self.state is not CallState.ENDED:
            self._peers.accept(sdp, now)
            self._settled(now)

    def reject_reinvite(self, status: int, now: float, *, reason: str | None = None) -> None:
        """Refuse what the peer asked for: the session stays as it was."""
        self._peers.reject(status, now, reason=reason)
        self._settled(now)

    def reinvite(self, offer: Offer, now: float) -> None:
        """Change the session by re-INVITE (§14.1): hold, resume, another address or codec. `SessionAnswered`,
        `SessionRefused` or the end of the call follows. An empty offer asks the peer for one.

        It is sent when nothing stands against it any more, and again where it crossed the peer's (491). The offer may
        be a function, which is then asked each time; one that is just bytes is given up (`SessionRefused(491)`) where
        the peer changed the session meanwhile. One change at a time, else LocalProtocolError."""
        if self.state is CallState.ENDED:
            return
        if self.dialog is None or self.state not in (CallState.ANSWERED, CallState.CONFIRMED):
            raise LocalProtocolError(f"re-INVITE in a call that is {self.state.value}")
        self._ours.begin("INVITE", offer, self.dialog, now)

    def update(self, offer: Offer, now: float, *, tag: str | None = None) -> None:
        """The same by UPDATE (RFC 3311), which the peer has to allow: also before the call is answered, once offer and
        answer have been exchanged reliably. `tag` is the peer's, to name one of several early dialogs."""
        if self.state is CallState.ENDED:
            return
        dialog = self.dialog or next((found for found in self.dialogs if tag in (None, found.id.remote_tag)), None)
        if dialog is None or not dialog.allows_update:
            raise LocalProtocolError("UPDATE to a peer that does not take it")
        self._ours.begin("UPDATE", offer, dialog, now)

    def acknowledge(self, sdp: bytes, now: float) -> None:
        """Answer the offer that came with `needs_answer`."""
        if self.state is not CallState.ENDED and not self._ours.acknowledge(sdp, now):
            raise LocalProtocolError("there is no offer to acknowledge")

    def refer(
        self,
        target: str | None,
        now: float,
        *,
        referred_by: str | None = None,
        replaces: Invite | None = None,
        refer_sub: bool = True,
    ) -> None:
        """Ask the peer to call `target`, a URI, instead of us (RFC 3515); with `replaces` to take our place in that
        call (attended transfer, RFC 5589 §7), whose far end is the target if none is given. `ReferAccepted` or
        `ReferFailed` answers, then, unless `refer_sub` is False and the peer complies, `ReferProgress` until it is
        final. Raises LocalProtocolError in a call that is not up, SipParseError for a target that is no URI."""
        self._transfers.refer(target, now, referred_by=referred_by, replaces=replaces, refer_sub=refer_sub)

    def accept_refer(self, now: float) -> ReferNotifier:
        """Take on what `ReferReceived` asks for. The notifier is to be told how it goes on; where the REFER does not
        wait any more, or the peer does not want to know, it tells nobody."""
        return self._transfers.accept(now)

    def reject_refer(self, status: int, now: float) -> None:
        """Nothing happens where no REFER waits."""
        self._transfers.reject(status, now)

    def send_key(self, key: str, now: float) -> None:
        """Tell the peer of a key by INFO, after those before; `KeyTold` says what it said. ValueError: it is none."""
        self._keys.send(key, now)

    # input: requests inside the dialog

    def receive_request(
        self, request: Request, dialog: Dialog, transaction: ServerTransaction, flow: Flow, now: float
    ) -> None:
        """Any request of one of our dialogs but ACK and CANCEL, screened and not seen before."""
        if dialog.receive_sequence(request) is Order.OLD:
            self._core.counters["cseq_out_of_order"] += 1
            self.respond(transaction, 500, now, reason="Server Internal Error: CSeq out of order")
            return
        self.flow = flow
        dialog.learn(request)
        if request.method == "BYE":
            self._receive_bye(request, transaction, now)
        elif self.state is CallState.ENDED and request.method not in ("NOTIFY", "SUBSCRIBE"):
            self.respond(transaction, 481, now)
        elif request.method in ("INVITE", "UPDATE"):
            self._peers.receive(request, transaction, dialog, now)
        elif request.method == "PRACK":
            self._receive_prack(request, transaction, dialog, now)
        elif request.method in ("REFER", "NOTIFY", "SUBSCRIBE"):
            self._transfers.receive(request, transaction, dialog, now)
        elif request.method == "INFO":
            self._receive_info(request, transaction, now)
        else:
            self.respond(transaction, 200, now, headers=OPTIONS_HEADERS if request.method == "OPTIONS" else ())

    def receive_ack(self, ack: Request, now: float) -> None:
        """The ACK of a 2xx of ours; repeated and stray ones change nothing."""
        answer = self._answer.acknowledge(ack)
        if answer is None:
            return
        if self.state is CallState.ENDED:
            self._send_bye(now)  # hung up while the ACK was on its way (§15)
            return
        self.state = CallState.CONFIRMED
        body = session_description(ack) or b""
        if self.dialog is not None and answer.makes_offer:
            if body:
                self.dialog.exchange.receive_answer(body)
            else:
                self.dialog.exchange.withdraw()  # its answer should have been there
        self._core.emit(Acknowledged(self, body))
        self._settled(now)

    def receive_cancel(self, cancel: Request, now: float) -> None:
        """The peer takes an INVITE back; the CANCEL itself has been answered. Without a re-INVITE the call goes on."""
        pending = self._peers.pending
        if pending is not None and pending.request.method == "INVITE" and pending.request.cseq == _invite_of(cancel):
            self.reject_reinvite(487, now)

    def _receive_bye(self, request: Request, transaction: ServerTransaction, now: float) -> None:
        self.respond(transaction, 200, now)
        self._answer.drop()
        self._end(EndCause.REMOTE_BYE, None, "hung up by the peer", now, said=request)
        if self._bye is None:
            self._forget()

    def _receive_prack(self, request: Request, transaction: ServerTransaction, dialog: Dialog, now: float) -> None:
        """Of no provisional response that we know (RFC 3262 §3)."""
        self.respond(transaction, 481, now)

    def _invite_outstanding(self) -> bool:
        """The INVITE that began the call, if it is ours, waits for its final response."""
        return False

    def _receive_info(self, request: Request, transaction: ServerTransaction, now: float) -> None:
        answer, told, key = receive_info(request)
        self.respond(transaction, answer.status, now, reason=answer.reason, headers=answer.headers)
        if told:
            self._core.emit(InfoReceived(self, request.content_type or "", request.body, key))

    # input: responses to requests inside the dialog

    def receive_response(self, request: Request, response: Response, now: float) -> None:
        accepts = request.method == "INVITE" and 200 <= response.status < 300
        if accepts and self.acks.repeat(response, now, beside=self.flow):
            return
        if request.method == "REFER":
            self._transfers.receive_response(request, response, now)
        elif (
            self._ours.receive_response(request, response, now)
            or response.status < 200
            or self._keys.answered(request, response.status, now)
        ):
            self._core.schedule.update(self)
        else:
            self._request_over(request, now)

    def request_failed(self, request: Request, status: int, now: float) -> None:
        if request.method == "REFER":
            self._transfers.request_failed(request, status, now)
        elif self._ours.request_failed(request, status, now) or self._keys.answered(request, status, now):
            self._core.schedule.update(self)
        else:
            self._request_over(request, now)

    def _request_over(self, request: Request, now: float) -> None:
        """A PRACK or a BYE has been answered, or never will be: to us that is the same."""
        if request.method == "PRACK":
            self.pracks.answered(request)
            self._settled(now)
        elif request is self._bye:
            self._forget()

    # time

    def get_timer(self) -> float | None:
        return min((deadline for deadline in self._deadlines() if deadline is not None), default=None)

    def handle_timer(self, now: float) -> None:
        self._ours.handle_timer(now)
        if self._answer.handle_timer(now):
            self._end(EndCause.ACK_TIMEOUT, None, "no ACK for our 200", now)
            self._send_bye(now)
        match self.session_timer.due(now):
            case Due.REFRESH:
                self._ours.refresh(now)
            case Due.EXPIRED:
                self._hang_up_lost(EndCause.SESSION_EXPIRED, None, "nobody refreshed the session", now)
        self._core.schedule.update(self)

    def _deadlines(self) -> Iterable[float | None]:
        return self._answer.get_timer(), self._ours.get_timer(), self.session_timer.get_timer()

    # for the parts

    @property
    def is_over(self) -> bool:
        return self.state is CallState.ENDED

    @property
    def is_confirmed(self) -> bool:
        return self.state is CallState.CONFIRMED

    @property
    def is_settled(self) -> bool:
        """No INVITE of either side, or its ACK, is under way: a re-INVITE may begin."""
        return (
            self.is_confirmed
            and not self._answer.is_pending
            and not self._invite_outstanding()
            and not self._ours.is_reinviting
        )

    @property
    def is_reinviting(self) -> bool:
        return self._ours.is_reinviting

    @property
    def has_pending_offer(self) -> bool:
        """The owner of the call has not yet said what to answer to the peer."""
        return self._peers.pending is not None

    @property
    def is_awaited(self) -> bool:
        """A response of ours has not been acknowledged: what overtook it might find no dialog, or another session."""
        return self._answer.is_pending

    def agree(self, transaction: ServerTransaction, dialog: Dialog, sdp: bytes, now: float) -> None:
        """200 to a re-INVITE, UPDATE or PRACK of the peer's."""
        if transaction.request.method == "INVITE":
            self._send_answer(transaction, sdp, now)
        else:
            self._core.respond(transaction, self._success(transaction, dialog, sdp, now), now)

    def transfers_over(self) -> None:
        """There is nothing more to tell of transfers."""
        if self._finished:
            self._forget()

    def lose(self, status: int, now: float) -> None:
        """A request inside the call was answered 481, or not at all (408): it is over (§12.2.1.2, RFC 5057)."""
        self._hang_up_lost(EndCause.LOST, status, "the peer does not know the call any more", now)

    # for both roles

    def respond(
        self,
        transaction: ServerTransaction,
        status: int,
        now: float,
        *,
        reason: str | None = None,
        headers: Fields = (),
    ) -> None:
        response = transaction.request.response(status, reason, to_tag=self.local_tag, headers=headers)
        self._core.respond(transaction, response, now)

    def _success(
        self, transaction: ServerTransaction, dialog: Dialog, sdp: bytes, now: float, headers: Fields = ()
    ) -> Response:
        """200. What it says of the session timer holds from now on."""
        assert self.flow is not None
        request = transaction.request
        if request.method != "PRACK" and dialog.confirmed:
            headers = (*headers, *self.session_timer.accept(request, now))
            self._ours.refreshed()
            self._core.schedule.update(self)
        contact = self._core.own.contact(self.flow, sips=answer_wants_sips(request))
        return success(request, sdp, to_tag=dialog.id.local_tag, contact=contact, headers=headers)

    def _send_answer(self, transaction: ServerTransaction, sdp: bytes, now: float, headers: Fields = ()) -> None:
        """200 to an INVITE, repeated until it is acknowledged (§13.3.1.4)."""
        assert self.dialog is not None
        response = self._success(transaction, self.dialog, sdp, now, headers)
        makes_offer = self.dialog.exchange.turn is Turn.THEIRS
        self._answer.give(transaction, response, now, makes_offer=makes_offer)

    def _settled(self, now: float) -> None:
        """Something has been agreed on, or given up: what waited for that may go on."""
        self._ours.pump(now)
        self._core.schedule.update(self)

    def _end(self, cause: EndCause, status: int | None, reason: str, now: float, said: Message | None = None) -> None:
        """The call is over for us: say so, once. A re-INVITE that still waits is refused (§15.1.2)."""
        if self.state is CallState.ENDED:
            return
        self.state = CallState.ENDED
        self._peers.reject(487, now)
        self._ours.stop(now)
        self._keys.stop()
        self._transfers.call_ended(now)
        self.session_timer.stop()
        self._core.schedule.update(self)
        header = None if said is None else ", ".join(said.headers.get_all("Reason")) or None
        contacts = redirect_contacts(said) if isinstance(said, Response) else ()
        self._core.emit(CallEnded(self, cause, status, reason, header, contacts))

    def _hang_up_lost(self, cause: EndCause, status: int | None, reason: str, now: float) -> None:
        self._bye_reason = str(Reason("SIP", status or 408, reason))
        self._end(cause, status, reason, now)
        self._answer.drop()
        self._send_bye(now)

    def _send_bye(self, now: float) -> None:
        if self.dialog is None or self._bye is not None:
            return
        self._bye = self.dialog.request("BYE")
        if self._bye_reason is not None:
            self._bye.headers.add("Reason", self._bye_reason)
        self._core.send_in_dialog(self.dialog, self._bye, self, now, beside=self.flow)

    def _adopt(self, dialog: Dialog) -> None:
        """Requests in this dialog are for this call."""
        self.dialogs.append(dialog)
        self._core.add_dialog(dialog, self)

    def _forget(self) -> None:
        """Nothing is left to do: leave the tables. The dialog stays as long as a transfer is told of (RFC 5057 §4)."""
        self._finished = True
        self._answer.drop()
        self._stop_waiting()
        if self._transfers.is_active:
            return
        for dialog in self.dialogs:
            self._core.remove_dialog(dialog)
        self.dialogs.clear()
        self._core.calls.discard(self)

    def _stop_waiting(self) -> None:
        """Drop the deadlines of a call that is not answered yet."""


def _invite_of(cancel: Request) -> CSeq:
    """The CSeq of the INVITE that a CANCEL means (§9.1)."""
    return CSeq(cancel.cseq.number, "INVITE")
