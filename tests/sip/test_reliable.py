"""Reliable provisional responses (RFC 3262): numbers, repetition and order, and what waits for them."""

from __future__ import annotations

from collections import Counter

import pytest

from sipbridge.errors import LocalProtocolError, SipParseError
from sipbridge.sip.events import (
    Acknowledged,
    Answered,
    CallEnded,
    EndCause,
    InviteReceived,
    Progress,
    ReinviteReceived,
    SessionAnswered,
    SipEvent,
)
from sipbridge.sip.invite import CallState
from sipbridge.sip.message import Request, Response, parse_message
from sipbridge.sip.reliable import Arrival, ProvisionalOrder, RAck, ReliableProvisionals, rseq_of
from sipbridge.sip.timers import Timers
from sipbridge.sip.uas import IncomingInvite
from tests.sip.network import Network, Weather
from tests.sip.wire import ANSWER, OFFER, PEER, US, Wire, answer_to, from_callee, in_dialog, request


def provisional(status: int = 183, body: bytes = b"") -> Response:
    invite = parse_message(request())
    assert isinstance(invite, Request)
    response = invite.response(status, to_tag="b1")
    if body:
        response.headers.add("Content-Type", "application/sdp")
        response.body = body
    return response


# --- as values --------------------------------------------------------------------------------------------------------


def test_they_are_numbered_and_go_out_one_by_one() -> None:
    reliable = ReliableProvisionals(700, Timers())
    first, second = provisional(183), provisional(180)
    assert reliable.send(first, 0.0) is first
    assert (first.headers.get("RSeq"), first.headers.get("Require")) == ("700", "100rel")
    assert reliable.send(second, 0.1) is None
    assert reliable.acknowledge(RAck(700, 1, "INVITE"), 0.2) == (True, second)
    assert second.headers.get("RSeq") == "701"
    assert reliable.acknowledge(RAck(701, 1, "INVITE"), 0.3) == (True, None)
    assert reliable.get_timer() is None


@pytest.mark.parametrize(
    "rack", [RAck(699, 1, "INVITE"), RAck(7, 2, "INVITE"), RAck(7, 1, "BYE"), RAck(8, 1, "INVITE")]
)
def test_a_prack_of_something_else_acknowledges_nothing(rack: RAck) -> None:
    reliable = ReliableProvisionals(7, Timers())
    assert reliable.acknowledge(rack, 0.0) == (False, None)
    reliable.send(provisional(), 0.0)
    assert reliable.acknowledge(rack, 0.0) == (False, None)
    assert reliable.acknowledge(RAck(7, 1, "INVITE"), 0.0) == (True, None)
    assert reliable.acknowledge(RAck(7, 1, "INVITE"), 0.0) == (False, None)


def test_it_is_repeated_at_doubled_intervals_without_limit_until_64_t1() -> None:
    reliable = ReliableProvisionals(1, Timers())
    response = provisional()
    reliable.send(response, 0.0)
    times = []
    while (now := reliable.get_timer()) is not None and not reliable.is_over(now):
        assert reliable.due(now) is response
        times.append(now)
    assert times == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert now == 32.0


def test_after_the_final_response_nothing_is_repeated_but_a_prack_still_matches() -> None:
    reliable = ReliableProvisionals(1, Timers())
    reliable.send(provisional(), 0.0)
    reliable.send(provisional(), 0.0)
    reliable.stop()
    assert reliable.get_timer() is None
    assert not reliable.is_over(100.0)
    assert reliable.acknowledge(RAck(1, 1, "INVITE"), 1.0) == (True, None)


def test_only_a_response_with_a_session_description_holds_up_the_2xx() -> None:
    for body, holds in ((b"", False), (ANSWER, True)):
        reliable = ReliableProvisionals(1, Timers())
        reliable.send(provisional(body=body), 0.0)
        assert reliable.holds_session is holds


@pytest.mark.parametrize(
    ("text", "rack"),
    [("1 2 INVITE", RAck(1, 2, "INVITE")), (" 0001\t02  INVITE ", RAck(1, 2, "INVITE"))],
)
def test_rack_is_read_and_written(text: str, rack: RAck) -> None:
    prack = parse_message(request("PRACK", headers=[f"RAck: {text}"]))
    assert isinstance(prack, Request)
    assert RAck.of(prack) == rack
    assert str(rack) == "1 2 INVITE"


