"""How a leg sounds while the call is up: jitter from second to second, and a MOS for each five of them and direction.

What we receive is judged by our own counts (lost or too late for concealment to wait, less what a redundant packet
brought back), what the far end receives by its reports, which do not know what its own buffer threw away. The delay is
half the round trip, the sender's packet, and at the far end a buffer of its own: twice the jitter that it reports, but
at least two packets, as telephones have.
"""

from __future__ import annotations

from typing import Protocol

from sipbridge.media import quality

SECONDS_PER_SCORE = 5
_LEAST_PACKETS = 50  # fewer say nothing: hold, DTX, the rest of a call


class Scores:
    """Now, the worst, and on average."""

    __slots__ = ("_sum", "count", "now", "worst")

    def __init__(self) -> None:
        self.now: float | None = None
        self.worst: float | None = None
        self.count = 0
        self._sum = 0.0

    def note(self, value: float) -> None:
        self.now = value
        self.worst = value if self.worst is None else min(self.worst, value)
        self.count += 1
        self._sum += value

    @property
    def average(self) -> float | None:
        return self._sum / self.count if self.count else None

    def copy(self) -> Scores:
        other = Scores()
        other.now, other.worst, other.count, other._sum = self.now, self.worst, self.count, self._sum
        return other


class Received(Protocol):
    """What the meter asks of the receiving side: counts since the beginning, and the jitter at the moment."""

    @property
    def expected(self) -> int:
        """Packets that came or should have come, each once."""
        ...

    @property
    def unheard(self) -> int:
        """Packets of audio that were lost and not recovered."""
        ...

    @property
    def bursts(self) -> int:
        """How many rows of lost packets there were."""
        ...

    @property
    def jitter_ms(self) -> float: ...


class QualityMeter:
    """`beat` once a second; `received` and `remote` are the scores."""

    def __init__(self) -> None:
        self.received = Scores()
        """Of what we hear."""
        self.remote = Scores()
        """Of what the far end hears."""
        self.jitter_max_ms = 0.0
        self._jitter_sum = 0.0
        self._beats = 0
        self._before = (0, 0, 0)  # expected, unheard, bursts

    @property
    def jitter_mean_ms(self) -> float | None:
        """None until a second has passed."""
        return self._jitter_sum / self._beats if self._beats else None

    def beat(self, received: Received, codec: str, delay_ms: float) -> None:
        """A second has passed. `delay_ms` from the far end's mouth to us."""
        jitter_ms = received.jitter_ms
        self._beats += 1
        self._jitter_sum += jitter_ms
        if jitter_ms > self.jitter_max_ms:
            self.jitter_max_ms = jitter_ms
        if self._beats % SECONDS_PER_SCORE == 0:
            score = self._score(received, codec, delay_ms)
            if score is not None:
                self.received.note(score)
            self._before = (received.expected, received.unheard, received.bursts)

    def reported(self, fraction_lost: float, codec: str, delay_ms: float) -> None:
        """The far end has said how much it has lost lately. `delay_ms` from us to its ear."""
        self.remote.note(quality.mos(quality.rating(codec, loss=fraction_lost, delay_ms=delay_ms)))

    def scores(self, received: Received, codec: str, delay_ms: float) -> Scores:
        """Of what we hear, with the seconds that are not scored yet: also a short call has a figure."""
        scores = self.received.copy()
        score = self._score(received, codec, delay_ms, least=_LEAST_PACKETS if scores.count else 1)
        if score is not None:
            scores.note(score)
        return scores

    def _score(self, received: Received, codec: str, delay_ms: float, least: int = _LEAST_PACKETS) -> float | None:
        expected, unheard, bursts = self._before
        lost = max(received.unheard - unheard, 0)
        expected = received.expected - expected
        if expected < least:
            return None
        bursts = received.bursts - bursts
        return quality.mos(
            quality.rating(
                codec,
                loss=lost / expected,
                burst_ratio=quality.burst_ratio(lost, bursts, expected),
                delay_ms=delay_ms,
            )
        )
