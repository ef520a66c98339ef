"""INVITE with Replaces (RFC 3891): which call it means, and who may."""

from __future__ import annotations

import pytest

from sipbridge.errors import SipParseError
from sipbridge.sip.events import CallEnded, EndCause, InviteReceived, Progress
from sipbridge.sip.flow import Flow
from sipbridge.sip.invite import Invite
from sipbridge.sip.message import Request, Response
from sipbridge.sip.replaces import Replaces
from tests.sip.wire import ANSWER, OFFER, UDP, Wire, answer_to, in_dialog, request


def willing() -> tuple[Wire, list[tuple[Invite, Request, Flow]]]:
    """A user agent whose calls may be replaced, and what its policy was asked."""
    wire = Wire()
    asked: list[tuple[Invite, Request, Flow]] = []

    def policy(call: Invite, invite: Request, flow: Flow) -> bool:
        asked.append((call, invite, flow))
        return True

    wire.user_agent.transfer_policy.replace = policy
    return wire, asked


def replacing(*replaces: str, headers: tuple[str, ...] = ()) -> bytes:
    fields = [*(f"Replaces: {value}" for value in replaces), *headers]
    return request(call_id="call2", branch="z9hG4bKnew", from_="<sip:carol@example.com>;tag=c1", headers=fields)


def status_of(wire: Wire, data: bytes) -> int:
    return wire.reply(data).status


# --- the value --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@192.0.2.2;to-tag=1;from-tag=2", Replaces("a@192.0.2.2", "1", "2")),
        ("a ; from-tag = 2 ; to-tag = 1 ; early-only", Replaces("a", "1", "2", True)),
        ("a;To-Tag=x%41;FROM-TAG=0;unknown=1", Replaces("a", "x%41", "0")),
        ("a;to-tag=1;to-tag=1;from-tag=2", Replaces("a", "1", "2")),
    ],
)
def test_values(text: str, expected: Replaces) -> None:
    assert Replaces.parse(text) == expected
    assert Replaces.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        ";to-tag=1;from-tag=2",
        "a;to-tag=1",
        "a;from-tag=2",
        "a;to-tag=;from-tag=2",
        "a;to-tag=1;to-tag=3;from-tag=2",
        "a b;to-tag=1;from-tag=2",
        "a\r\nX: y;to-tag=1;from-tag=2",
        "a;to-tag=1\x00;from-tag=2",
        f"a;to-tag={'x' * 300};from-tag=2",
        f"{'a' * 2000};to-tag=1;from-tag=2",
        "a;to-tag=é;from-tag=2",
    ],
)
def test_what_is_no_value(text: str) -> None:
    with pytest.raises(SipParseError):
        Replaces.parse(text)


# --- calls that can be replaced ---------------------------------------------------------------------------------------


def test_it_is_advertised_and_may_be_required() -> None:
    wire, _ = willing()
    options = wire.reply(request("OPTIONS"))
    assert {"replaces", "norefersub"} <= set(options.supported)
    wire = Wire()
    assert status_of(wire, request("OPTIONS", headers=["Require: replaces"])) == 200


def test_a_call_takes_the_place_of_one_that_came_in() -> None:
    """The whole of an attended transfer to us: the new call is answered, then the old one is hung up."""
    wire, asked = willing()
    old, tag = wire.answered()
    (trying,) = wire.receive(replacing(f"call1;to-tag={tag};from-tag=a1", headers=("Require: replaces",)))
    assert isinstance(trying, Response)
    assert trying.status == 100
    event = wire.event(InviteReceived)
    assert event.replaces is old
    assert [(call, flow) for call, _, flow in asked] == [(old, UDP)]
    assert not old.is_over
    event.call.answer(ANSWER, 1.0)
    wire.sent()
    old.hang_up(1.0)
    bye = wire.sent_request("BYE")
    assert bye.call_id == "call1"
    assert wire.event(CallEnded).call is old


def test_a_call_takes_the_place_of_one_that_we_made() -> None:
    wire, _ = willing()
    old = wire.user_agent.invite("sip:bob@192.0.2.2", from_="<sip:agent@example.com>", offer=OFFER, now=0.0)
    invite = wire.sent_request("INVITE")
    wire.receive(answer_to(invite, 200, body=ANSWER))
    wire.events()
    wire.receive(replacing(f"{invite.call_id};to-tag={invite.from_.tag};from-tag=b1"))
    assert wire.event(InviteReceived).replaces is old


