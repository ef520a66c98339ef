"""The callee's side of a call: raw requests in, responses and events out (RFC 3261 §13.3, §9.2, §15.1.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sipbridge.errors import LocalProtocolError
from sipbridge.sip.dns_cache import Record, Srv
from sipbridge.sip.events import Acknowledged, CallEnded, EndCause, InviteReceived
from sipbridge.sip.flow import Flow, FlowNeeded, Target
from sipbridge.sip.invite import CallState, Invite
from sipbridge.sip.message import Request, Response
from tests.sip.wire import ANSWER, OFFER, TCP, UDP, Wire, in_dialog, request


def final(wire: Wire) -> Response:
    (response,) = wire.sent()
    assert isinstance(response, Response)
    return response


def state_of(call: Invite) -> CallState:
    return call.state


# --- one call ---------------------------------------------------------------------------------------------------------


def test_an_invite_is_answered_100_and_told() -> None:
    wire = Wire()
    trying = wire.reply(request())
    assert trying.status == 100
    assert trying.to.tag is None
    event = wire.event(InviteReceived)
    assert event.offer == OFFER
    assert event.flow == UDP
    assert str(event.call.remote_party.uri) == "sip:alice@example.com"
    assert event.call.call_id == "call1"


def test_ring_answer_and_ack() -> None:
    wire = Wire()
    call = wire.incoming()
    call.ring(0.1)
    ringing = final(wire)
    assert (ringing.status, ringing.body) == (180, b"")
    call.answer(ANSWER, 0.2)
    ok = final(wire)
    assert (ok.status, ok.body, ok.content_type) == (200, ANSWER, "application/sdp")
    assert ok.to.tag == ringing.to.tag is not None
    for response in (ringing, ok):
        assert str(response.contact) == "<sip:sipbridge@192.0.2.1:5060>"
    assert "INVITE" in (ok.headers.get("Allow") or "")
    assert state_of(call) is CallState.ANSWERED
    assert wire.receive(request("ACK", branch="z9hG4bKx", to=f"<sip:a@b>;tag={ok.to.tag}")) == []
    assert wire.event(Acknowledged).body == b""
    assert state_of(call) is CallState.CONFIRMED


def test_early_media_is_a_183_with_a_body() -> None:
    wire = Wire()
    wire.incoming().ring(0.1, 183, ANSWER)
    progress = final(wire)
    assert (progress.status, progress.body, progress.content_type) == (183, ANSWER, "application/sdp")


def test_an_invite_without_offer_gets_ours_and_the_answer_comes_with_the_ack() -> None:
    wire = Wire()
    wire.receive(request(body=b" ", content_type="application/sdp").replace(b"Content-Length: 1", b"Content-Length: 0"))
    event = wire.event(InviteReceived)
    assert event.offer is None
    event.call.answer(OFFER, 0.0)
    ok = final(wire)
    wire.receive(request("ACK", branch="z9hG4bKx", to=f"<sip:a@b>;tag={ok.to.tag}", body=ANSWER))
    assert wire.event(Acknowledged).body == ANSWER


def test_record_route_is_mirrored_in_18x_and_2xx_and_followed() -> None:
    wire = Wire()
    routes = ["<sip:192.0.2.11;lr>, <sip:192.0.2.12;lr>", "<sip:192.0.2.13;lr>"]
    wire.receive(request(headers=[f"Record-Route: {route}" for route in routes]))
    call = wire.event(InviteReceived).call
    call.ring(0.0)
    assert final(wire).headers.get_all("Record-Route") == routes
    call.answer(ANSWER, 0.0)
    ok = final(wire)
    assert ok.headers.get_all("Record-Route") == routes
    wire.receive(request("ACK", branch="z9hG4bKx", to=f"<sip:a@b>;tag={ok.to.tag}"))
    call.hang_up(1.0)
    bye = wire.sent_request("BYE")
    assert wire.flows == [Flow("udp", UDP.local, ("192.0.2.11", 5060))]
    assert bye.headers.get_all("Route") == [f"<sip:192.0.2.{n};lr>" for n in (11, 12, 13)]
    assert bye.uri == "sip:alice@192.0.2.2:5060"


@pytest.mark.parametrize("status", [302, 404, 480, 486, 488, 503, 603])
def test_a_refusal_is_repeated_until_its_ack(status: int) -> None:
    wire = Wire()
    call = wire.incoming()
    call.reject(status, now=0.0, headers=(("Reason", "Q.850;cause=17"),))
    response = final(wire)
    assert (response.status, response.headers.get("Reason")) == (status, "Q.850;cause=17")
    ended = wire.event(CallEnded)
    assert (ended.cause, ended.status) == (EndCause.DECLINED, status)
    assert [time for time, _ in wire.advance(4.0)] == [0.5, 1.5, 3.5]
    assert wire.receive(request("ACK", to=f"<sip:a@b>;tag={response.to.tag}")) == []
    assert wire.advance(60.0) == []
    assert wire.user_agent.idle


def test_ringing_is_repeated_every_minute_for_the_proxies_timer_c() -> None:
    wire = Wire()
    wire.incoming().ring(0.0)
    wire.sent()
    assert [time for time, _ in wire.advance(130.0)] == [60.0, 120.0]


def test_an_invite_that_expires_unanswered_ends_with_487() -> None:
    wire = Wire()
    wire.receive(request(headers=["Expires: 20"]))
    wire.event(InviteReceived).call.ring(0.0)
    wire.sent()
    ((time, response), *_) = wire.advance(20.0)
    assert time == 20.0
    assert isinstance(response, Response)
    assert response.status == 487
    assert wire.event(CallEnded).cause is EndCause.TIMEOUT


# --- faults seen in other stacks --------------------------------------------------------------------------------------


def test_three_copies_of_one_invite_are_one_call() -> None:
    wire = Wire()
    wire.receive(request())
    for _ in range(2):
        assert wire.reply(request()).status == 100
    wire.event(InviteReceived)
    assert wire.user_agent.calls == 1


def test_an_invite_repeated_after_the_200_is_absorbed() -> None:
    wire = Wire()
    wire.incoming().answer(ANSWER, 0.0)
    wire.sent()
    assert wire.receive(request()) == []
    assert wire.events() == []
    assert [time for time, _ in wire.advance(1.0)] == [0.5]  # the 200 comes by its own rhythm


def test_an_invite_repeated_after_the_ack_is_absorbed() -> None:
    wire = Wire()
    wire.answered()
    wire.now = 20.0
    assert wire.receive(request()) == []
    assert wire.events() == []
    assert wire.user_agent.calls == 1


def test_an_invite_repeated_after_a_refusal_gets_it_again() -> None:
    wire = Wire()
    wire.incoming().reject(486, now=0.0)
    tag = final(wire).to.tag
    again = wire.reply(request())
    assert (again.status, again.to.tag) == (486, tag)


@pytest.mark.parametrize("flow", [UDP, TCP], ids=["udp", "tcp"])
def test_the_200_is_repeated_until_the_ack_by_any_transport(flow: Flow) -> None:
    wire = Wire()
    wire.incoming(flow).answer(ANSWER, 0.0)
    tag = final(wire).to.tag
    repeated = wire.advance(8.0)
    assert [time for time, _ in repeated] == [0.5, 1.5, 3.5, 7.5]
    assert {message.to.tag for _, message in repeated} == {tag}
    wire.receive(request("ACK", branch="z9hG4bKx", to=f"<sip:a@b>;tag={tag}"), flow)
    assert wire.advance(40.0) == []
    wire.event(Acknowledged)


def test_without_ack_the_call_is_hung_up_after_64_t1() -> None:
    wire = Wire()
    wire.incoming().answer(ANSWER, 0.0)
    wire.sent()
    sent = wire.advance(32.0)
    assert [time for time, message in sent if isinstance(message, Response)] == [
        0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5,
    ]  # fmt: skip
    time, bye = sent[-1]
    assert time == 32.0
    assert isinstance(bye, Request)
    assert bye.method == "BYE"
    assert wire.event(CallEnded).cause is EndCause.ACK_TIMEOUT
    wire.advance(70.0)
    assert wire.user_agent.idle


def test_an_ack_with_a_foreign_to_tag_is_good_enough() -> None:
    wire = Wire()
    wire.incoming().answer(ANSWER, 0.0)
    wire.receive(request("ACK", branch="z9hG4bKx", to="<sip:a@b>;tag=invented"))
    assert isinstance(wire.events()[0], Acknowledged)


def test_an_ack_with_the_branch_of_the_invite_is_good_enough() -> None:
    wire = Wire()
    wire.incoming().answer(ANSWER, 0.0)
    wire.receive(request("ACK"))
    wire.event(Acknowledged)


def test_repeated_and_stray_acks_change_nothing() -> None:
    wire = Wire()
    _, tag = wire.answered()
    for cseq in (1, 9):
        assert wire.receive(in_dialog("ACK", tag, cseq=cseq)) == []
    assert wire.receive(request("ACK", call_id="other", branch="z9hG4bKother")) == []
    assert wire.events() == []
    assert wire.user_agent.counters["stray_ack"] == 3


def test_a_client_from_before_the_magic_cookie_is_served() -> None:
    """RFC 2543: the branch says nothing, and the ACK of a refusal has a To tag that the INVITE had not."""
    wire = Wire()
    call = wire.incoming(branch="1")
    assert wire.reply(request(branch="1")).status == 100
    assert wire.events() == []
    call.reject(486, now=0.0)
    tag = final(wire).to.tag
    wire.receive(request("ACK", branch="1", to=f"<sip:agent@192.0.2.1>;tag={tag}"))
    assert wire.advance(60.0) == []


def test_the_same_invite_by_two_paths_is_merged() -> None:
    wire = Wire()
    wire.receive(request(branch="z9hG4bKone"))
    assert wire.reply(request(branch="z9hG4bKtwo")).status == 482
    assert len(wire.events()) == 1


# --- cancelled --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ringing", [False, True])
def test_cancel_is_answered_200_and_the_invite_487(ringing: bool) -> None:
    wire = Wire()
    call = wire.incoming()
    if ringing:
        call.ring(0.0)
        wire.sent()
    ok, terminated = wire.receive(request("CANCEL", headers=['Reason: SIP;cause=200;text="elsewhere"']))
    assert isinstance(ok, Response)
    assert isinstance(terminated, Response)
    assert (ok.status, ok.cseq.method) == (200, "CANCEL")
    assert (terminated.status, terminated.cseq.method) == (487, "INVITE")
    assert ok.to.tag == terminated.to.tag
    ended = wire.event(CallEnded)
    assert (ended.cause, ended.reason_header) == (EndCause.CANCELLED, 'SIP;cause=200;text="elsewhere"')
    call.answer(ANSWER, 0.1)  # too late, and no error
    call.ring(0.1)
    call.hang_up(0.1)
    assert wire.sent() == []
    wire.receive(request("ACK"))
    wire.advance(40.0)
    assert wire.user_agent.idle


def test_a_repeated_cancel_is_answered_again() -> None:
    wire = Wire()
    wire.incoming()
    wire.receive(request("CANCEL"))
    assert wire.reply(request("CANCEL")).status == 200
    assert len(wire.events()) == 1


def test_a_cancel_that_crosses_the_200_has_no_effect() -> None:
    wire = Wire()
    call = wire.incoming()
    call.answer(ANSWER, 0.0)
    wire.sent()
    assert wire.reply(request("CANCEL")).status == 200
    assert wire.events() == []
    assert call.state is CallState.ANSWERED


@pytest.mark.parametrize("other", [{"call_id": "another"}, {"cseq": 7}])
def test_a_guessed_branch_is_not_enough_to_cancel(other: dict[str, Any]) -> None:
    wire = Wire()
    call = wire.incoming()
    assert wire.reply(request("CANCEL", **other)).status == 481
    assert call.state is CallState.INVITED
    ok, terminated = wire.receive(request("CANCEL"))
    assert isinstance(terminated, Response)
    assert terminated.status == 487


def test_a_cancel_of_nothing_gets_481() -> None:
    wire = Wire()
    assert wire.reply(request("CANCEL", branch="z9hG4bKnobody")).status == 481


def test_a_bye_in_the_early_dialog_ends_the_invite_with_487() -> None:
    wire = Wire()
    call = wire.incoming()
    call.ring(0.0)
    tag = final(wire).to.tag
    assert tag
    ok, terminated = wire.receive(in_dialog("BYE", tag))
    assert isinstance(ok, Response)
    assert isinstance(terminated, Response)
    assert [ok.status, terminated.status] == [200, 487]
    assert wire.event(CallEnded).cause is EndCause.CANCELLED


# --- hanging up -------------------------------------------------------------------------------------------------------


def test_hanging_up_before_the_answer_is_a_refusal() -> None:
    wire = Wire()
    call = wire.incoming()
    call.hang_up(0.0, "SIP;cause=480")
    response = final(wire)
    assert (response.status, response.headers.get("Reason")) == (480, "SIP;cause=480")
    assert wire.event(CallEnded).cause is EndCause.DECLINED


def test_hanging_up_before_the_ack_waits_for_it() -> None:
    """§15: the callee must not send BYE before the ACK has come."""
    wire = Wire()
    call = wire.incoming()
    call.answer(ANSWER, 0.0)
    tag = final(wire).to.tag
    call.hang_up(0.1)
    assert wire.event(CallEnded).cause is EndCause.LOCAL_BYE
    assert wire.sent() == []
    assert [type(message) for _, message in wire.advance(0.6)] == [Response]
    (bye,) = wire.receive(request("ACK", branch="z9hG4bKx", to=f"<sip:a@b>;tag={tag}"))
    assert isinstance(bye, Request)
    assert bye.method == "BYE"
    wire.receive(bye.response(200).serialize())
    wire.advance(40.0)
    assert wire.user_agent.idle
    assert wire.events() == []


def test_commands_that_make_no_sense_are_our_bug() -> None:
    wire = Wire()
    call, _ = wire.answered()
    commands: list[Callable[[], None]] = [
        lambda: call.answer(ANSWER, 1.0),
        lambda: call.ring(1.0),
        lambda: call.ring(1.0, 200),
        lambda: call.reject(486, now=1.0),
        lambda: call.reject(200, now=1.0),
    ]
    for command in commands:
        with pytest.raises(LocalProtocolError):
            command()


# --- where responses go -----------------------------------------------------------------------------------------------


def test_a_response_goes_to_the_source_whatever_the_via_says() -> None:
    wire = Wire()
    source = Flow("udp", UDP.local, ("203.0.113.9", 40001))
    trying = wire.reply(request(via="SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKnat;rport"), source)
    assert wire.flows == [source]
    assert (trying.via.received, trying.via.rport) == ("203.0.113.9", 40001)
    assert (trying.via.host, trying.via.port) == ("10.0.0.1", 5060)


def test_only_the_top_via_is_stamped() -> None:
    wire = Wire()
    trying = wire.reply(request(via="SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1, SIP/2.0/UDP 10.0.0.2;branch=z9hG4bK2"))
    assert [via.received for via in trying.vias] == ["192.0.2.2", None]
    assert [via.branch for via in trying.vias] == ["z9hG4bK1", "z9hG4bK2"]


def test_a_response_leaves_by_the_connection_of_its_request() -> None:
    wire = Wire()
    call = wire.incoming(TCP)
    call.answer(ANSWER, 0.0)
    ok = final(wire)
    assert wire.flows == [TCP]
    assert str(ok.contact) == "<sip:sipbridge@192.0.2.1:5060;transport=tcp>"


def test_when_the_connection_is_gone_the_response_goes_to_the_sent_by_port() -> None:
    wire = Wire()
    call = wire.incoming(TCP, via="SIP/2.0/TCP 10.0.0.1:5077;branch=z9hG4bKtcp")
    wire.user_agent.flow_closed(TCP, 0.1)
    call.reject(486, now=0.2)
    needed, _ = wire.events()
    assert needed == FlowNeeded(Target("tcp", "192.0.2.2", 5077))
    assert wire.sent() == []
    new = Flow("tcp", ("192.0.2.1", 50001), ("192.0.2.2", 5077))
    wire.user_agent.flow_opened(Target("tcp", "192.0.2.2", 5077), new, 0.3)
    assert final(wire).status == 486
    assert wire.flows == [new]


def test_who_calls_a_sips_uri_gets_one() -> None:
    wire = Wire()
    wire.user_agent.listen("tls", ("192.0.2.1", 5061))
    call = wire.incoming(Flow("tls", ("192.0.2.1", 5061), ("192.0.2.2", 49152)), uri="sips:agent@192.0.2.1")
    call.answer(ANSWER, 0.0)
    assert str(final(wire).contact) == "<sips:sipbridge@192.0.2.1:5061>"


@pytest.mark.parametrize(
    ("contact", "headers", "scheme"),
    [
        ("<sips:alice@192.0.2.2>", [], "sips"),
        ("<sip:alice@192.0.2.2;transport=tls>", [], "sip"),
        ("<sips:alice@192.0.2.2>", ["Record-Route: <sip:192.0.2.9;transport=tls;lr>"], "sip"),
        ("<sip:alice@192.0.2.2>", ["Record-Route: <sips:192.0.2.9;lr>"], "sips"),
    ],
)
def test_who_wants_to_be_called_by_sips_gets_a_sips_uri(contact: str, headers: list[str], scheme: str) -> None:
    """§12.1.1: the Contact counts where there is no Record-Route."""
    wire = Wire()
    wire.user_agent.listen("tls", ("192.0.2.1", 5061))
    call = wire.incoming(Flow("tls", ("192.0.2.1", 5061), ("192.0.2.2", 49152)), contact=contact, headers=headers)
    call.answer(ANSWER, 0.0)
    answered = final(wire).contact
    assert answered is not None
    assert answered.uri.scheme == scheme


def test_and_where_nobody_listens_there_to_the_servers_of_the_name_in_via() -> None:
    """RFC 3263 §5."""
    wire = Wire()
    call = wire.incoming(TCP, via="SIP/2.0/TCP pbx.example.com;branch=z9hG4bKtcp")
    wire.user_agent.flow_closed(TCP, 0.1)
    call.reject(486, now=0.2)
    first = Target("tcp", "192.0.2.2", 5060)
    assert wire.events()[0] == FlowNeeded(first)
    wire.user_agent.flow_failed(first, "refused", 0.3)
    zone: dict[tuple[str, str], list[Record]] = {
        ("_sip._tcp.pbx.example.com", "SRV"): [Srv(0, 0, 5077, "node.example.com")],
        ("node.example.com", "A"): ["192.0.2.44"],
    }
    (needed,) = wire.answer_dns(zone)
    target = Target("tcp", "192.0.2.44", 5077)
    assert needed == FlowNeeded(target)
    new = Flow("tcp", ("192.0.2.1", 50001), ("192.0.2.44", 5077))
    wire.user_agent.flow_opened(target, new, 0.4)
    assert final(wire).status == 486
    assert wire.flows == [new]


def test_a_response_that_reaches_nobody_is_counted() -> None:
    wire = Wire()
    call = wire.incoming(TCP, via="SIP/2.0/TCP 10.0.0.1:5077;branch=z9hG4bKtcp")
    wire.user_agent.flow_closed(TCP, 0.1)
    call.reject(486, now=0.2)
    for host in ("192.0.2.2", "10.0.0.1"):
        wire.user_agent.flow_failed(Target("tcp", host, 5077), "refused", 0.3)
    assert wire.user_agent.counters["response_undeliverable"] == 1
    assert wire.sent() == []


def test_a_bye_goes_by_the_callers_connection_while_it_lives_and_else_to_his_contact() -> None:
    wire = Wire()
    first, _ = wire.answered(TCP)
    first.hang_up(1.0)
    wire.sent_request("BYE")
    assert wire.flows == [TCP]

    wire = Wire()
    second, _ = wire.answered(TCP, contact="<sip:alice@192.0.2.2:5062;transport=tcp>")
    wire.user_agent.flow_closed(TCP, 0.1)
    second.hang_up(1.0)
    assert wire.events()[-1] == FlowNeeded(Target("tcp", "192.0.2.2", 5062))
    wire.user_agent.flow_failed(Target("tcp", "192.0.2.2", 5062), "refused", 2.0)
    wire.advance(40.0)
    assert wire.user_agent.idle


def test_flow_and_events_are_told_apart_by_the_callers_flow() -> None:
    wire = Wire()
    wire.receive(request(call_id="one", branch="z9hG4bKone"))
    wire.receive(request(call_id="two", branch="z9hG4bKtwo"), TCP)
    flows = [event.flow for event in wire.events() if isinstance(event, InviteReceived)]
    assert flows == [UDP, TCP]
