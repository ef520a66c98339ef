"""`python -m tests.providers.scenarios`: run the suite and print its tables; with --write, renew docs/providers.md."""

from __future__ import annotations

import argparse
import sys

from sipbridge import logs
from tests.providers.scenarios import page
from tests.providers.scenarios.bench import BENCHES
from tests.providers.scenarios.outcomes import outcome, run, saw
from tests.providers.scenarios.scenarios import SCENARIOS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.providers.scenarios", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/providers.md")
    options = parser.parse_args()
    logs.set_up("error", json=False)
    run([(bench, scenario) for bench in BENCHES for scenario in SCENARIOS], looks=BENCHES)
    text = page.tables(BENCHES, SCENARIOS, saw)
    failed = [
        f"{bench.name}: {scenario.name}: {error}"
        for bench in BENCHES
        for scenario in SCENARIOS
        if scenario.possible(bench) and (error := outcome(bench, scenario))
    ]
    for line in failed:
        sys.stderr.write(f"{line}\n")
    if options.write:
        page.write(text)
    else:
        sys.stdout.write(text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
