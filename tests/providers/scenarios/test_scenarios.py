"""The suite: every scenario over every provider, and the page that says what was seen."""

from __future__ import annotations

import pytest

from tests.providers.scenarios import page
from tests.providers.scenarios.bench import BENCHES, Bench
from tests.providers.scenarios.outcomes import outcome, run, saw
from tests.providers.scenarios.scenarios import SCENARIOS, Scenario

POSSIBLE = [
    pytest.param(bench, scenario, id=f"{bench.name}-{scenario.name}")
    for bench in BENCHES
    for scenario in SCENARIOS
    if scenario.possible(bench)
]
"""What a provider lacks the page says, and is held to it below."""


@pytest.fixture(scope="module", autouse=True)
def _at_once(request: pytest.FixtureRequest) -> None:
    """Those that were asked for: one after the other they would take a minute."""
    pairs = []
    for item in request.session.items:
        if getattr(item, "function", None) is test_scenario:
            parameters = item.callspec.params  # type: ignore[attr-defined]  # it is parametrized
            pairs.append((parameters["bench"], parameters["scenario"]))
    run(pairs, looks=BENCHES)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("bench", "scenario"), POSSIBLE)
def test_scenario(bench: Bench, scenario: Scenario) -> None:
    if (error := outcome(bench, scenario)) is not None:
        raise error


@pytest.mark.timeout(120)
def test_the_page_says_what_was_seen() -> None:
    """Else: `python -m tests.providers.scenarios --write`."""
    run([(bench, scenario) for bench in BENCHES for scenario in SCENARIOS], looks=BENCHES)
    assert page.written() == page.tables(BENCHES, SCENARIOS, saw)
