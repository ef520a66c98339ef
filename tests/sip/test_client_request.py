"""One request of ours until its final response: failover, credentials, CANCEL, length (RFC 3263 §4.3, §18.1.1)."""

from __future__ import annotations

import random

import pytest

from sipbridge.errors import LocalProtocolError
from sipbridge.sip.client_request import ClientRequest
from sipbridge.sip.core import Core
from sipbridge.sip.digest import Credentials, DigestClient
from sipbridge.sip.digest_server import DigestServer
from sipbridge.sip.dns_cache import Record, Srv
from sipbridge.sip.events import Answered, CallEnded, EndCause, Progress, SessionAnswered, SessionRefused
from sipbridge.sip.flow import Flow, FlowNeeded, Target
from sipbridge.sip.headers import Uri
from sipbridge.sip.message import Request, Response
from sipbridge.sip.ping import PingResult
from sipbridge.sip.uac import OutgoingInvite
from tests.sip.messages import parse_request
from tests.sip.test_user_agent import spoiled
from tests.sip.wire import ANSWER, OFFER, TCP, UDP, US, Wire, answer_to, counting_tokens, request

FIRST, SECOND, THIRD = "192.0.2.11", "192.0.2.12", "192.0.2.13"
ZONE: dict[tuple[str, str], list[Record]] = {
    ("_sip._udp.example.com", "SRV"): [Srv(n, 0, 5060, f"node{n}.example.com") for n in (1, 2, 3)],
    ("_sip._tcp.example.com", "SRV"): [Srv(n, 0, 5060, f"node{n}.example.com") for n in (1, 2)],
    ("node1.example.com", "A"): [FIRST],
    ("node2.example.com", "A"): [SECOND],
    ("node3.example.com", "A"): [THIRD],
}
FARM = "sip:bob@example.com;transport=udp"
BOB = "sip:bob@192.0.2.2"
ALICE = "<sip:alice@example.com>"
SECRET = Credentials("alice", "correct horse")


class User:
    """What a transaction user hears."""

    def __init__(self) -> None:
        self.told: list[tuple[Request, int]] = []

    def receive_response(self, request: Request, response: Response, now: float) -> None:
        self.told.append((request, response.status))

    def request_failed(self, request: Request, status: int, now: float) -> None:
        self.told.append((request, -status))

    @property
    def statuses(self) -> list[int]:
        """Failures without a response are negative."""
        return [status for _, status in self.told]


def core_of(wire: Wire) -> Core:
    return wire.user_agent._core


def ask(wire: Wire, method: str = "MESSAGE", uri: str = FARM, **options: object) -> tuple[User, Request, ClientRequest]:
    user, asked = User(), parse_request(request(method, uri=uri))
    asked.headers.remove("Via")
    sending = core_of(wire).send_out_of_dialog(asked, Uri.parse(uri), user, wire.now, **options)  # type: ignore[arg-type]
    for event in wire.answer_dns(ZONE):
        core_of(wire).emit(event)
    return user, asked, sending


def call(wire: Wire, uri: str = FARM, **options: object) -> OutgoingInvite:
    calling = wire.user_agent.invite(uri, from_=ALICE, offer=OFFER, now=wire.now, **options)  # type: ignore[arg-type]
    assert wire.answer_dns(ZONE) == []
    return calling


def hosts(wire: Wire) -> list[str]:
    return [flow.remote[0] for flow in wire.flows]


def challenge(sent: Request, status: int = 401, **options: object) -> bytes:
    server = DigestServer("example.com", b"secret", counting_tokens("n"))
    name = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
    return answer_to(sent, status, headers=[(name, text) for text in server.challenge(0.0, **options)])  # type: ignore[arg-type]


def follows(wire: Wire, data: bytes) -> Request:
    """What is sent next, when this response has come and DNS has been asked."""
    sent = wire.receive(data)
    if not sent:
        assert wire.answer_dns(ZONE) == []
        sent = wire.sent()
    (message,) = sent
    assert isinstance(message, Request)
    return message


def let_pass(wire: Wire, until: float) -> list[tuple[float, str, str]]:
    """Let time pass and DNS answer; what was sent, when and where to."""
    sent = []
    while (deadline := wire.user_agent.get_timer()) is not None and deadline <= until:
        wire.now = deadline
        wire.user_agent.handle_timer(deadline)
        assert wire.answer_dns(ZONE) == []
        messages = wire.sent()
        sent += [(deadline, m.cseq.method, f.remote[0]) for m, f in zip(messages, wire.flows, strict=True)]
    return sent


# --- failover ---------------------------------------------------------------------------------------------------------


def test_after_503_the_next_server_is_asked_with_a_new_branch_and_the_user_sees_one_request() -> None:
    wire = Wire()
    user, asked, sending = ask(wire)
    first = wire.sent_request("MESSAGE")
    assert hosts(wire) == [FIRST]
    second = follows(wire, answer_to(first, 503))
    assert hosts(wire) == [SECOND]
    assert second.via.branch != first.via.branch
    assert (second.call_id, second.cseq, second.from_) == (first.call_id, first.cseq, first.from_)
    assert asked.via == second.via
    assert sending.flow == Flow("udp", US, (SECOND, 5060))
    assert user.told == []
    wire.receive(answer_to(second, 200))
    ((told, status),) = user.told
    assert told is asked
    assert status == 200
    wire.advance(60.0)
    assert wire.user_agent.idle