def test_a_call_of_ours_that_rings_may_be_picked_up_elsewhere() -> None:
    wire, _ = willing()
    old = wire.user_agent.invite("sip:bob@192.0.2.2", from_="<sip:agent@example.com>", offer=OFFER, now=0.0)
    invite = wire.sent_request("INVITE")
    wire.receive(answer_to(invite, 180))
    wire.event(Progress)
    wire.receive(replacing(f"{invite.call_id};to-tag={invite.from_.tag};from-tag=b1;early-only"))
    event = wire.event(InviteReceived)
    assert event.replaces is old
    event.call.answer(ANSWER, 1.0)
    wire.sent()
    old.hang_up(1.0)
    assert wire.sent_request("CANCEL").call_id == old.call_id
    assert wire.event(CallEnded).cause is EndCause.CANCELLED


def test_a_peer_from_before_tags_existed_has_the_tag_0() -> None:
    wire, _ = willing()
    old = wire.incoming(from_="<sip:alice@example.com>")
    old.answer(ANSWER, 0.0)
    (ok,) = wire.sent()
    wire.receive(replacing(f"call1;to-tag={ok.to.tag};from-tag=0"))
    assert wire.event(InviteReceived).replaces is old


# --- calls that cannot ------------------------------------------------------------------------------------------------


def test_by_default_nothing_is_replaced() -> None:
    wire = Wire()
    _, tag = wire.answered()
    assert status_of(wire, replacing(f"call1;to-tag={tag};from-tag=a1")) == 403
    assert status_of(wire, replacing("nonsense")) == 403
    assert wire.events() == []
    assert wire.user_agent.calls == 1


def test_a_policy_that_says_no() -> None:
    wire = Wire()
    wire.user_agent.transfer_policy.replace = lambda call, invite, flow: False
    _, tag = wire.answered()
    assert status_of(wire, replacing(f"call1;to-tag={tag};from-tag=a1")) == 403
    assert wire.events() == []


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("call1;to-tag={tag};from-tag=wrong", 481),
        ("call1;to-tag=wrong;from-tag=a1", 481),
        ("call1;to-tag=a1;from-tag={tag}", 481),
        ("wrong;to-tag={tag};from-tag=a1", 481),
        ("CALL1;to-tag={tag};from-tag=a1", 481),
        ("call1;to-tag={tag};from-tag=0", 481),
        ("call1;to-tag={tag};from-tag=a1;early-only", 486),
        ("call1;to-tag={tag}", 400),
        ("call1;to-tag={tag};from-tag=a1, call1;to-tag={tag};from-tag=a1", 400),
        ("", 481),
    ],
)
def test_what_is_not_replaced(value: str, status: int) -> None:
    wire, asked = willing()
    _, tag = wire.answered()
    assert status_of(wire, replacing(value.format(tag=tag))) == status
    assert asked == []
    assert wire.events() == []
    assert wire.user_agent.calls == 1


def test_two_fields_are_one_too_many() -> None:
    wire, _ = willing()
    _, tag = wire.answered()
    value = f"call1;to-tag={tag};from-tag=a1"
    assert status_of(wire, replacing(value, value)) == 400


def test_a_call_that_came_in_and_rings_is_not_replaced() -> None:
    """RFC 3891 §3: else whoever overhears an INVITE could take the call."""
    wire, asked = willing()
    old = wire.incoming()
    old.ring(0.0)
    (ringing,) = wire.sent()
    assert status_of(wire, replacing(f"call1;to-tag={ringing.to.tag};from-tag=a1")) == 481
    assert asked == []


def test_a_call_that_is_over_is_declined() -> None:
    wire, _ = willing()
    old, tag = wire.answered()
    old.hang_up(1.0)
    bye = wire.sent_request("BYE")
    wire.events()
    assert status_of(wire, replacing(f"call1;to-tag={tag};from-tag=a1")) == 603
    wire.receive(answer_to(bye, 200))
    assert status_of(wire, replacing(f"call1;to-tag={tag};from-tag=a1")) == 481


@pytest.mark.parametrize("method", ["BYE", "OPTIONS", "INFO", "NOTIFY", "REFER"])
def test_only_an_invite_replaces(method: str) -> None:
    wire, _ = willing()
    _, tag = wire.answered()
    header = f"Replaces: call1;to-tag={tag};from-tag=a1"
    assert status_of(wire, in_dialog(method, tag, headers=[header])) == 400
    assert status_of(wire, request(method, call_id="x", headers=[header])) == 400
    assert wire.events() == []


def test_a_full_node_refuses_a_replacement_like_any_new_call() -> None:
    wire, _ = willing()
    _, tag = wire.answered()
    wire.user_agent.unavailable = 5
    assert status_of(wire, replacing(f"call1;to-tag={tag};from-tag=a1")) == 503
