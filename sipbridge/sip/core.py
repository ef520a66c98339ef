"""What the user agent and its calls share: output, events, time-keeping, the tables, and our own addresses.

Everything that comes out of the core, be it bytes, an event or a new deadline, passes `transmit`, `emit` or `schedule`
here, and each of them calls `wake`: after a command on a call nobody can forget to flush.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2s
from typing import TYPE_CHECKING

from sipbridge.sip.client_request import Authorizer, ClientRequest, Hop, ListedHops, Prepare
from sipbridge.sip.dialog import Dialog, DialogId
from sipbridge.sip.events import SipEvent
from sipbridge.sip.flow import Address, Flow, FlowTable, response_target, target_of
from sipbridge.sip.headers import NameAddr, Uri, Via
from sipbridge.sip.message import Request, Response
from sipbridge.sip.timers import Schedule, Timers
from sipbridge.sip.transaction import ClientTransaction, ServerTransaction
from sipbridge.sip.transaction_layer import MAGIC_COOKIE, TransactionLayer, TransactionUser

if TYPE_CHECKING:
    from sipbridge.sip.invite import Invite


@dataclass(frozen=True, slots=True)
class Identity:
    """How we present ourselves."""

    product: str = "sipbridge/0.1"
    """User-Agent and Server."""
    user: str | None = "sipbridge"
    """The user part of our Contact."""
    public_address: str | None = None
    """Host for Via and Contact instead of the listener's, behind NAT; not told to peers on a loopback address."""
    wildcard_address: Callable[[Flow], str] | None = None
    """The host to name where the listener is bound to all addresses; the transport knows. None: the loopback one."""


