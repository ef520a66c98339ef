"""The user agent core: SIP as a value that is fed bytes and time (RFC 3261 §8, §12.2).

The verbs: `receive`, `messages_to_send`, `get_timer`, `handle_timer`, `next_event`. After any of them that takes a
time, and after any command on a call, whoever drives the core must send `messages_to_send()`, hand out the events, and
call `handle_timer` at the time that `get_timer()` tells. `wake`, if set, is called whenever there is something of the
kind to do, so that a command on a call needs nobody to remember that (`transport.py` sets it).

Nothing that a stranger sends raises past `receive`: what is no SIP is dropped and counted, a request with a fault gets
its 4xx, a response with a fault is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import replace
from typing import TypeAlias

from sipbridge.errors import LocalProtocolError, SipParseError
from sipbridge.sip.authentication import Authentication, Policy
from sipbridge.sip.body import describe_session
from sipbridge.sip.client_request import ClientRequest
from sipbridge.sip.core import Core
from sipbridge.sip.dialog import MAX_FORWARDS, request_uri
from sipbridge.sip.digest import Credentials
from sipbridge.sip.digest_server import DigestServer, Ha1
from sipbridge.sip.dns_cache import Kind, Record
from sipbridge.sip.events import BindingsChanged, CredentialsNeeded, SipEvent
from sipbridge.sip.flow import Address, Flow, Target, Transport
from sipbridge.sip.headers import NameAddr, Uri
from sipbridge.sip.message import Headers, Request, Response, parse_message
from sipbridge.sip.own_addresses import Identity
from sipbridge.sip.ping import Ping, PingResult
from sipbridge.sip.refer import TransferPolicy
from sipbridge.sip.registrar import Registrar, RegistrarSettings
from sipbridge.sip.registration import Account, Registration, RetryTimes
from sipbridge.sip.replies import Replies
from sipbridge.sip.request_server import MayCall, RequestServer
from sipbridge.sip.screening import ALLOW, OPTIONS_HEADERS, SUPPORTED
from sipbridge.sip.session_timer import SessionTimers
from sipbridge.sip.timers import Timers
from sipbridge.sip.uac import OutgoingInvite

Trace: TypeAlias = Callable[[Flow, bool, bytes], None]


class UserAgent:
    """One user agent, UAC and UAS, for any number of calls.

    `new_token` gives unguessable text for tags, branches and Call-IDs: at least 64 bits of it, letters and digits only.
    """

    def __init__(
        self,
        *,
        new_token: Callable[[], str],
        identity: Identity | None = None,
        timers: Timers | None = None,
        session_timers: SessionTimers | None = None,
    ) -> None:
        self._core = Core(new_token, identity or Identity(), timers or Timers(), session_timers or SessionTimers())
        self.trace: Trace | None = None
        """Is shown every message, whether it was sent, and by which flow (`ladder.py`)."""
        self._replies = Replies(self._core)
        self._server = RequestServer(self._core, self._replies)

    # receiving

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """One datagram, or one message cut from a stream."""
        self._core.flows.seen(flow)
        if not data.strip(b"\r\n\0 "):
            self.counters["keepalive"] += 1  # RFC 5626 §3.5.1, and what some phones send instead
            return
        if self.trace is not None:
            self.trace(flow, False, data)
        try:
            message = parse_message(data)
        except SipParseError as error:
            self._replies.refuse_malformed(error, flow, now)
            return
        try:
            if isinstance(message, Request):
                self._server.receive(message, flow, now)
            else:
                self._receive_response(message, flow, now)
        except SipParseError as error:
            self._replies.drop_malformed(error)

    def flow_opened(self, target: Target, flow: Flow, now: float) -> None:
        """The answer to `FlowNeeded`."""
        self._core.flows.opened(target, flow, now)

    def flow_failed(self, target: Target, error: str, now: float) -> None:
        """The other answer to `FlowNeeded`; `error` is for people."""
        self.counters["flow_failed"] += 1
        self._core.flows.failed(target, now, error)

    def flow_closed(self, flow: Flow, now: float) -> None:
        """A connection is gone, whoever closed it."""
        self._core.flows.closed(flow)
        self._core.transactions.flow_closed(flow, now)
        for registration in self._core.registrations:
            registration.flow_closed(flow, now)

    def dns_answered(
        self,
        name: str,
        kind: Kind,
        records: Sequence[Record],
        ttl_seconds: float,
        now: float,
        *,
        error: str | None = None,
    ) -> None:
        """The answer to `DnsNeeded`. No records: there are none, or, with `error`, the servers did not say."""
        self._core.dns.answered(name, kind, records, ttl_seconds, now, error)

    def needs(self, flow: Flow) -> bool:
        """Whether a call, or whoever else is in `Core.flow_users`, lives by this connection though it is silent."""
        return self._core.needs(flow)

    # sending

    def messages_to_send(self) -> list[tuple[Flow, bytes]]:
        messages, self._core.messages = self._core.messages, []
        if self.trace is not None:
            for flow, data in messages:
                self.trace(flow, True, data)
        return messages

    def next_event(self) -> SipEvent | None:
        return self._core.events.popleft() if self._core.events else None

    # time

    def get_timer(self) -> float | None:
        return self._core.schedule.next_deadline()

    def handle_timer(self, now: float) -> None:
        schedule = self._core.schedule
        while (owner := schedule.pop_due(now)) is not None:
            owner.handle_timer(now)
            schedule.update(owner)

    # calling

    def invite(
        self,
        target: Uri | str,
        *,
        from_: NameAddr | str,
        offer: bytes,
        now: float,
        to: NameAddr | str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        transport: str | None = None,
        next_hop: Uri | str | Flow | None = None,
        proxy: Uri | str | None = None,
        credentials: Credentials | None = None,
        call_id: str | None = None,
    ) -> OutgoingInvite:
        """Call `target`. With an empty `offer` the peer makes it (`Answered.needs_answer`). `next_hop` is where the
        INVITE is sent if not to the target itself (a flow: to who is registered or connected by it), `proxy` an
        outbound proxy, which is named in a Route as well; a tel URI needs one of them. `credentials` answer challenges.
        `call_id` is for who has to know it beforehand: unguessable, and never used before.

        Raises SipParseError for a URI that is none, LocalProtocolError for one that can't be called.
        """
        uri, hop, route = _destination(target, next_hop, proxy)
        request = self._new_request("INVITE", uri, from_, to, (("Allow", ALLOW), ("Supported", SUPPORTED), *headers))
        if call_id is not None:
            request.headers.set("Call-ID", call_id)
        describe_session(request, offer)
        _ = request.routes  # those among the headers: what is malformed must raise before there is a call
        call = OutgoingInvite(self._core, request, request.to)
        call.credentials = credentials
        call.begin(hop, now, transport=transport, proxy=route)
        return call

    def options(
        self,
        target: Uri | str,
        *,
        on_result: Callable[[PingResult], None],
        now: float,
        from_: NameAddr | str | None = None,
        transport: str | None = None,
        next_hop: Uri | str | Flow | None = None,
        proxy: Uri | str | None = None,
        credentials: Credentials | None = None,
    ) -> ClientRequest:
        """Ask whether somebody is there. `on_result` is called once, perhaps before this returns, or not at all after
        `abandon()` on what is returned. The other arguments are as those of `invite`, the errors, too."""
        uri, hop, route = _destination(target, next_hop, proxy)
        caller = from_ if from_ is not None else NameAddr("", replace(uri, user=self.identity.user, headers=()))
        request = self._new_request("OPTIONS", uri, caller, None, OPTIONS_HEADERS)
        ping = Ping(on_result, now)
        ping.sending = self._core.send_out_of_dialog(
            request, hop, ping, now, credentials=credentials, transport=transport, proxy=route
        )
        return ping.sending

    # registration and authentication

    def register(self, account: Account, now: float, times: RetryTimes | None = None) -> Registration:
        """Register there, and stay registered until `stop()`; it tells by events how that goes."""
        registration = Registration(self._core, account, times or RetryTimes())
        self._core.registrations.add(registration)
        registration.start(now)
        return registration

    def require_authentication(
        self, server: DigestServer, policy: Policy, *, in_dialog: bool = False, lookup_seconds: float = 5.0
    ) -> None:
        """From now on, whatever request `policy` says so of needs credentials; `in_dialog`: those inside a dialog, too.
        `CredentialsNeeded` asks for passwords."""
        self._server.authentication = Authentication(
            self._core,
            server,
            policy,
            reply=self._replies.reply,
            serve=self._server.serve,
            in_dialog=in_dialog,
            lookup_seconds=lookup_seconds,
        )

    def credentials_found(self, needed: CredentialsNeeded, password: str | Ha1 | None, now: float) -> None:
        """The answer to `CredentialsNeeded`; None where there is no such user."""
        if self._server.authentication is not None:
            try:
                self._server.authentication.found(needed, password, now)
            except SipParseError as error:
                self._replies.drop_malformed(error)

    def serve_registrations(self, settings: RegistrarSettings | None = None) -> Registrar:
        """Be a registrar from now on, for users that have authenticated: without that a REGISTER is refused (403)."""
        core = self._core
        registrar = Registrar(settings, lambda username, bindings: core.emit(BindingsChanged(username, bindings)))
        core.flow_users.append(registrar.uses)
        self._server.registrar = registrar
        return registrar

    @property
    def registrar(self) -> Registrar | None:
        """Who is registered here; None: nobody can."""
        return self._server.registrar

    @property
    def unavailable(self) -> int | None:
        """Retry-After in seconds: while set, new calls and OPTIONS get 503 (a node that is full or draining)."""
        return self._server.unavailable

    @unavailable.setter
    def unavailable(self, seconds: int | None) -> None:
        self._server.unavailable = seconds

    @property
    def may_call(self) -> MayCall:
        """Whether an INVITE from there, of a user who has proven who he is or None, is a call at all. Others get a 403
        that leaves nothing behind, and is not repeated: their source may be forged."""
        return self._server.may_call

    @may_call.setter
    def may_call(self, policy: MayCall) -> None:
        self._server.may_call = policy

    def _new_request(
        self,
        method: str,
        uri: Uri,
        from_: NameAddr | str,
        to: NameAddr | str | None,
        headers: Iterable[tuple[str, str]],
    ) -> Request:
        """A request outside any dialog, complete but for Via and Contact (§8.1.1)."""
        caller = NameAddr.parse(from_) if isinstance(from_, str) else from_
        fields = Headers()
        fields.add("Max-Forwards", MAX_FORWARDS)
        fields.add("From", str(caller.with_tag(self._core.new_token())))
        fields.add("To", str(NameAddr("", replace(uri, headers=())) if to is None else to))
        fields.add("Call-ID", self._core.new_token())
        fields.add("CSeq", f"1 {method}")
        for name, value in headers:
            fields.add(name, value)
        return Request(method, str(request_uri(uri)), fields, b"")

    # looking in

    @property
    def transfer_policy(self) -> TransferPolicy:
        """Whether peers may make us call somebody, or have one call take the place of another. By default they may
        not; what is to be asked is set on it."""
        return self._core.transfer_policy

    @property
    def counters(self) -> Counter[str]:
        """What was dropped, refused or odd, by reason."""
        return self._core.counters

    @property
    def calls(self) -> int:
        """Calls with anything left to do, be it only to see their BYE answered."""
        return len(self._core.calls)

    @property
    def dialogs(self) -> int:
        return len(self._core.dialogs)

    @property
    def transactions(self) -> int:
        return len(self._core.transactions)

    @property
    def idle(self) -> bool:
        """Nothing is going on: no call, no transaction, nobody waiting for a flow, no timer."""
        core = self._core
        tables: tuple[Sized, ...] = (core.calls, core.dialogs, core.unacknowledged, core.transactions, core.schedule)
        return not any(map(len, tables)) and not core.flows.waiting and not core.dns.waiting

    @property
    def identity(self) -> Identity:
        return self._core.own.identity

    @property
    def wake(self) -> Callable[[], None] | None:
        return self._core.wake

    @wake.setter
    def wake(self, callback: Callable[[], None] | None) -> None:
        self._core.wake = callback

    def listen(
        self, transport: Transport, local: Address, wildcard_address: Callable[[Flow], str] | None = None
    ) -> None:
        """Tell of a socket that receives. `wildcard_address` tells which host to name where it is bound to all."""
        self._core.flows.listen(transport, local)
        if wildcard_address is not None and self._core.own.identity.wildcard_address is None:
            self._core.own.identity = replace(self._core.own.identity, wildcard_address=wildcard_address)

    # responses

    def _receive_response(self, response: Response, flow: Flow, now: float) -> None:
        if len(response.vias) != 1:
            self.counters["response_for_another"] += 1  # §8.1.3.3
            return
        _ = response.contact, response.record_routes, response.content_type, response.require
        if not self._core.transactions.receive_response(response, flow, now):
            self.counters["stray_response"] += 1


def _uri(text: Uri | str) -> Uri:
    return Uri.parse(text) if isinstance(text, str) else text


def _destination(
    target: Uri | str, next_hop: Uri | str | Flow | None, proxy: Uri | str | None
) -> tuple[Uri, Uri | Flow, Uri | None]:
    """Whom a request is for, where it goes first, and the outbound proxy, if it goes there."""
    uri, route = _uri(target), None if proxy is None else _uri(proxy)
    if route is None and isinstance(next_hop, Flow):
        return uri, next_hop, None
    hop = route or (uri if next_hop is None or isinstance(next_hop, Flow) else _uri(next_hop))
    if hop.scheme not in ("sip", "sips"):
        raise LocalProtocolError(f"{hop.scheme} URI without a next hop")
    return uri, hop, route
