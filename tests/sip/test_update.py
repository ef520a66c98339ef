"""UPDATE (RFC 3311), both roles: before and after the answer, with an offer and without one."""

from __future__ import annotations

import pytest

from sipbridge.errors import LocalProtocolError
from sipbridge.sip.events import (
    Answered,
    CallEnded,
    EndCause,
    InviteReceived,
    Progress,
    ReinviteReceived,
    SessionAnswered,
    SessionRefused,
)
from sipbridge.sip.invite import CallState
from sipbridge.sip.message import Request, Response
from sipbridge.sip.uac import OutgoingInvite
from tests.sip.wire import ANSWER, OFFER, Wire, answer_to, from_callee, in_dialog, request

HOLD, HELD = b"v=0\r\ns=hold\r\n", b"v=0\r\ns=held\r\n"
ALLOW = ("Allow", "INVITE, ACK, BYE, CANCEL, PRACK, UPDATE")


# --- theirs -----------------------------------------------------------------------------------------------------------


def test_an_update_with_an_offer_is_answered_like_a_reinvite_and_needs_no_ack() -> None:
    wire = Wire()
    call, tag = wire.answered()
    assert wire.receive(in_dialog("UPDATE", tag, body=OFFER, contact="<sip:alice@192.0.2.77>")) == []
    event = wire.event(ReinviteReceived)
    assert (event.request.method, event.offer) == ("UPDATE", OFFER)
    call.accept_reinvite(HELD, 0.1)
    (ok,) = wire.sent()
    assert isinstance(ok, Response)
    assert (ok.status, str(ok.cseq), ok.body, ok.content_type) == (200, "2 UPDATE", HELD, "application/sdp")
    assert str(ok.contact) == "<sip:sipbridge@192.0.2.1:5060>"
    assert wire.advance(60.0) == []
    assert call.state is CallState.CONFIRMED
    call.hang_up(60.0)
    assert wire.sent_request("BYE").uri == "sip:alice@192.0.2.77"


def test_an_update_without_offer_is_answered_at_once_and_refreshes_the_target() -> None:
    wire = Wire()
    call, tag = wire.answered()
    ok = wire.reply(in_dialog("UPDATE", tag, contact="<sip:alice@192.0.2.77>"))
    assert (ok.status, ok.body) == (200, b"")
    assert wire.events() == []
    call.hang_up(1.0)
    assert wire.sent_request("BYE").uri == "sip:alice@192.0.2.77"


def test_an_update_that_is_refused_leaves_all_as_it_was() -> None:
    wire = Wire()
    call, tag = wire.answered()
    wire.receive(in_dialog("UPDATE", tag, body=OFFER, contact="<sip:alice@192.0.2.77>"))
    call.reject_reinvite(488, 0.1)
    assert wire.statuses() == [488]
    assert (call.dialog.exchange.local, call.dialog.exchange.remote) == (ANSWER, OFFER)
    call.hang_up(1.0)
    assert wire.sent_request("BYE").uri == "sip:alice@192.0.2.2:5060"


@pytest.mark.parametrize("second", ["UPDATE", "INVITE"])
@pytest.mark.parametrize("first", ["UPDATE", "INVITE"])
def test_an_offer_on_top_of_one_that_waits_gets_500_and_retry_after(first: str, second: str) -> None:
    wire = Wire()
    call, tag = wire.answered()
    wire.receive(in_dialog(first, tag, body=OFFER))
    response = wire.reply(in_dialog(second, tag, cseq=3, body=HOLD))
    assert response.status == 500
    assert 0 <= int(response.headers.get("Retry-After") or "") <= 10
    assert len(wire.events()) == 1
    call.accept_reinvite(ANSWER, 0.1)
    assert wire.statuses() == [200]
    assert wire.receive(in_dialog("ACK", tag)) == []
    wire.events()
    wire.receive(in_dialog(second, tag, cseq=4, body=HOLD))
    wire.event(ReinviteReceived)


