"""Faults that other stacks have had, each as a test with its name: what was reported there is not to come up here."""

from __future__ import annotations

import pytest

from sipbridge.media import sdp
from sipbridge.sip.digest import Credentials, DigestClient
from sipbridge.sip.digest_server import DigestServer
from sipbridge.sip.events import Acknowledged, Answered, CallEnded, CredentialsNeeded, EndCause, InviteReceived
from sipbridge.sip.flow import Flow
from sipbridge.sip.message import Request, Response, parse_message
from sipbridge.sip.uac import OutgoingInvite
from tests.sip.wire import ANSWER, OFFER, PEER, UDP, US, Wire, answer_to, counting_tokens, in_dialog, request

BOB = f"sip:bob@{PEER[0]}:{PEER[1]}"
CALLER = "<sip:us@example.com>"


def calling(wire: Wire) -> tuple[OutgoingInvite, Request]:
    call = wire.user_agent.invite(BOB, from_=CALLER, offer=OFFER, now=wire.now)
    return call, wire.sent_request("INVITE")


def acks(messages: list[Request | Response]) -> list[Request]:
    return [message for message in messages if isinstance(message, Request) and message.method == "ACK"]


def test_a_retransmitted_invite_is_no_new_call() -> None:
    """PJSIP #4765, rsipstack #127, aiosipua: a copy that comes after the 200 found no transaction (RFC 6026 §7.1)."""
    wire = Wire()
    call = wire.incoming()
    for _ in range(2):
        wire.receive(request())
    call.answer(ANSWER, wire.now)
    wire.sent()
    for at in (0.1, 1.0, 20.0, 31.0):
        wire.advance(at)
        assert wire.receive(request()) == [], "absorbed: the 200 is repeated by its own clock"
    assert [event for event in wire.events() if isinstance(event, InviteReceived)] == []
    assert wire.user_agent.calls == 1


def test_a_200_is_repeated_until_its_ack() -> None:
    """sipgo #227: sent once, and lost."""
    wire = Wire()
    wire.incoming().answer(ANSWER, wire.now)
    (first,) = wire.sent()
    repeated = [(at, message.serialize()) for at, message in wire.advance(4.0)]
    assert repeated == [(0.5, first.serialize()), (1.5, first.serialize()), (3.5, first.serialize())]
    tag = first.to.tag
    wire.receive(request("ACK", branch="z9hG4bKack", to=f"<sip:agent@192.0.2.1>;tag={tag}"))
    assert wire.advance(60.0) == []


def test_a_200_is_repeated_over_tcp_too() -> None:
    """§13.3.1.4: a proxy further on may have lost it on UDP."""
    wire = Wire()
    tcp = Flow("tcp", US, ("192.0.2.2", 49152))
    wire.incoming(tcp).answer(ANSWER, wire.now)
    wire.sent()
    assert [at for at, _ in wire.advance(2.0)] == [0.5, 1.5]


def test_each_copy_of_a_2xx_gets_an_ack() -> None:
    """sipgo #120: the transaction was over, and the copies went unanswered until the callee hung up."""
    wire = Wire()
    _, invite = calling(wire)
    ok = answer_to(invite, 200, body=ANSWER)
    (first,) = acks(wire.receive(ok))
    for at in (0.5, 1.5, 3.5, 31.0):
        wire.advance(at)
        (again,) = acks(wire.receive(ok))
        assert again.serialize() == first.serialize()
    assert [type(event) for event in wire.events()] == [Answered]


@pytest.mark.parametrize("status", [302, 404, 486, 503, 604, 603])
def test_each_copy_of_a_failure_gets_an_ack(status: int) -> None:
    """sipgo #283: the second 604 was left without one, and came for 32 seconds."""
    wire = Wire()
    _, invite = calling(wire)
    failure = answer_to(invite, status)
    for at in (0.0, 0.5, 1.5, 31.0):
        wire.advance(at)
        (ack,) = acks(wire.receive(failure))
        assert ack.via.branch == invite.via.branch
        assert ack.to.tag == "b1"
    assert [type(event) for event in wire.events()] == [CallEnded]


