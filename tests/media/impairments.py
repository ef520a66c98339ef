"""A network in virtual time, seeded: what happens to packets on their way, and a leg that receives what is left."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from sipbridge.media.events import MediaEvent
from sipbridge.media.leg import Leg
from sipbridge.media.params import MediaParams
from sipbridge.media.rtp import RtpPacket, Sequencer

TICK = 0.005
START = 100.0


@dataclass(frozen=True)
class Network:
    """Shares are of all packets. `jitter` is the standard deviation of the delay, which is never less than none and
    cannot be longer than three times that; `reordered` ones are held back until their successor has passed."""

    loss: float = 0.0
    burst: float = 1.0
    """Mean length of a loss, in packets (Gilbert)."""
    jitter: float = 0.0
    reordered: float = 0.0
    duplicated: float = 0.0
    seed: int = 0

    def losses(self, count: int) -> list[bool]:
        """Which packets never come; never the first few, from which the source is learned."""
        chance = random.Random(f"loss {self.seed}")
        leaves = 1 / self.burst
        enters = self.loss * leaves / (1 - self.loss) if self.loss < 1 else 1.0
        lost, bad = [], False
        for number in range(count):
            bad = chance.random() >= leaves if bad else chance.random() < enters
            lost.append(bad and number > 5)
        return lost

    def arrivals(self, count: int, ptime: float) -> list[tuple[float, int]]:
        """(seconds after the first was sent, which packet), in the order of arrival."""
        chance = random.Random(f"delay {self.seed}")
        lost = self.losses(count)
        found: list[tuple[float, int]] = []
        for number in range(count):
            delay = min(abs(chance.gauss(0, self.jitter)), 3 * self.jitter) if self.jitter else 0.0
            sent = number * ptime
            if number <= 5:
                delay = 0.0  # where a stream begins is not what is tested
            if chance.random() < self.reordered and number > 5:
                delay += 1.5 * ptime
            again = chance.random() < self.duplicated
            if lost[number]:
                continue
            found.append((sent + delay, number))
            if again:
                found.append((sent + delay + chance.random() * ptime, number))
        return sorted(found)


def packets_of(
    payloads: Iterable[bytes], ticks: int, *, payload_type: int = 0, first: int = 65500, timestamp: int = 0xFFFF0000
) -> list[bytes]:
    """As a phone numbers them; both numbers wrap soon."""
    return [
        RtpPacket(
            payload_type, (first + n) & 0xFFFF, (timestamp + n * ticks) & 0xFFFFFFFF, 77, payload, marker=n == 0
        ).serialize()
        for n, payload in enumerate(payloads)
    ]


class Receiver:
    """A leg whose clock ticks every 5 ms; each 20 ms it is told that time has passed, as the engine does."""

    SOURCE = ("192.0.2.1", 4000)

    def __init__(self, params: MediaParams) -> None:
        self.leg = Leg(1, params, Sequencer(1, 1, 1), START)
        self.events: list[MediaEvent] = []
        self.heard = b""
        self.heard_at: list[tuple[float, int]] = []
        """When how many octets had been heard."""

    def run(self, packets: list[bytes], arrivals: list[tuple[float, int]], seconds: float) -> bytes:
        """What the agent has heard after so long."""
        waiting = iter(arrivals)
        pending = next(waiting, None)
        for tick in range(round(seconds / TICK) + 1):
            now = START + tick * TICK
            while pending is not None and START + pending[0] <= now + 1e-9:
                self.leg.receive(packets[pending[1]], self.SOURCE, now, self.events)
                pending = next(waiting, None)
            if tick % 4 == 0:
                self.leg.advance(now, self.events)
            self.heard += self.leg.uplink.converter.process(self.leg.uplink.take())
            self.heard_at.append((now - START, len(self.heard)))
        return self.heard
