"""What a measurement comes back with: rows that are judged, tables, and curves."""

from __future__ import annotations

from dataclasses import dataclass

from bench.numbers import Spread, median_spread


@dataclass(frozen=True, slots=True)
class Row:
    figure: str
    target: str
    measured: str
    met: bool | None = None
    """None: reported, with no target."""


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Line:
    label: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    name: str
    """Of its file, without the ending."""
    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    y_range: tuple[float, float] | None = None
    """None: from 0 to above the highest point."""
    limit: float | None = None
    """A line that the curves should stay below."""


Finding = Row | Table | Chart


def ms(spread: Spread) -> str:
    return f"{spread.p50:.1f} / {spread.p99:.1f} / {spread.max:.1f}"


def late(spreads: list[Spread]) -> str:
    """The generator's own error, to be read beside what it has measured."""
    return f"generator late by {ms(median_spread(spreads))}"