class Core:
    """See the module's docstring. `new_token` gives unguessable text that is fit for tags, branches and Call-IDs."""

    def __init__(self, new_token: Callable[[], str], identity: Identity, timers: Timers) -> None:
        self.new_token = new_token
        self.identity = identity
        self.timers = timers
        self.counters: Counter[str] = Counter()
        self.wake: Callable[[], None] | None = None
        self.schedule = Schedule(self._wake)
        self.flows = FlowTable(self.emit)
        self.transactions = TransactionLayer(timers, self.transmit, self.schedule, self.counters)
        self.dialogs: dict[DialogId, tuple[Dialog, Invite]] = {}
        self.calls: set[Invite] = set()
        """Those with anything left to do, be it only to see their BYE answered."""
        self.unacknowledged: dict[tuple[str, str, int], Invite] = {}
        """Call-ID, From tag and CSeq number of the INVITEs whose 2xx waits for its ACK. Without the To tag, which some
        peers get wrong in ACK."""
        self.messages: list[tuple[Flow, bytes]] = []
        self.events: deque[SipEvent] = deque()
        self._secret = new_token().encode()

    # the ways out

    def transmit(self, flow: Flow, data: bytes, via: Via | None, now: float) -> None:
        """Send; `via` is the top Via of a response, which finds its way even if its connection is gone (§18.2.2)."""
        if via is not None and not self.flows.is_open(flow):
            target = response_target(via, flow.transport)
            self.flows.find(target, lambda found, _: self._transmit_late(found, data), now)
            return
        self.messages.append((flow, data))
        self._wake()

    def emit(self, event: SipEvent) -> None:
        self.events.append(event)
        self._wake()

    def _transmit_late(self, flow: Flow | None, data: bytes) -> None:
        if flow is None:
            self.counters["response_undeliverable"] += 1
        else:
            self.messages.append((flow, data))
            self._wake()

    def _wake(self) -> None:
        if self.wake is not None:
            self.wake()

    # requests and responses

    def send_request(self, request: Request, flow: Flow, user: TransactionUser, now: float) -> ClientTransaction:
        """Send a request by a flow, in a transaction of its own, and no more than that."""
        self.address_request(request, flow)
        return self.transactions.request(request, flow, user, now)

    def send_in_dialog(
        self,
        dialog: Dialog,
        request: Request,
        user: TransactionUser,
        now: float,
        *,
        beside: Flow | None,
        authorizer: Authorizer | None = None,
    ) -> ClientRequest:
        """Send a request of a dialog to its next hop, until its final response (`client_request.py`); `user` hears of a
        failure as of any other (503). Challenges are answered with the credentials of the dialog's call."""
        if authorizer is None and (found := self.dialogs.get(dialog.id)) is not None:
            authorizer = found[1].authorizer
        hops = ListedHops(self._dialog_hops(dialog, beside))
        sending = ClientRequest(self, request, user, hops, authorizer=authorizer, dialog=dialog, beside=beside)
        sending.begin(now)
        return sending

    def send_out_of_dialog(
        self,
        request: Request,
        hop: Uri,
        user: TransactionUser,
        now: float,
        *,
        credentials: Authorizer | None = None,
        transport: str | None = None,
        proxy: Uri | None = None,
        prepare: Prepare | None = None,
    ) -> ClientRequest:
        """Send a request outside any dialog until its final response: an INVITE, REGISTER, OPTIONS, MESSAGE.

        It goes to `hop`, by `transport` unless the URI says another; with `proxy`, an outbound proxy, it goes there,
        which a Route tells (§8.1.2). A request that has Route fields already goes to the first of them. `request` is
        complete but for Via, User-Agent and an INVITE's Contact; `prepare` may set what else depends on the flow.
        """
        if proxy is not None:
            request.headers.prepend("Route", str(NameAddr("", replace(proxy, params={**proxy.params, "lr": None}))))
        next_hop = request.routes[0].uri if "Route" in request.headers else hop
        hops = ListedHops([target_of(next_hop, transport)])
        sending = ClientRequest(self, request, user, hops, authorizer=credentials, prepare=prepare)
        sending.begin(now)
        return sending

    def send_ack(
        self, dialog: Dialog, ack: Request, sent: Callable[[Flow, bytes], None], now: float, *, beside: Flow | None
    ) -> None:
        """Send the ACK of a 2xx: outside any transaction (§13.2.2.4). `sent` is told what to repeat, and where to."""

        def found(flow: Flow | None, now: float) -> None:
            if flow is None:
                self.counters["ack_undeliverable"] += 1
                return
            self.address_request(ack, flow)
            data = ack.serialize()
            self.transmit(flow, data, None, now)
            sent(flow, data)

        self.find_next_hop(dialog, found, now, beside=beside)

    def find_next_hop(
        self, dialog: Dialog, found: Callable[[Flow | None, float], None], now: float, *, beside: Flow | None
    ) -> None:
        first = self._dialog_hops(dialog, beside)[0]
        if isinstance(first, Flow):
            found(first, now)
        else:
            self.flows.find(first, found, now, beside=beside)

    def _dialog_hops(self, dialog: Dialog, beside: Flow | None) -> list[Hop]:
        hops: list[Hop] = [target_of(dialog.next_hop())]
        # A peer that connected to us and did not name a proxy is reached by that connection while it lives: the
        # address in the Contact of a phone behind NAT, or with TCP in general, is often one nobody listens on.
        if beside is not None and beside.reliable and not dialog.route_set and self.flows.is_open(beside):
            hops.insert(0, beside)
        return hops

    def respond(self, transaction: ServerTransaction, response: Response, now: float) -> None:
        self.sign(response)
        self.transactions.respond(transaction, response, now)

    def sign(self, response: Response) -> None:
        if response.status >= 180:
            response.headers.set("Server", self.identity.product)

    def stateless_tag(self, *parts: str) -> str:
        """A To tag for a response without a transaction: the same for each repetition of the request (§8.2.7)."""
        return blake2s(
            "\0".join(parts).encode("utf-8", "surrogateescape"), key=self._secret[:32], digest_size=8
        ).hexdigest()

    # our own addresses

    def address(self, flow: Flow) -> Address:
        """The host and port by which the peer on this flow can reach us: that of the listener, not of a connection."""
        host, port = self.flows.listener(flow.transport, flow.local) or flow.local
        identity = self.identity
        if identity.public_address is not None and not ipaddress.ip_address(flow.remote[0]).is_loopback:
            return identity.public_address, port
        if ipaddress.ip_address(host).is_unspecified:
            host = identity.wildcard_address(flow) if identity.wildcard_address is not None else "127.0.0.1"
        return host, port

    def contact(self, flow: Flow) -> str:
        """In-dialog requests are to come back by the same transport."""
        user = f"{self.identity.user}@" if self.identity.user else ""
        transport = "" if flow.transport == "udp" else f";transport={flow.transport}"
        return f"<sip:{user}{_host_port(self.address(flow))}{transport}>"

    def address_request(self, request: Request, flow: Flow) -> None:
        """Via with a new branch, and Contact, which depend on the flow. A CANCEL keeps the Via of its INVITE (§9.1)."""
        headers = request.headers
        if request.method in ("INVITE", "REFER"):
            headers.set("Contact", self.contact(flow))
        headers.set("User-Agent", self.identity.product)
        if request.method == "CANCEL":
            return
        branch = f"{MAGIC_COOKIE}{self.new_token()}"
        via = f"SIP/2.0/{flow.transport.upper()} {_host_port(self.address(flow))};rport;branch={branch}"
        if "Via" in headers:
            headers.set("Via", via)
        else:
            headers.prepend("Via", via)

    # calls

    def add_dialog(self, dialog: Dialog, call: Invite) -> None:
        self.dialogs[dialog.id] = (dialog, call)

    def remove_dialog(self, dialog: Dialog) -> None:
        self.dialogs.pop(dialog.id, None)

    def find_dialog(self, request: Request) -> tuple[Dialog, Invite] | None:
        """The dialog that a request was sent in (§12.2.2), and the call it is of."""
        return self.dialogs.get(DialogId(request.call_id, request.to.tag or "", request.from_.tag or ""))


def _host_port(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