def test_when_all_answer_503_the_last_one_is_the_answer() -> None:
    wire = Wire()
    user, _, _ = ask(wire)
    sent = wire.sent_request("MESSAGE")
    for host in (SECOND, THIRD):
        sent = follows(wire, answer_to(sent, 503))
        assert hosts(wire) == [host]
    assert user.told == []
    assert wire.receive(answer_to(sent, 503)) == []
    assert user.statuses == [503]


def test_a_503_is_the_answer_also_where_the_others_do_not_answer() -> None:
    wire = Wire()
    user, _, _ = ask(wire)
    follows(wire, answer_to(wire.sent_request("MESSAGE"), 503))
    let_pass(wire, 100.0)
    assert user.statuses == [503]
    assert wire.user_agent.idle


@pytest.mark.parametrize("status", [200, 302, 404, 480, 486, 500, 603])
def test_any_other_answer_is_the_answer(status: int) -> None:
    wire = Wire()
    user, _, _ = ask(wire)
    assert wire.receive(answer_to(wire.sent_request("MESSAGE"), status)) == []
    assert user.statuses == [status]


def test_a_server_that_does_not_answer_is_followed_by_the_next_after_the_time_out_of_the_transaction() -> None:
    wire = Wire()
    user, _, _ = ask(wire)  # a MESSAGE that is delivered twice is read twice
    wire.sent()
    sent = let_pass(wire, 40.0)
    assert [(time, host) for time, _, host in sent if host != FIRST][0] == (32.0, SECOND)
    assert user.told == []
    let_pass(wire, 100.0)
    assert user.statuses == [-408]
    assert wire.user_agent.idle


@pytest.mark.parametrize("method", ["OPTIONS", "REGISTER", "INVITE"])
def test_silence_is_not_listened_to_for_long_where_there_is_another_server(method: str) -> None:
    wire = Wire()
    user, _, _ = ask(wire, method)
    wire.sent()
    sent = let_pass(wire, 12.0)
    assert next(time for time, _, host in sent if host == SECOND) == 5.0
    assert next(time for time, _, host in sent if host == THIRD) == 10.0
    let_pass(wire, 200.0)
    assert user.statuses == [-408]
    assert wire.user_agent.idle


def test_who_did_not_answer_is_asked_last_by_the_next_request() -> None:
    wire = Wire()
    _, asked, _ = ask(wire, "OPTIONS")
    wire.sent()
    let_pass(wire, 6.0)
    wire.receive(answer_to(asked, 200))
    _, again, _ = ask(wire, "OPTIONS")
    wire.sent()
    assert hosts(wire) == [SECOND]
    wire.receive(answer_to(again, 200))
    wire.now = 66.0
    ask(wire, "OPTIONS")
    wire.sent()
    assert hosts(wire) == [FIRST]


def test_who_asked_not_to_be_troubled_is_not() -> None:
    wire = Wire()
    _, _, _ = ask(wire)
    follows(wire, answer_to(wire.sent_request("MESSAGE"), 503, headers=[("Retry-After", "20 (full);duration=3")]))
    for now, host in ((19.0, SECOND), (21.0, FIRST)):
        wire.now = now
        ask(wire)
        wire.sent()
        assert hosts(wire) == [host]


def test_without_another_server_the_silence_lasts_its_time() -> None:
    wire = Wire()
    user, _, _ = ask(wire, "OPTIONS", BOB)
    wire.sent()
    let_pass(wire, 31.9)
    assert user.told == []
    let_pass(wire, 32.0)
    assert user.statuses == [-408]


def test_a_server_that_is_only_slow_is_waited_for_once_it_has_said_so() -> None:
    wire = Wire()
    user, asked, _ = ask(wire, "INVITE")
    wire.receive(answer_to(wire.sent_request("INVITE"), 100))
    assert let_pass(wire, 170.0) == []
    wire.receive(answer_to(asked, 200))
    assert user.statuses == [100, 200]


def test_names_without_servers() -> None:
    wire = Wire()
    user, _, _ = ask(wire, "MESSAGE", "sip:nobody@nowhere.example.com")
    assert user.statuses == [-503]
    assert wire.user_agent.idle


def test_connections_that_cannot_be_had_and_one_that_breaks() -> None:
    wire = Wire()
    user, _, _ = ask(wire, "MESSAGE", "sip:bob@example.com;transport=tcp")
    first = wire.event(FlowNeeded).target
    assert first == Target("tcp", FIRST, 5060)
    wire.user_agent.flow_failed(first, "refused", 0.1)
    (needed,) = wire.answer_dns(ZONE)
    assert needed == FlowNeeded(Target("tcp", SECOND, 5060))
    flow = Flow("tcp", ("192.0.2.1", 50001), (SECOND, 5060))
    wire.user_agent.flow_opened(Target("tcp", SECOND, 5060), flow, 0.2)
    wire.sent_request("MESSAGE")
    assert wire.flows == [flow]
    wire.user_agent.flow_closed(flow, 0.3)
    # The first one comes last now, as the only one left, but it has been tried.
    assert wire.answer_dns(ZONE) == []
    assert user.statuses == [-503]
    assert wire.user_agent.idle


# --- connections that break under an INVITE ---------------------------------------------------------------------------

NEAR = Flow("tcp", ("192.0.2.1", 50001), ("192.0.2.2", 5060))
"""A connection of ours."""


def over_tcp(wire: Wire, *statuses: int, breaks_at: float = 1.0) -> tuple[OutgoingInvite, Request]:
    """A call of ours by a connection that breaks when the peer has answered so far."""
    calling = wire.user_agent.invite(f"{BOB};transport=tcp", from_=ALICE, offer=OFFER, now=wire.now)
    needed = wire.event(FlowNeeded)
    wire.user_agent.flow_opened(needed.target, NEAR, wire.now)
    invite = wire.sent_request("INVITE")
    for status in statuses:
        wire.receive(answer_to(invite, status), NEAR)
    wire.events()
    wire.now = breaks_at
    wire.user_agent.flow_closed(NEAR, wire.now)
    return calling, invite


