"""All that a call may go through, at random and at once, over networks of every kind: nothing raises, every call ends
once on either side, and nothing is left behind."""

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
    Progress,
    ReinviteReceived,
    SessionAnswered,
    SessionRefused,
    SipEvent,
)
from sipbridge.sip.invite import CallState, Invite
from sipbridge.sip.session_timer import SessionTimers
from sipbridge.sip.uas import IncomingInvite
from tests.sip.network import Endpoint, Network, Weather
from tests.sip.wire import PEER, US

SETTLED = {EndCause.LOCAL_BYE, EndCause.REMOTE_BYE, EndCause.CANCELLED, EndCause.DECLINED, EndCause.REJECTED}


class Party:
    """Whoever has a call does something with it every now and then."""

    def __init__(self, network: Network, endpoint: Endpoint, seed: int) -> None:
        self.network = network
        self.endpoint = endpoint
        self.random = random.Random(seed)
        self.said = 0
        self.seen: Counter[str] = Counter()
        self.ended: dict[Invite, EndCause] = {}
        self.begun: set[Invite] = set()
        endpoint.on_event = self.handle

    def describe(self) -> bytes:
        self.said += 1
        return b"v=0\r\ns=%d\r\n" % self.said

    def call(self, to: str) -> None:
        offer = b"" if self.random.random() < 0.2 else self.describe()
        call = self.endpoint.user_agent.invite(to, from_="<sip:a@b.example>", offer=offer, now=self.network.now)
        self.begun.add(call)
        if self.random.random() < 0.2:
            self.later(2.0, lambda: call.cancel(self.network.now))

    def handle(self, event: SipEvent) -> None:
        now = self.network.now
        self.seen[type(event).__name__] += 1
        match event:
            case InviteReceived(call=call, offer=offer):
                self.begun.add(call)
                self.receive(call, with_offer=offer is not None)
            case Progress(call=call, needs_answer=True) | SessionAnswered(call=call, needs_answer=True):
                call.acknowledge(self.describe(), now)
            case Answered(call=call, needs_answer=needs_answer):
                if needs_answer:
                    call.acknowledge(self.describe(), now)
                self.live(call)
            case Acknowledged(call=call):
                self.live(call)
            case ReinviteReceived(call=call):
                if self.random.random() < 0.1:
                    call.reject_reinvite(488, now)
                elif self.random.random() < 0.3:
                    self.later(1.0, lambda: call.accept_reinvite(self.describe(), self.network.now))
                else:
                    call.accept_reinvite(self.describe(), now)
            case SessionRefused(status=status):
                self.seen[f"refused {status}"] += 1
            case CallEnded(call=call, cause=cause):
                assert call not in self.ended
                self.ended[call] = cause

    def receive(self, call: IncomingInvite, *, with_offer: bool) -> None:
        draw = self.random.random()
        if draw < 0.4:
            call.ring(self.network.now, 183, self.describe())
        elif draw < 0.7:
            call.ring(self.network.now, 180, reliable=with_offer)
        if self.random.random() < 0.1:
            self.later(2.0, lambda: call.hang_up(self.network.now))
        else:
            self.later(3.0, lambda: self.answer(call))
        self.later(2.0, lambda: self.change(call))

    def answer(self, call: IncomingInvite) -> None:
        if call.state in (CallState.INVITED, CallState.RINGING):
            call.answer(self.describe(), self.network.now)

    def live(self, call: Invite) -> None:
        for _ in range(3):
            self.later(60.0, lambda: self.change(call))
        self.later(200.0, lambda: call.hang_up(self.network.now))

    def change(self, call: Invite) -> None:
        offer = b"" if self.random.random() < 0.1 else self.describe
        try:
            if self.random.random() < 0.5:
                call.update(self.describe, self.network.now)
            else:
                call.reinvite(offer, self.network.now)
        except LocalProtocolError:
            self.seen["not now"] += 1

    def later(self, within: float, action: object) -> None:
        assert callable(action)
        self.network.at(self.network.now + self.random.uniform(0.0, within), action)


def run(weather: Weather, seed: int, calls: int, transport: str = "udp") -> tuple[Party, Party]:
    network = Network(weather, seed=seed)
    settings = SessionTimers(expires_s=90)
    parties = tuple(
        Party(network, network.add(name, address, settings), seed=seed + number)
        for number, (name, address) in enumerate((("a", US), ("b", PEER)))
    )
    for number in range(calls):
        caller, host = (parties[0], PEER[0]) if number % 2 else (parties[1], US[0])
        target = f"sip:x@{host};transport={transport}"
        network.at(number * 0.3, lambda caller=caller, target=target: caller.call(target))  # type: ignore[misc]
    network.run()
    return parties[0], parties[1]


@pytest.mark.parametrize("seed", [1, 3])
@pytest.mark.parametrize(
    ("weather", "transport"),
    [
        (Weather(), "udp"),
        (Weather(), "tcp"),
        (Weather(delay=(0.01, 0.7)), "udp"),
        (Weather(loss=0.15), "udp"),
        (Weather(loss=0.1, duplication=0.2, delay=(0.01, 0.6)), "udp"),
        (Weather(loss=0.5), "udp"),
    ],
    ids=["fair", "tcp", "reordering", "loss", "storm", "ruin"],
)
def test_whatever_happens_every_call_ends_once_and_nothing_is_left(weather: Weather, transport: str, seed: int) -> None:
    parties = run(weather, seed, 40, transport)
    for party, other in (parties, parties[::-1]):
        assert party.begun == set(party.ended)
        assert party.endpoint.user_agent.idle, party.endpoint.user_agent.counters
        if weather.loss < 0.1:
            theirs = {call.call_id: cause for call, cause in other.ended.items()}
            for call, cause in party.ended.items():
                # A BYE that was overtaken: what we asked meanwhile got 481.
                hung_up = theirs.get(call.call_id) in (EndCause.LOCAL_BYE, EndCause.CANCELLED)
                overtaken = cause is EndCause.LOST and hung_up
                assert cause in SETTLED or overtaken, (cause, theirs.get(call.call_id))
            assert party.seen["ReinviteReceived"] > 10
            assert party.seen["SessionAnswered"] > 10
