"""REFER within one call, both ways (RFC 3515): what is asked, how it goes on, and when there is nothing more to tell.

A subscription is a usage of the dialog beside the call (RFC 5057): it may outlive it. Who transfers a call away mostly
hangs up at once, and is told all the same; who was told to transfer it may tell of that after the BYE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipbridge.errors import LocalProtocolError, SipParseError
from sipbridge.sip.dialog import Dialog
from sipbridge.sip.events import ReferAccepted, ReferFailed, ReferProgress, ReferReceived
from sipbridge.sip.headers import delta_seconds
from sipbridge.sip.message import Request, Response
from sipbridge.sip.notifier import ReferNotifier
from sipbridge.sip.part import CallPart
from sipbridge.sip.refer import EVENT, Referral, event_of, refer_to, refuses_subscription
from sipbridge.sip.replaces import Replaces
from sipbridge.sip.subscription import Notification, ReferSubscription
from sipbridge.sip.transaction import ServerTransaction
from sipbridge.sip.unsolicited import ALLOW_EVENTS, unsolicited
from sipbridge.sip.usage import ends_call

if TYPE_CHECKING:
    from sipbridge.sip.core import Core
    from sipbridge.sip.invite import Invite

_ANSWER_S = 8.0
"""How long the owner of the call may take to answer a REFER: other than an INVITE it is not to be kept waiting."""
_MAX_NOTIFIERS = 4


@dataclass(eq=False, slots=True)
class _Asked:
    """A REFER of theirs that waits for its answer."""

    request: Request
    transaction: ServerTransaction
    dialog: Dialog
    referral: Referral
    deadline: float


class Transfers(CallPart):
    """Those of one call."""

    def __init__(self, core: Core, call: Invite) -> None:
        super().__init__(core, call)
        self._subscriptions: list[ReferSubscription] = []
        self._notifiers: list[ReferNotifier] = []
        self._asked: _Asked | None = None
        self._referred = False
        """They have sent a REFER before: the next one's NOTIFYs have to say whose they are."""

    @property
    def is_active(self) -> bool:
        return bool(self._subscriptions or self._notifiers)

    # commands

    def refer(
        self, target: str | None, now: float, *, referred_by: str | None, replaces: Invite | None, refer_sub: bool
    ) -> None:
        """See `Invite.refer`."""
        dialog, other = self._call.dialog, None if replaces is None else replaces.dialog
        if self._call.is_over:
            return
        if not self._call.is_confirmed or dialog is None:
            raise LocalProtocolError(f"REFER in a call that is {self._call.state.value}")
        if replaces is not None and (other is None or not other.confirmed):
            raise LocalProtocolError(f"REFER to a call that is {replaces.state.value}")
        if replaces is not None and replaces.is_over:
            self._core.emit(ReferFailed(self._call, 481))
            return
        replaced, remote_target = (None, "") if other is None else (Replaces.of_dialog(other), other.remote_target)
        value = refer_to(target, replaced, remote_target)
        request = dialog.request("REFER")
        request.headers.add("Refer-To", value)
        if referred_by is not None:
            request.headers.add("Referred-By", f"<{referred_by}>")
        if not refer_sub:
            request.headers.add("Refer-Sub", "false")
        request.headers.add("Allow-Events", ALLOW_EVENTS)
        self._subscriptions.append(ReferSubscription(request))
        self._core.send_in_dialog(dialog, request, self._call, now, beside=self._call.flow)

    def accept(self, now: float) -> ReferNotifier:
        """202, and a first NOTIFY at once. (RFC 6665 would have 200, which says the same; RFC 3515 and all that was
        built by it have 202.) Where nothing waits, because it was given up meanwhile, the notifier tells nobody."""
        asked, self._asked = self._asked, None
        if asked is None or self._call.flow is None:
            return ReferNotifier(self._core, self._call, None, "", now, on_over=self._notifier_over)
        self._core.schedule.update(self)
        headers = [("Contact", self._core.own.contact(self._call.flow))]
        if not asked.referral.subscribes:
            headers.append(("Refer-Sub", "false"))
        self._call.respond(asked.transaction, 202, now, headers=tuple(headers))
        id_ = f";id={asked.request.cseq.number}" if self._referred else ""
        self._referred = True
        dialog = asked.dialog if asked.referral.subscribes else None
        notifier = ReferNotifier(self._core, self._call, dialog, f"{EVENT}{id_}", now, on_over=self._notifier_over)
        if not notifier.is_over:
            self._notifiers.append(notifier)
            notifier.tell(now)
        return notifier

    def reject(self, status: int, now: float) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            self._core.schedule.update(self)
            self._call.respond(asked.transaction, status, now)

    # input: requests

    def receive(self, request: Request, transaction: ServerTransaction, dialog: Dialog, now: float) -> None:
        """REFER, NOTIFY or SUBSCRIBE."""
        match request.method:
            case "REFER":
                self._receive_refer(request, transaction, dialog, now)
            case "NOTIFY":
                self._receive_notify(request, transaction, now)
            case _:
                self._receive_subscribe(request, transaction, now)

    def _receive_refer(self, request: Request, transaction: ServerTransaction, dialog: Dialog, now: float) -> None:
        policy = self._core.transfer_policy.refer
        if policy is None or not dialog.confirmed:
            # Placing calls at a stranger's word is toll fraud's front door.
            self._call.respond(transaction, 403, now)
            return
        try:
            referral = Referral.of(request)
        except SipParseError as error:
            self._core.counters["refer_refused"] += 1
            self._call.respond(transaction, error.sip_status, now, reason=f"{error}"[:120])
            return
        if self._asked is not None or len(self._notifiers) >= _MAX_NOTIFIERS:
            self._call.respond(transaction, 491, now)
        elif not policy(self._call, referral):
            self._core.counters["refer_refused"] += 1
            self._call.respond(transaction, 403, now)
        else:
            self._asked = _Asked(request, transaction, dialog, referral, now + _ANSWER_S)
            self._core.schedule.update(self)
            self._core.emit(
                ReferReceived(self._call, referral.refer_to, referral.replaces, referral.referred_by, request)
            )

    def _receive_notify(self, request: Request, transaction: ServerTransaction, now: float) -> None:
        subscription = next((known for known in self._subscriptions if known.matches(request)), None)
        if subscription is None:
            refusal = unsolicited(request, in_dialog=not self._call.is_over)
            self._call.respond(transaction, refusal.status, now, headers=refusal.headers)
            return
        self._call.respond(transaction, 200, now)
        notification = subscription.receive(request, now)
        if subscription.terminated:
            self._subscriptions.remove(subscription)
        elif self._call.is_over:
            subscription.limit(now + self._core.timers.transaction_timeout)
        self._progress(notification)
        self._changed()

    def _receive_subscribe(self, request: Request, transaction: ServerTransaction, now: float) -> None:
        """They want to hear more of their REFER, or nothing; there is nothing else to subscribe to."""
        event, id_ = event_of(request)
        if event != EVENT:
            self._call.respond(transaction, 489, now, headers=(("Allow-Events", ALLOW_EVENTS),))
            return
        notifier = next((known for known in self._notifiers if known.is_of(id_)), None)
        if notifier is None or self._call.flow is None:
            self._call.respond(transaction, 481, now)
            return
        asked = delta_seconds(request.headers.get("Expires"))
        granted = notifier.reports.renewed(60 if asked is None else asked, now)
        headers = (("Contact", self._core.own.contact(self._call.flow)), ("Expires", str(granted)))
        self._call.respond(transaction, 200, now, headers=headers)
        notifier.tell(now)

    # input: what became of our REFERs

    def receive_response(self, request: Request, response: Response, now: float) -> None:
        if response.status < 200:
            return
        if response.status >= 300:
            self._refer_failed(request, response.status, response.retry_after, now)
            return
        subscription = next((known for known in self._subscriptions if known.refer is request), None)
        told = subscription is not None and not refuses_subscription(response)
        if subscription is not None and not told:
            self._subscriptions.remove(subscription)
        elif subscription is not None:
            subscription.accepted(now, self._core.timers.transaction_timeout)
        if not self._call.is_over:
            self._core.emit(ReferAccepted(self._call, told))
        self._changed()

    def request_failed(self, request: Request, status: int, now: float) -> None:
        self._refer_failed(request, status, None, now)

    def _refer_failed(self, request: Request, status: int, retry_after_s: int | None, now: float) -> None:
        self._subscriptions = [known for known in self._subscriptions if known.refer is not request]
        if not self._call.is_over:
            self._core.emit(ReferFailed(self._call, status, retry_after_s))
            if ends_call("REFER", status):
                self._call.lose(status, now)
        self._changed()

    def _progress(self, notification: Notification | None) -> None:
        if notification is not None and not self._call.is_over:
            self._core.emit(ReferProgress(self._call, notification.status, notification.reason, notification.final))

    # the call's end, and time

    def call_ended(self, now: float) -> None:
        """The peer may still have to say how it went on, and we to them, but not for ever."""
        self.reject(487, now)
        for subscription in self._subscriptions:
            subscription.limit(now + self._core.timers.transaction_timeout)
        self._core.schedule.update(self)

    def _notifier_over(self, notifier: ReferNotifier) -> None:
        if notifier in self._notifiers:
            self._notifiers.remove(notifier)
            self._changed()

    def get_timer(self) -> float | None:
        deadlines = [known.expires_at for known in self._subscriptions]
        deadlines.append(None if self._asked is None else self._asked.deadline)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def handle_timer(self, now: float) -> None:
        if self._asked is not None and now >= self._asked.deadline:
            self.reject(403, now)
        for subscription in list(self._subscriptions):
            if subscription.expires_at is not None and now >= subscription.expires_at:
                self._subscriptions.remove(subscription)
                self._progress(subscription.expire())
        self._changed()

    def _changed(self) -> None:
        self._core.schedule.update(self)
        if not self.is_active:
            self._call.transfers_over()
