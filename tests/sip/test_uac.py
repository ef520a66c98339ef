"""The caller's side of a call: what we send, and what becomes of the answers (RFC 3261 §13.2, §9.1)."""

from __future__ import annotations

import pytest

from sipbridge.errors import LocalProtocolError
from sipbridge.sip.dns_cache import DnsNeeded
from sipbridge.sip.events import Answered, CallEnded, EndCause, Progress
from sipbridge.sip.flow import Flow, FlowNeeded, Target
from sipbridge.sip.invite import CallState
from sipbridge.sip.message import Request, Response
from sipbridge.sip.redirection import redirect_contacts
from sipbridge.sip.uac import OutgoingInvite
from tests.sip.wire import ANSWER, OFFER, PEER, UDP, US, Wire, answer_to, request

BOB = "sip:bob@192.0.2.2"


def place_call(wire: Wire, target: str = BOB) -> tuple[OutgoingInvite, Request]:
    call = wire.user_agent.invite(target, from_="<sip:alice@example.com>", offer=OFFER, now=wire.now)
    return call, wire.sent_request("INVITE")


def requests(messages: list[object]) -> list[Request]:
    assert all(isinstance(message, Request) for message in messages)
    return [message for message in messages if isinstance(message, Request)]


# --- one call ---------------------------------------------------------------------------------------------------------


def test_the_invite_has_all_it_needs() -> None:
    wire = Wire()
    wire.user_agent.invite(
        f"{BOB};user=phone?Subject=x",
        from_='"Alice" <sip:alice@example.com>',
        offer=OFFER,
        now=0.0,
        headers=(("X-Tenant", "acme"),),
    )
    invite = wire.sent_request("INVITE")
    assert wire.flows == [UDP]
    assert invite.uri == f"{BOB};user=phone"
    assert (invite.via.host, invite.via.port, invite.via.wants_rport) == (*US, True)
    assert (invite.via.branch or "").startswith("z9hG4bK")
    assert invite.from_.tag
    assert invite.to.tag is None
    assert invite.body == OFFER
    assert str(invite.contact) == "<sip:sipbridge@192.0.2.1:5060>"
    assert invite.max_forwards == 70
    assert invite.headers.get("X-Tenant") == "acme"
    assert "INVITE" in (invite.headers.get("Allow") or "")


def test_ringing_answer_and_ack() -> None:
    wire = Wire()
    call, invite = place_call(wire)
    assert wire.receive(answer_to(invite, 100)) == []
    assert wire.receive(answer_to(invite, 180)) == []
    assert wire.event(Progress).response.status == 180
    assert call.state is CallState.RINGING
    (ack,) = requests(list(wire.receive(answer_to(invite, 200, body=ANSWER))))
    assert (ack.method, ack.uri, str(ack.cseq)) == ("ACK", "sip:bob@192.0.2.2:5060", "1 ACK")
    assert ack.via.branch != invite.via.branch
    assert ack.to.tag == "b1"
    assert wire.event(Answered).answer == ANSWER
    call.hang_up(5.0, 'Q.850;cause=16;text="bye"')
    bye = wire.sent_request("BYE")
    assert (str(bye.cseq), bye.headers.get("Reason")) == ("2 BYE", 'Q.850;cause=16;text="bye"')
    assert wire.event(CallEnded).cause is EndCause.LOCAL_BYE
    wire.receive(answer_to(bye, 200))
    wire.advance(60.0)
    assert wire.user_agent.idle


@pytest.mark.parametrize("status", [302, 404, 486, 503, 603])
def test_a_refusal_ends_the_call(status: int) -> None:
    wire = Wire()
    _, invite = place_call(wire)
    (ack,) = requests(list(wire.receive(answer_to(invite, status, headers=[("Reason", "Q.850;cause=17")]))))
    assert (ack.method, ack.via) == ("ACK", invite.via)
    ended = wire.event(CallEnded)
    assert (ended.cause, ended.status, ended.reason_header) == (EndCause.REJECTED, status, "Q.850;cause=17")
    assert not wire.user_agent.calls