def test_an_update_that_crosses_ours_gets_491() -> None:
    wire = Wire()
    call, tag = wire.answered(headers=[f"{ALLOW[0]}: {ALLOW[1]}"])
    call.update(HOLD, 0.0)
    update = wire.sent_request("UPDATE")
    assert wire.reply(in_dialog("UPDATE", tag, body=OFFER)).status == 491
    assert wire.reply(in_dialog("INVITE", tag, cseq=3)).status == 491
    wire.receive(answer_to(update, 200, body=HELD))
    wire.event(SessionAnswered)
    wire.receive(in_dialog("UPDATE", tag, cseq=4, body=OFFER))
    wire.event(ReinviteReceived)


def test_an_update_before_the_offer_of_the_invite_is_answered_gets_500() -> None:
    wire = Wire()
    call = wire.incoming()
    call.ring(0.0)
    (ringing,) = wire.sent()
    tag = ringing.to.tag or ""
    assert wire.reply(in_dialog("UPDATE", tag, body=OFFER)).status == 500
    assert wire.reply(in_dialog("UPDATE", tag, cseq=3)).status == 200


def test_an_update_in_the_early_dialog_once_the_session_stands() -> None:
    wire = Wire()
    wire.receive(request(headers=["Supported: 100rel"]))
    call = wire.event(InviteReceived).call
    call.ring(0.0, 183, ANSWER)
    (progress,) = wire.sent()
    tag = progress.to.tag or ""
    update = in_dialog("UPDATE", tag, cseq=2, body=HOLD)
    wire.receive(in_dialog("PRACK", tag, cseq=3, headers=[f"RAck: {progress.headers.get('RSeq')} 1 INVITE"]))
    assert wire.reply(update).status == 500  # overtaken by the PRACK: out of order
    wire.receive(in_dialog("UPDATE", tag, cseq=4, body=HOLD))
    wire.event(ReinviteReceived)
    call.answer(ANSWER, 0.1)  # waits until the UPDATE has its answer
    assert wire.sent() == []
    call.accept_reinvite(HELD, 0.2)
    updated, ok = wire.sent()
    assert (updated.cseq.method, updated.body) == ("UPDATE", HELD)
    assert "Session-Expires" not in updated.headers
    assert (ok.cseq.method, ok.body) == ("INVITE", b"")


def test_an_update_of_the_callee_in_the_early_dialog() -> None:
    wire = Wire()
    call, invite = wire.calling()
    early = from_callee("UPDATE", invite, cseq=1, body=OFFER)
    wire.receive(answer_to(invite, 183, body=ANSWER))
    assert wire.reply(early).status == 491  # our offer has no answer that is sure yet
    headers = [("Require", "100rel"), ("RSeq", "1")]
    wire.receive(answer_to(invite, 183, body=ANSWER, headers=headers))
    wire.events()
    wire.receive(from_callee("UPDATE", invite, cseq=2, body=HOLD))
    assert wire.event(ReinviteReceived).call is call
    call.accept_reinvite(HELD, 0.1)
    (ok,) = wire.sent()
    assert (ok.cseq.method, ok.body, ok.to.tag) == ("UPDATE", HELD, invite.from_.tag)


def test_three_copies_of_an_update_are_one() -> None:
    wire = Wire()
    call, tag = wire.answered()
    for _ in range(3):
        assert wire.receive(in_dialog("UPDATE", tag, body=OFFER)) == []
    assert len(wire.events()) == 1
    call.accept_reinvite(HELD, 0.1)
    assert wire.statuses() == [200]
    assert wire.reply(in_dialog("UPDATE", tag, body=OFFER)).status == 200


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (["Require: magic"], b"", 420),
        (["Session-Expires: never"], b"", 400),
        (["Content-Encoding: gzip"], OFFER, 415),
        (["Supported: timer", "Session-Expires: 10"], b"", 422),
    ],
)
def test_an_update_with_a_fault_is_refused_and_changes_nothing(headers: list[str], body: bytes, status: int) -> None:
    wire = Wire()
    _, tag = wire.answered()
    assert wire.reply(in_dialog("UPDATE", tag, headers=headers, body=body)).status == status
    assert wire.events() == []
    assert wire.user_agent.calls == 1


