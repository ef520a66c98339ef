"""Inside the dialog: BYE, re-INVITE and other requests (RFC 3261 §12.2, §14, §15)."""

from __future__ import annotations

import pytest

from sipbridge.sip.events import (
    Acknowledged,
    CallEnded,
    EndCause,
    ReinviteReceived,
)
from sipbridge.sip.message import Request, Response
from tests.sip.wire import ANSWER, OFFER, Wire, answer_to, in_dialog, request


def status_of(wire: Wire, data: bytes) -> int:
    return wire.reply(data).status


# --- BYE and the rest -------------------------------------------------------------------------------------------------


def test_a_bye_ends_the_call() -> None:
    wire = Wire()
    _, tag = wire.answered()
    bye = in_dialog("BYE", tag, headers=["Reason: Q.850;cause=16"])
    assert status_of(wire, bye) == 200
    ended = wire.event(CallEnded)
    assert (ended.cause, ended.reason_header) == (EndCause.REMOTE_BYE, "Q.850;cause=16")
    assert status_of(wire, bye) == 200  # repeated
    assert wire.user_agent.calls == wire.user_agent.dialogs == 0
    assert status_of(wire, in_dialog("BYE", tag, cseq=3)) == 481
    wire.advance(60.0)
    assert wire.user_agent.idle


def test_two_byes_that_cross_are_both_answered() -> None:
    wire = Wire()
    call, tag = wire.answered()
    call.hang_up(1.0)
    ours = wire.sent_request("BYE")
    assert status_of(wire, in_dialog("BYE", tag)) == 200
    assert len(wire.events()) == 1
    wire.receive(answer_to(ours, 481))
    wire.advance(60.0)
    assert wire.user_agent.idle


def test_a_bye_that_nobody_answers_is_given_up() -> None:
    wire = Wire()
    call, _ = wire.answered()
    call.hang_up(0.0)
    wire.advance(33.0)
    assert wire.user_agent.idle
    assert len(wire.events()) == 1


def test_a_bye_stops_the_repetition_of_the_200() -> None:
    wire = Wire()
    call = wire.incoming()
    call.answer(ANSWER, 0.0)
    (ok,) = wire.sent()
    assert ok.to.tag
    assert status_of(wire, in_dialog("BYE", ok.to.tag)) == 200
    assert wire.advance(60.0) == []
    assert wire.event(CallEnded).cause is EndCause.REMOTE_BYE
    assert wire.user_agent.idle


@pytest.mark.parametrize(
    ("method", "status"),
    [("INFO", 200), ("OPTIONS", 200), ("REFER", 403), ("NOTIFY", 489), ("SUBSCRIBE", 489), ("PRACK", 400)],
)
def test_other_requests_leave_the_call_as_it_is(method: str, status: int) -> None:
    wire = Wire()
    _, tag = wire.answered()
    assert status_of(wire, in_dialog(method, tag)) == status
    assert wire.events() == []
    assert wire.user_agent.calls == 1


def test_sequence_numbers_that_go_back_get_500_and_gaps_do_not_matter() -> None:
    wire = Wire()
    _, tag = wire.answered()
    assert status_of(wire, in_dialog("INFO", tag, cseq=7)) == 200
    assert status_of(wire, in_dialog("INFO", tag, cseq=7)) == 200  # a repetition, by its branch
    assert status_of(wire, in_dialog("INFO", tag, cseq=7, branch="z9hG4bKnew")) == 500
    assert status_of(wire, in_dialog("INFO", tag, cseq=6)) == 500
    assert status_of(wire, in_dialog("BYE", tag, cseq=8)) == 200


@pytest.mark.parametrize(("to_tag", "from_tag", "call_id"), [("x", "a1", "call1"), ("", "x", "call1"), ("", "a1", "x")])
def test_a_request_of_another_dialog_gets_481(to_tag: str, from_tag: str, call_id: str) -> None:
    wire = Wire()
    _, tag = wire.answered()
    bye = request(
        "BYE",
        cseq=2,
        call_id=call_id,
        branch="z9hG4bKbye",
        from_=f"<sip:alice@example.com>;tag={from_tag}",
        to=f"<sip:agent@192.0.2.1>;tag={to_tag or tag}",
    )
    assert status_of(wire, bye) == 481
    assert wire.events() == []


# --- re-INVITE --------------------------------------------------------------------------------------------------------


