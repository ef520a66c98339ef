"""User agents joined in memory: a network that loses, doubles, delays and reorders by a seed, and a virtual clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from sipbridge.sip.dns_cache import DnsNeeded, Record
from sipbridge.sip.events import SipEvent
from sipbridge.sip.flow import Address, Flow, FlowNeeded
from sipbridge.sip.session_timer import SessionTimers
from sipbridge.sip.user_agent import UserAgent
from tests.sip.wire import counting_tokens


@dataclass(frozen=True)
class Weather:
    """What happens to datagrams. TCP only ever has the shortest delay."""

    loss: float = 0.0
    duplication: float = 0.0
    delay: tuple[float, float] = (0.01, 0.01)


class Endpoint:
    """One user agent at its address. `on_event` is for the test; it may give commands."""

    def __init__(
        self, network: Network, name: str, address: Address, session_timers: SessionTimers | None = None
    ) -> None:
        self.network = network
        self.address = address
        self.user_agent = UserAgent(new_token=counting_tokens(name), session_timers=session_timers)
        self.user_agent.listen("udp", address)
        self.user_agent.listen("tcp", address)
        self.on_event: Callable[[SipEvent], None] = lambda event: None

    def settle(self) -> None:
        """Send and hand out all there is."""
        while True:
            messages = self.user_agent.messages_to_send()
            for flow, data in messages:
                self.network.carry(flow, data)
            event = self.user_agent.next_event()
            if isinstance(event, FlowNeeded):
                self.network.connect(self, event)
            elif isinstance(event, DnsNeeded):
                self.network.ask(self, event)
            elif event is not None:
                self.on_event(event)
            elif not messages:
                return


class Network:
    def __init__(self, weather: Weather, seed: int) -> None:
        self.now = 0.0
        self.carried = 0
        self.zone: dict[tuple[str, str], list[Record]] = {}
        """What DNS knows, by name and kind."""
        self._weather = weather
        self._random = random.Random(seed)
        self._endpoints: dict[Address, Endpoint] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = count()
        self._ports = count(50_000)
        self._connections: list[Flow] = []
        """Those that are open, as who made them sees them."""
        self._broken: set[Flow] = set()

    def add(self, name: str, address: Address, session_timers: SessionTimers | None = None) -> Endpoint:
        self._endpoints[address] = Endpoint(self, name, address, session_timers)
        return self._endpoints[address]

    def at(self, time: float, action: Callable[[], None]) -> None:
        heappush(self._agenda, (time, next(self._serial), action))

    def carry(self, flow: Flow, data: bytes) -> None:
        self.carried += 1
        shortest, longest = self._weather.delay
        if flow.transport == "tcp":
            self._deliver(flow, data, shortest)
            return
        if self._random.random() < self._weather.loss:
            return
        self._deliver(flow, data, self._random.uniform(shortest, longest))
        if self._random.random() < self._weather.duplication:
            self._deliver(flow, data, self._random.uniform(shortest, longest))

    def connect(self, endpoint: Endpoint, needed: FlowNeeded) -> None:
        target = needed.target
        if (target.host, target.port) in self._endpoints:
            flow = Flow("tcp", (endpoint.address[0], next(self._ports)), (target.host, target.port))

            def opened() -> None:
                self._connections.append(flow)
                endpoint.user_agent.flow_opened(target, flow, self.now)

            self.at(self.now, opened)
        else:
            self.at(self.now, lambda: endpoint.user_agent.flow_failed(target, "refused", self.now))

    def break_connection(self, choice: random.Random) -> None:
        """Break a connection, if there is one: what is on it is lost, and both ends are told."""
        if not self._connections:
            return
        flow = self._connections.pop(choice.randrange(len(self._connections)))
        back = Flow(flow.transport, flow.remote, flow.local)
        self._broken |= {flow, back}
        for endpoint in self._endpoints.values():
            for end in (flow, back):
                if end.local[0] == endpoint.address[0]:
                    endpoint.user_agent.flow_closed(end, self.now)

    def ask(self, endpoint: Endpoint, needed: DnsNeeded) -> None:
        records = self.zone.get((needed.name, needed.kind), [])
        answer = endpoint.user_agent.dns_answered
        self.at(self.now + 0.02, lambda: answer(needed.name, needed.kind, records, 60.0, self.now))

    def cut(self, endpoint: Endpoint) -> None:
        """It is gone without a word: nothing reaches it any more, and it does nothing."""
        del self._endpoints[endpoint.address]

    def run(self, until: float = 1e9) -> None:
        """Until nothing is left to happen, or until a time."""
        self._settle()
        while (time := self._next()) is not None and time <= until:
            self.now = time
            if self._agenda and self._agenda[0][0] <= time:
                heappop(self._agenda)[2]()
            else:
                for endpoint in self._endpoints.values():
                    endpoint.user_agent.handle_timer(time)
            self._settle()

    def _next(self) -> float | None:
        deadlines = [endpoint.user_agent.get_timer() for endpoint in self._endpoints.values()]
        times = [deadline for deadline in deadlines if deadline is not None]
        if self._agenda:
            times.append(self._agenda[0][0])
        return min(times, default=None)

    def _settle(self) -> None:
        for endpoint in self._endpoints.values():
            endpoint.settle()

    def _deliver(self, flow: Flow, data: bytes, delay: float) -> None:
        back = Flow(flow.transport, flow.remote, flow.local)
        receiver = next((e for e in self._endpoints.values() if self._is_at(e, flow)), None)
        if receiver is not None:
            self.at(self.now + delay, lambda: self._arrive(receiver, data, back))

    def _arrive(self, receiver: Endpoint, data: bytes, flow: Flow) -> None:
        if flow not in self._broken:
            receiver.user_agent.receive(data, flow, self.now)

    @staticmethod
    def _is_at(endpoint: Endpoint, flow: Flow) -> bool:
        return endpoint.address[0] == flow.remote[0] and (
            flow.transport == "tcp" or endpoint.address[1] == flow.remote[1]
        )