def test_a_hang_up_refuses_the_update_that_waits() -> None:
    wire = Wire()
    _, tag = wire.answered()
    wire.receive(in_dialog("UPDATE", tag, body=OFFER))
    responses = wire.receive(in_dialog("BYE", tag, cseq=3))
    assert [(m.cseq.method, m.status) for m in responses if isinstance(m, Response)] == [("BYE", 200), ("UPDATE", 487)]


# --- ours -------------------------------------------------------------------------------------------------------------


def early(wire: Wire, *, tag: str = "b1") -> tuple[OutgoingInvite, Request]:
    """A call of ours whose session stands before it is answered."""
    call, invite = wire.calling()
    headers = [("Require", "100rel"), ("RSeq", "1"), ALLOW]
    (prack,) = wire.receive(answer_to(invite, 183, tag=tag, body=ANSWER, headers=headers))
    assert isinstance(prack, Request)
    wire.receive(answer_to(prack, 200))
    wire.event(Progress)
    return call, invite


def test_an_update_of_ours_before_the_call_is_answered() -> None:
    wire = Wire()
    call, invite = early(wire)
    call.update(HOLD, 0.1)
    update = wire.sent_request("UPDATE")
    assert (update.body, str(update.cseq), update.to.tag) == (HOLD, "3 UPDATE", "b1")
    assert str(update.contact) == "<sip:sipbridge@192.0.2.1:5060>"
    assert "Session-Expires" not in update.headers
    wire.receive(answer_to(update, 200, body=HELD, contact="<sip:bob@192.0.2.88>"))
    assert wire.event(SessionAnswered).answer == HELD
    (ack,) = wire.receive(answer_to(invite, 200, contact="<sip:bob@192.0.2.88>"))
    assert str(ack.cseq) == "1 ACK"
    assert wire.event(Answered).answer == b""  # of the INVITE's offer nothing is left
    call.hang_up(1.0)
    assert str(wire.sent_request("BYE").cseq) == "4 BYE"


def test_an_update_waits_for_the_answer_to_the_prack() -> None:
    """Overtaking it, it would make the PRACK one out of order."""
    wire = Wire()
    call, invite = wire.calling()
    headers = [("Require", "100rel"), ("RSeq", "1"), ALLOW]
    (prack,) = wire.receive(answer_to(invite, 183, body=ANSWER, headers=headers))
    call.update(HOLD, 0.1)
    assert wire.sent() == []
    assert isinstance(prack, Request)
    (update,) = wire.receive(answer_to(prack, 200))
    assert str(update.cseq) == "3 UPDATE"


def test_the_callees_update_waits_for_the_prack() -> None:
    """RFC 3311 §5.1."""
    wire = Wire()
    wire.receive(request(headers=["Supported: 100rel", f"{ALLOW[0]}: {ALLOW[1]}"]))
    call = wire.event(InviteReceived).call
    call.ring(0.0, 183, ANSWER)
    (progress,) = wire.sent()
    call.update(HOLD, 0.1)
    assert wire.sent() == []
    headers = [f"RAck: {progress.headers.get('RSeq')} 1 INVITE"]
    ok, update = wire.receive(in_dialog("PRACK", progress.to.tag or "", headers=headers))
    assert (ok.cseq.method, update.cseq.method, update.body) == ("PRACK", "UPDATE", HOLD)
    assert isinstance(update, Request)
    wire.receive(answer_to(update, 200, body=HELD))
    assert wire.event(SessionAnswered).answer == HELD
    call.answer(ANSWER, 0.2)
    (final,) = wire.sent()
    assert final.body == b""


def test_the_callees_update_does_not_overtake_its_200() -> None:
    """It would find no dialog: 481, and the call would be over before it began."""
    wire = Wire()
    call = wire.incoming(headers=[f"{ALLOW[0]}: {ALLOW[1]}"])
    call.answer(ANSWER, 0.0)
    (ok,) = wire.sent()
    call.update(HOLD, 0.0)
    assert wire.sent() == []
    (update,) = wire.receive(in_dialog("ACK", ok.to.tag or "", cseq=1))
    assert update.cseq.method == "UPDATE"


