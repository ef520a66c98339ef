"""The few statistics that the tables need. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed (nearest rank): always one that was measured."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]


def gaps(moments: Sequence[int]) -> list[int]:
    """From each moment to the next."""
    return [later - earlier for earlier, later in zip(moments, moments[1:], strict=False)]


def delays(moments: Sequence[int], numbers: Sequence[int], period: int) -> list[int]:
    """How long after the schedule each of them was that the earliest sets: number n is due n periods after number 0."""
    offsets = [moment - number * period for moment, number in zip(moments, numbers, strict=True)]
    earliest = min(offsets, default=0)
    return [offset - earliest for offset in offsets]


@dataclass(frozen=True, slots=True)
class Spread:
    count: int
    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        ordered = sorted(values)
        return cls(len(ordered), percentile(ordered, 50), percentile(ordered, 99), ordered[-1])

    @classmethod
    def of_ns(cls, values: Iterable[int]) -> Spread:
        """Nanoseconds in, milliseconds out."""
        return cls.of(value / 1e6 for value in values)


def median_spread(spreads: Sequence[Spread]) -> Spread:
    """The median of each figure over several runs."""
    return Spread(
        min(spread.count for spread in spreads),
        median(spread.p50 for spread in spreads),
        median(spread.p99 for spread in spreads),
        median(spread.max for spread in spreads),
    )
