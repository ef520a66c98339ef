"""Three user agents over a network that behaves badly: who transfers, who is transferred, and to whom (RFC 5589)."""

from __future__ import annotations

import pytest

from sipbridge.sip.events import (
    Answered,
    CallEnded,
    InviteReceived,
    Progress,
    ReferProgress,
    ReferReceived,
    SipEvent,
)
from sipbridge.sip.invite import Invite
from sipbridge.sip.notifier import ReferNotifier
from tests.sip.network import Endpoint, Network, Weather
from tests.sip.wire import ANSWER, OFFER

FINE = Weather()
ROUGH = Weather(loss=0.2, duplication=0.1, delay=(0.01, 0.4))


class Phone:
    """Answers, lets itself be transferred and replaced; what it is told is kept."""

    def __init__(self, network: Network, endpoint: Endpoint, *, busy: bool = False) -> None:
        self.network = network
        self.endpoint = endpoint
        self.busy = busy
        self.calls: list[Invite] = []
        """Those that are up."""
        self.progress: list[ReferProgress] = []
        self._notifiers: dict[Invite, ReferNotifier] = {}
        endpoint.on_event = self.handle
        policy = endpoint.user_agent.transfer_policy
        policy.refer = lambda call, referral: True
        policy.replace = lambda call, request, flow: True

    @property
    def uri(self) -> str:
        host, port = self.endpoint.address
        return f"sip:phone@{host}:{port}"

    @property
    def now(self) -> float:
        return self.network.now

    def call(self, target: str, headers: tuple[tuple[str, str], ...] = ()) -> Invite:
        return self.endpoint.user_agent.invite(
            target, from_=f"<{self.uri}>", offer=OFFER, now=self.now, headers=headers
        )

    def handle(self, event: SipEvent) -> None:
        match event:
            case InviteReceived(call=call, replaces=replaced):
                if self.busy:
                    call.reject(486, now=self.now)
                    return
                call.ring(self.now)
                self.network.at(self.now + 1, lambda: self.answer(call, replaced))
            case Answered(call=call):
                self.calls.append(call)
                self.report(call, 200)
            case Progress(call=call, response=response):
                self.report(call, response.status)
            case ReferReceived(call=call, refer_to=refer_to, replaces=replaces):
                notifier = call.accept_refer(self.now)
                self._notifiers[self.call(str(refer_to.uri), replaces.headers if replaces else ())] = notifier
            case ReferProgress(call=call, final=final):
                self.progress.append(event)
                if final and event.status < 300:
                    call.hang_up(self.now)
            case CallEnded(call=call, status=status):
                if call in self.calls:
                    self.calls.remove(call)
                self.report(call, status or 500)

    def answer(self, call: Invite, replaced: Invite | None) -> None:
        if call.is_over:
            return
        call.answer(ANSWER, self.now)  # type: ignore[attr-defined]
        self.calls.append(call)
        if replaced is not None:
            replaced.hang_up(self.now)

    def report(self, call: Invite, status: int) -> None:
        notifier = self._notifiers.get(call)
        if notifier is not None:
            notifier.notify(status, "", self.now)


def phones(weather: Weather, seed: int, *, third_is_busy: bool = False) -> tuple[Network, Phone, Phone, Phone]:
    network = Network(weather, seed)
    ends = [network.add(name, (f"192.0.2.{number}", 5060)) for number, name in enumerate("abc", start=1)]
    a, b, c = (Phone(network, end) for end in ends)
    c.busy = third_is_busy
    return network, a, b, c


WEATHERS = [(FINE, 1), *((ROUGH, seed) for seed in range(2, 22))]


def finish(network: Network, *all_phones: Phone) -> None:
    for phone in all_phones:
        for call in list(phone.calls):
            call.hang_up(network.now)
    network.run(network.now + 200)
    assert [phone.endpoint.user_agent.idle for phone in all_phones] == [True] * len(all_phones)


@pytest.mark.parametrize(("weather", "seed"), WEATHERS)
def test_a_blind_transfer(weather: Weather, seed: int) -> None:
    network, a, b, c = phones(weather, seed)
    call = a.call(b.uri)
    network.run(40)
    assert a.calls == [call]
    call.refer(c.uri, network.now)
    network.run(100)
    assert [event.status for event in a.progress if event.final] == [200]
    assert a.calls == []
    (at_b,), (at_c,) = b.calls, c.calls
    assert at_b.call_id == at_c.call_id
    finish(network, a, b, c)


@pytest.mark.parametrize(("weather", "seed"), WEATHERS)
def test_a_blind_transfer_to_somebody_who_is_busy(weather: Weather, seed: int) -> None:
    network, a, b, c = phones(weather, seed, third_is_busy=True)
    call = a.call(b.uri)
    network.run(40)
    call.refer(c.uri, network.now)
    network.run(100)
    assert [event.status for event in a.progress if event.final] == [486]
    assert a.calls == [call]
    (at_b,) = b.calls
    assert at_b.call_id == call.call_id
    assert c.calls == []
    finish(network, a, b, c)


@pytest.mark.parametrize(("weather", "seed"), WEATHERS)
def test_an_attended_transfer(weather: Weather, seed: int) -> None:
    network, a, b, c = phones(weather, seed)
    first, second = a.call(b.uri), a.call(c.uri)
    network.run(40)
    assert set(a.calls) == {first, second}
    first.refer(None, network.now, replaces=second)
    network.run(100)
    assert [event.status for event in a.progress if event.final] == [200]
    assert a.calls == []
    (at_b,), (at_c,) = b.calls, c.calls
    assert at_b.call_id == at_c.call_id
    assert at_b.call_id not in (first.call_id, second.call_id)
    finish(network, a, b, c)


@pytest.mark.parametrize(("weather", "seed"), WEATHERS)
def test_who_transfers_may_hang_up_at_once(weather: Weather, seed: int) -> None:
    network, a, b, c = phones(weather, seed)
    call = a.call(b.uri)
    network.run(40)
    call.refer(c.uri, network.now, refer_sub=bool(seed % 2))
    network.at(network.now + 1.5, lambda: call.hang_up(network.now))
    network.run(100)
    (at_b,), (at_c,) = b.calls, c.calls
    assert at_b.call_id == at_c.call_id
    assert a.calls == []
    finish(network, a, b, c)