def let_connect(wire: Wire) -> Flow:
    """Answer the one question for a connection."""
    flow = Flow("tcp", ("192.0.2.1", 50002), NEAR.remote)
    wire.user_agent.flow_opened(wire.event(FlowNeeded).target, flow, wire.now)
    return flow


def test_a_call_that_rings_survives_its_connection_and_is_answered_by_the_peers_own() -> None:
    """§18.2.2: the callee answers to where we listen."""
    wire = Wire()
    calling, invite = over_tcp(wire, 100, 180)
    assert wire.events() == []
    assert wire.sent() == []
    wire.now = 60.0
    (ack,) = wire.receive(answer_to(invite, 200, body=ANSWER), TCP)
    assert (ack.cseq.method, ack.via.transport) == ("ACK", "TCP")
    assert wire.flows == [TCP]
    assert wire.event(Answered).call is calling
    calling.hang_up(61.0)
    wire.receive(answer_to(wire.sent_request("BYE"), 200), TCP)
    wire.advance(100.0)
    assert wire.user_agent.idle


def test_a_refusal_by_the_peers_own_connection_is_acknowledged_there() -> None:
    wire = Wire()
    _, invite = over_tcp(wire, 180)
    (ack,) = wire.receive(answer_to(invite, 486), TCP)
    assert (ack.cseq.method, ack.via) == ("ACK", invite.via)
    assert wire.flows == [TCP]
    assert wire.event(CallEnded).status == 486
    assert wire.user_agent.idle


def test_a_call_that_rings_without_a_connection_is_cancelled_by_a_new_one() -> None:
    wire = Wire()
    calling, invite = over_tcp(wire, 180)
    calling.hang_up(2.0)
    assert wire.user_agent.next_event() is not None  # CallEnded
    again = let_connect(wire)
    cancel = wire.sent_request("CANCEL")
    assert (cancel.via, wire.flows) == (invite.via, [again])
    wire.receive(answer_to(cancel, 200), again)
    wire.receive(answer_to(invite, 487), again)
    assert wire.flows == [again]
    assert wire.user_agent.idle


def test_a_cancel_that_was_lost_with_its_connection_is_sent_again_once() -> None:
    wire = Wire()
    calling = wire.user_agent.invite(f"{BOB};transport=tcp", from_=ALICE, offer=OFFER, now=0.0)
    wire.user_agent.flow_opened(wire.event(FlowNeeded).target, NEAR, 0.0)
    invite = wire.sent_request("INVITE")
    wire.receive(answer_to(invite, 180), NEAR)
    calling.hang_up(1.0)
    first = wire.sent_request("CANCEL")
    wire.events()
    wire.user_agent.flow_closed(NEAR, 1.1)
    again = let_connect(wire)
    assert wire.sent_request("CANCEL").via == first.via
    wire.user_agent.flow_closed(again, 1.2)
    assert wire.events() == []
    wire.advance(40.0)
    assert wire.user_agent.idle


def test_a_call_that_rings_and_whose_peer_never_comes_back_ends_with_timer_c() -> None:
    wire = Wire()
    over_tcp(wire, 180)
    wire.advance(179.0)
    assert wire.events() == []
    wire.advance(180.0)
    ended, needed = wire.events()
    assert isinstance(ended, CallEnded)
    assert ended.cause is EndCause.TIMEOUT
    assert isinstance(needed, FlowNeeded)
    wire.user_agent.flow_failed(needed.target, "refused", 180.0)
    wire.advance(220.0)
    assert wire.user_agent.idle


def test_an_invite_whose_connection_broke_before_any_answer_is_given_up_and_taken_back_when_it_rings_after_all() -> (
    None
):
    wire = Wire()
    calling, invite = over_tcp(wire)
    ended = wire.event(CallEnded)
    assert (ended.call, ended.cause) == (calling, EndCause.FLOW_FAILED)
    (cancel,) = wire.receive(answer_to(invite, 180), TCP)
    assert isinstance(cancel, Request)
    assert (cancel.method, wire.flows) == ("CANCEL", [TCP])
    wire.receive(answer_to(cancel, 200), TCP)
    (ack,) = wire.receive(answer_to(invite, 487), TCP)
    assert (ack.cseq.method, wire.flows) == ("ACK", [TCP])
    assert wire.events() == []
    assert wire.user_agent.idle


def test_an_invite_whose_connection_broke_before_any_answer_is_hung_up_when_it_is_answered_after_all() -> None:
    wire = Wire()
    _, invite = over_tcp(wire)
    wire.event(CallEnded)
    ack, bye = wire.receive(answer_to(invite, 200, body=ANSWER), TCP)
    assert [ack.cseq.method, bye.cseq.method] == ["ACK", "BYE"]
    assert wire.flows == [TCP, TCP]
    assert isinstance(bye, Request)
    wire.receive(answer_to(bye, 200), TCP)
    assert wire.events() == []
    wire.advance(100.0)
    assert wire.user_agent.idle


def test_an_ack_that_was_lost_with_its_connection_goes_where_the_answer_comes_again() -> None:
    wire = Wire()
    _, invite = over_tcp(wire, 200)
    wire.sent()
    (ack,) = wire.receive(answer_to(invite, 200), TCP)
    assert (ack.cseq.method, wire.flows) == ("ACK", [TCP])
    assert wire.events() == []