@pytest.mark.parametrize(
    "text", ["", "1 INVITE", "x 1 INVITE", "1 1", "4294967296 1 INVITE", "1 1 INVITE x", "1,1 1 I"]
)
def test_a_malformed_rack_is_an_error(text: str) -> None:
    prack = parse_message(request("PRACK", headers=[f"RAck: {text}"]))
    assert isinstance(prack, Request)
    with pytest.raises(SipParseError):
        RAck.of(prack)


@pytest.mark.parametrize(
    ("status", "require", "rseq", "number"),
    [
        (183, "100rel", "5", 5),
        (180, "x, 100REL", "005", 5),
        (100, "100rel", "5", None),
        (183, "timer", "5", None),
        (183, "100rel", "0", None),
        (183, "100rel", "x", None),
        (183, "100rel", "4294967296", None),
        (200, "100rel", "5", None),
    ],
)
def test_what_wants_a_prack(status: int, require: str, rseq: str, number: int | None) -> None:
    response = provisional(status)
    response.headers.add("Require", require)
    response.headers.add("RSeq", rseq)
    assert rseq_of(response) == number


def test_the_caller_sees_each_once_and_in_order() -> None:
    order = ProvisionalOrder()
    seen = [order.receive(rseq) for rseq in (5, 5, 7, 6, 5, 7, 4)]
    new, repeated, early = Arrival.NEW, Arrival.REPEATED, Arrival.EARLY
    assert seen == [new, repeated, early, new, repeated, new, repeated]


# --- on the wire, as callee -------------------------------------------------------------------------------------------

TAKES_IT = "Supported: 100rel"


def prack(tag: str, rseq: int, *, cseq: int = 2, sequence: int = 1, body: bytes = b"") -> bytes:
    return in_dialog("PRACK", tag, cseq=cseq, headers=[f"RAck: {rseq} {sequence} INVITE"], body=body)


def ringing(
    wire: Wire, *, header: str = TAKES_IT, body: bytes = ANSWER, offer: bool = True
) -> tuple[IncomingInvite, Response, str, int]:
    """A call that rings with a reliable 183; with it the response, our tag and its number."""
    data = request(headers=[header])
    if not offer:
        data = data.partition(b"\r\n\r\n")[0].replace(b"Length: 14", b"Length: 0") + b"\r\n\r\n"
    wire.receive(data)
    call = wire.event(InviteReceived).call
    call.ring(wire.now, 183, body)
    (response,) = wire.sent()
    assert isinstance(response, Response)
    assert response.to.tag
    return call, response, response.to.tag, int(response.headers.get("RSeq") or "")


def statuses(messages: list[Request | Response]) -> list[tuple[str, int]]:
    return [(message.cseq.method, message.status) for message in messages if isinstance(message, Response)]


def test_early_media_is_reliable_where_the_caller_takes_it() -> None:
    wire = Wire()
    call, response, tag, rseq = ringing(wire)
    assert (response.status, response.headers.get("Require"), response.body) == (183, "100rel", ANSWER)
    assert 0 < rseq < 2**31
    assert "UPDATE" in (response.headers.get("Allow") or "")
    assert [time for time, _ in wire.advance(4.0)] == [0.5, 1.5, 3.5]
    ok = wire.reply(prack(tag, rseq))
    assert (ok.status, ok.cseq.method) == (200, "PRACK")
    assert wire.reply(prack(tag, rseq)).status == 200  # repeated
    assert wire.advance(50.0) == []
    assert wire.reply(prack(tag, rseq, cseq=3)).status == 481
    call.answer(ANSWER, 50.0)
    (final,) = wire.sent()
    assert (final.cseq.method, final.body) == ("INVITE", b"")  # the answer has been given (RFC 3261 §13.2.1)
    wire.receive(in_dialog("ACK", tag, cseq=1))
    assert call.state is CallState.CONFIRMED


