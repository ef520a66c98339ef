"""Transfers by REFER, both ways, as conversations on the wire (RFC 3515, 3892, 4488, 5589)."""

from __future__ import annotations

from urllib.parse import unquote

import pytest

from sipbridge.errors import LocalProtocolError, SipParseError
from sipbridge.sip.digest import Credentials
from sipbridge.sip.events import (
    Answered,
    CallEnded,
    EndCause,
    ReferAccepted,
    ReferFailed,
    ReferProgress,
    ReferReceived,
)
from sipbridge.sip.invite import Invite
from sipbridge.sip.message import Request, Response
from sipbridge.sip.notifier import ReferNotifier
from sipbridge.sip.number import Number
from sipbridge.sip.refer import Referral, read_sipfrag, write_sipfrag
from sipbridge.sip.replaces import Replaces
from sipbridge.sip.uas import IncomingInvite
from tests.sip.messages import parse_request
from tests.sip.wire import ANSWER, OFFER, Wire, answer_to, in_dialog, request


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
    assert [(event.status, event.final) for event in progress] == [(100, False), (180, False)]
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
def test_a_fragment_that_says_nothing_is_answered_and_shows_only_that_they_tell(fragment: str) -> None:
    wire, tag, _ = transferring()
    for cseq in (2, 3):
        assert status_of(wire, notify(tag, fragment, cseq=cseq)) == 200
    assert wire.event(ReferProgress).status == 100
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


def test_whoever_says_nothing_after_taking_it_on_is_waited_for_in_vain_for_32_seconds() -> None:
    wire, tag, refer = transferring()
    wire.receive(answer_to(refer, 202))
    wire.event(ReferAccepted)
    wire.advance(31.9)
    assert wire.events() == []
    wire.advance(32.1)
    event = wire.event(ReferProgress)
    assert (event.status, event.final) == (100, True)
    assert status_of(wire, notify(tag, "SIP/2.0 200 OK")) == 481


@pytest.mark.parametrize(
    ("state", "seconds"), [("active;expires=60", 60), ("pending ; expires = 7;x", 7), ("active", 300)]
)
def test_a_subscription_that_is_not_renewed_ends_with_its_time(state: str, seconds: int) -> None:
    wire, tag, refer = transferring()
    wire.receive(answer_to(refer, 202))
    status_of(wire, notify(tag, "SIP/2.0 180 Ringing", state))
    wire.events()
    wire.advance(seconds - 0.1)
    assert wire.events() == []
    wire.advance(seconds + 0.1)
    event = wire.event(ReferProgress)
    assert (event.status, event.reason, event.final) == (180, "Ringing", True)


def test_no_subscription_lasts_longer_than_an_hour() -> None:
    wire, tag, refer = transferring()
    wire.receive(answer_to(refer, 202))
    status_of(wire, notify(tag, "SIP/2.0 180 Ringing", "active;expires=999999999"))
    wire.advance(3601.0)
    assert wire.events()[-1] == ReferProgress(wire_call(wire), 180, "Ringing", final=True)


def wire_call(wire: Wire) -> Invite:
    (call,) = wire.user_agent._core.calls
    return call


def test_a_refer_without_a_subscription() -> None:
    """RFC 4488: asked for, and granted; then nobody waits for anything."""
    wire = Wire()
    call, tag = wire.answered()
    call.refer("sip:100@pbx.example.com", 0.0, refer_sub=False)
    refer = wire.sent_request("REFER")
    assert refer.headers.get("Refer-Sub") == "false"
    wire.receive(answer_to(refer, 200, headers=[("Refer-Sub", "false")]))
    assert not wire.event(ReferAccepted).subscribed
    assert status_of(wire, notify(tag, "SIP/2.0 200 OK")) == 481
    wire.advance(400.0)
    assert wire.events() == []


