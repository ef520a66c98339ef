"""Each scenario over each provider, once in a process: the tests judge it, the page is written from it.

They wait for timers most of the time, so several run at once, in one loop. Each knows its own tasks all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import TypeAlias

from sipbridge.simulator.script import Script
from tests.providers.scenarios.bench import Bench
from tests.providers.scenarios.scenarios import Scenario
from tests.providers.scenarios.talk import Talk, open_sockets
from tests.providers.scenarios.tasks import own_tasks

LIMIT_S = 60
AT_ONCE = 8

Pair: TypeAlias = tuple[Bench, Scenario]
_errors: dict[Pair, Exception | None] = {}
_minutes: dict[Bench, int | None] = {}


def run(pairs: Iterable[Pair], *, looks: Iterable[Bench] = ()) -> None:
    """Those of them that have not been run yet; `looks`: how long their sessions last, too."""
    todo = [pair for pair in pairs if pair not in _errors and pair[1].possible(pair[0])]
    unknown = [bench for bench in looks if bench not in _minutes]
    if todo or unknown:
        asyncio.run(_run(todo, unknown))


async def _run(pairs: list[Pair], benches: list[Bench]) -> None:
    limit, sockets = asyncio.Semaphore(AT_ONCE), open_sockets()

    async def one(bench: Bench, scenario: Scenario) -> None:
        async with limit:
            _errors[bench, scenario] = None
            try:
                async with asyncio.timeout(LIMIT_S):
                    await scenario.run(bench)
            except Exception as error:
                _errors[bench, scenario] = error

    async def look(bench: Bench) -> None:
        async with limit, Talk(bench, Script(speed=0.0)) as talk:
            now, lifetime = time.monotonic(), talk.dialects[0].lifetime
        _minutes[bench] = None if lifetime is None else round((lifetime.expires_at - now) / 60)

    with own_tasks():
        await asyncio.gather(*(one(*pair) for pair in pairs), *(look(bench) for bench in benches))
    for _ in range(5):  # transports close in the loop's next turns
        await asyncio.sleep(0)
    if not any(_errors.values()):
        assert open_sockets() <= sockets, "sockets left behind"


def outcome(bench: Bench, scenario: Scenario) -> Exception | None:
    """What went wrong."""
    run([(bench, scenario)])
    return _errors[bench, scenario]


def saw(bench: Bench, scenario: Scenario) -> bool:
    return scenario.possible(bench) and outcome(bench, scenario) is None


def minutes(bench: Bench) -> int | None:
    """After which a session ends, whatever happens; None: no such limit is known."""
    run([], looks=[bench])
    return _minutes[bench]
