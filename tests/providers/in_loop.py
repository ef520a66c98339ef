"""Tests that are coroutines: `@coroutine` gives each a loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any


def coroutine(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """In a loop of its own; no task may be left behind."""

    async def watched(*arguments: Any, **named: Any) -> None:
        async with asyncio.timeout(15):
            await test(*arguments, **named)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            _, left = await asyncio.wait(left, timeout=1)
        assert not left, f"tasks left behind: {left}"

    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(watched(*arguments, **named))

    return run
