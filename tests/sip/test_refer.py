"""Transfers by REFER, both ways, as conversations on the wire (RFC 3515, 3892, 4488, 5589)."""

from __future__ import annotations

import pytest

from sipbridge.errors import LocalProtocolError
from sipbridge.sip.events import CallEnded, EndCause, ReferAccepted, ReferFailed, ReferProgress
from sipbridge.sip.message import Request
from tests.sip.wire import Wire, answer_to, in_dialog


def status_of(wire: Wire, data: bytes) -> int:
    return wire.reply(data).status


# --- REFER of ours: how it goes on ------------------------------------------------------------------------------------


def notify(tag: str, fragment: str, state: str = "active;expires=60", *, cseq: int = 2, event: str = "refer") -> bytes:
    return in_dialog(
        "NOTIFY",
        tag,
        cseq=cseq,
        headers=[f"Event: {event}", f"Subscription-State: {state}"],
        body=fragment.encode(),
        content_type="message/sipfrag;version=2.0",
    )


def transferring() -> tuple[Wire, str, Request]:
    """A call whose peer has been asked to call somebody else."""
    wire = Wire()
    call, tag = wire.answered()
    call.refer("sip:100@pbx.example.com", 0.0, referred_by="sip:agent@192.0.2.1")
    return wire, tag, wire.sent_request("REFER")


def test_a_transfer_from_refer_to_its_end() -> None:
    wire, tag, refer = transferring()
    assert refer.headers.get("Refer-To") == "<sip:100@pbx.example.com>"
    assert refer.headers.get("Referred-By") == "<sip:agent@192.0.2.1>"
    assert refer.contact is not None
    wire.receive(answer_to(refer, 202))
    wire.event(ReferAccepted)
    for cseq, line in ((2, "SIP/2.0 100 Trying"), (3, "SIP/2.0 180 Ringing\r\n")):
        assert status_of(wire, notify(tag, line, cseq=cseq)) == 200
    progress = [event for event in wire.events() if isinstance(event, ReferProgress)]
    assert [(event.status, event.final) for event in progress] == [(180, False)]
    assert status_of(wire, notify(tag, "SIP/2.0 200 OK\r\n", "terminated;reason=noresource", cseq=4)) == 200
    done = wire.event(ReferProgress)
    assert (done.status, done.reason, done.final) == (200, "OK", True)
    assert status_of(wire, notify(tag, "SIP/2.0 200 OK", "terminated", cseq=5)) == 481


def test_a_notify_that_overtakes_the_202() -> None:
    wire, tag, refer = transferring()
    assert status_of(wire, notify(tag, "SIP/2.0 180 Ringing")) == 200
    wire.event(ReferProgress)
    wire.receive(answer_to(refer, 202))
    wire.event(ReferAccepted)


def test_the_end_of_the_subscription_without_a_final_status_is_final_all_the_same() -> None:
    wire, tag, _ = transferring()
    assert status_of(wire, notify(tag, "SIP/2.0 100 Trying", "terminated;reason=timeout")) == 200
    event = wire.event(ReferProgress)
    assert (event.status, event.final) == (100, True)


def test_a_final_status_is_told_once_though_the_subscription_goes_on() -> None:
    wire, tag, _ = transferring()
    notifies = [
        ("603 Declined", "active"),
        ("603 Declined", "active"),
        ("180 Ringing", "active"),
        ("200 OK", "terminated"),
    ]
    for cseq, (line, state) in enumerate(notifies, start=2):
        assert status_of(wire, notify(tag, f"SIP/2.0 {line}", state, cseq=cseq)) == 200
    event = wire.event(ReferProgress)
    assert (event.status, event.reason, event.final) == (603, "Declined", True)


@pytest.mark.parametrize("fragment", ["", "garbage", "SIP/2.0 999 What", "\xff\x00"])
def test_a_fragment_that_says_nothing_is_answered_and_ignored(fragment: str) -> None:
    wire, tag, _ = transferring()
    assert status_of(wire, notify(tag, fragment)) == 200
    assert wire.events() == []


@pytest.mark.parametrize("status", [200, 202])
def test_a_refer_that_is_taken_on(status: int) -> None:
    wire, tag, refer = transferring()
    wire.receive(answer_to(refer, status))
    assert wire.event(ReferAccepted).subscribed
    assert status_of(wire, notify(tag, "SIP/2.0 200 OK", "terminated")) == 200


@pytest.mark.parametrize("status", [403, 404, 405, 480, 486, 503, 603])
def test_a_refer_that_is_refused_leaves_the_call_as_it_was(status: int) -> None:
    wire, tag, refer = transferring()
    wire.receive(answer_to(refer, status, headers=[("Retry-After", "7 (busy)")]))
    failed = wire.event(ReferFailed)
    assert (failed.status, failed.retry_after) == (status, 7)
    assert status_of(wire, notify(tag, "SIP/2.0 200 OK")) == 481
    assert status_of(wire, in_dialog("OPTIONS", tag, cseq=3)) == 200


def test_a_refer_to_a_peer_that_has_lost_the_call_ends_it() -> None:
    wire, _, refer = transferring()
    (bye,) = wire.receive(answer_to(refer, 481))
    assert bye.cseq.method == "BYE"
    failed, ended = wire.events()
    assert isinstance(failed, ReferFailed)
    assert isinstance(ended, CallEnded)
    assert (failed.status, ended.cause) == (481, EndCause.LOST)


def test_a_refer_that_nobody_answers_ends_the_call() -> None:
    wire, _, _ = transferring()
    wire.advance(100.0)
    failed, ended = wire.events()
    assert isinstance(failed, ReferFailed)
    assert isinstance(ended, CallEnded)
    assert (failed.status, ended.cause) == (408, EndCause.LOST)
    assert wire.user_agent.idle


def test_notifies_after_our_bye_are_answered_and_say_nothing() -> None:
    wire = Wire()
    call, tag = wire.answered()
    call.refer("sip:100@pbx.example.com", 0.0)
    wire.sent()
    call.hang_up(0.1)
    bye = wire.sent_request("BYE")
    wire.events()
    assert status_of(wire, notify(tag, "SIP/2.0 200 OK", "terminated")) == 200
    wire.receive(answer_to(bye, 200))
    assert status_of(wire, notify(tag, "SIP/2.0 200 OK", "terminated", cseq=3)) == 481
    assert wire.events() == []


def test_two_transfers_are_told_apart_by_id() -> None:
    wire, tag, first = transferring()
    wire.receive(answer_to(first, 603))
    wire.event(ReferFailed)
    assert status_of(wire, notify(tag, "SIP/2.0 200 OK", event=f"refer;id={first.cseq.number}")) == 481


def test_an_event_that_is_no_refer_says_nothing_of_the_transfer() -> None:
    wire, tag, _ = transferring()
    assert status_of(wire, notify(tag, "SIP/2.0 200 OK", event="presence")) == 481
    assert status_of(wire, notify(tag, "SIP/2.0 200 OK", event="message-summary", cseq=3)) == 200
    assert wire.events() == []


def test_a_transfer_needs_an_answered_call() -> None:
    wire = Wire()
    call = wire.incoming()
    with pytest.raises(LocalProtocolError):
        call.refer("sip:100@pbx.example.com", 0.0)