@pytest.mark.parametrize("header", ["Supported: timer", "Supported: 100rel"])
def test_ringing_without_a_session_stays_as_it_was(header: str) -> None:
    wire = Wire()
    wire.receive(request(headers=[header]))
    wire.event(InviteReceived).call.ring(0.0)
    (response,) = wire.sent()
    assert "RSeq" not in response.headers
    assert "Require" not in response.headers


def test_what_the_caller_requires_is_reliable_whatever_it_is() -> None:
    wire = Wire()
    _, response, tag, rseq = ringing(wire, header="Require: 100rel", body=b"")
    assert response.headers.get("Require") == "100rel"
    assert wire.reply(prack(tag, rseq)).status == 200
    ((time, again),) = wire.advance(60.0)  # for the proxies' Timer C, and reliable again
    assert (time, again.headers.get("RSeq")) == (60.0, str(rseq + 1))


def test_a_reliable_response_to_a_caller_that_does_not_know_them() -> None:
    wire = Wire()
    call = wire.incoming()
    with pytest.raises(LocalProtocolError):
        call.ring(0.0, 183, ANSWER, reliable=True)
    call.ring(0.0, 183, ANSWER)
    (response,) = wire.sent()
    assert "RSeq" not in response.headers
    assert response.body == ANSWER


def test_without_prack_the_call_is_refused_after_64_t1() -> None:
    wire = Wire()
    ringing(wire)
    sent = wire.advance(32.0)
    assert [time for time, _ in sent] == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 32.0]
    refusal = sent[-1][1]
    assert isinstance(refusal, Response)
    assert refusal.status == 504
    ended = wire.event(CallEnded)
    assert (ended.cause, ended.status) == (EndCause.ACK_TIMEOUT, 504)
    wire.advance(100.0)
    assert wire.user_agent.idle


@pytest.mark.parametrize("wrong", [{"rseq": 1}, {"sequence": 2}])
def test_a_prack_of_something_else_gets_481_and_stops_nothing(wrong: dict[str, int]) -> None:
    wire = Wire()
    _, _, tag, rseq = ringing(wire)
    changed = {"rseq": rseq + wrong.get("rseq", 0), "sequence": wrong.get("sequence", 1)}
    assert wire.reply(prack(tag, changed["rseq"], sequence=changed["sequence"])).status == 481
    assert len(wire.advance(1.0)) == 1


def test_a_prack_without_rack_gets_400() -> None:
    wire = Wire()
    _, _, tag, _ = ringing(wire)
    assert wire.reply(in_dialog("PRACK", tag)).status == 400


def test_the_200_waits_for_the_prack_of_a_session_description() -> None:
    wire = Wire()
    call, _, tag, rseq = ringing(wire)
    call.answer(ANSWER, 0.0)
    assert wire.sent() == []
    call.ring(0.1)  # nothing more is said meanwhile
    assert wire.sent() == []
    with pytest.raises(LocalProtocolError):
        call.answer(ANSWER, 0.2)
    assert statuses(wire.receive(prack(tag, rseq))) == [("PRACK", 200), ("INVITE", 200)]


def test_the_200_does_not_wait_for_the_prack_of_mere_ringing() -> None:
    wire = Wire()
    call, _, tag, rseq = ringing(wire, header="Require: 100rel", body=b"")
    call.answer(ANSWER, 0.0)
    (ok,) = wire.sent()
    assert (ok.cseq.method, ok.body) == ("INVITE", ANSWER)
    assert statuses(wire.receive(prack(tag, rseq))) == [("PRACK", 200)]  # it was on its way
    assert {message.cseq.method for _, message in wire.advance(4.0) if isinstance(message, Response)} == {"INVITE"}


def test_a_refusal_does_not_wait_for_anything() -> None:
    wire = Wire()
    call, _, tag, rseq = ringing(wire)
    call.answer(ANSWER, 0.0)
    call.hang_up(0.1)
    assert wire.statuses() == [480]
    assert wire.reply(prack(tag, rseq)).status == 481  # the early dialog is gone
    wire.receive(request("ACK", to=f"<sip:agent@192.0.2.1>;tag={tag}"))
    assert wire.advance(60.0) == []
    assert wire.user_agent.idle