def test_a_peer_that_does_not_know_refer_sub_reports_all_the_same() -> None:
    wire = Wire()
    call, tag = wire.answered()
    call.refer("sip:100@pbx.example.com", 0.0, refer_sub=False)
    wire.receive(answer_to(wire.sent_request("REFER"), 202))
    assert wire.event(ReferAccepted).subscribed
    assert status_of(wire, notify(tag, "SIP/2.0 200 OK", "terminated")) == 200
    assert wire.event(ReferProgress).final


def test_the_outcome_may_come_after_the_peer_has_hung_up() -> None:
    """Many PBXs end the call as soon as the other answers, and tell so afterwards (RFC 5057 §3.1)."""
    wire, tag, refer = transferring()
    wire.receive(answer_to(refer, 202))
    assert status_of(wire, in_dialog("BYE", tag)) == 200
    assert [type(event) for event in wire.events()] == [ReferAccepted, CallEnded]
    assert status_of(wire, notify(tag, "SIP/2.0 180 Ringing", cseq=3)) == 200
    assert status_of(wire, in_dialog("OPTIONS", tag, cseq=4)) == 481
    assert status_of(wire, notify(tag, "SIP/2.0 200 OK", "terminated", cseq=5)) == 200
    assert wire.events() == []
    assert wire.user_agent.calls == wire.user_agent.dialogs == 0
    wire.advance(60.0)
    assert wire.user_agent.idle


def test_after_the_call_nobody_is_waited_for_very_long() -> None:
    wire, tag, refer = transferring()
    wire.receive(answer_to(refer, 202))
    status_of(wire, in_dialog("BYE", tag))
    status_of(wire, notify(tag, "SIP/2.0 180 Ringing", "active;expires=3600", cseq=3))
    assert wire.user_agent.dialogs == 1
    wire.advance(40.0)
    assert wire.user_agent.dialogs == 0
    assert wire.user_agent.idle


@pytest.mark.parametrize("target", ["", "sip:", "sip:a b@example.com", "sip:100@pbx.example.com>,<sip:x@y"])
def test_a_target_that_is_no_uri_is_not_sent(target: str) -> None:
    wire = Wire()
    call, _ = wire.answered()
    with pytest.raises(SipParseError):
        call.refer(target, 0.0)
    assert wire.sent() == []


# --- attended transfer ------------------------------------------------------------------------------------------------


def consulting(wire: Wire, contact: str = "<sip:bob@192.0.2.2:5060;ob>", tag: str = "b1") -> Invite:
    """A call of ours that was answered."""
    call = wire.user_agent.invite("sip:bob@192.0.2.2", from_="<sip:agent@example.com>", offer=OFFER, now=0.0)
    wire.receive(answer_to(wire.sent_request("INVITE"), 200, tag=tag, body=ANSWER, contact=contact))
    wire.event(Answered)
    return call


def test_an_attended_transfer_names_the_other_call_as_its_far_end_knows_it() -> None:
    wire = Wire()
    call, _ = wire.answered()
    other = consulting(wire)
    assert other.dialog is not None
    call.refer(None, 0.0, replaces=other)
    value = wire.sent_request("REFER").headers.get("Refer-To") or ""
    assert value.startswith("<sip:bob@192.0.2.2:5060;ob?Replaces=")
    escaped = value.partition("=")[2].rstrip(">")
    assert not set(escaped) & set(";=, <>&?@")
    call_id, local_tag, remote_tag = other.dialog.id
    assert Replaces.parse(unquote(escaped)) == Replaces(call_id, to_tag=remote_tag, from_tag=local_tag)
    assert remote_tag == "b1"


def test_what_we_write_is_what_we_would_read() -> None:
    wire = Wire()
    call, _ = wire.answered()
    other = consulting(wire, tag="%61*~'")
    call.refer("sip:desk@pbx.example.com;transport=tcp;method=INVITE?X=1", 0.0, replaces=other)
    refer = wire.sent_request("REFER")
    referral = Referral.of(refer)
    assert str(referral.refer_to) == "<sip:desk@pbx.example.com;transport=tcp>"
    assert other.dialog is not None
    assert referral.replaces == Replaces.of_dialog(other.dialog)


