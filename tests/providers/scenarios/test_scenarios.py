"""The suite: every scenario over every provider, and the page that says what was seen."""

from __future__ import annotations

import asyncio
from functools import cache

import pytest

from tests.providers.scenarios.bench import BENCHES, Bench
from tests.providers.scenarios.scenarios import SCENARIOS, Scenario

NOT_YET: set[tuple[str, str]] = set()
"""What a provider is known to get wrong still."""


@cache
def outcome(bench: Bench, scenario: Scenario) -> BaseException | None:
    async def run() -> None:
        async with asyncio.timeout(30):
            await scenario.run(bench)

    try:
        asyncio.run(run())
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.name)
def test_scenario(bench: Bench, scenario: Scenario) -> None:
    if not scenario.possible(bench):
        pytest.skip(f"{bench.name}: {scenario.why_not}")
    if (bench.name, scenario.name) in NOT_YET:
        pytest.skip("known to fail")
    if (error := outcome(bench, scenario)) is not None:
        raise error