def test_a_cancel_while_the_200_waits_for_its_prack() -> None:
    wire = Wire()
    call, _, _, _ = ringing(wire)
    call.answer(ANSWER, 0.0)
    assert statuses(wire.receive(request("CANCEL"))) == [("CANCEL", 200), ("INVITE", 487)]
    assert wire.event(CallEnded).cause is EndCause.CANCELLED


def test_several_responses_go_out_one_after_the_other() -> None:
    wire = Wire()
    call, _, tag, rseq = ringing(wire)
    call.ring(0.1, 180, reliable=True)
    call.ring(0.2, 181, reliable=True)
    assert wire.sent() == []
    assert statuses(wire.receive(prack(tag, rseq))) == [("PRACK", 200), ("INVITE", 180)]
    assert statuses(wire.receive(prack(tag, rseq + 1, cseq=3))) == [("PRACK", 200), ("INVITE", 181)]
    call.answer(ANSWER, 1.0)
    assert wire.statuses() == [200]


def test_an_invite_without_offer_gets_one_in_the_183_and_the_answer_comes_with_the_prack() -> None:
    wire = Wire()
    call, response, tag, rseq = ringing(wire, body=OFFER, offer=False)
    assert response.body == OFFER
    call.answer(OFFER, 0.0)
    sent = wire.receive(prack(tag, rseq, body=ANSWER))
    assert statuses(sent) == [("PRACK", 200), ("INVITE", 200)]
    assert [message.body for message in sent] == [b"", b""]
    assert wire.event(SessionAnswered).answer == ANSWER
    assert (call.dialog.exchange.local, call.dialog.exchange.remote) == (OFFER, ANSWER)


def test_an_offer_needs_a_response_that_is_sure_to_arrive() -> None:
    wire = Wire()
    wire.receive(request(body=b" ").replace(b"Content-Length: 1", b"Content-Length: 0"))
    wire.event(InviteReceived).call.ring(0.0, 183, OFFER)
    (response,) = wire.sent()
    assert isinstance(response, Response)
    assert (response.status, response.body) == (183, b"")


def test_a_prack_may_bring_an_offer_and_the_200_waits_until_it_is_answered() -> None:
    wire = Wire()
    call, _, tag, rseq = ringing(wire)
    call.answer(ANSWER, 0.0)
    assert wire.receive(prack(tag, rseq, body=OFFER)) == []
    event = wire.event(ReinviteReceived)
    assert (event.request.method, event.offer) == ("PRACK", OFFER)
    call.accept_reinvite(b"v=0\r\ns=second\r\n", 0.1)
    ok, final = wire.sent()
    assert statuses([ok, final]) == [("PRACK", 200), ("INVITE", 200)]
    assert (ok.body, final.body) == (b"v=0\r\ns=second\r\n", b"")
    assert "Session-Expires" not in ok.headers


# --- on the wire, as caller -------------------------------------------------------------------------------------------


def reliable_answer(
    invite: Request, status: int, rseq: int, *, tag: str = "b1", body: bytes = b"", allow: str = "INVITE, UPDATE"
) -> bytes:
    headers = [("Require", "100rel"), ("RSeq", str(rseq)), ("Allow", allow)]
    return answer_to(invite, status, tag=tag, body=body, headers=headers)


def test_each_reliable_response_is_acknowledged_once_and_in_order() -> None:
    wire = Wire()
    _, invite = wire.calling()
    assert "100rel" in invite.supported
    (first,) = wire.receive(reliable_answer(invite, 183, 17, body=ANSWER))
    assert isinstance(first, Request)
    assert (first.method, first.uri, str(first.cseq)) == ("PRACK", "sip:bob@192.0.2.2:5060", "2 PRACK")
    assert (first.headers.get("RAck"), first.to.tag) == ("17 1 INVITE", "b1")
    assert wire.event(Progress).answer == ANSWER
    assert wire.receive(reliable_answer(invite, 183, 17, body=ANSWER)) == []  # a repetition
    assert wire.receive(reliable_answer(invite, 181, 19)) == []  # 18 is missing
    assert wire.events() == []
    (second,) = wire.receive(reliable_answer(invite, 180, 18))
    assert (second.headers.get("RAck"), str(second.cseq)) == ("18 1 INVITE", "3 PRACK")
    (third,) = wire.receive(reliable_answer(invite, 181, 19))
    assert third.headers.get("RAck") == "19 1 INVITE"
    assert [event.response.status for event in wire.events() if isinstance(event, Progress)] == [180, 181]
    for message in (first, second, third):
        assert isinstance(message, Request)
        wire.receive(answer_to(message, 200))
    (ack,) = wire.receive(answer_to(invite, 200))
    assert str(ack.cseq) == "1 ACK"
    assert wire.event(Answered).answer == ANSWER  # the 200 has none