def test_a_redirection_names_where_else_to_try_and_is_not_followed() -> None:
    wire = Wire()
    _, invite = place_call(wire)
    contacts = [
        "<sip:+15550101@192.0.2.9;method=INVITE?Route=%3Csip:192.0.2.66%3E>;q=0.5;expires=60",
        '"Desk" <tel:+1-555-0102>',
        "<mailto:bob@example.com>;q=1",
        "<sip:bob@192.0.2.8;transport=tcp>;q=0.75, <sips:bob@192.0.2.7>;q=nonsense",
        *["<sip:more@192.0.2.6>;q=0.1"] * 20,
    ]
    data = answer_to(invite, 302, headers=[("Contact", value) for value in contacts])
    (ack,) = requests(list(wire.receive(data)))
    assert ack.method == "ACK"
    ended = wire.event(CallEnded)
    assert (ended.status, ended.cause) == (302, EndCause.REJECTED)
    assert [str(contact) for contact in ended.contacts][:4] == [
        '"Desk" <tel:+1-555-0102>',
        "<sips:bob@192.0.2.7>",
        "<sip:bob@192.0.2.8;transport=tcp>",
        "<sip:+15550101@192.0.2.9>",
    ]
    assert len(ended.contacts) == 8
    assert wire.user_agent.idle or wire.advance(60.0) == []


@pytest.mark.parametrize("contact", ["*", "<:::>", "", '"open <sip:a@b.example>'])
def test_a_redirection_to_nowhere(contact: str) -> None:
    response = place_call(Wire())[1].response(302)
    response.headers.add("Contact", contact)
    assert redirect_contacts(response) == ()


def test_nobody_answers() -> None:
    wire = Wire()
    place_call(wire)
    assert [time for time, _ in wire.advance(40.0)] == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    ended = wire.event(CallEnded)
    assert (ended.cause, ended.status) == (EndCause.TIMEOUT, 408)
    assert wire.user_agent.idle


def test_a_phone_that_rings_for_ever_is_given_up_three_minutes_after_its_last_word() -> None:
    wire = Wire()
    _, invite = place_call(wire)
    wire.receive(answer_to(invite, 180))
    wire.advance(60.0)
    wire.receive(answer_to(invite, 180))
    ((time, cancel), *_) = wire.advance(240.0)
    assert (time, cancel.cseq.method) == (240.0, "CANCEL")
    assert isinstance(wire.events()[-1], CallEnded)
    wire.advance(600.0)
    assert wire.user_agent.idle


@pytest.mark.parametrize("contact", ["*", "<mailto:bob@example.com>"])
def test_a_contact_that_cannot_be_called_leaves_the_target_as_it_was(contact: str) -> None:
    wire = Wire()
    call, invite = place_call(wire)
    (ack,) = requests(list(wire.receive(answer_to(invite, 200, body=ANSWER, contact=contact))))
    assert (ack.method, ack.uri) == ("ACK", BOB)
    assert call.state is CallState.CONFIRMED


def test_a_call_that_rings_everywhere_is_followed_at_a_few_places() -> None:
    wire = Wire()
    _, invite = place_call(wire)
    for number in range(1000):
        wire.receive(answer_to(invite, 180, tag=f"fork{number}"))
    assert wire.user_agent.dialogs == 32
    wire.receive(answer_to(invite, 200, tag="fork999", body=ANSWER))
    assert wire.user_agent.dialogs == 1
    assert isinstance(wire.events()[-1], Answered)


def test_the_route_set_of_the_2xx_is_followed() -> None:
    wire = Wire()
    call, invite = place_call(wire)
    wire.receive(answer_to(invite, 200, headers=[("Record-Route", "<sip:192.0.2.12;lr>, <sip:192.0.2.11;lr>")]))
    assert wire.flows == [Flow("udp", US, ("192.0.2.11", 5060))]
    call.hang_up(1.0)
    bye = wire.sent_request("BYE")
    assert bye.headers.get_all("Route") == ["<sip:192.0.2.11;lr>", "<sip:192.0.2.12;lr>"]


def test_a_tel_uri_needs_a_next_hop() -> None:
    wire = Wire()
    with pytest.raises(LocalProtocolError):
        wire.user_agent.invite("tel:+15550100", from_="<sip:a@b.example>", offer=OFFER, now=0.0)
    wire.user_agent.invite("tel:+15550100", from_="<sip:a@b.example>", offer=OFFER, now=0.0, next_hop=BOB)
    assert wire.sent_request("INVITE").uri == "tel:+15550100"
    assert wire.flows == [UDP]


# --- faults seen in other stacks --------------------------------------------------------------------------------------


def test_each_repeated_2xx_gets_the_same_ack_again() -> None:
    wire = Wire()
    _, invite = place_call(wire)
    (ack,) = wire.receive(answer_to(invite, 200))
    for now in (0.5, 1.5, 20.0):
        wire.now = now
        (again,) = wire.receive(answer_to(invite, 200))
        assert again.serialize() == ack.serialize()
    assert len(wire.events()) == 1


def test_a_2xx_repeated_after_we_hung_up_is_still_acknowledged() -> None:
    wire = Wire()
    call, invite = place_call(wire)
    wire.receive(answer_to(invite, 200))
    call.hang_up(0.1)
    wire.receive(answer_to(wire.sent_request("BYE"), 200))
    wire.advance(10.0)
    (again,) = wire.receive(answer_to(invite, 200))
    assert again.cseq.method == "ACK"


