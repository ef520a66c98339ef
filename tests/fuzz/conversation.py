"""A whole user agent in conversation with a peer that says what is legal, spoiled: mutated, doubled, left out, late or
out of order, while our own side gives its commands at any moment.

One input is one conversation. Its octets are the decisions, drawn one after the other, so that a mutation of the input
is a mutation of the conversation; where they end, everybody hangs up, time runs out, and nothing may be left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from random import Random

from sipbridge.errors import LocalProtocolError, SipParseError
from sipbridge.sip.dns_cache import DnsNeeded, Naptr, Record, Srv
from sipbridge.sip.events import (
    Answered,
    CallEnded,
    InfoReceived,
    InviteReceived,
    ReferAccepted,
    ReferReceived,
    ReinviteReceived,
)
from sipbridge.sip.flow import Flow, FlowNeeded
from sipbridge.sip.invite import CallState, Invite
from sipbridge.sip.message import Request, Response, parse_message
from sipbridge.sip.notifier import ReferNotifier
from sipbridge.sip.uac import OutgoingInvite
from sipbridge.sip.uas import IncomingInvite
from tests.fuzz.corpus import MESSAGES, SIP_WORDS
from tests.fuzz.engine import MAX_SECONDS, Target
from tests.fuzz.mutation import Material, mutate
from tests.sip.wire import ANSWER, OFFER, PEER, TCP, UDP, Wire, answer_to, request

_STATUSES = (100, 180, 183, 200, 200, 202, 301, 302, 401, 407, 408, 421, 422, 423, 481, 486, 487, 491, 500, 503, 603)
_HEADERS: tuple[tuple[str, str], ...] = (
    ("Require", "100rel"),
    ("RSeq", "1"),
    ("Session-Expires", "90;refresher=uac"),
    ("Min-SE", "120"),
    ("Retry-After", "1"),
    ("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth"'),
    ("Contact", "<sip:c@192.0.2.9>"),
    ("Record-Route", "<sip:p.example.com;lr>"),
    ("Reason", "Q.850;cause=16"),
)
_FIELDS = (
    "Supported: 100rel, timer, replaces",
    "Require: 100rel",
    "Session-Expires: 90;refresher=uas",
    "Session-Expires: 5",
    "RAck: 1 1 INVITE",
    "Event: refer",
    "Event: message-summary",
    "Subscription-State: terminated",
    "Refer-To: <sip:c@192.0.2.9>",
    "Replaces: call1;to-tag=t0000001;from-tag=a1",
    "Record-Route: <sip:192.0.2.7;lr>",
    "Expires: 1",
)
_TARGETS = (
    f"sip:bob@{PEER[0]}:{PEER[1]}",
    f"sip:bob@{PEER[0]}:{PEER[1]}",
    f"sip:bob@{PEER[0]};transport=tcp",
    "sip:bob@bob.example.com",
    "sip:bob@bob.example.com;transport=tcp",
    "sips:bob@bob.example.com",
    "sip:bob@[2001:db8::2]:5080",
)
_METHODS = (
    "ACK",
    "ACK",
    "BYE",
    "CANCEL",
    "INVITE",
    "UPDATE",
    "PRACK",
    "INFO",
    "NOTIFY",
    "REFER",
    "SUBSCRIBE",
    "OPTIONS",
    "MESSAGE",
)
_RECORDS: tuple[Record, ...] = (
    "192.0.2.2", "192.0.2.2", "2001:db8::2", "not an address", "", "::ffff:192.0.2.2", "0.0.0.0",
    Srv(0, 0, 5060, "a.example.com"), Srv(1, 65535, 5060, "b.example.com"), Srv(0, 0, 0, "."),
    Srv(0, 1, 65535, "x" * 300),
    Srv(0, 1, 5060, "bob.example.com"), Srv(0, 1, 5060, "192.0.2.2"), Srv(65535, 65535, 65535, "\udcff"),
    Naptr(1, 1, "s", "SIP+D2U", "_sip._udp.example.com"), Naptr(1, 1, "S", "SIPS+D2T", "_sips._tcp.example.com."),
    Naptr(0, 0, "s", "SIP+D2T", "."), Naptr(0, 0, "u", "E2U+sip", ""), Naptr(1, 1, "s", "SIP+D2U", "bob.example.com"),
)  # fmt: skip
_MOST_STEPS = 60
_END = 100_000.0


class Conversation:
    """`decide(n)` chooses one of n by the next octet of the input."""

    def __init__(self, script: bytes) -> None:
        self._script = iter(script)
        self._random = Random(script)
        self._material = Material(MESSAGES, SIP_WORDS)
        self.over = False
        self.wire = Wire()
        self.wire.user_agent.transfer_policy.refer = lambda call, referral: True
        self.wire.user_agent.transfer_policy.replace = lambda call, request, flow: True
        self.notifiers: list[ReferNotifier] = []
        self.calls: list[Invite] = []
        self.requests: list[Request] = []
        """Of the user agent's, that the peer may answer."""
        self.said: list[bytes] = []
        """By the peer, that may come again."""
        self.responses: list[Response] = []
        self.sequence = 1
        self.asked = 0
        self.ended: set[Invite] = set()
        self.told: set[str] = set()

    def decide(self, choices: int) -> int:
        octet = next(self._script, None)
        if octet is None:
            self.over = True
            return 0
        return octet % choices

    def run(self) -> Hashable:
        steps: tuple[Callable[[], None], ...] = (
            self.peer_invites, self.peer_requests, self.peer_requests, self.peer_answers, self.peer_answers,
            self.all_cooperate, self.all_cooperate, self.all_cooperate, self.peer_repeats, self.we_command,
            self.we_command, self.we_call, self.time_passes, self.noise,
        )  # fmt: skip
        for _ in range(_MOST_STEPS):
            step = steps[self.decide(len(steps))]
            if self.over:
                break
            step()
            self._collect()
        self._finish()
        return frozenset(self.told), frozenset(self.wire.user_agent.counters)

    def all_cooperate(self) -> None:
        """What should come next, so that calls get far: an answer, its ACK, and to our requests a 200."""
        call, now = self.calls[-1] if self.calls else None, self.wire.now
        if isinstance(call, IncomingInvite) and call.state in (CallState.INVITED, CallState.RINGING):
            with suppress(LocalProtocolError):  # it has its answer, which waits for a PRACK
                call.answer(ANSWER, now)
        elif call is not None:
            call.accept_reinvite(ANSWER, now)
        self._collect()
        answers = [
            response for response in self.responses if response.cseq.method == "INVITE" and response.status == 200
        ]
        if answers:
            self._request_about("ACK", answers[-1])
        if self.requests:
            self._receive(answer_to(self.requests[-1], 200, body=ANSWER), UDP)

    # --- the peer ---------------------------------------------------------------------------------

    def peer_invites(self) -> None:
        number = self.decide(3)
        self._say(request("INVITE", call_id=f"call{number}", branch=f"z9hG4bKi{number}", headers=self._fields()))

    def peer_requests(self) -> None:
        """In a dialog that exists, if there is one."""
        method = _METHODS[self.decide(len(_METHODS))]
        known = [response for response in self.responses if response.to.tag]
        if not known:
            self._say(request(method, headers=self._fields()))
            return
        self._request_about(method, known[self.decide(len(known))])

    def _request_about(self, method: str, about: Response) -> None:
        self.sequence += self.decide(3)
        same = method in ("ACK", "CANCEL")
        self._say(
            request(
                method,
                call_id=about.call_id,
                from_=str(about.from_),
                to=str(about.to) if method != "CANCEL" else "<sip:agent@192.0.2.1>",
                cseq=about.cseq.number if same else self.sequence,
                branch=(about.via.branch or "") if method == "CANCEL" else f"z9hG4bKr{self.sequence}{method}",
                headers=self._fields(),
                body=(b"", OFFER, b"SIP/2.0 200 OK\r\n", b"Signal=1\r\n")[self.decide(4)],
                content_type=("application/sdp", "message/sipfrag", "application/dtmf-relay")[self.decide(3)],
            )
        )

    def peer_answers(self) -> None:
        if not self.requests:
            return
        sent = self.requests[self.decide(len(self.requests))]
        status = _STATUSES[self.decide(len(_STATUSES))]
        tag = ("b1", "b1", "b2", None)[self.decide(4)]
        headers = [header for header in _HEADERS if self.decide(6) == 0]
        self._say(answer_to(sent, status, tag=tag, headers=headers, body=(ANSWER, b"")[self.decide(2)]))

    def peer_repeats(self) -> None:
        if self.said:
            self._receive(self.said[self.decide(len(self.said))], self._flow())

    def noise(self) -> None:
        self._receive(mutate(self._random, self._material), self._flow())

    def _say(self, data: bytes) -> None:
        self.said.append(data)
        if self.decide(4) == 0:
            data = mutate(self._random, Material([data], SIP_WORDS))
        self._receive(data, self._flow())

    def _receive(self, data: bytes, flow: Flow) -> None:
        started = time.process_time()
        self.wire.user_agent.receive(data, flow, self.wire.now)
        seconds = time.process_time() - started
        assert seconds < 2 * MAX_SECONDS, f"one message took {seconds * 1000:.0f} ms"

    def _fields(self) -> list[str]:
        return [field for field in _FIELDS if self.decide(8) == 0] if self.decide(3) == 0 else []

    def _flow(self) -> Flow:
        return (UDP, UDP, TCP)[self.decide(3)]

    # --- our own side -----------------------------------------------------------------------------

    def we_call(self) -> None:
        self.calls.append(
            self.wire.user_agent.invite(
                _TARGETS[self.decide(len(_TARGETS))],
                from_="<sip:us@example.com>",
                offer=OFFER,
                now=self.wire.now,
            )
        )

    def we_command(self) -> None:
        if self.notifiers and self.decide(4) == 0:
            notifier = self.notifiers[self.decide(len(self.notifiers))]
            notifier.notify((180, 183, 200, 486)[self.decide(4)], "", self.wire.now)
        if not self.calls:
            return
        call, now = self.calls[self.decide(len(self.calls))], self.wire.now
        command = self.decide(8)
        try:
            if command == 0:
                call.hang_up(now, "Q.850;cause=16")
            elif command == 1:
                call.accept_reinvite(ANSWER, now)
            elif command == 2:
                call.reject_reinvite(488, now)
            elif command == 3:
                other = self.calls[self.decide(len(self.calls))] if self.decide(2) else None
                call.refer("sip:desk@example.com", now, replaces=other, refer_sub=self.decide(2) == 0)
            elif isinstance(call, IncomingInvite):
                if command == 4:
                    call.ring(now, (180, 183)[self.decide(2)], (b"", ANSWER)[self.decide(2)])
                elif command < 7:
                    call.answer(ANSWER, now)
                else:
                    call.reject(486, now=now)
            elif isinstance(call, OutgoingInvite):
                call.cancel(now)
        except LocalProtocolError:
            pass  # a command that the call does not allow now, and says so

    def time_passes(self) -> None:
        self._let_pass(self.wire.now + (0.1, 0.6, 5.0, 33.0, 70.0, 200.0)[self.decide(6)])

    # --- what follows -----------------------------------------------------------------------------

    def _let_pass(self, until: float) -> None:
        user_agent = self.wire.user_agent
        turns = 0
        while (deadline := user_agent.get_timer()) is not None and deadline <= until:
            turns += 1
            assert turns < 5_000, "the timers never come to rest"
            self.wire.now = max(self.wire.now, deadline)
            user_agent.handle_timer(self.wire.now)
            self._collect()
        self.wire.now = until

    def _collect(self) -> None:
        """What the user agent sends is SIP, what it tells comes in order, and what it asks for is answered."""
        user_agent = self.wire.user_agent
        while True:
            messages = user_agent.messages_to_send()
            for _, data in messages:
                self._heard(data)
            event = user_agent.next_event()
            if event is None and not messages:
                break
            if event is not None:
                self._told(event)
        assert user_agent.transactions <= 4 * _MOST_STEPS
        assert user_agent.calls <= _MOST_STEPS

    def _heard(self, data: bytes) -> None:
        try:
            message = parse_message(data)
        except SipParseError:
            assert data.startswith(b"SIP/2.0 "), "a request of ours that is none"
            return  # the answer to a request whose Via or CSeq was broken
        if isinstance(message, Request):
            if message.method != "ACK":
                self.requests = [*self.requests[-7:], message]
        elif message.status > 100:
            self.responses = [*self.responses[-7:], message]

    def _told(self, event: object) -> None:
        user_agent, now = self.wire.user_agent, self.wire.now
        self.told.add(type(event).__name__)
        match event:
            case FlowNeeded(target):
                if self.decide(3) == 0:
                    user_agent.flow_failed(target, "refused", now)
                else:
                    user_agent.flow_opened(target, TCP, now)
            case DnsNeeded(name, kind):
                self.asked += 1
                assert self.asked < 500, "DNS is asked without end"
                records = [_RECORDS[self.decide(len(_RECORDS))] for _ in range(self.decide(4))]
                error = None if records or self.decide(2) else "SERVFAIL"
                user_agent.dns_answered(name, kind, records, float(self.decide(256)), now, error=error)
            case InviteReceived(call=call):
                self.calls.append(call)
            case CallEnded(call=call):
                assert call not in self.ended, "CallEnded came twice"
                self.ended.add(call)
            case ReferReceived(call=call):
                assert call not in self.ended, "told something after its CallEnded"
                match self.decide(4):
                    case 0:
                        call.reject_refer(603, now)
                    case 1:
                        pass
                    case _:
                        self.notifiers = [*self.notifiers[-7:], call.accept_refer(now)]
            case Answered(call=call) | ReinviteReceived(call=call) | ReferAccepted(call=call) | InfoReceived(call=call):
                assert call not in self.ended, "told something after its CallEnded"
            case _:
                pass

    def _finish(self) -> None:
        for call in self.calls:
            call.hang_up(self.wire.now)
        self._collect()
        self._let_pass(self.wire.now + _END)
        user_agent = self.wire.user_agent
        assert user_agent.idle, "something is left in the tables"
        assert set(self.calls) == self.ended, "a call that never ended"


def conversation(script: bytes) -> Hashable:
    return Conversation(script[:2_000]).run()


CONVERSATIONS = [Random(seed).randbytes(300) for seed in range(30)]
CONVERSATION_TARGETS = [Target("user_agent", conversation, CONVERSATIONS, inputs=400, limit=2.0)]