def test_an_update_names_its_early_dialog_and_dies_with_it() -> None:
    wire = Wire()
    call, invite = early(wire, tag="b1")
    (prack,) = wire.receive(
        answer_to(invite, 183, tag="b2", body=ANSWER, headers=[("Require", "100rel"), ("RSeq", "4"), ALLOW])
    )
    wire.events()
    call.update(HOLD, 0.1, tag="b2")
    assert wire.sent() == []
    wire.receive(answer_to(invite, 200, tag="b1"))
    assert wire.sent() == []
    assert [event.status for event in wire.events() if isinstance(event, SessionRefused)] == [481]
    assert isinstance(prack, Request)
    assert wire.receive(answer_to(prack, 481)) == []


def test_an_update_to_a_peer_that_never_said_it_takes_them() -> None:
    wire = Wire()
    call, _ = wire.called()
    with pytest.raises(LocalProtocolError):
        call.update(HOLD, 0.0)


def test_a_change_by_update_in_the_call() -> None:
    wire = Wire()
    call, _ = wire.called(ALLOW)
    call.update(HOLD, 0.0)
    update = wire.sent_request("UPDATE")
    assert wire.receive(answer_to(update, 200, body=HELD, contact="<sip:bob@192.0.2.88>")) == []
    assert wire.event(SessionAnswered).answer == HELD
    call.hang_up(1.0)
    assert wire.sent_request("BYE").uri == "sip:bob@192.0.2.88"


@pytest.mark.parametrize("status", [405, 501])
def test_a_peer_that_takes_no_update_after_all_gets_a_reinvite(status: int) -> None:
    wire = Wire()
    call, _ = wire.called(ALLOW)
    call.update(HOLD, 0.0)
    (invite,) = wire.receive(answer_to(wire.sent_request("UPDATE"), status))
    assert (invite.cseq.method, invite.body) == ("INVITE", HOLD)
    assert isinstance(invite, Request)
    wire.receive(answer_to(invite, 200, body=HELD))
    wire.event(SessionAnswered)


@pytest.mark.parametrize("status", [403, 488])
def test_an_update_of_ours_that_is_refused(status: int) -> None:
    wire = Wire()
    call, _ = wire.called(ALLOW)
    call.update(HOLD, 0.0)
    assert wire.receive(answer_to(wire.sent_request("UPDATE"), status)) == []
    assert wire.event(SessionRefused).status == status
    assert call.dialog is not None
    assert call.dialog.exchange.local == OFFER


@pytest.mark.parametrize("status", [481, None])
def test_an_update_to_a_peer_that_is_gone(status: int | None) -> None:
    wire = Wire()
    call, _ = wire.called(ALLOW)
    call.update(HOLD, 0.0)
    if status is not None:
        wire.receive(answer_to(wire.sent_request("UPDATE"), status))
    else:
        wire.advance(32.0)
    ended = wire.event(CallEnded)
    assert (ended.cause, ended.status) == (EndCause.LOST, status or 408)
    wire.advance(100.0)
    assert wire.user_agent.idle


def test_an_update_that_one_place_does_not_know_leaves_the_ringing_call_alone() -> None:
    wire = Wire()
    call, invite = early(wire)
    call.update(HOLD, 0.1)
    wire.receive(answer_to(wire.sent_request("UPDATE"), 481))
    assert wire.event(SessionRefused).status == 481
    wire.receive(answer_to(invite, 200))
    assert call.state is CallState.CONFIRMED


def test_an_update_without_an_answer_to_its_offer() -> None:
    wire = Wire()
    call, _ = wire.called(ALLOW)
    call.update(HOLD, 0.0)
    wire.receive(answer_to(wire.sent_request("UPDATE"), 200))
    assert wire.event(SessionAnswered).answer == b""
    assert call.dialog is not None
    assert (call.dialog.exchange.local, call.dialog.exchange.remote) == (OFFER, ANSWER)
