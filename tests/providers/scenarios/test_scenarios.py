"""The suite: every scenario over every provider, and the page that says what was seen."""

from __future__ import annotations

import pytest

from tests.providers.scenarios import page
from tests.providers.scenarios.bench import BENCHES, Bench
from tests.providers.scenarios.outcomes import outcome, saw
from tests.providers.scenarios.scenarios import SCENARIOS, Scenario


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.name)
def test_scenario(bench: Bench, scenario: Scenario) -> None:
    if not scenario.possible(bench):
        pytest.skip(f"{bench.name}: {scenario.why_not}")
    if (error := outcome(bench, scenario)) is not None:
        raise error


def test_the_page_says_what_was_seen() -> None:
    """Else: `python -m tests.providers.scenarios --write`."""
    assert page.written() == page.tables(BENCHES, SCENARIOS, saw)