def test_a_request_with_credentials_is_no_copy_of_the_refused_one() -> None:
    """esphome-intercom #69: it came with the branch of the INVITE that was challenged, and was taken for a copy."""
    wire = Wire()
    server = DigestServer("example.com", b"k" * 32, counting_tokens("n"))
    wire.user_agent.require_authentication(server, lambda request, flow: request.method == "INVITE")
    challenge = wire.reply(request())
    assert challenge.status == 401
    wire.receive(request("ACK", to=str(challenge.to)))
    wire.receive(request(cseq=2, headers=(f"Authorization: {answer_by_hand(challenge)}",)))
    wire.user_agent.credentials_found(wire.event(CredentialsNeeded), "secret", wire.now)
    assert wire.statuses() == [100]
    assert [type(event).__name__ for event in wire.events()] == ["Authenticated", "InviteReceived"]


def answer_by_hand(challenge: Response) -> str:
    asked = parse_message(request(cseq=2))
    assert isinstance(asked, Request)
    assert DigestClient(Credentials("alice", "secret")).authorize(asked, challenge, counting_tokens("c"))
    return asked.headers.get("Authorization") or ""


def test_our_own_answer_to_a_challenge_has_a_branch_and_a_number_of_its_own() -> None:
    """The same fault from the other side (§22.2, §8.1.3.5)."""
    wire = Wire()
    wire.user_agent.invite(BOB, from_=CALLER, offer=OFFER, now=0.0, credentials=Credentials("us", "secret"))
    first = wire.sent_request("INVITE")
    branch, number, call_id, tag = first.via.branch, first.cseq.number, first.call_id, first.from_.tag
    challenge = (("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256'),)
    sent = wire.receive(answer_to(first, 401, headers=challenge))
    (again,) = [message for message in sent if isinstance(message, Request) and message.method == "INVITE"]
    assert again.via.branch != branch
    assert (again.cseq.number, again.call_id, again.from_.tag) == (number + 1, call_id, tag)
    assert again.headers.get("Authorization")
    assert len(acks(sent)) == 1


@pytest.mark.parametrize("method", ["REGISTER", "OPTIONS", "INVITE"])
def test_a_reply_goes_to_the_port_that_the_request_came_from(method: str) -> None:
    """esphome-intercom #104: a phone behind NAT named 5060 in its Via, and the reply went there (RFC 3581 §4)."""
    wire = Wire()
    nat = Flow("udp", US, ("203.0.113.9", 40404))
    for via in ("192.168.1.5:5060;branch=z9hG4bK1", "192.168.1.5:5060;rport;branch=z9hG4bK2"):
        answer = wire.receive(request(method, via=f"SIP/2.0/UDP {via}"), nat)[0]
        assert wire.flows[0].remote == ("203.0.113.9", 40404)
        assert answer.via.received == "203.0.113.9"
        assert answer.via.rport == 40404


def test_record_route_is_mirrored_and_followed() -> None:
    """Replies without it, and a BYE past the proxy, were reported of several stacks (§12.1.1)."""
    wire = Wire()
    routes = ("Record-Route: <sip:192.0.2.8;lr>, <sip:192.0.2.7;lr>", "Record-Route: <sip:192.0.2.6;lr>")
    wire.receive(request(headers=routes))
    call = wire.event(InviteReceived).call
    call.ring(wire.now)
    call.answer(ANSWER, wire.now)
    ringing, ok = wire.sent()
    for response in (ringing, ok):
        assert [str(route.uri.host) for route in response.record_routes] == ["192.0.2.8", "192.0.2.7", "192.0.2.6"]
    wire.receive(request("ACK", branch="z9hG4bKack", to=str(ok.to)))
    call.hang_up(wire.now)
    bye = wire.sent_request("BYE")
    assert [route.uri.host for route in bye.routes] == ["192.0.2.8", "192.0.2.7", "192.0.2.6"]
    assert bye.uri == "sip:alice@192.0.2.2:5060"
    assert wire.flows[0].remote == ("192.0.2.8", 5060)


def test_a_200_that_crosses_our_cancel_is_acknowledged_and_hung_up() -> None:
    """§9.1: the call was made. Left alone, the callee talks to nobody."""
    wire = Wire()
    call, invite = calling(wire)
    wire.receive(answer_to(invite, 180))
    call.cancel(wire.now)
    cancel = wire.sent_request("CANCEL")
    sent = wire.receive(answer_to(invite, 200, body=ANSWER))
    assert [message.method for message in sent if isinstance(message, Request)] == ["ACK", "BYE"]
    wire.receive(answer_to(cancel, 200))
    wire.receive(answer_to([message for message in sent if isinstance(message, Request)][1], 200))
    ended = [event for event in wire.events() if isinstance(event, CallEnded)]
    assert [event.cause for event in ended] == [EndCause.CANCELLED]
    wire.advance(100.0)
    assert wire.user_agent.idle


def test_a_cancel_that_crosses_our_200_changes_nothing() -> None:
    """§9.2, from the other side: 200 to the CANCEL, and the call stays."""
    wire = Wire()
    call = wire.incoming()
    call.answer(ANSWER, wire.now)
    (ok,) = wire.sent()
    assert wire.reply(request("CANCEL")).status == 200
    wire.receive(request("ACK", branch="z9hG4bKack", to=str(ok.to)))
    assert [type(event) for event in wire.events()] == [Acknowledged]


def test_a_cancelled_invite_gets_its_487() -> None:
    """pyVoIP answers the CANCEL and leaves the INVITE without a final response (§9.2)."""
    wire = Wire()
    wire.incoming()
    sent = wire.receive(request("CANCEL"))
    assert sorted(message.status for message in sent if isinstance(message, Response)) == [200, 487]


def test_an_ack_with_a_foreign_tag_acknowledges() -> None:
    """pyVoIP puts a tag of its own into the ACK: the call must not be taken for unacknowledged."""
    wire = Wire()
    wire.incoming().answer(ANSWER, wire.now)
    wire.sent()
    wire.receive(request("ACK", branch="z9hG4bKack", to="<sip:agent@192.0.2.1>;tag=foreign"))
    assert isinstance(wire.event(Acknowledged), Acknowledged)
    assert wire.advance(40.0) == []


def test_a_bye_to_another_tag_is_481_and_hangs_up_nothing() -> None:
    wire = Wire()
    wire.answered()
    assert wire.reply(in_dialog("BYE", "foreign")).status == 481
    assert wire.events() == []


def test_the_peer_s_hangup_in_the_same_moment_as_ours_is_one_end() -> None:
    wire = Wire()
    call, tag = wire.answered()
    call.hang_up(wire.now)
    bye = wire.sent_request("BYE")
    assert wire.reply(in_dialog("BYE", tag), UDP).status == 200
    wire.receive(answer_to(bye, 481))
    assert len([event for event in wire.events() if isinstance(event, CallEnded)]) == 1
    wire.advance(100.0)
    assert wire.user_agent.idle


# --- session descriptions: aiosipua, PJSIP, FreeSWITCH trackers -------------------------------------------------------

LOCAL = sdp.LocalAudio(address="192.0.2.1", port=20_000, codecs=("PCMU", "PCMA"), session_id="1")


def describe(*lines: str) -> bytes:
    head = ("v=0", "o=- 1 1 IN IP4 192.0.2.2", "s=-", "c=IN IP4 192.0.2.2", "t=0 0")
    return "".join(f"{line}\r\n" for line in (*head, *lines)).encode()


@pytest.mark.parametrize(
    ("lines", "direction"),
    [
        (("a=sendonly", "m=audio 4000 RTP/AVP 0"), "recvonly"),
        (("a=inactive", "m=audio 4000 RTP/AVP 0"), "inactive"),
        (("a=sendonly", "m=audio 4000 RTP/AVP 0", "a=sendrecv"), "sendrecv"),
        (("m=audio 4000 RTP/AVP 0", "a=sendonly"), "recvonly"),
    ],
)
def test_the_direction_of_the_session_holds_for_its_media(lines: tuple[str, ...], direction: str) -> None:
    """Hold at session level was not seen, and music played into it (RFC 8866 §6.7)."""
    assert sdp.answer(describe(*lines), LOCAL).direction == direction


def test_a_declined_line_is_not_revived() -> None:
    """RFC 3264 §6: port 0 stays 0, in its place, and what is refused is refused under its own name."""
    lines = ("m=audio 0 RTP/AVP 0", "m=video 4002 RTP/AVP 31", "m=audio 4004 RTP/AVP 8", "m=audio 4006 RTP/SAVP 0")
    offer = describe(*lines)
    answered = [line for line in sdp.answer(offer, LOCAL).sdp.decode().splitlines() if line.startswith("m=")]
    assert [line.split()[:2] for line in answered] == [
        ["m=audio", "0"],
        ["m=video", "0"],
        ["m=audio", "20000"],
        ["m=audio", "0"],
    ]
    assert answered[3].split()[2] == "RTP/SAVP"
