"""The audio health record of a call: how it sounded, leg by leg, and how long the bridge took for what it did.

It is made from the media engine's figures and from what the conversation measured itself. `docs/audio.md` says what
each figure means, in which unit, and what to do about a bad one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from sipbridge.media.events import Flush, MediaStats

_PACKETS_PER_MEASUREMENT = 64  # of audio towards the model, between two measurements of how long it took
_MOST_MEASUREMENTS = 64


@dataclass(frozen=True, slots=True)
class LegAudio:
    """One leg, from its first packet to its end, or to this moment."""

    codec: str
    resampler: str
    security: str
    packets_received: int
    packets_sent: int
    lost: int
    loss_percent: float
    late: int
    duplicate: int
    reordered: int
    jitter_mean_ms: float
    jitter_max_ms: float
    rtt_ms: float | None
    remote_lost: int | None
    remote_jitter_ms: float | None
    mos: float | None
    mos_worst: float | None
    mos_average: float | None
    remote_mos: float | None
    remote_mos_worst: float | None
    filled_ms: int
    concealed_ms: int
    fec_ms: int
    comfort_noise_ms: int
    skipped_ms: int
    underruns: int
    flushes: int
    flushed_ms: int
    flush_log: tuple[Flush, ...]
    late_max_ms: float
    stalled_ms: int

    @classmethod
    def of(cls, stats: MediaStats) -> LegAudio:
        expected = stats.packets_received + stats.lost
        return cls(
            **{
                field.name: _rounded(getattr(stats, field.name)) for field in fields(cls) if field.name != "loss_percent"
            },
            loss_percent=round(100 * stats.lost / expected, 2) if expected else 0.0,
        )


@dataclass(frozen=True, slots=True)
class AudioHealth:
    """A whole call. Times are in milliseconds, None where there was nothing to measure."""

    legs: tuple[LegAudio, ...] = ()
    """In the order in which the conversation was on them; a call that was not moved has one."""
    first_audio_ms: int | None = None
    """From the INVITE to the first packet of the agent's speech; the next: from the answer."""
    first_audio_after_answer_ms: int | None = None
    first_delivery_ms: float | None = None
    """From the first packet of the caller's audio to its being handed to the provider."""
    uplink_ms: tuple[float, ...] = ()
    """Samples of the bridge's latency: from the reading of a packet to its being handed to the provider."""
    downlink_ms: tuple[float, ...] = ()
    """Likewise: from the provider's first audio of a talkspurt to its first packet."""

    def to_json(self) -> dict[str, Any]:
        """Nothing but dictionaries, lists, numbers, text and None."""
        record = asdict(self)
        record["legs"] = [{**leg, "flush_log": list(leg["flush_log"])} for leg in record["legs"]]
        for way in ("uplink_ms", "downlink_ms"):
            record[way] = summary(getattr(self, way))
        return record

    def to_log(self) -> dict[str, Any]:
        """For the line that ends the call: flat, short, of the worst leg where there are several."""
        legs = self.legs
        if not legs:
            return {}
        line = {
            "codec": "+".join(leg.codec for leg in legs),
            "resampler": legs[-1].resampler,
            "security": legs[-1].security,
            "mos": _least(leg.mos_average for leg in legs),
            "mos_worst": _least(leg.mos_worst for leg in legs),
            "mos_far": _least(leg.remote_mos_worst for leg in legs),
            "received": sum(leg.packets_received for leg in legs),
            "sent": sum(leg.packets_sent for leg in legs),
            "lost": sum(leg.lost for leg in legs),
            "loss_pct": _most(leg.loss_percent for leg in legs),
            "jitter_ms": _most(leg.jitter_mean_ms for leg in legs),
            "jitter_max_ms": _most(leg.jitter_max_ms for leg in legs),
            "rtt_ms": _most(leg.rtt_ms for leg in legs),
            "far_lost": _most(leg.remote_lost for leg in legs),
            "concealed_ms": sum(leg.concealed_ms for leg in legs),
            "late": sum(leg.late for leg in legs),
            "underruns": sum(leg.underruns for leg in legs),
            "flushes": sum(leg.flushes for leg in legs),
            "flushed_ms": sum(leg.flushed_ms for leg in legs),
            "first_audio_ms": self.first_audio_ms,
            "up_ms": summary(self.uplink_ms)["median"],
            "down_ms": summary(self.downlink_ms)["median"],
            "late_max_ms": _most(leg.late_max_ms for leg in legs),
            "stalled_ms": sum(leg.stalled_ms for leg in legs),
        }
        return {name: value for name, value in line.items() if value is not None}


def summary(samples: Iterable[float]) -> dict[str, float | int | None]:
    """Number, median and maximum."""
    ordered = sorted(samples)
    if not ordered:
        return {"count": 0, "median": None, "max": None}
    return {"count": len(ordered), "median": round(ordered[len(ordered) // 2], 2), "max": round(ordered[-1], 2)}


def _rounded(value: Any) -> Any:
    return round(value, 2) if isinstance(value, float) else value


def _least(values: Iterable[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


class AudioTimes:
    """What a conversation measures itself, at little cost: one packet in 64 on the way up."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.began_at = clock()
        self.answered_at: float | None = None
        self._clock = clock
        self._until_next = 1
        self._first_delivery: tuple[float, float] | None = None
        self.uplink_ms: list[float] = []
