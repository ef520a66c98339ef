"""Whose task is it? Several conversations share a loop, and each has to leave nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast
from weakref import WeakKeyDictionary

_owner: ContextVar[object] = ContextVar("owner")
_owners: WeakKeyDictionary[asyncio.Task[Any], object] = WeakKeyDictionary()


@contextmanager
def own_tasks() -> Iterator[None]:
    """Every task is noted with whoever owns the one that made it: a context is inherited."""
    loop = asyncio.get_running_loop()

    def new_task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **more: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, **more)
        context = more.get("context")
        _owners[task] = _owner.get(None) if context is None else context.get(_owner)
        return task

    loop.set_task_factory(cast(Any, new_task))
    try:
        yield
    finally:
        loop.set_task_factory(None)


def own() -> object:
    """From now on this task's tasks are one's own; returns who that is."""
    owner = object()
    _owner.set(owner)
    return owner


def left_by(owner: object) -> set[asyncio.Task[Any]]:
    """Of all tasks that are not done, those of this owner."""
    current = asyncio.current_task()
    return {task for task in asyncio.all_tasks() if task is not current and _owners.get(task) is owner}
