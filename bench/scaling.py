"""How cost grows with calls: processor, pacing and memory of one gateway on one core as calls are added, TLS to the
model; and how many it carries with its pacing as it should be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from bench import rig
from bench.numbers import Spread, median_spread
from bench.results import Chart, Finding, Line, Row, Table, ms
from bench.rig import Figures
from bench.size import Size

PACING_MS = 5.0
"""What p99 of both pacing errors has to stay below."""
_GENERATOR_MS = 3.0
"""A generator that is later than this (p99) says nothing about the gateway."""
_MEMORY_MIB = 0.3


@dataclass(frozen=True, slots=True)
class Load:
    name: str
    short: str
    user: str
    uplink_ms: int
    target: int | None
    """Calls per core."""


LOADS = (
    Load("PCM 24 kHz, TLS, 60 ms uplink", "pcm60", "pcm", 60, 300),
    Load("PCM 24 kHz, TLS, 20 ms uplink", "pcm20", "pcm", 20, 200),
    Load("G.711 passed through, TLS, 20 ms uplink", "g711", "g711", 20, None),
)


@dataclass(frozen=True, slots=True)
class Step:
    """So many calls, looked at for a few seconds. Milliseconds, percent of a core, KiB."""

    calls: int
    processor: float
    others: float
    gap_error: Spread
    delay: Spread
    generator: Spread
    memory: float
    packets: float
    """A second and call: 50, or the gateway was not served itself."""
    heard: float
    """Seconds of sound that reached the model in one."""

    @property
    def microseconds(self) -> float:
        """Per call and 20 ms."""
        return self.processor * 200 / self.calls

    @property
    def whole(self) -> bool:
        """All packets came down and all sound went up."""
        return abs(self.packets - 50) < 0.5 and abs(self.heard - 1) < 0.01

    @property
    def holds(self) -> bool:
        return self.whole and self.gap_error.p99 < PACING_MS and self.delay.p99 < PACING_MS


class _Watch:
    """The gateway's figures before and after each look."""

    def __init__(self) -> None:
        self._points: dict[str, Figures] = {}
        self._memory: dict[str, int] = {}

    def at(self, point: str, ask: Callable[[str], Figures]) -> None:
        self._points[point] = ask("now")
        if not point.startswith("begin"):
            self._memory[point] = ask("settled").resident_kib

    @property
    def without_calls(self) -> tuple[int, int]:
        return self._memory["started"], self._memory["idle"]

    def step(self, seen: dict[str, Any]) -> Step:
        calls = seen["calls"]
        a, b = self._points[f"begin {calls}"], self._points[f"end {calls}"]
        seconds = b.wall_seconds - a.wall_seconds
        processor = 100 * (b.cpu_seconds - a.cpu_seconds) / seconds
        return Step(
            calls,
            processor,
            max(0.0, 100 * (b.core_seconds - a.core_seconds) / seconds - processor),
            Spread(*seen["gap_errors"]),
            Spread(*seen["delays"]),
            Spread(*seen["lateness"]),
            (self._memory[f"end {calls}"] - self._memory["idle"]) / calls,
            seen["packets_per_second"],
            seen["audio_up"],
        )


def ramp(
    load: Load, steps: tuple[int, ...], seconds: float, seed: int, *, interpreted: bool = False
) -> tuple[list[Step], tuple[int, int]]:
    """On one fresh gateway; ends early where calls are refused. And its memory in KiB, before and after the first
    calls."""
    watch = _Watch()
    result = rig.run(
        "ramp",
        user=load.user,
        calls=0,
        seconds=seconds,
        seed=seed,
        spin=True,
        tls=True,
        uplink_ms=load.uplink_ms,
        interpreted=interpreted,
        at_point=watch.at,
        steps=steps,
    )
    return [watch.step(seen) for seen in result["steps"]], watch.without_calls


def middle(runs: list[list[Step]], steps: tuple[int, ...]) -> list[Step]:
    """The median of each figure at each number of calls that more than half of the runs reached."""
    found = []
    for calls in steps:
        same = [step for run in runs for step in run if step.calls == calls]
        if 2 * len(same) <= len(runs):
            break
        found.append(
            Step(
                calls,
                median(step.processor for step in same),
                max(step.others for step in same),
                median_spread([step.gap_error for step in same]),
                median_spread([step.delay for step in same]),
                median_spread([step.generator for step in same]),
                median(step.memory for step in same),
                median(step.packets for step in same),
                median(step.heard for step in same),
            )
        )
    return found


