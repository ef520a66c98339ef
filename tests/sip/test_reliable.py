"""Reliable provisional responses (RFC 3262): numbers, repetition and order."""

from __future__ import annotations

import pytest

from sipbridge.errors import SipParseError
from sipbridge.sip.message import Request, Response, parse_message
from sipbridge.sip.reliable import Arrival, ProvisionalOrder, RAck, ReliableProvisionals, rseq_of
from sipbridge.sip.timers import Timers
from tests.sip.wire import ANSWER, request


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
