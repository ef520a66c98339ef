"""Dialogs (RFC 3261 §12): who is talking to whom, by which route, and with which sequence numbers.

A dialog is made from the message that creates it and makes the requests sent inside it; the text of From and To is kept
as it came, since some peers compare more than the tags. What the dialog is used for is not known here (`invite.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from typing import NamedTuple

from sipbridge.sip.exchange import Exchange
from sipbridge.sip.headers import NameAddr, Uri
from sipbridge.sip.message import Headers, Request, Response
from sipbridge.sip.nat import was_translated

MAX_FORWARDS = "70"


class DialogId(NamedTuple):
    """RFC 3261 §12: a peer from before tags existed has the empty tag."""

    call_id: str
    local_tag: str
    remote_tag: str


class Order(Enum):
    """What a request's CSeq says about it (§12.2.2)."""

    NEXT = "next"
    OLD = "old"


class Dialog:
    """One dialog, early or confirmed."""

    def __init__(
        self,
        dialog_id: DialogId,
        *,
        local_party: str,
        remote_party: str,
        remote_target: str,
        route_set: tuple[str, ...],
        local_sequence: int,
        remote_sequence: int | None,
        confirmed: bool = False,
    ) -> None:
        self.id = dialog_id
        self.local_party = local_party
        """Our From (or To) as it is on the wire, with our tag."""
        self.remote_party = remote_party
        self.remote_target = remote_target
        self.route_set = route_set
        self.local_sequence = local_sequence
        self.remote_sequence = remote_sequence
        self.confirmed = confirmed
        self.allows_update = False
        """The peer takes UPDATE (RFC 3311 §4), as far as it told."""
        self.allows_refer: bool | None = None
        """The peer takes REFER; None: it has not told (RFC 3261 §20.5: that says nothing)."""
        self.supports_replaces = False
        """The peer can put a call in the place of another (RFC 3891), as far as it told."""
        self.exchange = Exchange()
        self.translated = False
        """The peer's last word on where it is came through a NAT, which the remote target does not know of."""

    def __repr__(self) -> str:
        return f"<Dialog {self.id} {'confirmed' if self.confirmed else 'early'}>"

    @classmethod
    def as_uas(cls, request: Request, local_tag: str) -> Dialog:
        """§12.1.1: the route set is the Record-Route in its own order, the remote target the caller's Contact, which
        only a client of RFC 2543 may leave out (`screening.py`)."""
        dialog = cls(
            DialogId(request.call_id, local_tag, request.from_.tag or ""),
            local_party=f"{request.headers.get('To')};tag={local_tag}",
            remote_party=request.headers.get("From") or "",
            remote_target=_contact_uri(request) or str(request_uri(request.from_.uri)),
            route_set=tuple(str(route) for route in request.record_routes),
            local_sequence=0,
            remote_sequence=request.cseq.number,
        )
        dialog.learn(request)
        dialog.translated = was_translated(request)
        return dialog

    @classmethod
    def as_uac(cls, request: Request, response: Response) -> Dialog:
        """§12.1.2: the route set is the response's Record-Route in reverse order.

        A response without a Contact that can be called leaves the remote target at the Request-URI (some peers omit it
        in 1xx; none may in 2xx, but an ACK sent there has a better chance than none).
        """
        dialog = cls(
            DialogId(request.call_id, request.from_.tag or "", response.to.tag or ""),
            local_party=request.headers.get("From") or "",
            remote_party=response.headers.get("To") or "",
            remote_target=_contact_uri(response) or request.uri,
            route_set=tuple(str(route) for route in reversed(response.record_routes)),
            local_sequence=request.cseq.number,
            remote_sequence=None,
        )
        dialog.learn(response)
        return dialog

    def confirm(self, response: Response) -> None:
        """A 2xx confirms an early dialog; for old proxies the route set is computed again from it (§13.2.2.4)."""
        self.confirmed = True
        self.route_set = tuple(str(route) for route in reversed(response.record_routes))
        self.refresh_target(response)
        self.learn(response)

    def refresh_target(self, message: Request | Response) -> None:
        """Target refresh (§12.2): a re-INVITE that was accepted, or its 2xx, names where the peer is now."""
        self.remote_target = _contact_uri(message) or self.remote_target
        self.translated = isinstance(message, Request) and was_translated(message)

    def learn(self, message: Request | Response) -> None:
        """Take note of what the peer says that it can do; silence leaves it as it was."""
        fields = message.headers.get_all("Allow")
        if fields:
            methods = {method.strip() for field in fields for method in field.split(",")}
            self.allows_update, self.allows_refer = "UPDATE" in methods, "REFER" in methods
        if tags := message.headers.get_all("Supported"):
            self.supports_replaces = any(tag.strip().lower() == "replaces" for tag in ",".join(tags).split(","))

    def receive_sequence(self, request: Request) -> Order:
        """Take note of a request's CSeq. Gaps are legal (the requests between were answered by somebody else)."""
        number = request.cseq.number
        if self.remote_sequence is not None and number <= self.remote_sequence:
            return Order.OLD
        self.remote_sequence = number
        return Order.NEXT

    def request(self, method: str, *, sequence: int | None = None) -> Request:
        """A request inside this dialog, complete but for Via and Contact (§12.2.1.1). `sequence` is for ACK, which
        carries its INVITE's number; every other request takes the next one."""
        if sequence is None:
            self.local_sequence += 1
            sequence = self.local_sequence
        uri, routes = self._routing()
        headers = Headers()
        headers.add("Max-Forwards", MAX_FORWARDS)
        for route in routes:
            headers.add("Route", route)
        headers.add("From", self.local_party)
        headers.add("To", self.remote_party)
        headers.add("Call-ID", self.id.call_id)
        headers.add("CSeq", f"{sequence} {method}")
        return Request(method, uri, headers, b"")

    def next_hop(self) -> Uri:
        """The URI whose host a request of this dialog goes to: the first route, else the remote target (§8.1.2)."""
        if self.route_set:
            return NameAddr.parse(self.route_set[0]).uri
        return Uri.parse(self.remote_target)

    def _routing(self) -> tuple[str, tuple[str, ...]]:
        """Request-URI and Route. A first route without `lr` is a strict router: it wants to be the Request-URI itself
        and to find the remote target as the last route (§12.2.1.1)."""
        if not self.route_set:
            return self.remote_target, ()
        first = self.next_hop()
        if "lr" in first.params:
            return self.remote_target, self.route_set
        return str(request_uri(first)), (*self.route_set[1:], f"<{self.remote_target}>")


def _contact_uri(message: Request | Response) -> str | None:
    contact = message.contact
    return None if contact is None or contact.uri.scheme not in ("sip", "sips") else str(request_uri(contact.uri))


def request_uri(uri: Uri) -> Uri:
    """A URI made fit for the Request-URI: no `method` parameter and no header parameters (§19.1.1, table 1)."""
    params = {name: value for name, value in uri.params.items() if name != "method"}
    return replace(uri, params=params, headers=())


def wants_sips(request: Request, first: Sequence[NameAddr]) -> bool:
    """Whether a Contact that goes with a request must be a SIPS URI: its Request-URI is one, or the first of these,
    which are the routes of a request of ours (§8.1.1.8)."""
    return request.uri[:5].lower() == "sips:" or any(place.uri.scheme == "sips" for place in first[:1])


def answer_wants_sips(request: Request) -> bool:
    """The same of the Contact in our answer: here the first recorded route counts, and the peer's Contact where there
    is none (§12.1.1)."""
    contact = request.contact
    return wants_sips(request, request.record_routes or ([] if contact is None else [contact]))