def test_a_reinvite_that_is_answered_after_it_was_given_up_is_acknowledged_and_the_call_goes_on() -> None:
    wire = Wire()
    calling = wire.user_agent.invite(f"{BOB};transport=tcp", from_=ALICE, offer=OFFER, now=0.0)
    wire.user_agent.flow_opened(wire.event(FlowNeeded).target, NEAR, 0.0)
    wire.receive(answer_to(wire.sent_request("INVITE"), 200, body=ANSWER), NEAR)
    wire.sent()
    wire.events()
    calling.reinvite(OFFER, 1.0)
    first = wire.sent_request("INVITE")
    wire.user_agent.flow_closed(NEAR, 2.0)
    wire.receive(answer_to(wire.sent_request("INVITE"), 488))  # to the Contact, by UDP
    assert wire.event(SessionRefused).status == 488
    for _ in range(2):
        (ack,) = wire.receive(answer_to(first, 200, body=ANSWER), TCP)
        assert (ack.cseq.method, ack.cseq.number, wire.flows) == ("ACK", first.cseq.number, [TCP])
    assert wire.events() == []
    assert not calling.is_over


def test_a_reinvite_that_had_arrived_before_its_connection_broke_is_waited_for() -> None:
    """Sent again by a new connection it is out of order for the peer (§12.2.2), and the first one is answered."""
    wire = Wire()
    calling = wire.user_agent.invite(f"{BOB};transport=tcp", from_=ALICE, offer=OFFER, now=0.0)
    wire.user_agent.flow_opened(wire.event(FlowNeeded).target, NEAR, 0.0)
    contact = "<sip:bob@192.0.2.2:5060;transport=tcp>"
    wire.receive(answer_to(wire.sent_request("INVITE"), 200, body=ANSWER, contact=contact), NEAR)
    wire.sent()
    wire.events()
    calling.reinvite(OFFER, 1.0)
    first = wire.sent_request("INVITE")
    wire.user_agent.flow_closed(NEAR, 2.0)
    again = let_connect(wire)
    second = wire.sent_request("INVITE")
    (ack,) = wire.receive(answer_to(second, 500), again)
    assert (ack.cseq.method, ack.via) == ("ACK", second.via)
    (ack,) = wire.receive(answer_to(first, 200, body=ANSWER, contact=contact), TCP)
    assert ack.cseq.method == "ACK"
    assert wire.event(SessionAnswered).answer == ANSWER
    calling.hang_up(3.0)
    wire.receive(answer_to(wire.sent_request("BYE"), 200))
    wire.advance(100.0)
    assert wire.user_agent.idle


def test_a_reinvite_that_is_being_served_waits_for_its_answer_as_long_as_for_any() -> None:
    wire = Wire()
    calling = wire.user_agent.invite(f"{BOB};transport=tcp", from_=ALICE, offer=OFFER, now=0.0)
    wire.user_agent.flow_opened(wire.event(FlowNeeded).target, NEAR, 0.0)
    wire.receive(answer_to(wire.sent_request("INVITE"), 200, body=ANSWER), NEAR)
    wire.events()
    calling.reinvite(OFFER, 1.0)
    wire.receive(answer_to(wire.sent_request("INVITE"), 100), NEAR)
    wire.user_agent.flow_closed(NEAR, 2.0)
    assert wire.events() == []
    wire.advance(33.9)
    assert wire.events() == []
    wire.advance(34.0)
    assert wire.event(SessionRefused).status == 503  # the call goes on


def vanished(wire: Wire, uri: str) -> Flow:
    """A connection to the first server, made by an earlier request, whose other end is gone without a word."""
    user, _, _ = ask(wire, "OPTIONS", uri)
    target = wire.event(FlowNeeded).target
    flow = Flow("tcp", ("192.0.2.1", 50001), (target.host, target.port))
    wire.user_agent.flow_opened(target, flow, wire.now)
    wire.receive(answer_to(wire.sent_request("OPTIONS"), 200), flow)
    assert user.statuses == [200]
    return flow


def test_a_call_by_a_connection_whose_peer_has_vanished_goes_to_the_next_server_in_time() -> None:
    wire = Wire()
    uri = "sip:bob@example.com;transport=tcp"
    dead = vanished(wire, uri)
    calling = wire.user_agent.invite(uri, from_=ALICE, offer=OFFER, now=1.0)
    wire.sent_request("INVITE")
    assert wire.flows == [dead]
    wire.now = 6.0
    wire.user_agent.handle_timer(6.0)
    (needed,) = wire.answer_dns(ZONE)
    assert needed == FlowNeeded(Target("tcp", SECOND, 5060))
    alive = Flow("tcp", ("192.0.2.1", 50002), (SECOND, 5060))
    wire.user_agent.flow_opened(needed.target, alive, 6.0)
    wire.receive(answer_to(wire.sent_request("INVITE"), 200, body=ANSWER), alive)
    assert wire.event(Answered).call is calling
    wire.user_agent.invite(uri, from_=ALICE, offer=OFFER, now=7.0)
    wire.sent()
    assert alive in wire.flows  # the dead one comes last for a while


@pytest.mark.parametrize(("closed_at", "cause"), [(31.0, EndCause.FLOW_FAILED), (None, EndCause.TIMEOUT)])
def test_a_call_to_the_only_server_which_has_vanished_ends_in_time(closed_at: float | None, cause: EndCause) -> None:
    """By the kernel's word (TCP_USER_TIMEOUT, 30 s), or else by Timer B."""
    wire = Wire()
    dead = vanished(wire, f"{BOB};transport=tcp")
    wire.user_agent.invite(f"{BOB};transport=tcp", from_=ALICE, offer=OFFER, now=1.0)
    wire.sent_request("INVITE")
    wire.advance(closed_at or 33.0)
    if closed_at is not None:
        wire.user_agent.flow_closed(dead, closed_at)
    assert wire.event(CallEnded).cause is cause


