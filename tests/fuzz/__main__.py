"""`python -m tests.fuzz TARGET --seconds N [--seed S]`: fuzz one target, or `all` of them in turn."""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path

from sipbridge import logs
from tests.fuzz.engine import Found, fuzz
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=float, default=60, help="for each target (default 60)")
    parser.add_argument("--seed", type=int, default=None, help="the same one gives the same inputs")
    parser.add_argument("--save", type=Path, help="where to write an input that breaks a rule")
    options = parser.parse_args()
    logs.set_up("error", json=False)
    seed = secrets.randbits(32) if options.seed is None else options.seed
    for name in TARGETS if options.target == "all" else [options.target]:
        try:
            report = fuzz(TARGETS[name], seed=seed, seconds=options.seconds)
        except Found as found:
            if options.save is not None:
                options.save.write_bytes(found.data)
            sys.stderr.write(f"seed {seed}: {found}\n")
            return 1
        sys.stdout.write(
            f"{name}: seed {seed}, {report.inputs} inputs, {len(report.outcomes)} outcomes,"
            f" slowest {report.slowest * 1000:.1f} ms\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
