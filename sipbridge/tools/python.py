"""Python tools: a function becomes a tool; its type hints the parameters, its docstring the description.

A coroutine function runs in the loop, in a task of its own, which is not waited for once it was cancelled; any other in
a thread of its own, so many of one function at a time: one that hangs costs a thread, not the call and not the other
functions, and does not keep the gateway from ending.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import inspect
import os
import re
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic_core import to_json

from sipbridge.agent import ToolCall
from sipbridge.errors import ConfigError
from sipbridge.tools import CallControl, Tool

_CALL = "call"
_AT_ONCE = 32
_left: set[asyncio.Task[Any]] = set()
"""Those that were cancelled and have not ended yet: asyncio keeps no task alive."""


class Threads:
    """Functions that block, each in a thread; `most` at a time, the others wait."""

    def __init__(self, most: int = _AT_ONCE) -> None:
        self._free = asyncio.Semaphore(most)

    async def run(self, work: Callable[[], Any]) -> Any:
        """What `work` returns or raises. Where this is cancelled the thread goes on, and counts until it ends."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def finish(result: Any, error: BaseException | None) -> None:
            self._free.release()
            if done.done():
                return
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)

        def body() -> None:
            result: Any = None
            failure: Exception | None = None
            try:
                result = context.run(work)
            except BaseException as error:
                failure = _harmless(error)
            with suppress(RuntimeError):  # the loop is closed: the gateway has ended
                loop.call_soon_threadsafe(finish, result, failure)

        try:
            threading.Thread(target=body, name="tool", daemon=True).start()
        except RuntimeError:  # no more threads are to be had
            self._free.release()
            raise
        return await done


def _harmless(error: BaseException) -> Exception:
    """The same; for what would end more than the function (`sys.exit`), or is for no future, one that says so."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(repr(error))


async def run_apart(work: Awaitable[Any]) -> Any:
    """What a coroutine of others returns or raises. Cancelled, it is told so and left behind: it may not listen."""

    async def body() -> Any:
        try:
            return await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            raise _harmless(error) from error

    task = asyncio.create_task(body())
    try:
        await asyncio.wait((task,))
    finally:
        if not task.done():
            task.cancel()
            _left.add(task)
            task.add_done_callback(_let_go)
    return task.result()


def _let_go(task: asyncio.Task[Any]) -> None:
    _left.discard(task)
    if not task.cancelled():
        task.exception()  # nobody else asks for it


def load(name: str) -> Callable[..., Any]:
    """`module:function`, from what is installed or lies where sipbridge was started. Raises `ConfigError`."""
    module_name, _, function_name = name.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{module_name} cannot be imported: {type(error).__name__}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        near = get_close_matches(function_name, [name for name, it in vars(module).items() if callable(it)], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{module_name} has no function {function_name!r}{hint}")
    return function  # type: ignore[no-any-return]


def python_tool(name: str, threads: Threads | None = None) -> Tool:
    """`threads`: its own, where none are given. Raises `ConfigError` where there is no such function, or it takes
    something that no model can give."""
    function = load(name)
    summary, about = _described(inspect.getdoc(function) or "")
    try:
        arguments, takes_call = _parameters(function, about)
    except Exception as error:  # whatever its annotations lead to
        raise ConfigError(f"{name} cannot be a tool: {error}") from error

    threads = threads or Threads()

    async def run(control: CallControl, request: ToolCall, given: BaseModel) -> str:
        named = {field.alias: getattr(given, key) for key, field in type(given).model_fields.items() if field.alias}
        if takes_call:
            named[_CALL] = control.fields.templated()
        if inspect.iscoroutinefunction(function):
            return _told(await run_apart(function(**named)))
        result = await threads.run(lambda: _told_unless_awaitable(function(**named)))
        # A coroutine function that somebody has wrapped does not look like one.
        return result if isinstance(result, str) else _told(await run_apart(result))

    return Tool(name.partition(":")[2], summary or name, arguments, run)


def _parameters(function: Callable[..., Any], about: Mapping[str, str]) -> tuple[type[BaseModel], bool]:
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    takes_call = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise TypeError(f"its parameter {parameter.name!r} can't be given by name")
        if parameter.name == _CALL:
            takes_call = True
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        field = Field(default, alias=parameter.name, description=about.get(parameter.name))
        # By another name within: one of pydantic's own may be the function's.
        fields[f"parameter_{len(fields)}"] = hints.get(parameter.name, Any), field
    return create_model("Arguments", __config__=ConfigDict(extra="forbid"), **fields), takes_call


def _described(text: str) -> tuple[str, dict[str, str]]:
    """What a docstring says of the function, and of its parameters under `Args:`."""
    summary, _, rest = text.partition("\nArgs:")
    sections = re.split(r"\n(?=\S)", rest, maxsplit=1)[0]
    about = re.findall(r"^\s+\*{0,2}(\w+)(?: \([^)]*\))?:\s*(.+(?:\n\s{8,}.+)*)", sections, flags=re.MULTILINE)
    summary = re.split(r"\n(?:Returns|Raises|Yields):", summary, maxsplit=1)[0]
    return " ".join(summary.split()), {name: " ".join(words.split()) for name, words in about}


def _told_unless_awaitable(result: object) -> object:
    return result if inspect.isawaitable(result) else _told(result)


def _told(result: object) -> str:
    """For a model: text as it is, everything else as JSON."""
    if result is None:
        return "done"
    return result if isinstance(result, str) else to_json(result, fallback=str, inf_nan_mode="strings").decode()