# --- late answers of servers that were given up -----------------------------------------------------------------------


def given_up(wire: Wire) -> tuple[OutgoingInvite, Request, Request]:
    """A call whose first server was silent, and is now tried at the second."""
    calling = call(wire)
    first = wire.sent_request("INVITE")
    wire.advance(4.9)
    wire.now = 5.0
    wire.user_agent.handle_timer(5.0)
    assert wire.answer_dns(ZONE) == []
    second = wire.sent_request("INVITE")
    assert hosts(wire) == [SECOND]
    return calling, first, second


def test_a_server_that_begins_to_ring_too_late_gets_a_cancel() -> None:
    wire = Wire()
    calling, first, second = given_up(wire)
    wire.receive(answer_to(second, 100))
    (cancel,) = wire.receive(answer_to(first, 180))
    assert (cancel.cseq.method, cancel.via) == ("CANCEL", first.via)
    assert hosts(wire) == [FIRST]
    assert wire.receive(answer_to(first, 180)) == []
    assert wire.events() == []
    (ack,) = wire.receive(answer_to(first, 487))
    assert ack.cseq.method == "ACK"
    (ack,) = wire.receive(answer_to(second, 200, body=ANSWER))
    assert wire.event(Answered).call is calling


@pytest.mark.parametrize("ringing", [[100, 180], []])
def test_a_slow_server_that_speaks_before_the_next_one_has_the_call(ringing: list[int]) -> None:
    """Both may be the same one: the CANCEL would take back what the other attempt finds merged."""
    wire = Wire()
    calling, first, second = given_up(wire)
    for status in ringing:
        assert wire.receive(answer_to(first, status)) == []
    assert all(isinstance(event, Progress) for event in wire.events())
    (ack,) = wire.receive(answer_to(second, 482))
    assert (ack.cseq.method, ack.via) == ("ACK", second.via)
    (ack,) = wire.receive(answer_to(first, 200, body=ANSWER))
    assert hosts(wire) == ["192.0.2.2"]  # its Contact
    assert wire.event(Answered).call is calling
    assert calling.request.via == first.via
    calling.hang_up(10.0)
    wire.receive(answer_to(wire.sent_request("BYE"), 200))
    wire.advance(100.0)
    assert wire.user_agent.idle


def test_the_next_server_that_rings_when_the_slow_one_has_the_call_gets_a_cancel() -> None:
    wire = Wire()
    calling, first, second = given_up(wire)
    wire.receive(answer_to(first, 180))
    (cancel,) = wire.receive(answer_to(second, 180))
    assert (cancel.cseq.method, cancel.via) == ("CANCEL", second.via)
    wire.receive(answer_to(second, 487))
    assert isinstance(wire.event(Progress), Progress)
    calling.cancel(6.0)
    assert wire.sent_request("CANCEL").via == first.via


def test_when_the_slow_server_stays_silent_after_all_it_goes_on_to_the_next_one() -> None:
    wire = Wire()
    _, _, second = given_up(wire)
    wire.receive(answer_to(second, 482))
    assert {host for _, _, host in let_pass(wire, 31.9)} == {FIRST}
    assert let_pass(wire, 32.0) == [(32.0, "INVITE", THIRD)]
    wire.advance(100.0)
    ended = wire.event(CallEnded)
    assert (ended.cause, ended.status) == (EndCause.REJECTED, 482)
    assert wire.user_agent.idle


def test_a_482_without_an_earlier_attempt_is_the_answer() -> None:
    wire = Wire()
    call(wire)
    wire.receive(answer_to(wire.sent_request("INVITE"), 482))
    assert wire.event(CallEnded).status == 482


def test_a_server_that_answers_too_late_is_hung_up() -> None:
    wire = Wire()
    calling, first, second = given_up(wire)
    wire.receive(answer_to(second, 200, body=ANSWER))
    assert wire.event(Answered).call is calling
    late = answer_to(first, 200, tag="late", contact=f"<sip:bob@{FIRST}>")
    ack, bye = wire.receive(late)
    assert isinstance(bye, Request)
    assert [ack.cseq.method, bye.method] == ["ACK", "BYE"]
    assert ack.to.tag == bye.to.tag == "late"
    assert hosts(wire) == [FIRST, FIRST]
    assert wire.events() == []
    for _ in range(2):
        (copy,) = wire.receive(late)
        assert (copy.cseq.method, copy.via, hosts(wire)) == ("ACK", ack.via, [FIRST])
    wire.receive(answer_to(bye, 200))
    (copy,) = wire.receive(late)
    assert copy.cseq.method == "ACK"
    calling.hang_up(6.0)
    wire.receive(answer_to(wire.sent_request("BYE"), 200))
    wire.advance(100.0)
    assert wire.user_agent.idle


# --- credentials ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 407])
def test_a_challenge_is_answered_with_a_new_branch_and_the_next_number(status: int) -> None:
    wire = Wire()
    user, asked, _ = ask(wire, "REGISTER", BOB, credentials=SECRET)
    first = wire.sent_request("REGISTER")
    (second,) = wire.receive(challenge(first, status))
    assert isinstance(second, Request)
    assert second.via.branch != first.via.branch
    assert (second.cseq.number, second.call_id, second.from_) == (2, first.call_id, first.from_)
    assert (second.headers.get("Authorization" if status == 401 else "Proxy-Authorization") or "").startswith("Digest ")
    assert user.told == []
    wire.receive(answer_to(second, 200))
    assert user.told == [(asked, 200)]
    assert asked.cseq.number == 2


