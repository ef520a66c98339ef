"""`python -m bench`: all measurements, or those that are named; prints what they found, and with --write puts it into
docs/performance.md."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import date

from bench import machine, report, rig
from bench.measurements import MEASUREMENTS
from bench.results import Finding, Row
from bench.size import SMALL, Size


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the gateway on this machine.")
    parser.add_argument("measurement", nargs="*", help=f"of {', '.join(MEASUREMENTS)}; all of them without a name")
    parser.add_argument("--runs", type=int, default=3, help="the median of how many (default 3)")
    parser.add_argument("--seconds", type=float, default=10, help="how long each lasts (default 10)")
    parser.add_argument("--steps", type=int, nargs="+", default=Size().steps, help="of scaling: how many calls")
    parser.add_argument("--loads", nargs="+", default=(), help="of scaling: some of pcm60 pcm20 g711")
    parser.add_argument("--small", action="store_true", help="a moment with a few calls, to see that it works")
    parser.add_argument("--interpreted", action="store_true", help="not the compiled media plane, where there is one")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/performance.md")
    options = parser.parse_args()
    if options.interpreted:
        rig.interpret()
    names = options.measurement or list(MEASUREMENTS)
    if unknown := [name for name in names if name not in MEASUREMENTS]:
        parser.error(f"there is no measurement {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    size = (
        SMALL
        if options.small
        else Size(runs=options.runs, seconds=options.seconds, steps=tuple(options.steps), loads=tuple(options.loads))
    )
    gateway_core, our_core = machine.cores()
    machine.pin(our_core)
    if gateway_core == our_core:
        print("one core only: gateway and generator share it, and the figures are worth little", file=sys.stderr)
    if options.write and options.small:
        parser.error("--small measures nothing that could be written down")
    circumstances = f"{machine.description()}, {'compiled' if rig.compiled() else 'interpreted'} media plane"
    print(f"{circumstances}\n")
    missed = False
    for name in names:
        findings = _measure(name, size)
        missed |= any(isinstance(finding, Row) and finding.met is False for finding in findings)
        print(f"## {name}\n\n{report.markdown(findings)}\n", flush=True)
        if options.write:
            seconds = "" if size.seconds == Size().seconds else f" --seconds {size.seconds:g}"
            command = f"`python -m bench {name}{seconds}`, medians of {size.runs} runs unless a row says otherwise"
            report.write(name, findings, f"{circumstances}; {date.today().isoformat()}; {command}.")
    return 1 if missed else 0


def _measure(name: str, size: Size) -> Sequence[Finding]:
    began, load = time.monotonic(), machine.load_average()
    try:
        findings = MEASUREMENTS[name](size)
    except RuntimeError as error:  # the others are worth having nevertheless
        findings = [Row(name, "a measurement", f"none: {error}", False)]
    lasted = time.monotonic() - began
    print(
        f"{name}: {lasted:.0f} s, load average {load:.1f} before, {machine.load_average():.1f} after", file=sys.stderr
    )
    return findings


if __name__ == "__main__":
    sys.exit(main())