def test_a_prack_that_is_lost_is_repeated_by_its_transaction() -> None:
    wire = Wire()
    _, invite = wire.calling()
    wire.receive(reliable_answer(invite, 180, 1))
    assert [message.cseq.method for _, message in wire.advance(4.0)] == ["PRACK"] * 3


def test_after_a_reliable_answer_the_one_in_the_200_is_ignored() -> None:
    wire = Wire()
    _, invite = wire.calling()
    wire.receive(reliable_answer(invite, 183, 1, body=ANSWER))
    wire.events()
    wire.receive(answer_to(invite, 200, body=b"v=0\r\ns=other\r\n"))
    assert wire.event(Answered).answer == ANSWER


def test_after_an_unreliable_preview_the_one_in_the_200_counts() -> None:
    wire = Wire()
    for body, expected in ((b"v=0\r\ns=other\r\n", b"v=0\r\ns=other\r\n"), (b"", ANSWER)):
        _, invite = wire.calling()
        wire.receive(answer_to(invite, 183, body=ANSWER))
        assert wire.event(Progress).answer == ANSWER
        wire.receive(answer_to(invite, 200, body=body))
        assert wire.event(Answered).answer == expected


def test_early_dialogs_have_orders_and_sequence_numbers_of_their_own() -> None:
    wire = Wire()
    call, invite = wire.calling()
    pracks = []
    for tag, rseq in (("b1", 5), ("b2", 900), ("b1", 6), ("b2", 901)):
        (sent,) = wire.receive(reliable_answer(invite, 183, rseq, tag=tag, body=ANSWER))
        pracks.append((sent.to.tag, sent.headers.get("RAck"), sent.cseq.number))
    assert pracks == [
        ("b1", "5 1 INVITE", 2),
        ("b2", "900 1 INVITE", 2),
        ("b1", "6 1 INVITE", 3),
        ("b2", "901 1 INVITE", 3),
    ]
    wire.receive(answer_to(invite, 200, tag="b2"))
    call.hang_up(1.0)
    bye = wire.sent()[-1]
    assert (bye.to.tag, str(bye.cseq)) == ("b2", "4 BYE")


def test_199_ends_one_early_dialog_and_the_call_goes_on() -> None:
    wire = Wire()
    _, invite = wire.calling()
    wire.receive(answer_to(invite, 183, tag="b1", body=ANSWER))
    wire.receive(answer_to(invite, 183, tag="b2", body=ANSWER))
    assert wire.user_agent.dialogs == 2
    wire.events()
    wire.receive(answer_to(invite, 199, tag="b1"))
    assert wire.event(Progress).response.status == 199
    assert wire.user_agent.dialogs == 1
    wire.receive(answer_to(invite, 200, tag="b1", body=ANSWER))  # a 199 that was wrong does no harm
    assert wire.event(Answered).response.to.tag == "b1"


def test_a_bye_in_one_of_several_early_dialogs_ends_that_one() -> None:
    wire = Wire()
    call, invite = wire.calling()
    for tag in ("b1", "b2"):
        wire.receive(answer_to(invite, 180, tag=tag))
    wire.events()
    assert wire.reply(from_callee("BYE", invite, tag="b1")).status == 200
    assert wire.events() == []
    assert call.state is CallState.RINGING
    wire.receive(answer_to(invite, 200, tag="b2", body=ANSWER))
    wire.event(Answered)