def test_without_credentials_a_challenge_is_a_refusal_and_so_is_a_second_one() -> None:
    wire = Wire()
    user, _, _ = ask(wire, "REGISTER", BOB)
    assert wire.receive(challenge(wire.sent_request("REGISTER"))) == []
    assert user.statuses == [401]
    user, _, _ = ask(wire, "REGISTER", BOB, credentials=SECRET)
    (second,) = wire.receive(challenge(wire.sent_request("REGISTER")))
    assert isinstance(second, Request)
    assert wire.receive(challenge(second)) == []
    assert user.statuses == [401]


def test_a_peer_that_never_stops_asking_is_refused_some_time() -> None:
    wire = Wire()
    user, _, _ = ask(wire, "REGISTER", BOB, credentials=SECRET)
    sent, attempts = wire.sent_request("REGISTER"), 1
    while following := wire.receive(challenge(sent, stale=True)):
        (message,) = following
        assert isinstance(message, Request)
        sent, attempts = message, attempts + 1
    assert attempts <= 5
    assert user.statuses == [401]


def test_a_known_nonce_is_used_at_once_and_every_attempt_counts() -> None:
    wire = Wire()
    client = DigestClient(SECRET)
    _, asked, _ = ask(wire, credentials=client)
    second = follows(wire, challenge(wire.sent_request("MESSAGE")))
    assert "nc=00000001" in (second.headers.get("Authorization") or "")
    wire.receive(answer_to(second, 200))
    ask(wire, credentials=client)
    again = wire.sent_request("MESSAGE")
    assert "nc=00000002" in (again.headers.get("Authorization") or "")
    elsewhere = follows(wire, answer_to(again, 503))
    assert "nc=00000003" in (elsewhere.headers.get("Authorization") or "")
    assert asked.cseq.number == 2


def test_a_call_is_authorized_and_so_are_the_requests_in_its_dialog() -> None:
    wire = Wire()
    calling = wire.user_agent.invite(BOB, from_=ALICE, offer=OFFER, now=0.0, credentials=SECRET)
    first = wire.sent_request("INVITE")
    ack, second = wire.receive(challenge(first, 407))
    assert isinstance(second, Request)
    assert (ack.cseq.method, str(ack.via)) == ("ACK", str(first.via))
    assert (second.method, second.cseq.number, second.body) == ("INVITE", 2, OFFER)
    (ack,) = wire.receive(answer_to(second, 200, body=ANSWER))
    assert str(ack.cseq) == "2 ACK"
    assert isinstance(wire.events()[-1], Answered)
    calling.hang_up(1.0)
    bye = wire.sent_request("BYE")
    assert bye.cseq.number == 3
    assert bye.headers.get("Proxy-Authorization")
    (again,) = wire.receive(challenge(bye, 407, stale=True))
    assert isinstance(again, Request)
    assert (again.method, again.cseq.number, again.to.tag) == ("BYE", 4, "b1")
    assert calling.dialog is not None
    assert calling.dialog.local_sequence == 4
    wire.receive(answer_to(again, 200))
    assert isinstance(wire.events()[-1], CallEnded)
    wire.advance(60.0)
    assert wire.user_agent.idle


# --- CANCEL -----------------------------------------------------------------------------------------------------------


def test_cancel_goes_to_the_newest_server_with_the_newest_number() -> None:
    wire = Wire()
    calling = call(wire, credentials=SECRET)
    second = follows_invite(wire, answer_to(wire.sent_request("INVITE"), 503))
    third = follows_invite(wire, challenge(second))
    wire.receive(answer_to(third, 180))
    calling.cancel(1.0)
    cancel = wire.sent_request("CANCEL")
    assert (cancel.via, str(cancel.cseq), hosts(wire)) == (third.via, "2 CANCEL", [SECOND])


def follows_invite(wire: Wire, data: bytes) -> Request:
    """As `follows`, and the ACK of what was received goes first."""
    sent = wire.receive(data)
    assert sent[0].cseq.method == "ACK"
    if len(sent) == 1:
        assert wire.answer_dns(ZONE) == []
        sent += wire.sent()
    assert isinstance(sent[1], Request)
    return sent[1]


@pytest.mark.parametrize("status", [401, 487, 503])
def test_after_cancel_nobody_else_is_asked(status: int) -> None:
    wire = Wire()
    calling = call(wire, credentials=SECRET)
    invite = wire.sent_request("INVITE")
    wire.receive(answer_to(invite, 180))
    calling.cancel(1.0)
    cancel = wire.sent_request("CANCEL")
    (ack,) = wire.receive(challenge(invite) if status == 401 else answer_to(invite, status))
    assert ack.cseq.method == "ACK"
    wire.receive(answer_to(cancel, 200))
    assert [type(event) for event in wire.events()] == [Progress, CallEnded]
    wire.advance(60.0)
    assert wire.sent() == []
    assert wire.user_agent.idle


def test_a_call_given_up_while_a_connection_is_made_is_never_sent() -> None:
    wire = Wire()
    calling = wire.user_agent.invite(f"{BOB};transport=tcp", from_=ALICE, offer=OFFER, now=0.0)
    target = wire.event(FlowNeeded).target
    calling.cancel(0.1)
    assert wire.event(CallEnded).cause is EndCause.CANCELLED
    wire.user_agent.flow_opened(target, TCP, 0.2)
    assert wire.sent() == []
    assert wire.user_agent.idle