def capacity(steps: list[Step]) -> int:
    """The most calls at which pacing holds, and does below, too."""
    highest = 0
    for step in steps:
        if not step.holds:
            break
        highest = step.calls
    return highest


def scaling(size: Size) -> list[Finding]:
    found: dict[Load, list[Step]] = {}
    empty: list[tuple[int, int]] = []
    for load in LOADS:
        if load.short in size.loads or not size.loads:
            runs = [ramp(load, size.steps, size.ramp_seconds, seed) for seed in range(size.runs)]
            found[load] = middle([steps for steps, _ in runs], size.steps)
            empty += [memory for _, memory in runs]
    rows = [_capacity_row(load, steps, size.steps[-1]) for load, steps in found.items()]
    rows += [_memory_row(load, steps) for load, steps in found.items() if load.target]
    before, after = (median(moment) / 1024 for moment in zip(*empty, strict=True))
    rows.append(
        Row("resident memory without a call: fresh; after the first calls", "", f"{before:.0f}; {after:.0f} MiB")
    )
    tables = [_table(load, steps) for load, steps in found.items()]
    return [*rows, *tables, *_charts(found)]


def interpreted(size: Size) -> list[Finding]:
    """The same without the compiled media plane, for comparison; one run of a few steps."""
    if not rig.compiled():
        return []
    tables = []
    for load in LOADS[:2]:
        steps, _ = ramp(load, size.compared, size.ramp_seconds, 0, interpreted=True)
        tables.append(_table(replace(load, name=f"{load.name}, interpreted, one run"), steps))
    return list(tables)


def _capacity_row(load: Load, steps: list[Step], most: int) -> Row:
    calls = capacity(steps)
    at = next((step for step in steps if step.calls == calls), None)
    measured = f"{calls}" + (" (more were not tried)" if calls == most else "")
    if at is not None:
        measured += (
            f": {at.processor:.0f} % of the core, pacing error p99 {max(at.gap_error.p99, at.delay.p99):.1f} ms,"
        )
        measured += f" generator late by {ms(at.generator)}"
    target = f">= {load.target}" if load.target else ""
    return Row(
        f"calls per core, {load.name}, pacing p99 < {PACING_MS:.0f} ms",
        target,
        measured,
        calls >= load.target if load.target else None,
    )


def _memory_row(load: Load, steps: list[Step]) -> Row:
    last = next((step for step in reversed(steps) if step.whole), steps[-1])
    mib = last.memory / 1024
    return Row(
        f"memory per call, {last.calls} calls, {load.name}",
        f"<= {_MEMORY_MIB} MB",
        f"{last.memory:.0f} KiB ({last.memory * 1024 / 1e6:.2f} MB)",
        mib * 1.048576 <= _MEMORY_MIB,
    )


def _table(load: Load, steps: list[Step]) -> Table:
    lines = tuple(
        (
            f"{step.calls}",
            f"{step.processor:.1f}",
            f"{step.microseconds:.0f}",
            f"{step.packets:.1f}" + ("" if step.whole else " (not whole)"),
            ms(step.gap_error),
            ms(step.delay),
            f"{step.memory:.0f}",
            f"{step.memory * step.calls / 1024:.1f}",
            ms(step.generator) + ("" if step.generator.p99 < _GENERATOR_MS else " (too late to judge)"),
            f"{step.others:.1f}",
        )
        for step in steps
    )
    columns = (
        "calls",
        "CPU %",
        "us per call and 20 ms",
        "packets a second",
        "gap less 20 ms",
        "after schedule, ms",
        "KiB per call",
        "MiB in all",
        "generator late, ms",
        "others on the core %",
    )
    return Table(load.name, columns, lines)


def _charts(found: dict[Load, list[Step]]) -> list[Chart]:
    def lines(of: Callable[[Step], float]) -> tuple[Line, ...]:
        return tuple(
            Line(load.name, tuple((float(step.calls), of(step)) for step in steps))
            for load, steps in found.items()
            if steps
        )

    return [
        Chart("processor", "Processor time", "calls", "% of a core", lines(lambda step: step.processor), limit=100),
        Chart(
            "pacing",
            "Pacing: packets after their schedule, p99",
            "calls",
            "ms",
            lines(lambda step: step.delay.p99),
            y_range=(0, 10),
            limit=PACING_MS,
        ),
        Chart(
            "memory",
            "Memory over that of the idle gateway",
            "calls",
            "MiB",
            lines(lambda step: step.memory * step.calls / 1024),
        ),
    ]
