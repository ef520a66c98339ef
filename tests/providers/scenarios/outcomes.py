"""Each scenario over each provider, once in a process: the tests judge it, the page is written from it."""

from __future__ import annotations

import asyncio
from functools import cache

from tests.providers.scenarios.bench import Bench
from tests.providers.scenarios.scenarios import Scenario

LIMIT_S = 30


@cache
def outcome(bench: Bench, scenario: Scenario) -> Exception | None:
    """What went wrong."""

    async def run() -> None:
        async with asyncio.timeout(LIMIT_S):
            await scenario.run(bench)

    try:
        asyncio.run(run())
    except Exception as error:
        return error
    return None


def saw(bench: Bench, scenario: Scenario) -> bool:
    return scenario.possible(bench) and outcome(bench, scenario) is None
