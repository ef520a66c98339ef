"""A user agent and a pencil: raw messages written by the test go in, what it sends comes out, time is a number."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sipbridge.sip.dns_cache import DnsNeeded, Record
from sipbridge.sip.events import InviteReceived, SipEvent
from sipbridge.sip.flow import Address, Flow
from sipbridge.sip.message import Request, Response, parse_message
from sipbridge.sip.own_addresses import Identity
from sipbridge.sip.session_timer import SessionTimers
from sipbridge.sip.uac import OutgoingInvite
from sipbridge.sip.uas import IncomingInvite
from sipbridge.sip.user_agent import UserAgent

US: Address = ("192.0.2.1", 5060)
PEER: Address = ("192.0.2.2", 5060)
UDP = Flow("udp", US, PEER)
TCP = Flow("tcp", US, ("192.0.2.2", 49152))
OFFER, ANSWER = b"v=0\r\ns=offer\r\n", b"v=0\r\ns=answer\r\n"

E = TypeVar("E", bound=SipEvent)


def counting_tokens(prefix: str = "t") -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"{prefix}{next(numbers):07d}"


def request(
    method: str = "INVITE",
    *,
    branch: str = "z9hG4bKpeer1",
    via: str | None = None,
    cseq: int = 1,
    cseq_method: str | None = None,
    call_id: str = "call1",
    from_: str = "<sip:alice@example.com>;tag=a1",
    to: str = "<sip:agent@192.0.2.1>",
    uri: str = "sip:agent@192.0.2.1",
    contact: str | None = "<sip:alice@192.0.2.2:5060>",
    body: bytes = b"",
    content_type: str | None = None,
    headers: Iterable[str] = (),
) -> bytes:
    """A request of the peer's. An INVITE gets an offer unless a body is given."""
    if method == "INVITE" and not body:
        body = OFFER
    lines = [
        f"{method} {uri} SIP/2.0",
        f"Via: {via or f'SIP/2.0/UDP 192.0.2.2:5060;branch={branch}'}",
        "Max-Forwards: 70",
        f"From: {from_}",
        f"To: {to}",
        f"Call-ID: {call_id}",
        f"CSeq: {cseq} {cseq_method or method}",
        *headers,
    ]
    if contact is not None and method in ("INVITE", "UPDATE", "REFER", "NOTIFY"):
        lines.append(f"Contact: {contact}")
    if body:
        lines.append(f"Content-Type: {content_type or 'application/sdp'}")
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def answer_to(
    sent: Request,
    status: int,
    *,
    reason: str | None = None,
    tag: str | None = "b1",
    contact: str | None = "<sip:bob@192.0.2.2:5060>",
    body: bytes = b"",
    headers: Iterable[tuple[str, str]] = (),
) -> bytes:
    """The peer's response to a request of ours."""
    response = sent.response(status, reason, to_tag=tag)
    if contact is not None and sent.method in ("INVITE", "UPDATE") and 100 < status < 300:
        response.headers.add("Contact", contact)
    for name, value in headers:
        response.headers.add(name, value)
    if body:
        response.headers.add("Content-Type", "application/sdp")
        response.body = body
    return response.serialize()