def test_each_repeated_604_gets_its_ack() -> None:
    wire = Wire()
    _, invite = place_call(wire)
    for _ in range(3):
        (ack,) = wire.receive(answer_to(invite, 604))
        assert ack.cseq.method == "ACK"
    assert len(wire.events()) == 1


def test_a_second_callee_of_a_forked_invite_is_acknowledged_and_hung_up() -> None:
    wire = Wire()
    call, invite = place_call(wire)
    wire.receive(answer_to(invite, 180, tag="b1"))
    wire.receive(answer_to(invite, 180, tag="b2"))
    assert wire.user_agent.dialogs == 2
    wire.receive(answer_to(invite, 200, tag="b2", contact="<sip:bob2@192.0.2.3>"))
    assert wire.user_agent.dialogs == 1
    assert isinstance(wire.events()[-1], Answered)
    ack, bye = requests(list(wire.receive(answer_to(invite, 200, tag="b1"))))
    assert [ack.method, bye.method] == ["ACK", "BYE"]
    assert ack.to.tag == bye.to.tag == "b1"
    (again,) = wire.receive(answer_to(invite, 200, tag="b1"))
    assert again.cseq.method == "ACK"
    wire.receive(answer_to(bye, 200))
    assert wire.events() == []
    assert call.state is CallState.CONFIRMED


def test_a_2xx_without_contact_is_acknowledged_at_the_request_uri() -> None:
    wire = Wire()
    _, invite = place_call(wire)
    (ack,) = requests(list(wire.receive(answer_to(invite, 200, contact=None))))
    assert ack.uri == BOB


def test_a_2xx_with_a_malformed_contact_is_dropped_and_counted() -> None:
    wire = Wire()
    _, invite = place_call(wire)
    assert wire.receive(answer_to(invite, 200, contact="<:::>")) == []
    assert wire.user_agent.counters == {"dropped_malformed": 1, "malformed_uri": 1}
    assert wire.events() == []


def test_responses_that_are_not_ours_are_dropped() -> None:
    wire = Wire()
    _, invite = place_call(wire)
    stray = answer_to(invite, 200).replace((invite.via.branch or "").encode(), b"z9hG4bKother")
    two_vias = answer_to(invite, 200).replace(b"\r\nFrom", b"\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK9\r\nFrom", 1)
    assert wire.receive(stray) == wire.receive(two_vias) == []
    assert wire.user_agent.counters == {"stray_response": 1, "response_for_another": 1}


# --- cancel -----------------------------------------------------------------------------------------------------------


def test_cancel_goes_with_the_branch_of_its_invite() -> None:
    wire = Wire()
    call, invite = place_call(wire)
    wire.receive(answer_to(invite, 180))
    call.cancel(1.0, "SIP;cause=487")
    cancel = wire.sent_request("CANCEL")
    assert (cancel.uri, cancel.via, str(cancel.cseq)) == (invite.uri, invite.via, "1 CANCEL")
    assert cancel.headers.get("To") == invite.headers.get("To")
    assert cancel.headers.get("Reason") == "SIP;cause=487"
    assert isinstance(wire.events()[-1], CallEnded)
    assert wire.receive(answer_to(cancel, 200)) == []
    (ack,) = wire.receive(answer_to(invite, 487))
    assert ack.cseq.method == "ACK"
    assert wire.events() == []
    wire.advance(60.0)
    assert wire.user_agent.idle


def test_cancel_waits_for_a_provisional_response() -> None:
    wire = Wire()
    call, invite = place_call(wire)
    call.hang_up(0.1)
    assert wire.sent() == []
    assert wire.event(CallEnded).cause is EndCause.CANCELLED
    (cancel,) = wire.receive(answer_to(invite, 100))
    assert cancel.cseq.method == "CANCEL"


def test_a_cancelled_invite_that_was_never_answered_at_all_just_ends() -> None:
    wire = Wire()
    call, _ = place_call(wire)
    call.cancel(0.1)
    assert all(message.cseq.method == "INVITE" for _, message in wire.advance(60.0))
    assert len(wire.events()) == 1
    assert wire.user_agent.idle


@pytest.mark.parametrize("provisional", [False, True])
def test_a_200_that_crosses_the_cancel_gets_ack_and_bye(provisional: bool) -> None:
    wire = Wire()
    call, invite = place_call(wire)
    if provisional:
        wire.receive(answer_to(invite, 180))
    call.cancel(1.0)
    wire.sent()
    wire.events()
    ack, bye = requests(list(wire.receive(answer_to(invite, 200))))
    assert [ack.method, bye.method] == ["ACK", "BYE"]
    assert wire.events() == []
    wire.receive(answer_to(bye, 200))
    wire.advance(100.0)
    assert wire.user_agent.idle


