"""`python -m bench`: all measurements, or those that are named; prints the table that README.md holds."""

from __future__ import annotations

import argparse
import sys
import time

from bench import machine
from bench.measurements import MEASUREMENTS, SMALL, Row, Size


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the gateway on this machine.")
    parser.add_argument("measurement", nargs="*", help=f"of {', '.join(MEASUREMENTS)}; all of them without a name")
    parser.add_argument("--runs", type=int, default=3, help="the median of how many (default 3)")
    parser.add_argument("--seconds", type=float, default=10, help="how long each lasts (default 10)")
    parser.add_argument("--small", action="store_true", help="a moment with a few calls, to see that it works")
    options = parser.parse_args()
    names = options.measurement or list(MEASUREMENTS)
    if unknown := [name for name in names if name not in MEASUREMENTS]:
        parser.error(f"there is no measurement {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    size = SMALL if options.small else Size(runs=options.runs, seconds=options.seconds)
    gateway_core, our_core = machine.cores()
    machine.pin(our_core)
    if gateway_core == our_core:
        print("one core only: gateway and generator share it, and the figures are worth little", file=sys.stderr)
    print(f"{machine.description()}\n")
    print("| figure (ms: p50 / p99 / max) | target | measured | |\n|---|---|---|---|")
    rows: list[Row] = []
    for name in names:
        rows += _measure(name, size)
    return 1 if any(row.met is False for row in rows) else 0


def _measure(name: str, size: Size) -> list[Row]:
    began, load = time.monotonic(), machine.load_average()
    rows = MEASUREMENTS[name](size)
    for row in rows:
        verdict = {True: "met", False: "**missed**", None: ""}[row.met]
        print(f"| {row.figure} | {row.target} | {row.measured} | {verdict} |", flush=True)
    lasted = time.monotonic() - began
    print(
        f"{name}: {lasted:.0f} s, load average {load:.1f} before, {machine.load_average():.1f} after", file=sys.stderr
    )
    return rows


if __name__ == "__main__":
    sys.exit(main())