def test_a_tel_uri_cannot_carry_a_replaces() -> None:
    wire = Wire()
    call, _ = wire.answered()
    with pytest.raises(LocalProtocolError):
        call.refer("tel:+15550100", 0.0, replaces=consulting(wire))


def test_a_call_that_is_not_answered_cannot_be_transferred_to() -> None:
    wire = Wire()
    call, _ = wire.answered()
    other = wire.user_agent.invite("sip:bob@192.0.2.2", from_="<sip:agent@example.com>", offer=OFFER, now=0.0)
    with pytest.raises(LocalProtocolError):
        call.refer(None, 0.0, replaces=other)


def test_a_consultation_that_has_ended_meanwhile_is_told_and_not_raised() -> None:
    wire = Wire()
    call, _ = wire.answered()
    other = consulting(wire)
    other.hang_up(0.0)
    wire.sent()
    wire.events()
    call.refer(None, 0.0, replaces=other)
    assert wire.event(ReferFailed).status == 481
    assert wire.sent() == []


# --- REFER of theirs --------------------------------------------------------------------------------------------------


def refer(tag: str, *headers: str, cseq: int = 2, to: str | None = "<sip:100@192.0.2.2>") -> bytes:
    fields = list(headers) if to is None else [f"Refer-To: {to}", *headers]
    return in_dialog("REFER", tag, cseq=cseq, headers=fields)


def willing(allow: bool = True) -> tuple[Wire, IncomingInvite, str, list[Referral]]:
    """A call whose peer may transfer us, and what the policy was asked."""
    wire = Wire()
    asked: list[Referral] = []

    def policy(call: Invite, referral: Referral) -> bool:
        asked.append(referral)
        return allow

    wire.user_agent.transfer_policy.refer = policy
    call, tag = wire.answered()
    return wire, call, tag, asked


def accepted(*headers: str) -> tuple[Wire, IncomingInvite, str, ReferNotifier, Request]:
    """The same, a REFER taken on; with it our first NOTIFY."""
    wire, call, tag, _ = willing()
    assert wire.receive(refer(tag, *headers)) == []
    wire.event(ReferReceived)
    notifier = call.accept_refer(0.0)
    response, first = wire.sent()
    assert isinstance(response, Response)
    assert isinstance(first, Request)
    assert response.status == 202
    return wire, call, tag, notifier, first


def told(message: Request | Response) -> tuple[str, str]:
    """What a NOTIFY of ours says."""
    assert isinstance(message, Request)
    assert message.method == "NOTIFY"
    assert message.headers.get("Content-Type") == "message/sipfrag;version=2.0"
    return message.body.decode().strip(), message.headers.get("Subscription-State") or ""


def test_by_default_nobody_makes_us_call_anybody() -> None:
    wire = Wire()
    _, tag = wire.answered()
    assert status_of(wire, refer(tag)) == 403
    assert status_of(wire, request("REFER", headers=["Refer-To: <sip:100@192.0.2.2>"], call_id="x")) == 403
    assert wire.events() == []


def test_outside_a_call_no_policy_helps() -> None:
    wire, _, _, asked = willing()
    assert status_of(wire, request("REFER", headers=["Refer-To: <sip:100@192.0.2.2>"], call_id="x")) == 403
    assert asked == []


def test_a_ringing_call_transfers_nobody() -> None:
    wire = Wire()
    wire.user_agent.transfer_policy.refer = lambda call, referral: True
    call = wire.incoming()
    call.ring(0.0)
    (ringing,) = wire.sent()
    assert ringing.to.tag
    assert status_of(wire, refer(ringing.to.tag)) == 403


