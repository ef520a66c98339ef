"""Where the requests of a dialog go when the peer's own word for where it is cannot be right."""

from __future__ import annotations

import pytest

from sipbridge.sip.events import CallEnded
from sipbridge.sip.flow import Flow
from sipbridge.sip.message import Request
from sipbridge.sip.nat import is_hidden, scope, was_translated
from sipbridge.sip.uas import IncomingInvite
from tests.sip.messages import parse_request
from tests.sip.wire import ANSWER, OFFER, UDP, US, Wire, answer_to, in_dialog, request

OUTSIDE = Flow("udp", US, ("203.0.113.7", 40_001))
"""A public address and a port that some NAT chose."""
INSIDE = "<sip:alice@192.168.1.5:5060>"


@pytest.mark.parametrize(
    ("narrower", "wider"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("127.0.0.1", "169.254.3.4"),
        ("169.254.3.4", "10.0.0.1"),
        ("172.16.0.1", "100.64.0.1"),
        ("192.168.1.1", "203.0.113.7"),
        ("100.64.0.1", "203.0.113.7"),
        ("fd00::1", "2001:db8::1"),
        ("::1", "fe80::1"),
    ],
)
def test_the_scopes_of_addresses(narrower: str, wider: str) -> None:
    assert scope(narrower) < scope(wider)
    assert is_hidden(narrower, wider)
    assert not is_hidden(wider, narrower)


@pytest.mark.parametrize("host", ["10.1.2.3", "pbx.example.com", "192.168.1.5"])
def test_what_is_not_hidden(host: str) -> None:
    assert not is_hidden(host, "192.168.1.5")


@pytest.mark.parametrize(
    ("via", "contact", "translated"),
    [
        ("10.0.0.5;received=10.9.9.9", "<sip:a@10.0.0.5>", True),
        ("10.0.0.5;received=10.0.0.5", "<sip:a@10.0.0.5>", False),
        ("10.0.0.5;received=10.9.9.9", "<sip:a@10.0.0.6>", False),
        ("10.0.0.5", "<sip:a@10.0.0.5>", False),
        ("pbx.example.com;received=10.9.9.9", "<sip:a@pbx.example.com>", False),
        ("10.0.0.5;received=10.9.9.9, SIP/2.0/UDP 10.0.0.7;branch=z9hG4bK7", "<sip:a@10.0.0.5>", False),
    ],
)
def test_a_request_that_shows_its_translation(via: str, contact: str, translated: bool) -> None:
    parsed = parse_request(request(via=f"SIP/2.0/UDP {via};branch=z9hG4bKx", contact=contact))
    assert was_translated(parsed) is translated


def answered(wire: Wire, flow: Flow, **changes: str) -> IncomingInvite:
    wire.flows = []
    calling, _ = wire.answered(flow, **changes)
    return calling


def bye_goes_to(wire: Wire, calling: IncomingInvite) -> tuple[Request, Flow]:
    calling.hang_up(wire.now)
    bye = wire.sent_request("BYE")
    (flow,) = wire.flows
    return bye, flow


def test_a_caller_behind_a_nat_is_reached_by_where_his_requests_come_from() -> None:
    wire = Wire()
    bye, flow = bye_goes_to(wire, answered(wire, OUTSIDE, contact=INSIDE))
    assert flow == OUTSIDE
    assert bye.uri == "sip:alice@192.168.1.5:5060"  # the Request-URI stays what he said


def test_also_where_both_addresses_are_private_but_his_via_shows_the_translation() -> None:
    wire = Wire()
    inner = Flow("udp", US, ("10.9.9.9", 40_001))
    calling = answered(wire, inner, contact="<sip:alice@10.0.0.5>", via="SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKp")
    assert bye_goes_to(wire, calling)[1] == inner


def test_the_newest_source_counts() -> None:
    wire = Wire()
    calling, tag = wire.answered(OUTSIDE, contact=INSIDE)
    moved = Flow("udp", US, ("203.0.113.7", 40_999))
    wire.receive(in_dialog("INFO", tag), moved)
    wire.events()
    assert bye_goes_to(wire, calling)[1] == moved


def test_a_route_set_is_followed_whatever_the_contact_is() -> None:
    wire = Wire()
    (_,) = wire.receive(request(contact=INSIDE, headers=["Record-Route: <sip:198.51.100.1;lr>"]), OUTSIDE)
    (invited,) = wire.events()
    incoming = invited.call  # type: ignore[union-attr]
    assert isinstance(incoming, IncomingInvite)
    incoming.answer(ANSWER, 0.0)
    (ok,) = wire.sent()
    wire.receive(request("ACK", branch="z9hG4bKack", to=f"<sip:agent@192.0.2.1>;tag={ok.to.tag}"), OUTSIDE)
    assert bye_goes_to(wire, incoming)[1] == Flow("udp", US, ("198.51.100.1", 5060))


def test_a_contact_that_can_be_right_is_used_and_the_source_when_nobody_answers_there() -> None:
    """A proxy that does not stay in the path looks the same as a NAT."""
    wire = Wire()
    calling = answered(
        wire, OUTSIDE, contact="<sip:alice@198.51.100.20>", via="SIP/2.0/UDP 198.51.100.1;branch=z9hG4bKp"
    )
    bye, flow = bye_goes_to(wire, calling)
    assert flow == Flow("udp", US, ("198.51.100.20", 5060))
    assert {time for time, _ in wire.advance(4.9)} == {0.5, 1.5, 3.5}
    wire.now = 5.0
    wire.user_agent.handle_timer(5.0)
    again = wire.sent_request("BYE")
    assert wire.flows == [OUTSIDE]
    assert (again.cseq, again.via.branch != bye.via.branch) == (bye.cseq, True)
    wire.receive(answer_to(again, 200), OUTSIDE)
    assert isinstance(wire.events()[-1], CallEnded)
    wire.advance(60.0)
    assert wire.user_agent.idle


def test_a_callee_behind_a_nat_gets_its_ack_and_bye() -> None:
    wire = Wire()
    calling = wire.user_agent.invite("sip:bob@192.0.2.2", from_="<sip:a@b.example>", offer=OFFER, now=0.0)
    invite = wire.sent_request("INVITE")
    wire.receive(answer_to(invite, 200, body=ANSWER, contact="<sip:bob@10.0.0.9:5060>"))
    assert wire.flows == [UDP]
    calling.hang_up(1.0)
    wire.sent_request("BYE")
    assert wire.flows == [UDP]