def test_an_offer_in_a_183_is_answered_in_the_prack() -> None:
    wire = Wire()
    call, invite = wire.calling(offer=b"")
    assert wire.receive(reliable_answer(invite, 183, 3, body=OFFER)) == []
    event = wire.event(Progress)
    assert (event.answer, event.needs_answer) == (OFFER, True)
    assert wire.receive(reliable_answer(invite, 183, 3, body=OFFER)) == []
    call.acknowledge(ANSWER, 0.1)
    sent = wire.sent_request("PRACK")
    assert (sent.body, sent.content_type) == (ANSWER, "application/sdp")
    wire.receive(answer_to(sent, 200))
    (ack,) = wire.receive(answer_to(invite, 200))
    assert ack.body == b""
    answered = wire.event(Answered)
    assert (answered.answer, answered.needs_answer) == (OFFER, False)


def test_responses_after_our_cancel_are_acknowledged_and_told_nobody() -> None:
    wire = Wire()
    call, invite = wire.calling()
    wire.receive(answer_to(invite, 100))
    call.cancel(0.1)
    wire.sent()
    wire.events()
    (sent,) = wire.receive(reliable_answer(invite, 183, 3, body=ANSWER))
    assert sent.cseq.method == "PRACK"
    assert wire.events() == []
    wire.receive(answer_to(invite, 487))
    wire.advance(100.0)
    assert wire.user_agent.idle


def test_a_200_that_crosses_our_cancel_after_a_prack_is_hung_up_with_the_right_number() -> None:
    wire = Wire()
    call, invite = wire.calling()
    wire.receive(reliable_answer(invite, 183, 3, body=ANSWER))
    call.cancel(0.1)
    wire.sent()
    ack, bye = wire.receive(answer_to(invite, 200))
    assert (str(ack.cseq), str(bye.cseq)) == ("1 ACK", "3 BYE")


def test_a_response_that_cannot_be_acknowledged_makes_no_trouble() -> None:
    wire = Wire()
    _, invite = wire.calling()
    assert wire.receive(reliable_answer(invite, 183, 3).replace(b";tag=b1", b"")) == []
    assert wire.receive(reliable_answer(invite, 183, 3).replace(b"RSeq: 3", b"RSeq: x")) == []
    for number in range(100):
        wire.receive(reliable_answer(invite, 183, 3, tag=f"fork{number}"))
    assert wire.user_agent.dialogs == 32


def test_a_callee_that_does_not_wait_is_not_followed_for_ever() -> None:
    wire = Wire()
    _, invite = wire.calling()
    sent = [len(wire.receive(reliable_answer(invite, 183, rseq))) for rseq in range(1, 200)]
    assert sum(sent) == 64
    wire.receive(answer_to(invite, 200, body=ANSWER))
    assert isinstance(wire.events()[-1], Answered)


# --- two user agents --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weather", [Weather(), Weather(loss=0.25), Weather(loss=0.1, duplication=0.3, delay=(0.01, 0.6))]
)
def test_early_media_and_its_answer_arrive_over_a_bad_network(weather: Weather) -> None:
    network = Network(weather, seed=3262)
    alice, bob = network.add("a", US), network.add("b", PEER)
    seen: list[str] = []

    def callee(event: SipEvent) -> None:
        match event:
            case InviteReceived(call=call):
                call.ring(network.now, 183, ANSWER, reliable=True)
                call.ring(network.now, 180, reliable=True)
                call.answer(ANSWER, network.now)
            case Acknowledged(call=call):
                network.at(network.now + 5.0, lambda: call.hang_up(network.now))

    def caller(event: SipEvent) -> None:
        match event:
            case Progress(response=response):
                seen.append(f"{response.status}")
            case Answered(answer=answer):
                assert answer == ANSWER
                seen.append("200")
            case CallEnded(cause=cause):
                seen.append(cause.value)

    def call() -> None:
        alice.user_agent.invite("sip:bob@192.0.2.2", from_="<sip:a@b.example>", offer=OFFER, now=network.now)

    alice.on_event, bob.on_event = caller, callee
    for number in range(30):
        network.at(number * 1.0, call)
    network.run()
    counts = Counter(seen)
    assert counts["183"] == counts["200"] == counts["remote_bye"] == 30
    assert 0 < counts["180"] <= 30  # the 200 may overtake it
    assert alice.user_agent.idle
    assert bob.user_agent.idle
