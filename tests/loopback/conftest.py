"""Tests of this folder may be coroutines: each gets a loop of its own and must leave no task behind."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator

import pytest

from tests.providers.judges import all_judged

_LONGEST_S, _LONGEST_SLOW_S = 20.0, 600.0


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}

    async def run() -> None:
        async with asyncio.timeout(_LONGEST_S if pyfuncitem.get_closest_marker("slow") is None else _LONGEST_SLOW_S):
            await test(**arguments)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left behind: {left}"

    asyncio.run(run())
    return True


@pytest.fixture(scope="session", autouse=True)
def _every_message_to_a_model_is_judged() -> Iterator[None]:
    with all_judged():
        yield