def test_a_refer_that_is_taken_on_is_told_of_until_its_end() -> None:
    wire, call, tag, asked = willing()
    assert wire.receive(refer(tag, "Referred-By: <sip:alice@example.com>")) == []
    event = wire.event(ReferReceived)
    assert (str(event.refer_to), event.replaces) == ("<sip:100@192.0.2.2>", None)
    assert str(event.referred_by) == "<sip:alice@example.com>"
    assert len(asked) == 1
    notifier = call.accept_refer(0.0)
    response, first = wire.sent()
    assert isinstance(response, Response)
    assert (response.status, response.headers.get("Refer-Sub")) == (202, None)
    assert response.contact is not None
    assert told(first) == ("SIP/2.0 100 Trying", "active;expires=180")
    assert first.headers.get("Event") == "refer"
    assert first.contact is not None
    assert isinstance(first, Request)
    wire.receive(answer_to(first, 200))
    notifier.notify(180, "", 3.0)
    second = wire.sent_request("NOTIFY")
    assert told(second) == ("SIP/2.0 180 Ringing", "active;expires=177")
    wire.receive(answer_to(second, 200))
    notifier.notify(200, "OK", 9.0)
    last = wire.sent_request("NOTIFY")
    assert told(last) == ("SIP/2.0 200 OK", "terminated;reason=noresource")
    assert not notifier.is_over
    wire.receive(answer_to(last, 200))
    assert notifier.is_over
    notifier.notify(486, "Busy Here", 10.0)
    assert wire.sent() == []
    call.hang_up(11.0)
    wire.receive(answer_to(wire.sent_request("BYE"), 200))
    wire.advance(60.0)
    assert wire.user_agent.idle


def test_notifies_do_not_overtake_each_other() -> None:
    wire, _, _, notifier, first = accepted()
    for status in (180, 183, 180, 183):
        notifier.notify(status, "", 1.0)
    assert wire.sent() == []
    (second,) = wire.receive(answer_to(first, 200))
    assert told(second)[0] == "SIP/2.0 183 Session Progress"
    notifier.notify(183, "", 1.0)
    notifier.notify(486, "Busy Here", 2.0)
    notifier.notify(200, "OK", 2.1)
    assert isinstance(second, Request)
    (last,) = wire.receive(answer_to(second, 200))
    assert told(last) == ("SIP/2.0 486 Busy Here", "terminated;reason=noresource")


def test_reasons_are_made_fit_for_a_first_line() -> None:
    fragment = write_sipfrag(603, "No\r\nContact: <sip:x@y>\u0000\u00e9" + "x" * 500)
    assert fragment.count(b"\r\n") == 1
    assert read_sipfrag(fragment) is not None
    assert len(fragment) < 160


def test_the_second_refer_of_a_call_says_whose_its_notifies_are() -> None:
    wire, call, tag, notifier, first = accepted()
    wire.receive(answer_to(first, 200))
    notifier.notify(486, "", 1.0)
    wire.receive(answer_to(wire.sent_request("NOTIFY"), 200))
    wire.receive(refer(tag, cseq=7))
    call.accept_refer(2.0)
    _, again = wire.sent()
    assert again.headers.get("Event") == "refer;id=7"


def test_a_refer_without_a_subscription_is_told_of_to_nobody() -> None:
    wire, call, tag, asked = willing()
    wire.receive(refer(tag, "Refer-Sub: false", "Require: norefersub"))
    notifier = call.accept_refer(0.0)
    (response,) = wire.sent()
    assert isinstance(response, Response)
    assert (response.status, response.headers.get("Refer-Sub")) == (202, "false")
    assert notifier.is_over
    assert not asked[0].subscribes
    notifier.notify(200, "OK", 1.0)
    assert wire.sent() == []


def test_the_owner_may_refuse_and_has_to_be_quick() -> None:
    wire, call, tag, _ = willing()
    wire.receive(refer(tag))
    wire.events()
    call.reject_refer(603, 0.0)
    assert wire.statuses() == [603]
    wire.receive(refer(tag, cseq=3))
    ((time, late),) = [(time, message) for time, message in wire.advance(20.0)]
    assert isinstance(late, Response)
    assert (time, late.status) == (8.0, 403)
    assert call.accept_refer(20.0).is_over  # too late, and no error
    call.reject_refer(603, 20.0)
    assert wire.sent() == []


