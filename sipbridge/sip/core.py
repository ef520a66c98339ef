"""What the user agent and its calls share: output, events, time-keeping and the tables.

Everything that comes out of the core, be it bytes, an event or a new deadline, passes `transmit`, `emit` or `schedule`
here, and each of them calls `wake`: after a command on a call nobody can forget to flush.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2s
from typing import TYPE_CHECKING

from sipbridge.sip.ack import SentAcks
from sipbridge.sip.client_request import MAX_DATAGRAM, ClientRequest, Prepare
from sipbridge.sip.dialog import Dialog, DialogId, request_uri
from sipbridge.sip.digest import Credentials, DigestClient
from sipbridge.sip.dns_cache import DnsCache
from sipbridge.sip.events import SipEvent
from sipbridge.sip.flow import Flow, FlowTable, Target, is_address, response_target
from sipbridge.sip.headers import NameAddr, Uri, Via
from sipbridge.sip.hops import FallbackHops, Hop, Hops, ListedHops
from sipbridge.sip.message import Request, Response
from sipbridge.sip.nat import is_hidden
from sipbridge.sip.own_addresses import Identity, OwnAddresses
from sipbridge.sip.refer import TransferPolicy
from sipbridge.sip.resolution import Resolver
from sipbridge.sip.session_timer import SessionTimers
from sipbridge.sip.timers import Schedule, Timers
from sipbridge.sip.transaction import ClientTransaction, ServerTransaction
from sipbridge.sip.transaction_layer import RequestUser, TransactionLayer

if TYPE_CHECKING:
    from sipbridge.sip.invite import Invite
    from sipbridge.sip.registration import Registration


class Core:
    """See the module's docstring. `new_token` gives unguessable text that is fit for tags, branches and Call-IDs."""

    def __init__(
        self, new_token: Callable[[], str], identity: Identity, timers: Timers, session_timers: SessionTimers
    ) -> None:
        self.new_token = new_token
        self.timers = timers
        self.session_timers = session_timers
        self.transfer_policy = TransferPolicy()
        self.counters: Counter[str] = Counter()
        self.wake: Callable[[], None] | None = None
        self.schedule = Schedule(self._wake)
        self.flows = FlowTable(self.emit)
        self.own = OwnAddresses(self.flows, identity, new_token)
        self.dns = DnsCache(self.emit, self.schedule, self.counters)
        self.resolver = Resolver(self.dns, self.flows, new_token)
        self.transactions = TransactionLayer(timers, self.transmit, self.schedule, self.counters)
        self.dialogs: dict[DialogId, tuple[Dialog, Invite]] = {}
        self.calls: set[Invite] = set()
        """Those with anything left to do, be it only to see their BYE answered."""
        self.unacknowledged: dict[tuple[str, str, int], Invite] = {}
        """Call-ID, From tag and CSeq number of the INVITEs whose 2xx waits for its ACK. Without the To tag, which some
        peers get wrong in ACK."""
        self.messages: list[tuple[Flow, bytes]] = []
        self.events: deque[SipEvent] = deque()
        self.flow_users: list[Callable[[Flow], bool]] = []
        """Who else may need a connection that is silent: the registrar."""
        self.registrations: set[Registration] = set()
        """Those of ours elsewhere that have not ended."""
        self._secret = new_token().encode()

    # the ways out

    def transmit(self, flow: Flow, data: bytes, via: Via | None, now: float) -> None:
        """Send; `via` is the top Via of a response, which finds its way even if its connection is gone (§18.2.2)."""
        if via is not None and not self.flows.is_open(flow):
            # RFC 3263 §5: where nobody listens there, it goes to the servers of the name that the peer gives itself.
            sent_by = Uri("sips" if flow.secure else "sip", None, via.host, via.port)
            by_name = self.resolver.hops(sent_by, flow.transport) if via.host != via.received else None
            hops = ListedHops([response_target(via, flow.transport)], by_name)
            self.find_flow(hops, lambda found, _: self._transmit_late(found, data), now)
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

    def send_request(self, request: Request, flow: Flow, user: RequestUser, now: float) -> ClientTransaction:
        """Send a request by a flow, in a transaction of its own, and no more than that."""
        self.own.address_request(request, flow)
        return self.transactions.request(request, flow, user, now)

    def send_in_dialog(
        self,
        dialog: Dialog,
        request: Request,
        user: RequestUser,
        now: float,
        *,
        beside: Flow | None,
        digest: DigestClient | None = None,
    ) -> ClientRequest:
        """Send a request of a dialog to its next hop, until its final response (`client_request.py`); `user` hears of a
        failure as of any other (503). Challenges are answered with the credentials of the dialog's call."""
        if digest is None and (found := self.dialogs.get(dialog.id)) is not None:
            digest = found[1].digest
        hops = self.dialog_hops(dialog, beside)
        sending = ClientRequest(self, request, user, hops, digest=digest, dialog=dialog, beside=beside)
        sending.begin(now)
        return sending

    def send_out_of_dialog(
        self,
        request: Request,
        hop: Uri | Flow,
        user: RequestUser,
        now: float,
        *,
        credentials: Credentials | DigestClient | None = None,
        transport: str | None = None,
        proxy: Uri | None = None,
        prepare: Prepare | None = None,
    ) -> ClientRequest:
        """Send a request outside any dialog until its final response: an INVITE, REGISTER, OPTIONS, MESSAGE.

        It goes to `hop`, by `transport` unless the URI says another; with `proxy`, an outbound proxy, it goes there,
        which a Route tells (§8.1.2). A request that has Route fields already goes to the first of them. A flow as `hop`
        is how one reaches who is connected, or registered through a NAT. `request` is complete but for Via, User-Agent
        and an INVITE's Contact; `prepare` may set what else depends on the flow. Challenges are answered with
        `credentials`; with a DigestClient later requests need none, as long as its nonce is good.
        """
        if proxy is not None:
            request.headers.prepend("Route", str(NameAddr("", replace(proxy, params={**proxy.params, "lr": None}))))
        if isinstance(hop, Flow):
            hops: Hops = ListedHops([hop] if self.flows.is_open(hop) else [])
        else:
            hops = self.resolver.hops(_follow_route(request) or hop, transport)
        digest = DigestClient(credentials) if isinstance(credentials, Credentials) else credentials
        sending = ClientRequest(self, request, user, hops, digest=digest, prepare=prepare)
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
            self.own.address_request(ack, flow)
            self.find_for_length(flow, len(ack.serialize()), send, now)

        def send(flow: Flow, now: float) -> None:
            self.own.address_request(ack, flow)
            data = ack.serialize()
            self.transmit(flow, data, None, now)
            sent(flow, data)

        self.find_flow(self.dialog_hops(dialog, beside), found, now, beside=beside)

    def hang_up_stray(self, acks: SentAcks, invite: Request, response: Response, flow: Flow, now: float) -> None:
        """A 2xx that nobody waits for any more: ACK and BYE, and that is all that is known of that dialog."""
        self.counters["stray_answer"] += 1
        dialog = Dialog.as_uac(invite, response)
        dialog.confirm(response)
        acks.send(dialog, invite, b"", now, beside=flow)
        self.send_in_dialog(dialog, dialog.request("BYE"), NOBODY, now, beside=flow)

    # where to

    def dialog_hops(self, dialog: Dialog, beside: Flow | None) -> Hops:
        """Where the requests of a dialog go. `beside` is the flow of the peer's last message."""
        by_uri = self.resolver.hops(dialog.next_hop())
        if beside is None or dialog.route_set:
            return by_uri
        if beside.reliable:
            # A peer that connected to us and did not name a proxy is reached by that connection while it lives: the
            # address in the Contact of a phone behind NAT, or with TCP in general, is often one nobody listens on.
            return ListedHops([beside], by_uri) if self.flows.is_open(beside) else by_uri
        contact = dialog.next_hop()
        if dialog.translated or is_hidden(contact.host, beside.remote[0]):
            return ListedHops([beside])
        if (contact.host, contact.port or 5060) != beside.remote and is_address(contact.host):
            return FallbackHops(by_uri, beside)
        return by_uri

    def find_flow(
        self,
        hops: Hops,
        found: Callable[[Flow | None, float], None],
        now: float,
        *,
        beside: Flow | None = None,
    ) -> None:
        """The flow of the first of these next hops that there is one to, for what is sent without a transaction."""

        def hop_found(hop: Hop | None, now: float) -> None:
            if isinstance(hop, Target):
                self.flows.find(hop, flow_found, now, beside=beside)
            else:
                found(hop, now)

        def flow_found(flow: Flow | None, now: float) -> None:
            if flow is None:
                hops.next(hop_found, now)
            else:
                found(flow, now)

        hops.next(hop_found, now)

    def find_for_length(self, flow: Flow, length: int, found: Callable[[Flow, float], None], now: float) -> None:
        """§18.1.1: what is too long for a datagram goes over TCP to the same place, and over UDP all the same where
        there is no TCP. Where we don't listen on TCP ourselves, the peer could not send its own requests so."""
        stream = Target("tcp", *flow.remote)
        if (
            flow.transport != "udp"
            or length <= MAX_DATAGRAM
            or self.flows.listener("tcp", flow.local) is None
            or self.flows.unreachable.holds(stream, now)
        ):
            found(flow, now)
        else:
            self.flows.find(stream, lambda connection, now: found(connection or flow, now), now)

    def is_unreachable(self, hop: Hop, now: float) -> bool:
        return isinstance(hop, Target) and self.flows.unreachable.holds(hop, now)

    def reached(self, flow: Flow, hop: Hop, response: Response) -> None:
        """A request of ours was answered: its next hop is alive, and has told us how it sees us (RFC 3581 §4)."""
        if isinstance(hop, Target):
            self.flows.unreachable.remove(hop)
        self.own.learn(flow, response.via)

    def respond(self, transaction: ServerTransaction, response: Response, now: float) -> None:
        self.sign(response)
        self.transactions.respond(transaction, response, now)

    def sign(self, response: Response) -> None:
        if response.status >= 180:
            response.headers.set("Server", self.own.identity.product)

    def draw(self) -> float:
        """A number in [0, 1) that nobody can guess."""
        return int.from_bytes(blake2s(self.new_token().encode(), digest_size=6).digest(), "big") / 2**48

    def stateless_tag(self, *parts: str) -> str:
        """A To tag for a response without a transaction: the same for each repetition of the request (§8.2.7)."""
        return blake2s(
            "\0".join(parts).encode("utf-8", "surrogateescape"), key=self._secret[:32], digest_size=8
        ).hexdigest()

    # calls

    def add_dialog(self, dialog: Dialog, call: Invite) -> None:
        self.dialogs[dialog.id] = (dialog, call)

    def needs(self, flow: Flow) -> bool:
        return (
            any(call.flow == flow for call in self.calls)
            or any(registration.uses(flow) for registration in self.registrations)
            or any(user(flow) for user in self.flow_users)
        )

    def remove_dialog(self, dialog: Dialog) -> None:
        self.dialogs.pop(dialog.id, None)

    def find_dialog(self, request: Request) -> tuple[Dialog, Invite] | None:
        """The dialog that a request was sent in (§12.2.2), and the call it is of."""
        return self.dialogs.get(DialogId(request.call_id, request.to.tag or "", request.from_.tag or ""))


def _follow_route(request: Request) -> Uri | None:
    """The next hop of a request that has a route. A strict router finds itself in the Request-URI (§12.2.1.1)."""
    if "Route" not in request.headers:
        return None
    first, *others = request.routes
    if "lr" not in first.uri.params:
        request.headers.remove("Route")
        for route in (*map(str, others), f"<{request.uri}>"):
            request.headers.add("Route", route)
        request.uri = str(request_uri(first.uri))
    return first.uri


class _Nobody:
    """The user of a request whose outcome interests nobody."""

    local_tag: str | None = None

    def receive_response(self, request: Request, response: Response, now: float) -> None: ...

    def request_failed(self, request: Request, status: int, now: float) -> None: ...

    def receive_ack(self, ack: Request, now: float) -> None: ...

    def receive_cancel(self, cancel: Request, now: float) -> None: ...


NOBODY = _Nobody()
