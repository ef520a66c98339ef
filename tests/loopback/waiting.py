"""Waiting for what happens, never for time to pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Watched:
    """Something whose state changes; `changed()` has to be called when it does."""

    def __init__(self) -> None:
        self._watchers: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def changed(self) -> None:
        for condition, future in self._watchers:
            if not future.done() and condition():
                future.set_result(None)

    async def until(self, condition: Callable[[], bool], *, within: float = 3.0) -> None:
        """Return as soon as the condition holds. Raises TimeoutError."""
        if condition():
            return
        watcher = (condition, asyncio.get_running_loop().create_future())
        self._watchers.append(watcher)
        try:
            async with asyncio.timeout(within):
                await watcher[1]
        finally:
            self._watchers.remove(watcher)
