"""Calls to a farm of two nodes behind one name, over a simulated network, while a node dies, fills up or refuses."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from sipbridge.sip.dns_cache import Srv
from sipbridge.sip.events import Answered, CallEnded, EndCause, InviteReceived, SipEvent
from sipbridge.sip.uac import OutgoingInvite
from tests.sip.network import Endpoint, Network, Weather
from tests.sip.wire import ANSWER, OFFER

CALLER, NODE1, NODE2 = (("192.0.2.1", 5060), ("192.0.2.11", 5060), ("192.0.2.12", 5060))
CALLS = 200
INTERVAL = 0.5


class Farm:
    """Every call is answered within a second by whoever gets it, and hung up by the caller after two."""

    def __init__(self, weather: Weather, transport: str) -> None:
        self.network = Network(weather, seed=3263)
        self.random = random.Random(2782)
        self.transport = transport
        self.caller = self.network.add("a", CALLER)
        self.caller.on_event = self.caller_heard
        self.nodes = {address: self.node(address) for address in (NODE1, NODE2)}
        self.network.zone = {
            (f"_sip._{transport}.example.com", "SRV"): [
                Srv(1, 0, 5060, "node1.example.com."),
                Srv(2, 0, 5060, "node2.example.com."),
            ],
            ("node1.example.com", "A"): [NODE1[0]],
            ("node2.example.com", "A"): [NODE2[0]],
        }
        self.begun: dict[str, float] = {}
        self.answered: dict[str, float] = {}
        self.outcomes: dict[str, EndCause] = {}
        self.served: Counter[str] = Counter()
        for number in range(CALLS):
            self.network.at(number * INTERVAL, self.call)

    def node(self, address: tuple[str, int]) -> Endpoint:
        node = self.network.add(f"n{address[0]}{self.network.now}", address)

        def heard(event: SipEvent) -> None:
            if isinstance(event, InviteReceived):
                delay = self.random.uniform(0.1, 1.0)
                self.network.at(self.network.now + delay, lambda: answer(event))

        def answer(event: InviteReceived) -> None:
            if event.call.state.value in ("invited", "ringing"):
                self.served[address[0]] += 1
                event.call.answer(ANSWER, self.network.now)

        node.on_event = heard
        return node

    def call(self) -> None:
        call = self.caller.user_agent.invite(
            f"sip:agent@example.com;transport={self.transport}",
            from_="<sip:caller@example.com>",
            offer=OFFER,
            now=self.network.now,
        )
        self.begun[call.call_id] = self.network.now

    def caller_heard(self, event: SipEvent) -> None:
        match event:
            case Answered(call=call):
                assert call.call_id not in self.answered
                self.answered[call.call_id] = self.network.now
                self.network.at(self.network.now + 2.0, lambda: call.hang_up(self.network.now))
            case CallEnded(call=call, cause=cause):
                assert isinstance(call, OutgoingInvite)
                assert call.call_id not in self.outcomes
                self.outcomes[call.call_id] = cause

    def waited(self) -> list[float]:
        return [self.answered[call_id] - self.begun[call_id] for call_id in self.answered]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_node_that_dies_costs_a_few_callers_seconds_and_those_that_it_had_taken_on_their_call(transport: str) -> None:
    farm = Farm(Weather(), transport)
    farm.network.run(until=40.0)
    farm.network.cut(farm.nodes[NODE1])
    farm.network.run()
    causes = Counter(farm.outcomes.values())
    assert causes.total() == CALLS
    assert causes.pop(EndCause.TIMEOUT, 0) <= 1.0 / INTERVAL  # it had said 100: Timer C
    assert set(causes) == {EndCause.LOCAL_BYE}
    waited = sorted(farm.waited())
    assert waited[-1] < 7.0  # the silence, and the other node's answer
    slow = sum(seconds > 2.0 for seconds in waited)
    # Those who called before the first of them had waited for five seconds, and that again after a minute.
    assert slow <= 2 * 5.0 / INTERVAL + 1
    assert farm.served[NODE2[0]] >= CALLS * 0.5
    assert farm.caller.user_agent.idle
    assert farm.nodes[NODE2].user_agent.idle


def test_a_node_that_is_full_costs_nothing_and_gets_its_calls_back() -> None:
    farm = Farm(Weather(loss=0.1, duplication=0.1, delay=(0.01, 0.1)), "udp")
    farm.network.run(until=20.0)
    farm.nodes[NODE1].user_agent.unavailable = 10
    farm.network.run(until=40.0)
    before = farm.served[NODE1[0]]
    farm.nodes[NODE1].user_agent.unavailable = None
    farm.network.run()
    assert set(farm.outcomes.values()) == {EndCause.LOCAL_BYE}
    assert len(farm.outcomes) == CALLS
    assert farm.served[NODE1[0]] - before > 80
    assert farm.served[NODE2[0]] >= 20
    for endpoint in (farm.caller, *farm.nodes.values()):
        assert endpoint.user_agent.idle


def test_in_a_storm_some_are_answered_twice_and_nobody_is_left_in_a_call() -> None:
    """With so much loss a living node may stay silent for five seconds: then two have the INVITE, and one of them has
    to be told."""
    farm = Farm(Weather(loss=0.45, delay=(0.01, 0.5)), "udp")
    farm.network.run()
    assert len(farm.outcomes) == CALLS
    assert Counter(farm.outcomes.values())[EndCause.LOCAL_BYE] > CALLS * 0.8
    for endpoint in (farm.caller, *farm.nodes.values()):
        assert endpoint.user_agent.idle
