"""How much of everything a run of the bench measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    runs: int = 3
    seconds: float = 10
    few: int = 20
    many: int = 50
    crowd: int = 200
    hundred: int = 100
    thousand: int = 1000
    tenants: int = 10_000
    timer_seconds: float = 33.0
    """Until the last SIP transaction of a call is forgotten (RFC 3261: 64 * T1 = 32 s)."""
    flood_seconds: float = 60
    steps: tuple[int, ...] = (1, 10, 50, 100, 200, 300, 400)
    compared: tuple[int, ...] = (100, 200, 300)
    """Calls, of those steps, for which the interpreted media plane is measured too."""
    ramp_seconds: float = 3
    sentences: int = 4
    seeds: int = 4
    loads: tuple[str, ...] = ()
    """Of those in `scaling`; none: all of them."""


SMALL = Size(
    runs=1,
    seconds=2,
    few=3,
    many=3,
    crowd=3,
    hundred=5,
    thousand=20,
    tenants=200,
    timer_seconds=0,
    flood_seconds=2,
    steps=(1, 3),
    compared=(3,),
    ramp_seconds=1,
    sentences=1,
    seeds=1,
)
"""Whether it works at all: its figures mean nothing."""