def test_one_at_a_time_and_a_few_in_all() -> None:
    wire, call, tag, _ = willing()
    wire.receive(refer(tag))
    assert status_of(wire, refer(tag, cseq=3)) == 491
    for cseq in range(4, 8):
        call.accept_refer(0.0)
        wire.sent()
        wire.receive(refer(tag, cseq=cseq))
    assert status_of(wire, refer(tag, cseq=9)) == 491


def test_a_policy_that_says_no() -> None:
    wire, _, tag, asked = willing(allow=False)
    assert status_of(wire, refer(tag)) == 403
    assert len(asked) == 1
    assert wire.events() == []
    assert wire.user_agent.counters["refer_refused"] == 1


def test_the_peer_hangs_up_at_once_and_is_told_all_the_same() -> None:
    wire, _, tag, notifier, first = accepted()
    assert status_of(wire, in_dialog("BYE", tag, cseq=3)) == 200
    wire.event(CallEnded)
    wire.receive(answer_to(first, 200))
    notifier.notify(200, "OK", 5.0)
    last = wire.sent_request("NOTIFY")
    assert told(last)[1] == "terminated;reason=noresource"
    assert wire.user_agent.dialogs == 1
    wire.receive(answer_to(last, 200))
    assert wire.user_agent.calls == wire.user_agent.dialogs == 0
    wire.advance(60.0)
    assert wire.user_agent.idle


def test_a_refer_that_waits_when_the_call_ends_is_refused() -> None:
    wire, call, tag, _ = willing()
    wire.receive(refer(tag))
    call.hang_up(1.0)
    answer, bye = wire.sent()
    assert isinstance(answer, Response)
    assert (answer.status, answer.cseq.method, bye.cseq.method) == (487, "REFER", "BYE")
    assert call.accept_refer(1.0).is_over
    wire.receive(answer_to(bye, 200)) if isinstance(bye, Request) else None
    wire.advance(60.0)
    assert wire.user_agent.idle


@pytest.mark.parametrize("status", [405, 480, 481, 489, 501])
def test_a_peer_that_wants_to_hear_no_more(status: int) -> None:
    wire, call, _, notifier, first = accepted()
    wire.receive(answer_to(first, status))
    assert notifier.is_over
    notifier.notify(200, "OK", 1.0)
    assert wire.sent() == []
    assert not call.is_over


def test_a_notify_that_nobody_answers_ends_the_subscription_and_not_the_call() -> None:
    wire, call, _, notifier, _ = accepted()
    wire.advance(40.0)
    assert notifier.is_over
    assert not call.is_over


def test_a_notify_at_a_bad_time_is_said_again_when_the_peer_wants_it() -> None:
    wire, _, _, notifier, first = accepted()
    notifier.notify(200, "OK", 0.5)
    (last,) = wire.receive(answer_to(first, 200))
    assert isinstance(last, Request)
    assert wire.receive(answer_to(last, 503, headers=[("Retry-After", "5")])) == []
    ((time, again),) = wire.advance(5.2)
    assert (time, told(again)) == (5.0, ("SIP/2.0 200 OK", "terminated;reason=noresource"))
    assert isinstance(again, Request)
    assert again.cseq.number == last.cseq.number + 1
    wire.receive(answer_to(again, 200))
    assert notifier.is_over


def test_a_notify_that_is_put_off_for_ever_is_given_up() -> None:
    wire, _, _, notifier, first = accepted()
    for _ in range(3):
        wire.receive(answer_to(first, 503, headers=[("Retry-After", "1")]))
        sent = [message for _, message in wire.advance(wire.now + 1.1)]
        if not sent:
            break
        assert isinstance(sent[0], Request)
        first = sent[0]
    assert sent == []
    notifier.notify(200, "OK", wire.now)
    assert told(wire.sent_request("NOTIFY"))[0] == "SIP/2.0 200 OK"


