"""Changes of the session by re-INVITE of ours, collisions, and offers that come late (RFC 3261 §14, §13.2.1)."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from sipbridge.errors import LocalProtocolError
from sipbridge.sip.events import (
    Acknowledged,
    Answered,
    CallEnded,
    EndCause,
    InviteReceived,
    ReinviteReceived,
    SessionAnswered,
    SessionRefused,
    SipEvent,
)
from sipbridge.sip.invite import CallState, Invite
from sipbridge.sip.message import Request, Response
from sipbridge.sip.reliable import OPTION
from tests.sip.network import Network, Weather
from tests.sip.wire import ANSWER, OFFER, PEER, US, Wire, answer_to, from_callee, in_dialog

HOLD, HELD = b"v=0\r\ns=hold\r\n", b"v=0\r\ns=held\r\n"


def statuses(messages: list[Request | Response]) -> list[int]:
    return [message.status for message in messages if isinstance(message, Response)]


# --- ours -------------------------------------------------------------------------------------------------------------


def test_a_change_of_ours_is_answered_and_acknowledged() -> None:
    wire = Wire()
    call, tag = wire.answered()
    call.reinvite(HOLD, 1.0)
    invite = wire.sent_request("INVITE")
    assert (invite.body, invite.to.tag, invite.from_.tag) == (HOLD, "a1", tag)
    assert invite.uri == "sip:alice@192.0.2.2:5060"
    assert str(invite.contact) == "<sip:sipbridge@192.0.2.1:5060>"
    assert OPTION in invite.supported
    assert wire.receive(answer_to(invite, 100)) == []
    (ack,) = wire.receive(answer_to(invite, 200, body=HELD, contact="<sip:alice@192.0.2.77>"))
    assert (ack.cseq.method, ack.cseq.number, ack.body) == ("ACK", invite.cseq.number, b"")
    assert isinstance(ack, Request)
    assert ack.uri == "sip:alice@192.0.2.77"  # the target is refreshed (§12.2.1.2)
    event = wire.event(SessionAnswered)
    assert (event.call, event.answer, event.needs_answer) == (call, HELD, False)
    (again,) = wire.receive(answer_to(invite, 200, body=HELD))
    assert again.serialize() == ack.serialize()
    assert wire.events() == []
    assert (call.dialog.exchange.local, call.dialog.exchange.remote) == (HOLD, HELD)
    wire.advance(60.0)
    call.reinvite(OFFER, 60.0)
    assert wire.sent_request("INVITE").cseq.number == invite.cseq.number + 1


@pytest.mark.parametrize("status", [400, 403, 488, 500, 503, 606])
def test_a_change_that_is_refused_leaves_the_session_as_it_was(status: int) -> None:
    wire = Wire()
    call, tag = wire.answered()
    call.reinvite(HOLD, 1.0)
    invite = wire.sent_request("INVITE")
    (ack,) = wire.receive(answer_to(invite, status))
    assert ack.cseq.method == "ACK"
    assert wire.event(SessionRefused).status == status
    assert call.dialog.exchange.local == ANSWER
    assert call.state is CallState.CONFIRMED
    wire.receive(in_dialog("INVITE", tag))  # the way is free again
    wire.event(ReinviteReceived)


@pytest.mark.parametrize("status", [481, 408])
def test_a_peer_that_has_forgotten_the_call_ends_it(status: int) -> None:
    wire = Wire()
    call, _ = wire.answered()
    call.reinvite(HOLD, 0.0)
    invite = wire.sent_request("INVITE")
    ack, bye = wire.receive(answer_to(invite, status))
    assert [ack.cseq.method, bye.cseq.method] == ["ACK", "BYE"]
    ended = wire.event(CallEnded)
    assert (ended.cause, ended.status) == (EndCause.LOST, status)
    wire.advance(100.0)
    assert wire.user_agent.idle


def test_a_reinvite_that_nobody_answers_ends_the_call() -> None:
    wire = Wire()
    call, _ = wire.answered()
    call.reinvite(HOLD, 0.0)
    wire.advance(32.0)
    ended = wire.event(CallEnded)
    assert (ended.cause, ended.status) == (EndCause.LOST, 408)
    wire.advance(100.0)
    assert wire.user_agent.idle


def test_one_change_at_a_time() -> None:
    wire = Wire()
    call, _ = wire.answered()
    call.reinvite(HOLD, 0.0)
    with pytest.raises(LocalProtocolError):
        call.reinvite(OFFER, 0.0)
    invite = wire.sent_request("INVITE")
    wire.receive(answer_to(invite, 200, body=HELD))
    call.reinvite(OFFER, 0.1)
    assert wire.sent_request("INVITE").body == OFFER


def test_a_call_that_is_not_answered_or_over_takes_no_change() -> None:
    wire = Wire()
    call, invite = wire.calling()
    with pytest.raises(LocalProtocolError):
        call.reinvite(HOLD, 0.0)
    wire.receive(answer_to(invite, 486))
    call.reinvite(HOLD, 0.0)
    assert wire.sent() == []


def test_a_change_waits_for_the_ack_of_the_call() -> None:
    wire = Wire()
    call = wire.incoming()
    call.answer(ANSWER, 0.0)
    (ok,) = wire.sent()
    call.reinvite(HOLD, 0.0)
    assert wire.sent() == []
    assert ok.to.tag
    (invite,) = wire.receive(in_dialog("ACK", ok.to.tag, cseq=1))
    assert (invite.cseq.method, invite.body) == ("INVITE", HOLD)


def test_a_change_waits_until_the_peers_is_through() -> None:
    wire = Wire()
    call, tag = wire.answered()
    wire.receive(in_dialog("INVITE", tag))
    call.reinvite(lambda: HOLD, 0.0)
    assert wire.sent() == []
    call.accept_reinvite(ANSWER, 0.1)
    assert wire.statuses() == [200]
    (invite,) = wire.receive(in_dialog("ACK", tag))
    assert (invite.cseq.method, invite.body) == ("INVITE", HOLD)


def test_an_offer_of_yesterday_is_not_made() -> None:
    """It was written before the peer changed the session: an o= line that goes back, and media that have moved."""
    wire = Wire()
    call, tag = wire.answered()
    wire.receive(in_dialog("INVITE", tag))
    call.reinvite(HOLD, 0.0)
    call.accept_reinvite(ANSWER, 0.1)
    wire.sent()
    wire.events()
    assert wire.receive(in_dialog("ACK", tag)) == []
    assert [event.status for event in wire.events() if isinstance(event, SessionRefused)] == [491]


def test_hanging_up_takes_a_reinvite_back() -> None:
    wire = Wire()
    call, _ = wire.answered()
    call.reinvite(HOLD, 0.0)
    invite = wire.sent_request("INVITE")
    wire.receive(answer_to(invite, 100))
    call.hang_up(0.1)
    cancel, bye = wire.sent()
    assert [cancel.cseq.method, bye.cseq.method] == ["CANCEL", "BYE"]
    wire.event(CallEnded)
    assert isinstance(bye, Request)
    wire.receive(answer_to(bye, 200))
    wire.receive(answer_to(invite, 487))
    assert wire.events() == []
    wire.advance(100.0)
    assert wire.user_agent.idle


def test_a_200_that_crosses_our_bye_is_acknowledged() -> None:
    wire = Wire()
    call, _ = wire.answered()
    call.reinvite(HOLD, 0.0)
    invite = wire.sent_request("INVITE")
    call.hang_up(0.1)
    wire.sent()
    wire.events()
    (ack,) = wire.receive(answer_to(invite, 200, body=HELD))
    assert ack.cseq.method == "ACK"
    assert wire.events() == []
    wire.advance(100.0)
    assert wire.user_agent.idle


def test_a_reinvite_that_stays_without_final_response_leaves_nothing_behind() -> None:
    wire = Wire()
    call, _ = wire.answered()
    call.reinvite(HOLD, 0.0)
    wire.receive(answer_to(wire.sent_request("INVITE"), 183))
    call.hang_up(50.0)
    wire.advance(200.0)
    assert wire.user_agent.idle


def test_reliable_responses_to_a_reinvite_are_acknowledged() -> None:
    wire = Wire()
    call, _ = wire.answered()
    call.reinvite(HOLD, 0.0)
    invite = wire.sent_request("INVITE")
    headers = [("Require", "100rel"), ("RSeq", "8")]
    (prack,) = wire.receive(answer_to(invite, 183, body=HELD, headers=headers))
    assert prack.headers.get("RAck") == f"8 {invite.cseq.number} INVITE"
    assert wire.receive(answer_to(invite, 183, body=HELD, headers=headers)) == []
    wire.receive(answer_to(invite, 200))
    assert wire.event(SessionAnswered).answer == HELD


# --- collisions -------------------------------------------------------------------------------------------------------


def test_a_reinvite_that_meets_ours_gets_491() -> None:
    wire = Wire()
    call, tag = wire.answered()
    call.reinvite(HOLD, 0.0)
    wire.sent()
    assert wire.reply(in_dialog("INVITE", tag)).status == 491
    assert wire.reply(in_dialog("UPDATE", tag, cseq=3, body=OFFER)).status == 491
    assert wire.reply(in_dialog("UPDATE", tag, cseq=4)).status == 200  # it changes nothing


@pytest.mark.parametrize("ours", [True, False], ids=["our Call-ID", "theirs"])
def test_who_made_the_call_id_waits_longer_before_it_tries_again(ours: bool) -> None:
    waits = []
    wire = Wire()
    for number in range(40):
        wire.now = 0.0
        if ours:
            call: Invite = wire.called()[0]
        else:
            call = wire.incoming(call_id=f"c{number}", branch=f"z9hG4bK{number}")
            call.answer(ANSWER, 0.0)
            wire.sent()
            wire.receive(in_dialog("ACK", call.local_tag or "", cseq=1, call_id=f"c{number}"))
            wire.events()
        call.reinvite(HOLD, 0.0)
        invite = wire.sent_request("INVITE")
        wire.receive(answer_to(invite, 491))
        deadline = wire.user_agent.get_timer()
        assert deadline is not None
        assert call._ours.get_timer() is not None
        waits.append(call._ours.get_timer() or 0.0)
        call.hang_up(0.0)
        wire.receive(answer_to(wire.sent_request("BYE"), 200))
        wire.events()
    assert min(waits) >= (2.1 if ours else 0.0)
    assert max(waits) <= (4.0 if ours else 2.0)
    assert len(set(waits)) > 10


def test_after_491_the_same_change_is_tried_again() -> None:
    wire = Wire()
    call, tag = wire.answered()
    call.reinvite(HOLD, 0.0)
    wire.receive(answer_to(wire.sent_request("INVITE"), 491))
    assert wire.events() == []
    (_, again), *_ = [(time, sent) for time, sent in wire.advance(2.0) if sent.cseq.method == "INVITE"]
    assert isinstance(again, Request)
    assert again.body == HOLD
    wire.receive(answer_to(again, 200, body=HELD))
    wire.event(SessionAnswered)
    assert wire.reply(in_dialog("INFO", tag)).status == 200


def test_a_peer_that_always_crosses_is_given_up() -> None:
    wire = Wire()
    call, _ = wire.answered()
    call.reinvite(HOLD, 0.0)
    sent = wire.sent()
    tries = 0
    while sent:
        (invite,) = sent
        assert isinstance(invite, Request)
        tries += 1
        wire.receive(answer_to(invite, 491))
        sent = [message for _, message in wire.advance(wire.now + 4.0) if message.cseq.method == "INVITE"][:1]
    assert tries == 6
    assert wire.event(SessionRefused).status == 491


def test_500_with_retry_after_is_tried_again_then() -> None:
    wire = Wire()
    call, _ = wire.answered()
    call.reinvite(HOLD, 0.0)
    wire.receive(answer_to(wire.sent_request("INVITE"), 500, headers=[("Retry-After", "7 (busy)")]))
    assert wire.advance(6.9) == []
    assert [(time, sent.cseq.method) for time, sent in wire.advance(7.0)] == [(7.0, "INVITE")]


# --- late offers ------------------------------------------------------------------------------------------------------


def test_a_call_without_offer_gets_one_in_the_200_and_answers_in_the_ack() -> None:
    wire = Wire()
    call, invite = wire.calling(offer=b"")
    assert (invite.body, invite.content_type) == (b"", None)
    assert wire.receive(answer_to(invite, 200, body=OFFER)) == []
    event = wire.event(Answered)
    assert (event.answer, event.needs_answer) == (OFFER, True)
    assert wire.receive(answer_to(invite, 200, body=OFFER)) == []  # the ACK needs our answer
    assert wire.reply(from_callee("INVITE", invite)).status == 491
    call.acknowledge(ANSWER, 0.4)
    ack = wire.sent_request("ACK")
    assert (ack.body, ack.content_type, str(ack.cseq)) == (ANSWER, "application/sdp", "1 ACK")
    (again,) = wire.receive(answer_to(invite, 200, body=OFFER))
    assert again.serialize() == ack.serialize()
    assert call.state is CallState.CONFIRMED
    assert call.dialog is not None
    assert (call.dialog.exchange.local, call.dialog.exchange.remote) == (ANSWER, OFFER)


def test_hanging_up_instead_of_answering_a_late_offer() -> None:
    wire = Wire()
    call, invite = wire.calling(offer=b"")
    wire.receive(answer_to(invite, 200, body=OFFER))
    call.hang_up(0.1)
    assert [message.cseq.method for message in wire.sent()] == ["ACK", "BYE"]
    assert isinstance(wire.events()[-1], CallEnded)


def test_a_200_without_the_offer_that_was_asked_for() -> None:
    wire = Wire()
    _, invite = wire.calling(offer=b"")
    (ack,) = wire.receive(answer_to(invite, 200))
    assert ack.body == b""
    event = wire.event(Answered)
    assert (event.answer, event.needs_answer) == (b"", False)


def test_nothing_to_acknowledge() -> None:
    wire = Wire()
    call, _ = wire.called()
    with pytest.raises(LocalProtocolError):
        call.acknowledge(ANSWER, 0.0)


def test_a_reinvite_without_offer_of_ours() -> None:
    wire = Wire()
    call, tag = wire.answered()
    call.reinvite(b"", 0.0)
    invite = wire.sent_request("INVITE")
    assert invite.body == b""
    assert wire.receive(answer_to(invite, 200, body=OFFER)) == []
    event = wire.event(SessionAnswered)
    assert (event.answer, event.needs_answer) == (OFFER, True)
    assert wire.reply(in_dialog("INVITE", tag)).status == 491
    call.acknowledge(ANSWER, 0.1)
    assert wire.sent_request("ACK").body == ANSWER
    (again,) = wire.receive(answer_to(invite, 200, body=OFFER))
    assert again.body == ANSWER


def test_hanging_up_instead_of_answering_what_a_reinvite_asked_for() -> None:
    wire = Wire()
    call, _ = wire.answered()
    call.reinvite(b"", 0.0)
    wire.receive(answer_to(wire.sent_request("INVITE"), 200, body=OFFER))
    call.hang_up(0.1)
    assert [message.cseq.method for message in wire.sent()] == ["ACK", "BYE"]


def test_a_reinvite_without_offer_of_theirs() -> None:
    wire = Wire()
    call, tag = wire.answered()
    data = in_dialog("INVITE", tag, body=b" ").replace(b"Content-Length: 1", b"Content-Length: 0")
    wire.receive(data)
    assert wire.event(ReinviteReceived).offer is None
    call.accept_reinvite(HOLD, 0.0)
    (ok,) = wire.sent()
    assert ok.body == HOLD
    assert wire.reply(in_dialog("UPDATE", tag, cseq=3, body=OFFER)).status == 491  # our offer is out
    wire.receive(in_dialog("ACK", tag, body=HELD))
    assert wire.event(Acknowledged).body == HELD
    assert (call.dialog.exchange.local, call.dialog.exchange.remote) == (HOLD, HELD)


def test_a_credential_goes_along_with_the_ack() -> None:
    wire = Wire()
    call, _ = wire.answered()
    call.reinvite(HOLD, 0.0)
    (invite,) = wire.sent()
    call._ours._current.request.headers.add("Proxy-Authorization", "Digest x=y")  # type: ignore[union-attr]
    assert isinstance(invite, Request)
    (ack,) = wire.receive(answer_to(invite, 200, body=HELD))
    assert ack.headers.get("Proxy-Authorization") == "Digest x=y"


# --- two user agents --------------------------------------------------------------------------------------------------


class Party:
    """Changes the session at any time, and keeps account of what both sides hold for true."""

    def __init__(self, network: Network, seed: int) -> None:
        self.network = network
        self.random = random.Random(seed)
        self.versions = 0
        self.seen: Counter[str] = Counter()
        self.calls: list[Invite] = []

    def describe(self) -> bytes:
        self.versions += 1
        return b"v=0\r\ns=%d\r\n" % self.versions

    def handle(self, event: SipEvent) -> None:
        now = self.network.now
        match event:
            case InviteReceived(call=call):
                call.answer(self.describe(), now)
            case Answered(call=call):
                self.calls.append(call)
                self.live(call)
            case Acknowledged(call=call):
                if call not in self.calls:
                    self.calls.append(call)
                    self.live(call)
            case ReinviteReceived(call=call, offer=offer):
                assert offer is not None
                call.accept_reinvite(self.describe(), now)
            case SessionAnswered():
                self.seen["answered"] += 1
            case SessionRefused(status=status):
                self.seen[f"refused {status}"] += 1
            case CallEnded(cause=cause):
                self.seen[cause.value] += 1

    def live(self, call: Invite) -> None:
        for number in range(3):
            self.network.at(self.network.now + 8 * number + self.random.random(), lambda: self.change(call))

    def change(self, call: Invite) -> None:
        if call.state is not CallState.CONFIRMED:
            return
        use_update = self.random.random() < 0.5 and call.dialog is not None and call.dialog.allows_update
        try:
            (call.update if use_update else call.reinvite)(self.describe, self.network.now)
        except LocalProtocolError:
            self.seen["busy"] += 1


@pytest.mark.parametrize(
    "weather",
    [Weather(), Weather(delay=(0.05, 0.4)), Weather(loss=0.15), Weather(loss=0.1, duplication=0.2, delay=(0.01, 0.5))],
    ids=["fair", "slow", "loss", "storm"],
)
def test_both_sides_change_the_session_at_once_and_agree_in_the_end(weather: Weather) -> None:
    network = Network(weather, seed=14)
    parties = []
    for number, (name, address) in enumerate((("a", US), ("b", PEER))):
        party = Party(network, seed=number)
        endpoint = network.add(name, address)
        endpoint.on_event = party.handle
        parties.append((party, endpoint))
    caller = parties[0][1].user_agent

    def call() -> None:
        offer = parties[0][0].describe()
        caller.invite("sip:bob@192.0.2.2", from_="<sip:a@b.example>", offer=offer, now=network.now)

    for number in range(20):
        network.at(number * 0.3, call)
    network.run(until=80.0)
    (alice, _), (bob, _) = parties
    assert len(alice.calls) == len(bob.calls) == 20
    theirs = {call.call_id: call for call in bob.calls}
    for ours in alice.calls:
        mine, other = ours.dialog, theirs[ours.call_id].dialog
        assert mine is not None
        assert other is not None
        assert (mine.exchange.local, mine.exchange.remote) == (other.exchange.remote, other.exchange.local)
        assert mine.exchange.rounds == other.exchange.rounds
    assert alice.seen["answered"] + bob.seen["answered"] > 60
    assert "lost" not in alice.seen + bob.seen
    for ours in alice.calls:
        ours.hang_up(network.now)
    network.run()
    assert bob.seen["remote_bye"] == 20
    assert all(endpoint.user_agent.idle for _, endpoint in parties)