def test_a_call_given_up_between_two_servers_is_not_sent_to_the_second() -> None:
    wire = Wire()
    calling = call(wire)
    invite = wire.sent_request("INVITE")
    wire.receive(answer_to(invite, 180))
    wire.receive(answer_to(invite, 503))  # DNS is being asked for the next one
    calling.cancel(0.1)
    assert wire.answer_dns(ZONE)[-1:] == [CallEnded(calling, EndCause.CANCELLED, None, "cancelled here")]
    wire.advance(60.0)
    assert wire.sent() == []
    assert wire.user_agent.idle


def test_what_is_abandoned_says_nothing_more() -> None:
    wire = Wire()
    user, asked, sending = ask(wire)
    wire.sent()
    sending.abandon()
    wire.receive(answer_to(asked, 200))
    assert let_pass(wire, 100.0) == []
    assert user.told == []
    assert wire.user_agent.idle


# --- length -----------------------------------------------------------------------------------------------------------

LONG = "x" * 1200


def long_call(wire: Wire) -> OutgoingInvite:
    return wire.user_agent.invite(BOB, from_=ALICE, offer=OFFER, now=wire.now, headers=[("X-Long", LONG)])


def test_what_is_too_long_for_a_datagram_goes_over_tcp() -> None:
    wire = Wire()
    long_call(wire)
    target = Target("tcp", "192.0.2.2", 5060)
    assert wire.event(FlowNeeded).target == target
    assert wire.sent() == []
    flow = Flow("tcp", ("192.0.2.1", 50001), ("192.0.2.2", 5060))
    wire.user_agent.flow_opened(target, flow, 0.1)
    invite = wire.sent_request("INVITE")
    assert wire.flows == [flow]
    assert invite.via.transport == "TCP"
    assert str(invite.contact) == "<sip:sipbridge@192.0.2.1:5060;transport=tcp>"
    wire.receive(answer_to(invite, 180), flow)
    assert wire.flows == []


def test_and_over_udp_all_the_same_where_there_is_no_tcp() -> None:
    wire = Wire()
    long_call(wire)
    wire.user_agent.flow_failed(wire.event(FlowNeeded).target, "refused", 0.1)
    invite = wire.sent_request("INVITE")
    assert wire.flows == [UDP]
    assert invite.via.transport == "UDP"
    assert len(invite.serialize()) > 1300
    long_call(wire)  # it is not tried each time
    assert wire.events() == []
    wire.sent_request("INVITE")
    assert wire.flows == [UDP]


def test_up_to_1300_octets_go_in_a_datagram() -> None:
    wire = Wire()
    wire.user_agent.invite(BOB, from_=ALICE, offer=OFFER, now=0.0)
    rest = 1300 - len(wire.sent_request("INVITE").serialize()) - len("X-Long: \r\n")
    for length, transport in ((rest, "UDP"), (rest + 1, "TCP")):
        wire.user_agent.invite(BOB, from_=ALICE, offer=OFFER, now=0.0, headers=[("X-Long", "x" * length)])
        sent = wire.sent()
        assert bool(sent) is (transport == "UDP")
        assert all(len(message.serialize()) == 1300 for message in sent)


# --- routes -----------------------------------------------------------------------------------------------------------


def test_an_outbound_proxy_is_asked_and_named_in_a_route() -> None:
    wire = Wire()
    wire.user_agent.invite("sip:bob@far.example.com", from_=ALICE, offer=OFFER, now=0.0, proxy="sip:192.0.2.2:5060")
    invite = wire.sent_request("INVITE")
    assert (invite.uri, invite.headers.get_all("Route")) == ("sip:bob@far.example.com", ["<sip:192.0.2.2:5060;lr>"])
    assert wire.flows == [UDP]


@pytest.mark.parametrize("option", ["next_hop", "proxy"])
def test_a_telephone_number_is_called_through_a_proxy(option: str) -> None:
    wire = Wire()
    with pytest.raises(LocalProtocolError):
        wire.user_agent.invite("tel:+15550100", from_=ALICE, offer=OFFER, now=0.0)
    wire.user_agent.invite("tel:+15550100", from_=ALICE, offer=OFFER, now=0.0, **{option: "sip:192.0.2.2"})  # type: ignore[arg-type]
    invite = wire.sent_request("INVITE")
    assert (invite.uri, str(invite.to.uri)) == ("tel:+15550100", "tel:+15550100")
    assert ("Route" in invite.headers) is (option == "proxy")
    assert wire.flows == [UDP]


def test_a_route_given_with_the_request_is_followed() -> None:
    wire = Wire()
    route = [("Route", f"<sip:{FIRST};lr>"), ("Route", f"<sip:{SECOND};lr>")]
    wire.user_agent.invite(BOB, from_=ALICE, offer=OFFER, now=0.0, headers=route)
    invite = wire.sent_request("INVITE")
    assert (invite.uri, hosts(wire)) == (BOB, [FIRST])
    assert [str(address) for address in invite.routes] == [value for _, value in route]


def test_a_strict_router_finds_itself_in_the_request_uri() -> None:
    wire = Wire()
    route = [("Route", f"<sip:{FIRST}>"), ("Route", f"<sip:{SECOND};lr>")]
    wire.user_agent.invite(BOB, from_=ALICE, offer=OFFER, now=0.0, headers=route)
    invite = wire.sent_request("INVITE")
    assert (invite.uri, hosts(wire)) == (f"sip:{FIRST}", [FIRST])
    assert invite.headers.get_all("Route") == [f"<sip:{SECOND};lr>", f"<{BOB}>"]