def test_a_call_that_never_comes_about_ends_the_subscription_in_time() -> None:
    wire, _, _, notifier, first = accepted()
    wire.receive(answer_to(first, 200))
    notifier.notify(180, "", 1.0)
    wire.receive(answer_to(wire.sent_request("NOTIFY"), 200))
    sent = wire.advance(180.4)
    assert [(time, told(message)) for time, message in sent] == [
        (180.0, ("SIP/2.0 180 Ringing", "terminated;reason=timeout"))
    ]
    notifier.notify(200, "OK", 181.0)
    assert wire.sent() == []


def subscribe(tag: str, expires: int, *, cseq: int = 3, event: str = "refer") -> bytes:
    return in_dialog("SUBSCRIBE", tag, cseq=cseq, headers=[f"Event: {event}", f"Expires: {expires}"])


def test_they_may_ask_for_more_time() -> None:
    wire, _, tag, _, first = accepted()
    wire.receive(answer_to(first, 200))
    ok, now = wire.receive(subscribe(tag, 999_999))
    assert isinstance(ok, Response)
    assert (ok.status, ok.headers.get("Expires")) == (200, "3600")
    assert told(now) == ("SIP/2.0 100 Trying", "active;expires=3600")


def test_they_may_unsubscribe() -> None:
    wire, _, tag, notifier, first = accepted()
    wire.receive(answer_to(first, 200))
    ok, last = wire.receive(subscribe(tag, 0))
    assert isinstance(ok, Response)
    assert isinstance(last, Request)
    assert (ok.status, told(last)[1]) == (200, "terminated;reason=timeout")
    wire.receive(answer_to(last, 200))
    assert notifier.is_over
    assert status_of(wire, subscribe(tag, 60, cseq=4)) == 481


@pytest.mark.parametrize(("event", "status"), [("refer;id=99", 481), ("presence", 489), ("", 489)])
def test_there_is_nothing_else_to_subscribe_to(event: str, status: int) -> None:
    wire, _, tag, _, first = accepted()
    wire.receive(answer_to(first, 200))
    assert status_of(wire, subscribe(tag, 60, event=event)) == status


# --- toll fraud -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 400),
        (["Refer-To: <sip:100@192.0.2.2>", "Refer-To: <sip:+19005550100@192.0.2.2>"], 400),
        (["Refer-To: <sip:100@192.0.2.2>", "r: <sip:+19005550100@192.0.2.2>"], 400),
        (["Refer-To: <sip:100@192.0.2.2>, <sip:+19005550100@192.0.2.2>"], 400),
        (["Refer-To: "], 400),
        (["Refer-To: <>"], 400),
        (["Refer-To: <sip:100@192.0.2.2"], 400),
        (["Refer-To: *"], 400),
        (["Refer-To: <sip:100@192.0.2.2;method=BYE>"], 403),
        (["Refer-To: <sip:100@192.0.2.2;method=%42YE>"], 403),
        (["Refer-To: sip:100@192.0.2.2;method=SUBSCRIBE"], 403),
        (["Refer-To: <http://example.com/>"], 416),
        (["Refer-To: <mailto:a@example.com>"], 416),
        (["Refer-To: <urn:service:sos>"], 416),
        (["Refer-To: <sip:100@192.0.2.2?Replaces=x>"], 400),
        (
            ["Refer-To: <sip:1@192.0.2.2?Replaces=a%3Bto-tag=1%3Bfrom-tag=2&replaces=b%3Bto-tag=1%3Bfrom-tag=2>"],
            400,
        ),
        (["Refer-To: <sip:100@192.0.2.2>", "Referred-By: <sip:a@b.example>", "Referred-By: <sip:c@b.example>"], 400),
        (["Refer-To: <sip:100@192.0.2.2>", "Referred-By: <:>"], 400),
        (["Refer-To: <sip:100@192.0.2.2>", "Replaces: a;to-tag=1;from-tag=2"], 400),
    ],
)
def test_a_refer_that_is_refused_before_anybody_is_asked(headers: list[str], status: int) -> None:
    wire, _, tag, asked = willing()
    assert status_of(wire, refer(tag, *headers, to=None)) == status
    assert asked == []
    assert wire.events() == []


