"""The audio health record of a call: how it sounded, leg by leg, and how long the bridge took for what it did.

It is made from the media engine's figures and from what the conversation noticed itself. `docs/audio-health.md` says
what each figure means, in which unit, and what to do about a bad one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from sipbridge.media.events import MediaStats


@dataclass(frozen=True, slots=True)
class LegAudio:
    """One leg, from its first packet to its end, or to this moment."""

    stats: MediaStats
    """All figures of the engine."""

    @property
    def expected(self) -> int:
        """Packets that came or should have come, each once: what is late was given up on before."""
        stats = self.stats
        return stats.packets_received + stats.lost - stats.late - stats.duplicate

    @property
    def loss_percent(self) -> float:
        """Of the caller's packets: lost, or too late to be heard."""
        return 100 * self.stats.lost / self.expected if self.expected else 0.0

    @property
    def remote_loss_percent(self) -> float | None:
        """Of ours, as the far end counts."""
        lost, sent = self.stats.remote_lost, self.stats.packets_sent
        return None if lost is None or not sent else min(max(100 * lost / sent, 0.0), 100.0)

    def to_json(self) -> dict[str, Any]:
        figures = asdict(self.stats)
        for name in _OF_THE_CLOCK:  # they are on a clock of our own, and mean nothing outside
            del figures[name]
        for name in _SAMPLES:
            figures[name] = summary(figures[name])
        figures["flush_log"] = [dict(flush) for flush in figures["flush_log"]]
        figures["remote"] = None if self.stats.remote is None else "{}:{}".format(*self.stats.remote)
        figures |= {"loss_percent": self.loss_percent, "remote_loss_percent": self.remote_loss_percent}
        return {name: round(value, 2) if isinstance(value, float) else value for name, value in figures.items()}


_SAMPLES = ("uplink_ms", "downlink_ms")
_OF_THE_CLOCK = tuple(field.name for field in fields(MediaStats) if field.name.endswith("_at"))


@dataclass(frozen=True, slots=True)
class AudioHealth:
    """A whole call. Times are in milliseconds, None where there was nothing to measure."""

    legs: tuple[LegAudio, ...] = ()
    """In the order in which the conversation was on them; a call that was not moved has one."""
    first_audio_ms: int | None = None
    """From the INVITE to the first packet of the agent's speech."""
    first_audio_after_answer_ms: int | None = None
    """Likewise from the answer: what the caller waits for."""
    first_delivery_ms: int | None = None
    """From the first audio of the caller's to its being handed to the provider."""

    def to_json(self) -> dict[str, Any]:
        """Nothing but dictionaries, lists, numbers, text and None."""
        return {
            "first_audio_ms": self.first_audio_ms,
            "first_audio_after_answer_ms": self.first_audio_after_answer_ms,
            "first_delivery_ms": self.first_delivery_ms,
            "legs": [leg.to_json() for leg in self.legs],
        }

    def to_log(self) -> dict[str, Any]:
        """For the line that ends the call: flat, short; of several legs the sum, or the worst."""
        if not self.legs:
            return {}
        legs = [leg.stats for leg in self.legs]
        line = {
            "resampler": legs[-1].resampler,
            "encryption": legs[-1].encryption or "none",
            "mos": _least(leg.mos_average for leg in legs),
            "mos_worst": _least(leg.mos_worst for leg in legs),
            "far_mos_worst": _least(leg.remote_mos_worst for leg in legs),
            "received": sum(leg.packets_received for leg in legs),
            "sent": sum(leg.packets_sent for leg in legs),
            "loss_pct": _most(leg.loss_percent for leg in self.legs),
            "far_loss_pct": _most(leg.remote_loss_percent for leg in self.legs),
            "jitter_ms": _most(leg.jitter_mean_ms for leg in legs),
            "jitter_max_ms": _most(leg.jitter_max_ms for leg in legs),
            "rtt_ms": _most(leg.rtt_ms for leg in legs),
            "concealed_ms": sum(leg.concealed_ms for leg in legs),
            "late": sum(leg.late for leg in legs),
            "underruns": sum(leg.underruns for leg in legs),
            "flushes": sum(leg.flushes for leg in legs),
            "flushed_ms": sum(leg.flushed_ms for leg in legs),
            "flush_max_ms": _most(flush.took_ms for leg in legs for flush in leg.flush_log),
            "first_audio_ms": self.first_audio_ms,
            "up_ms": summary(self.uplink_ms)["median"],
            "down_ms": summary(self.downlink_ms)["median"],
            "late_max_ms": _most(leg.late_max_ms for leg in legs),
            "stalled_ms": sum(leg.stalled_ms for leg in legs),
        }
        return {name: _short(value) for name, value in line.items() if value is not None}

    @property
    def uplink_ms(self) -> tuple[float, ...]:
        """Samples of what the bridge adds on the way up, of all legs; likewise on the way down."""
        return tuple(sample for leg in self.legs for sample in leg.stats.uplink_ms)

    @property
    def downlink_ms(self) -> tuple[float, ...]:
        return tuple(sample for leg in self.legs for sample in leg.stats.downlink_ms)


def summary(samples: Iterable[float]) -> dict[str, float | int | None]:
    """Number, median and maximum."""
    ordered = sorted(samples)
    if not ordered:
        return {"count": 0, "median": None, "max": None}
    return {"count": len(ordered), "median": round(ordered[len(ordered) // 2], 2), "max": round(ordered[-1], 2)}


def _least(values: Iterable[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _short(value: Any) -> Any:
    return round(value, 2) if isinstance(value, float) else value