def test_who_is_connected_is_reached_by_his_connection() -> None:
    wire = Wire()
    wire.receive(request("OPTIONS"), TCP)
    user, asked = User(), parse_request(request("MESSAGE", uri=BOB))
    core_of(wire).send_out_of_dialog(asked, TCP, user, 0.0)
    wire.sent_request("MESSAGE")
    assert wire.flows == [TCP]
    wire.user_agent.flow_closed(TCP, 0.1)
    assert user.statuses == [-503]
    core_of(wire).send_out_of_dialog(asked, TCP, user, 0.2)
    assert user.statuses == [-503, -503]


def test_what_depends_on_the_flow_is_prepared_for_each_attempt() -> None:
    wire = Wire()
    flows: list[Flow] = []

    def prepare(asked: Request, flow: Flow) -> None:
        flows.append(flow)
        asked.headers.set("X-Flow", flow.remote[0])

    ask(wire, prepare=prepare)
    first = wire.sent_request("MESSAGE")
    second = follows(wire, answer_to(first, 503))
    assert [sent.headers.get("X-Flow") for sent in (first, second)] == [FIRST, SECOND]
    assert [flow.remote[0] for flow in flows] == [FIRST, SECOND]


# --- how a peer sees us -----------------------------------------------------------------------------------------------


def seen_as(sent: Request, received: str, rport: object) -> bytes:
    via = str(sent.via).replace(";rport", f";rport={rport};received={received}")
    return answer_to(sent, 200).replace(str(sent.via).encode(), via.encode())


@pytest.mark.parametrize(
    ("received", "rport", "contact"),
    [
        ("198.51.100.9", 40_001, "198.51.100.9:40001"),
        ("192.0.2.1", 5060, "192.0.2.1:5060"),
        ("no.address.example", 40_001, "192.0.2.1:5060"),
    ],
)
def test_our_contact_is_what_the_peer_sees_of_our_nat(received: str, rport: int, contact: str) -> None:
    wire = Wire()
    ask(wire, "OPTIONS", BOB)
    wire.receive(seen_as(wire.sent_request("OPTIONS"), received, rport))
    wire.user_agent.invite(BOB, from_=ALICE, offer=OFFER, now=0.0)
    assert str(wire.sent_request("INVITE").contact) == f"<sip:sipbridge@{contact}>"
    wire.user_agent.invite("sip:eve@192.0.2.3", from_=ALICE, offer=OFFER, now=0.0)  # it is nobody else's business
    assert str(wire.sent_request("INVITE").contact) == "<sip:sipbridge@192.0.2.1:5060>"


# --- OPTIONS ----------------------------------------------------------------------------------------------------------


def ping(wire: Wire, uri: str = FARM, **options: object) -> list[PingResult]:
    results: list[PingResult] = []
    wire.user_agent.options(uri, on_result=results.append, now=wire.now, **options)  # type: ignore[arg-type]
    assert wire.answer_dns(ZONE) == []
    return results


def test_a_ping_is_answered_by_whoever_is_there() -> None:
    wire = Wire()
    results = ping(wire)
    sent = wire.sent_request("OPTIONS")
    assert (sent.uri, sent.headers.get("Accept")) == (FARM, "application/sdp")
    wire.now = 0.25
    second = follows(wire, answer_to(sent, 503))
    assert results == []
    wire.receive(answer_to(second, 404))
    (result,) = results
    assert (result.status, result.seconds, result.answered) == (404, 0.25, True)
    assert result.flow == Flow("udp", US, (SECOND, 5060))


@pytest.mark.parametrize(("uri", "status"), [(BOB, 408), ("sip:nowhere.example.com", 503)])
def test_a_ping_that_is_not_answered(uri: str, status: int) -> None:
    wire = Wire()
    results = ping(wire, uri)
    wire.advance(40.0)
    (result,) = results
    assert (result.status, result.answered, result.flow) == (status, False, None)
    assert wire.user_agent.idle


def test_a_ping_is_authorized() -> None:
    wire = Wire()
    results = ping(wire, BOB, credentials=SECRET)
    (second,) = wire.receive(challenge(wire.sent_request("OPTIONS")))
    assert isinstance(second, Request)
    wire.receive(answer_to(second, 200))
    assert [result.status for result in results] == [200]


# --- strangers --------------------------------------------------------------------------------------------------------


def settle(wire: Wire) -> list[Request]:
    """Answer what is asked, refuse connections, and return what is sent."""
    sent: list[Request] = []
    while True:
        needed = [event.target for event in wire.answer_dns(ZONE) if isinstance(event, FlowNeeded)]
        for target in needed:
            wire.user_agent.flow_failed(target, "refused", wire.now)
        sent += [message for message in wire.sent() if isinstance(message, Request)]
        if not needed:
            return sent


def test_nothing_raises_and_everything_ends_whatever_is_changed_in_an_answer() -> None:
    source = random.Random(3263)
    for _ in range(300):
        wire = Wire()
        calling = call(wire, credentials=SECRET)
        (sent,) = settle(wire)
        for _ in range(6):
            answer = source.choice([challenge(sent), challenge(sent, 407), answer_to(sent, 503), answer_to(sent, 180)])
            wire.user_agent.receive(spoiled(answer, source), UDP, wire.now)
            sent = next((again for again in reversed(settle(wire)) if again.method == "INVITE"), sent)
        calling.hang_up(wire.now)
        while not wire.user_agent.idle:
            settle(wire)
            deadline = wire.user_agent.get_timer()
            if deadline is not None:
                wire.now = deadline
                wire.user_agent.handle_timer(deadline)
        assert wire.user_agent.calls == 0
