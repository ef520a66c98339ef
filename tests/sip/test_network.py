"""Two user agents over a network that behaves badly, in virtual time: every call ends in one agreed outcome, and
nothing is left behind."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest

from sipbridge.sip.events import Answered, CallEnded, EndCause, InviteReceived, SipEvent
from sipbridge.sip.invite import Invite
from sipbridge.sip.uac import OutgoingInvite
from sipbridge.sip.uas import IncomingInvite
from tests.sip.network import Endpoint, Network, Weather
from tests.sip.traffic import Outcome as TrafficOutcome
from tests.sip.traffic import Traffic
from tests.sip.wire import ANSWER, OFFER

ALICE, BOB = ("192.0.2.1", 5060), ("192.0.2.2", 5060)

AGREED = {
    # caller, callee
    (EndCause.LOCAL_BYE, EndCause.REMOTE_BYE),
    (EndCause.REMOTE_BYE, EndCause.LOCAL_BYE),
    (EndCause.LOCAL_BYE, EndCause.LOCAL_BYE),  # both hung up
    (EndCause.REJECTED, EndCause.DECLINED),
    (EndCause.CANCELLED, EndCause.CANCELLED),
    (EndCause.CANCELLED, EndCause.REMOTE_BYE),  # the 200 crossed the CANCEL: ACK and BYE
    (EndCause.CANCELLED, EndCause.LOCAL_BYE),  # ... and the callee hung up before that
    (EndCause.CANCELLED, EndCause.DECLINED),  # the refusal crossed it
}


@dataclass
class Outcome:
    caller: EndCause | None = None
    callee: EndCause | None = None
    answered: bool = False


class Scenario:
    """Many calls both ways; what each side does with a call, and when, is decided by the seed."""

    def __init__(self, network: Network, seed: int, transport: str) -> None:
        self.network = network
        self.random = random.Random(seed)
        self.transport = transport
        self.ends = (network.add("a", ALICE), network.add("b", BOB))
        self.outcomes: dict[str, Outcome] = {}
        self.calls: list[Invite] = []
        for endpoint in self.ends:
            endpoint.on_event = self.handle

    def call(self, caller: Endpoint, callee: Endpoint) -> None:
        host, port = callee.address
        call = caller.user_agent.invite(
            f"sip:agent@{host}:{port};transport={self.transport}",
            from_="<sip:caller@example.com>",
            offer=OFFER,
            now=self.network.now,
        )
        self.calls.append(call)
        self.outcomes[call.call_id] = Outcome()
        if self.random.random() < 0.3:  # gives up early, or crosses the answer
            self.later(0.0, 4.0, lambda: call.hang_up(self.network.now))

    def handle(self, event: SipEvent) -> None:
        match event:
            case InviteReceived(call=call, offer=offer):
                assert offer == OFFER
                self.calls.append(call)
                self.decide(call)
            case Answered(call=call, answer=answer):
                assert answer == ANSWER
                self.outcomes[call.call_id].answered = True
                if self.random.random() < 0.5:
                    self.later(0.0, 20.0, lambda: call.hang_up(self.network.now))
            case CallEnded(call=call, cause=cause):
                self.end(call, cause)

    def decide(self, call: IncomingInvite) -> None:
        if self.random.random() < 0.7:
            self.later(0.0, 1.0, lambda: self.ring(call))
        if self.random.random() < 0.2:
            self.later(0.0, 3.0, lambda: self.refuse(call))
        else:
            self.later(0.0, 3.0, lambda: self.answer(call))
            self.later(3.0, 25.0, lambda: call.hang_up(self.network.now))

    def ring(self, call: IncomingInvite) -> None:
        if call.state.value == "invited":
            call.ring(self.network.now)

    def answer(self, call: IncomingInvite) -> None:
        if call.state.value in ("invited", "ringing"):
            call.answer(ANSWER, self.network.now)

    def refuse(self, call: IncomingInvite) -> None:
        if call.state.value in ("invited", "ringing"):
            call.reject(self.random.choice([302, 404, 486, 503, 603]), now=self.network.now)

    def end(self, call: Invite, cause: EndCause) -> None:
        outcome = self.outcomes[call.call_id]
        if isinstance(call, OutgoingInvite):
            assert outcome.caller is None, "CallEnded came twice"
            outcome.caller = cause
        else:
            assert outcome.callee is None, "CallEnded came twice, or one INVITE was two calls"
            outcome.callee = cause

    def hang_up_all(self) -> None:
        for call in self.calls:
            call.hang_up(self.network.now)

    def later(self, earliest: float, latest: float, action: object) -> None:
        assert callable(action)
        self.network.at(self.network.now + self.random.uniform(earliest, latest), action)

    def run(self, calls: int) -> None:
        for number in range(calls):
            caller, callee = self.ends[number % 2], self.ends[1 - number % 2]
            self.network.at(number * 0.2, lambda caller=caller, callee=callee: self.call(caller, callee))  # type: ignore[misc]
        self.network.run()


WEATHERS = {
    "fair": Weather(),
    "loss": Weather(loss=0.2),
    "duplication": Weather(duplication=0.5),
    "reordering": Weather(delay=(0.01, 0.7)),
    "slow": Weather(delay=(0.6, 1.2)),
    "storm": Weather(loss=0.15, duplication=0.2, delay=(0.01, 0.6)),
}


@pytest.mark.parametrize(
    ("weather", "transport", "calls"),
    [
        ("fair", "udp", 60),
        ("fair", "tcp", 60),
        ("loss", "udp", 100),
        ("duplication", "udp", 60),
        ("reordering", "udp", 100),
        ("slow", "udp", 60),
        ("storm", "udp", 500),
    ],
)
def test_every_call_ends_in_one_agreed_outcome(weather: str, transport: str, calls: int) -> None:
    network = Network(WEATHERS[weather], seed=3261)
    scenario = Scenario(network, seed=6026, transport=transport)
    scenario.run(calls)
    assert len(scenario.outcomes) == calls
    disagreed = Counter(
        (outcome.caller, outcome.callee)
        for outcome in scenario.outcomes.values()
        if (outcome.caller, outcome.callee) not in AGREED
    )
    # An INVITE that was given up before anything of it came through: the callee never knew.
    disagreed.pop((EndCause.CANCELLED, None), None)
    assert disagreed == {}
    assert sum(outcome.answered for outcome in scenario.outcomes.values()) > calls / 3
    for endpoint in scenario.ends:
        assert endpoint.user_agent.idle, endpoint.user_agent.counters


def test_a_peer_that_went_away_leaves_nothing_behind() -> None:
    """The network dies in the middle of everything, and whoever is still in a call hangs up a minute later."""
    network = Network(Weather(), seed=1)
    scenario = Scenario(network, seed=1, transport="udp")
    network.at(6.0, lambda: setattr(network, "_weather", Weather(loss=1.0)))
    network.at(66.0, scenario.hang_up_all)
    scenario.run(60)
    assert all(outcome.caller is not None for outcome in scenario.outcomes.values())
    for endpoint in scenario.ends:
        assert endpoint.user_agent.idle


# --- everything at once -----------------------------------------------------------------------------------------------

UNAVOIDABLE = {
    # caller, callee: what RFC 3261 itself lets end differently
    (EndCause.CANCELLED, None): "given up before anything of the INVITE came through: the callee never knew",
    (EndCause.TIMEOUT, None): "every copy of the INVITE was lost, or the challenge that answered it",
    (
        EndCause.LOCAL_BYE,
        EndCause.LOST,
    ): "the BYE is on its way again, and a request of ours got its 481 first (RFC 5057)",
    (EndCause.LOST, EndCause.LOCAL_BYE): "the same, the other way round",
    (EndCause.CANCELLED, EndCause.LOST): "the same, where the BYE is for a 200 that crossed our CANCEL",
}


def is_excused(outcome: TrafficOutcome) -> bool:
    """§17.1.4: an INVITE whose connection is lost before anything was answered has failed. Who has it all the same gets
    a CANCEL when it rings, or a BYE when it answers, unless it refused. A refusal or challenge that is lost with its
    connection is not sent again (Timer G does not run over TCP): the caller hears it ring until Timer C."""
    lost = outcome.caller is EndCause.TIMEOUT and outcome.callee is EndCause.DECLINED
    known = outcome.callee in (None, EndCause.CANCELLED, EndCause.REMOTE_BYE, EndCause.DECLINED)
    return outcome.tcp and (lost or (outcome.caller is EndCause.FLOW_FAILED and known))


def run_traffic(weather: str, calls: int, *, tcp: float = 0.2, breaks: float = 0.0) -> Traffic:
    network = Network(WEATHERS[weather], seed=3261)
    traffic = Traffic(network, seed=6026, tcp=tcp, cuts=breaks)
    traffic.run(calls)
    outcomes = list(traffic.outcomes.values())
    assert len(outcomes) == calls
    judged = [outcome for outcome in outcomes if not (breaks and is_excused(outcome))]
    disagreed = Counter((outcome.caller, outcome.callee) for outcome in judged)
    for known in AGREED | UNAVOIDABLE.keys():
        disagreed.pop(known, None)
    assert disagreed == {}
    for endpoint in traffic.ends:
        assert endpoint.user_agent.idle, endpoint.user_agent.counters
        assert not endpoint.user_agent.transactions
    return traffic


@pytest.mark.parametrize(
    ("weather", "calls", "breaks"),
    [("loss", 300, 0.0), ("reordering", 300, 0.0), ("slow", 200, 0.0), ("fair", 300, 0.5), ("storm", 900, 0.0)],
)
def test_two_thousand_calls_that_use_everything(weather: str, calls: int, breaks: float) -> None:
    """CANCEL races, glare, PRACK, UPDATE, late offers, digest, failover and, with `breaks`, lost connections."""
    traffic = run_traffic(weather, calls, breaks=breaks)
    outcomes = traffic.outcomes.values()
    assert sum(outcome.answered for outcome in outcomes) > calls / 2
    wanted = {"SessionAnswered", "SessionRefused", "ReinviteReceived", "Authenticated", "Progress"}
    assert wanted <= traffic.told.keys()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("weather", "breaks"), [("storm", 0.0), ("storm", 0.5)])
def test_ten_thousand_calls_that_use_everything(weather: str, breaks: float) -> None:
    traffic = run_traffic(weather, 10_000, breaks=breaks)
    assert traffic.told["refused 491"], "no glare in all these calls"
