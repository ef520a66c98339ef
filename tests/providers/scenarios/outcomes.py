"""Each scenario over each provider, once in a process: the tests judge it, the page is written from it."""

from __future__ import annotations

import asyncio
import time
from functools import cache

from sipbridge.simulator.script import Script
from tests.providers.scenarios.bench import Bench
from tests.providers.scenarios.scenarios import Scenario
from tests.providers.scenarios.talk import Talk

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


@cache
def minutes(bench: Bench) -> int | None:
    """After which a session ends, whatever happens; None: no such limit is known."""

    async def look() -> int | None:
        async with Talk(bench, Script(speed=0.0)) as talk:
            now, lifetime = time.monotonic(), talk.dialects[0].lifetime
        return None if lifetime is None else round((lifetime.expires_at - now) / 60)

    return asyncio.run(look())


def saw(bench: Bench, scenario: Scenario) -> bool:
    return scenario.possible(bench) and outcome(bench, scenario) is None