def test_a_cancelled_invite_without_487_is_abandoned_after_64_t1() -> None:
    wire = Wire()
    call, invite = place_call(wire)
    wire.receive(answer_to(invite, 180))
    call.cancel(0.0)
    wire.receive(answer_to(wire.sent_request("CANCEL"), 200))
    wire.advance(31.9)
    assert not wire.user_agent.idle
    wire.advance(32.0)
    assert wire.user_agent.idle


# --- the way there ----------------------------------------------------------------------------------------------------


def test_over_tcp_a_connection_is_asked_for_and_named_in_via_and_contact() -> None:
    wire = Wire()
    call = wire.user_agent.invite(f"{BOB};transport=tcp", from_="<sip:a@b.example>", offer=OFFER, now=0.0)
    target = Target("tcp", *PEER)
    assert wire.event(FlowNeeded).target == target
    assert wire.sent() == []
    flow = Flow("tcp", ("192.0.2.1", 50001), PEER)
    wire.user_agent.flow_opened(target, flow, 0.1)
    invite = wire.sent_request("INVITE")
    assert (invite.via.transport, invite.via.port) == ("TCP", 5060)  # where we listen, not where the connection starts
    assert str(invite.contact) == "<sip:sipbridge@192.0.2.1:5060;transport=tcp>"
    wire.user_agent.flow_closed(flow, 0.2)
    assert wire.event(CallEnded).cause is EndCause.FLOW_FAILED
    assert call.state is CallState.ENDED
    assert not wire.user_agent.calls
    wire.advance(32.1)  # it may have arrived, and be answered by another connection
    assert wire.user_agent.idle


@pytest.mark.parametrize(
    ("target", "needed"),
    [
        (f"{BOB};transport=tcp", Target("tcp", *PEER)),
        ("sips:bob@192.0.2.2", Target("tls", "192.0.2.2", 5061, "192.0.2.2")),
        (f"{BOB};transport=sctp", None),
        (f"{BOB};transport=ws", None),
    ],
)
def test_a_peer_that_cannot_be_reached(target: str, needed: Target | None) -> None:
    wire = Wire()
    wire.user_agent.invite(target, from_="<sip:a@b.example>", offer=OFFER, now=0.0)
    if needed is not None:
        assert wire.event(FlowNeeded).target == needed
        wire.user_agent.flow_failed(needed, "refused", 0.1)
    ended = wire.event(CallEnded)
    assert (ended.cause, ended.status) == (EndCause.FLOW_FAILED, 503)
    assert wire.user_agent.idle


def test_a_name_is_resolved_first() -> None:
    wire = Wire()
    wire.user_agent.invite("sip:bob@pbx.example.com", from_="<sip:a@b.example>", offer=OFFER, now=0.0)
    assert wire.sent() == []
    assert wire.answer_dns({("pbx.example.com", "A"): ["192.0.2.2", "192.0.2.3"]}) == []
    assert wire.sent_request("INVITE").uri == "sip:bob@pbx.example.com"
    assert wire.flows == [UDP]


def test_a_call_cancelled_before_it_could_be_sent_is_never_sent() -> None:
    wire = Wire()
    call = wire.user_agent.invite("sip:bob@pbx.example.com", from_="<sip:a@b.example>", offer=OFFER, now=0.0)
    needed = wire.event(DnsNeeded)
    call.cancel(0.1)
    assert wire.event(CallEnded).cause is EndCause.CANCELLED
    wire.user_agent.dns_answered(needed.name, needed.kind, [], 60.0, 0.2)
    assert wire.answer_dns({("pbx.example.com", "A"): ["192.0.2.2"]}) == []
    assert wire.sent() == []
    assert wire.user_agent.idle


def test_a_bye_in_the_early_dialog_ends_the_call() -> None:
    wire = Wire()
    call, invite = place_call(wire)
    wire.receive(answer_to(invite, 180))
    wire.events()
    bye = request("BYE", call_id=call.call_id, from_="<sip:bob@192.0.2.2>;tag=b1", to=invite.headers.get("From") or "")
    ok, cancel = wire.receive(bye)
    assert isinstance(ok, Response)
    assert (ok.status, cancel.cseq.method) == (200, "CANCEL")  # the INVITE is still to be ended
    assert wire.event(CallEnded).cause is EndCause.REMOTE_BYE
    wire.advance(40.0)
    assert wire.user_agent.idle