class Wire:
    """One user agent under test, and all that it sent and told so far."""

    def __init__(self, identity: Identity | None = None, session_timers: SessionTimers | None = None) -> None:
        self.user_agent = UserAgent(new_token=counting_tokens(), identity=identity, session_timers=session_timers)
        self.user_agent.listen("udp", US)
        self.user_agent.listen("tcp", US)
        self.now = 0.0
        self.flows: list[Flow] = []
        """Of the messages that `sent` gave out last."""

    def receive(self, data: bytes, flow: Flow = UDP) -> list[Request | Response]:
        """Put a message in; what the user agent sends at once is returned."""
        self.user_agent.receive(data, flow, self.now)
        return self.sent()

    def sent(self) -> list[Request | Response]:
        pairs = self.user_agent.messages_to_send()
        self.flows = [flow for flow, _ in pairs]
        return [parse_message(data) for _, data in pairs]

    def sent_request(self, method: str) -> Request:
        """The one message sent, which is this request."""
        (message,) = self.sent()
        assert isinstance(message, Request)
        assert message.method == method
        return message

    def statuses(self) -> list[int]:
        return [message.status for message in self.sent() if isinstance(message, Response)]

    def reply(self, data: bytes, flow: Flow = UDP) -> Response:
        """Put a request in that is answered at once, and with one response."""
        (message,) = self.receive(data, flow)
        assert isinstance(message, Response)
        return message

    def events(self) -> list[SipEvent]:
        events = []
        while (event := self.user_agent.next_event()) is not None:
            events.append(event)
        return events

    def answer_dns(self, zone: Mapping[tuple[str, str], Sequence[Record]], ttl: float = 60.0) -> list[SipEvent]:
        """Answer all questions by a zone, and those that follow from that; the other events are returned."""
        others: list[SipEvent] = []
        while events := self.events():
            for event in events:
                if isinstance(event, DnsNeeded):
                    records = zone.get((event.name, event.kind), [])
                    self.user_agent.dns_answered(event.name, event.kind, records, ttl, self.now)
                else:
                    others.append(event)
        return others

    def event(self, kind: type[E]) -> E:
        """The one event there is."""
        (event,) = self.events()
        assert isinstance(event, kind), event
        return event

    def advance(self, until: float) -> list[tuple[float, Request | Response]]:
        """Let time pass, timer by timer; what was sent, and when."""
        sent = []
        while (deadline := self.user_agent.get_timer()) is not None and deadline <= until:
            assert deadline >= self.now
            self.now = deadline
            self.user_agent.handle_timer(deadline)
            sent += [(deadline, message) for message in self.sent()]
        self.now = until
        return sent

    def incoming(self, flow: Flow = UDP, **changes: Any) -> IncomingInvite:
        """A call that has come in and got its 100."""
        (trying,) = self.receive(request(**changes), flow)
        assert isinstance(trying, Response)
        assert trying.status == 100
        return self.event(InviteReceived).call

    def calling(self, offer: bytes = OFFER) -> tuple[OutgoingInvite, Request]:
        """A call of ours, and its INVITE."""
        call = self.user_agent.invite("sip:bob@192.0.2.2", from_="<sip:alice@example.com>", offer=offer, now=self.now)
        return call, self.sent_request("INVITE")

    def called(self, *headers: tuple[str, str]) -> tuple[OutgoingInvite, Request]:
        """A call of ours that was answered, with these headers in the 200."""
        call, invite = self.calling()
        self.receive(answer_to(invite, 200, body=ANSWER, headers=headers))
        assert len(self.events()) == 1
        return call, invite

    def answered(self, flow: Flow = UDP, **changes: Any) -> tuple[IncomingInvite, str]:
        """A call that was answered and acknowledged; with it our tag."""
        call = self.incoming(flow, **changes)
        call.answer(ANSWER, self.now)
        (ok,) = self.sent()
        tag = ok.to.tag
        assert tag
        self.receive(request("ACK", branch="z9hG4bKack", to=f"<sip:agent@192.0.2.1>;tag={tag}"), flow)
        assert len(self.events()) == 1
        return call, tag


def from_callee(method: str, invite: Request, *, cseq: int = 1, tag: str = "b1", **changes: object) -> bytes:
    """A request of the callee's in the dialog that our INVITE made."""
    return request(
        method,
        cseq=cseq,
        call_id=invite.call_id,
        from_=f"<sip:bob@192.0.2.2>;tag={tag}",
        to=invite.headers.get("From") or "",
        branch=f"z9hG4bK{method}{cseq}{tag}",
        **changes,  # type: ignore[arg-type]
    )


def in_dialog(method: str, tag: str, *, cseq: int = 2, branch: str | None = None, **changes: object) -> bytes:
    """A request of the caller's in the dialog that `Wire.answered` made."""
    return request(
        method,
        cseq=cseq,
        to=f"<sip:agent@192.0.2.1>;tag={tag}",
        branch=branch or f"z9hG4bK{method}{cseq}",
        **changes,  # type: ignore[arg-type]
    )
