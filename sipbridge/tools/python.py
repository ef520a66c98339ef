"""Python tools: a function becomes a tool; its type hints the parameters, its docstring the description.

A coroutine function runs in the loop; any other in a thread of its own, so many at a time: one that hangs costs a
thread, not the call, and does not keep the gateway from ending.
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
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic_core import to_json

from sipbridge.agent import ToolCall
from sipbridge.errors import ConfigError
from sipbridge.tools import CallControl, Tool

_CALL = "call"
_AT_ONCE = 32


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
            except StopIteration as error:  # no future takes one
                failure = RuntimeError(repr(error))
            except Exception as error:
                failure = error
            if not loop.is_closed():
                loop.call_soon_threadsafe(finish, result, failure)

        threading.Thread(target=body, name="tool", daemon=True).start()
        return await done


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


def python_tool(name: str, threads: Threads) -> Tool:
    """Raises `ConfigError` where there is no such function, or it takes something that no model can give."""
    function = load(name)
    summary, about = _described(inspect.getdoc(function) or "")
    try:
        arguments, takes_call = _parameters(function, about)
    except Exception as error:  # whatever its annotations lead to
        raise ConfigError(f"{name} cannot be a tool: {error}") from error

    async def run(control: CallControl, request: ToolCall, given: BaseModel) -> str:
        named = {field.alias: getattr(given, key) for key, field in type(given).model_fields.items() if field.alias}
        if takes_call:
            named[_CALL] = control.fields.templated()
        if inspect.iscoroutinefunction(function):
            return _told(await function(**named))
        return str(await threads.run(lambda: _told(function(**named))))

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


def _told(result: object) -> str:
    """For a model: text as it is, everything else as JSON."""
    if result is None:
        return "done"
    return result if isinstance(result, str) else to_json(result, fallback=str, inf_nan_mode="strings").decode()