def test_a_reinvite_is_answered_in_the_same_call_and_refreshes_the_target() -> None:
    wire = Wire()
    call, tag = wire.answered()
    wire.receive(in_dialog("INVITE", tag, contact="<sip:alice@192.0.2.77>"))
    event = wire.event(ReinviteReceived)
    assert event.call is call
    assert event.offer == OFFER
    call.accept_reinvite(ANSWER, 0.0)
    (ok,) = wire.sent()
    assert isinstance(ok, Response)
    assert (ok.status, ok.body, ok.cseq.number) == (200, ANSWER, 2)
    assert [time for time, _ in wire.advance(2.0)] == [0.5, 1.5]
    wire.receive(in_dialog("ACK", tag, cseq=2))
    wire.event(Acknowledged)
    assert wire.advance(60.0) == []
    call.hang_up(60.0)
    assert wire.sent_request("BYE").uri == "sip:alice@192.0.2.77"
    assert wire.flows[0].remote == ("192.0.2.77", 5060)


def test_a_reinvite_that_is_refused_leaves_the_call_as_it_was() -> None:
    wire = Wire()
    call, tag = wire.answered()
    wire.receive(in_dialog("INVITE", tag, contact="<sip:alice@192.0.2.77>"))
    call.reject_reinvite(488, 0.0)
    assert wire.statuses() == [488]
    wire.receive(in_dialog("ACK", tag, cseq=2, branch="z9hG4bKINVITE2"))
    assert wire.advance(60.0) == []
    call.hang_up(60.0)
    assert wire.sent_request("BYE").uri == "sip:alice@192.0.2.2:5060"


def test_three_copies_of_a_reinvite_are_one() -> None:
    wire = Wire()
    _, tag = wire.answered()
    for _ in range(3):
        assert wire.receive(in_dialog("INVITE", tag)) == []
    assert len(wire.events()) == 1


def test_a_reinvite_without_ack_ends_the_call() -> None:
    wire = Wire()
    call, tag = wire.answered()
    wire.receive(in_dialog("INVITE", tag))
    call.accept_reinvite(ANSWER, 0.0)
    wire.events()
    last = wire.advance(32.0)[-1][1]
    assert isinstance(last, Request)
    assert last.method == "BYE"
    assert wire.event(CallEnded).cause is EndCause.ACK_TIMEOUT


def test_a_second_reinvite_before_the_first_is_answered_gets_500_and_retry_after() -> None:
    wire = Wire()
    call, tag = wire.answered()
    wire.receive(in_dialog("INVITE", tag))
    response = wire.reply(in_dialog("INVITE", tag, cseq=3))
    assert response.status == 500
    assert 0 <= int(response.headers.get("Retry-After") or "") <= 10
    assert len(wire.events()) == 1
    call.accept_reinvite(ANSWER, 0.0)
    assert wire.statuses() == [200]


def test_a_reinvite_that_overtakes_the_ack_gets_491() -> None:
    wire = Wire()
    wire.incoming().answer(ANSWER, 0.0)
    (ok,) = wire.sent()
    assert ok.to.tag
    assert status_of(wire, in_dialog("INVITE", ok.to.tag)) == 491


def test_a_reinvite_that_meets_our_own_invite_gets_491() -> None:
    wire = Wire()
    call = wire.user_agent.invite("sip:bob@192.0.2.2", from_="<sip:a@b.example>", offer=OFFER, now=0.0)
    invite = wire.sent_request("INVITE")
    wire.receive(answer_to(invite, 180))
    from_us = invite.headers.get("From") or ""
    crossing = request("INVITE", call_id=call.call_id, from_="<sip:bob@192.0.2.2>;tag=b1", to=from_us)
    assert status_of(wire, crossing) == 491


def test_a_cancelled_reinvite_gets_487_and_the_call_goes_on() -> None:
    wire = Wire()
    call, tag = wire.answered()
    wire.receive(in_dialog("INVITE", tag))
    assert [
        m.status for m in wire.receive(in_dialog("CANCEL", tag, branch="z9hG4bKINVITE2")) if isinstance(m, Response)
    ] == [200, 487]
    call.accept_reinvite(ANSWER, 0.1)  # too late, and no error
    assert wire.sent() == []
    assert not any(isinstance(event, CallEnded) for event in wire.events())


def test_a_late_cancel_of_the_first_invite_does_not_touch_a_reinvite() -> None:
    wire = Wire()
    _, tag = wire.answered()
    wire.receive(in_dialog("INVITE", tag))
    assert status_of(wire, request("CANCEL")) == 200
    assert wire.sent() == []


def test_a_bye_refuses_the_reinvite_that_waits() -> None:
    wire = Wire()
    _, tag = wire.answered()
    wire.receive(in_dialog("INVITE", tag))
    responses = wire.receive(in_dialog("BYE", tag, cseq=3))
    assert [(m.cseq.method, m.status) for m in responses if isinstance(m, Response)] == [("BYE", 200), ("INVITE", 487)]