@pytest.mark.parametrize(
    ("to", "number"),
    [
        ("<sip:+19005550100@192.0.2.2>", "+19005550100"),
        ("<sip:%2B1900%35550100@192.0.2.2;user=phone>", "+19005550100"),
        ("<sip:+1-900-555-0100@192.0.2.2>", "+19005550100"),
        ("<sip:+1(900)555.0100;ext=7@192.0.2.2>", "+19005550100"),
        ("<tel:+1-900-555-0100;phone-context=example.com;isub=1>", "+19005550100"),
        ("<tel:9005550100;phone-context=+1>", "9005550100"),
        ('"100" <sip:19005550100@192.0.2.2>', "19005550100"),
        ("sip:+19005550100@192.0.2.2;x=y", "+19005550100"),
        ("<sip:١٩٠٠٥٥٥٠١٠٠@192.0.2.2>", None),
        ("<sip:%D9%A1%D9%A9%D9%A0%D9%A0@192.0.2.2>", None),
        ("<sip:100%00@192.0.2.2>", None),
        ("<sip:+1900%0d%0a5550100@192.0.2.2>", None),
    ],
)
def test_the_policy_sees_the_number_that_would_be_dialled(to: str, number: str | None) -> None:
    wire, _, tag, asked = willing(allow=False)
    assert status_of(wire, refer(tag, to=to)) == 403
    found = Number.of(asked[0].refer_to.uri)
    assert (None if found is None else found.digits) == number


def test_nothing_of_the_uri_s_header_parameters_gets_through_but_a_checked_replaces() -> None:
    wire, _, tag, asked = willing()
    to = (
        "<sip:100@192.0.2.2;transport=tcp?Replaces=other%40192.0.2.2%3Bto-tag%3D1%3Bfrom-tag%3D2"
        "&Route=%3Csip:192.0.2.66%3Blr%3E&P-Asserted-Identity=%3Csip:ceo@example.com%3E&body=x>"
    )
    wire.receive(refer(tag, to=to))
    event = wire.event(ReferReceived)
    assert str(event.refer_to) == "<sip:100@192.0.2.2;transport=tcp>"
    assert event.replaces == Replaces("other@192.0.2.2", "1", "2")
    assert asked[0].refer_to is event.refer_to
    assert event.replaces is not None
    assert dict(event.replaces.headers) == {
        "Replaces": "other@192.0.2.2;to-tag=1;from-tag=2",
        "Require": "replaces",
    }


def test_a_line_break_in_an_embedded_replaces_is_no_replaces() -> None:
    data = refer("x", to="<sip:100@192.0.2.2?Replaces=a%0d%0aX:1%3Bto-tag%3D1%3Bfrom-tag%3D2>")
    with pytest.raises(SipParseError):
        Referral.of(parse_request(data))


def test_a_challenged_refer_is_known_by_the_number_of_its_last_attempt() -> None:
    wire = Wire()
    call, tag = wire.answered()
    call.credentials = Credentials("agent", "secret")
    call.refer("sip:100@pbx.example.com", 0.0)
    first = wire.sent_request("REFER")
    (second,) = wire.receive(answer_to(first, 401, headers=[("WWW-Authenticate", 'Digest realm="r", nonce="n"')]))
    assert isinstance(second, Request)
    assert (second.method, second.cseq.number) == ("REFER", first.cseq.number + 1)
    wire.receive(answer_to(second, 202))
    wire.event(ReferAccepted)
    assert status_of(wire, notify(tag, "SIP/2.0 200 OK", event=f"refer;id={first.cseq.number}")) == 481
    assert status_of(wire, notify(tag, "SIP/2.0 200 OK", event=f"refer;id={second.cseq.number}", cseq=3)) == 200
    assert wire.event(ReferProgress).status == 200
