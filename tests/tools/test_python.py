"""Python functions as tools: what a model sees of them, and what they may do without harm."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sipbridge.errors import ConfigError
from sipbridge.tools import MAX_RESULT_BYTES, Tool, python
from sipbridge.tools.python import Threads, python_tool
from tests.tools import functions
from tests.tools.asked import ask, asked, failed


def tool(name: str, threads: Threads | None = None) -> Tool:
    return python_tool(f"tests.tools.functions:{name}", threads or Threads())


def test_hints_and_docstring_are_what_a_model_sees() -> None:
    seen = tool("lookup").declaration
    assert (seen.name, seen.description) == ("lookup", "Finds an order by its number.")
    assert seen.parameters["required"] == ["number"]
    assert seen.parameters["additionalProperties"] is False
    properties = seen.parameters["properties"]
    assert list(properties) == ["number", "kind", "copy"]
    assert properties["number"]["description"] == "As it stands on the bill, without the dash."
    assert properties["kind"]["enum"] == ["order", "bill"]
    assert properties["copy"]["default"] == 1
    assert list(tool("greet").declaration.parameters["properties"]) == ["name"]


async def test_a_function_is_run_and_its_result_is_json() -> None:
    assert await asked(tool("lookup"), number="7", copy=2) == '{"number":"order 7 x2","sent":true}'
    assert await asked(tool("greet"), name="Ann") == "Hello Ann, you call from +15550123"
    assert await asked(tool("returns_nothing")) == "done"
    assert await asked(tool("which_thread")) == "tool"


async def test_arguments_that_do_not_fit() -> None:
    assert "kind: Input should be" in await failed(tool("lookup"), "invalid", number="7", kind="ship")
    assert "name: String should have" in await failed(tool("greet"), "invalid", name="A")
    assert "Field required" in await failed(tool("lookup"), "invalid")
    assert "call: Extra inputs" in await failed(tool("greet"), "invalid", name="Ann", call={"from": "me"})


async def test_what_a_function_does_wrong_costs_nothing_but_its_answer() -> None:
    assert await failed(tool("fails")) == "fails failed"
    assert len(await asked(tool("floods"))) < MAX_RESULT_BYTES + 100


async def test_functions_that_hang_are_given_up_and_keep_their_thread() -> None:
    threads = Threads(most=1)
    hanging, quick = tool("hang", threads), tool("which_thread", threads)
    await failed(replace(hanging, timeout_seconds=0.05), "timeout")
    await failed(replace(quick, timeout_seconds=0.05), "timeout")  # the one thread there may be is taken
    functions.hanging.set()
    assert await asked(quick) == "tool"
    functions.hanging.clear()


async def test_several_run_at_once() -> None:
    threads = Threads()
    hanging, quick = tool("hang", threads), tool("which_thread", threads)
    task = asyncio.create_task(ask(hanging))
    assert await asked(quick) == "tool"
    functions.hanging.set()
    assert (await task).outcome == "ok"
    functions.hanging.clear()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("tests.tools.no_such:x", "cannot be imported: ModuleNotFoundError"),
        ("tests.tools.functions:nope", "has no function 'nope'"),
        ("tests.tools.functions:NUMBER", "has no function 'NUMBER'"),
        ("tests.tools.functions:takes_anything", "'names' can't be given by name"),
        ("tests.tools.functions:takes_strange", "cannot be a tool"),
    ],
)
def test_what_cannot_be_a_tool(name: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem.replace("'", ".")):
        python_tool(name, Threads())


async def test_a_function_that_would_end_the_process_only_fails() -> None:
    threads = Threads(most=1)
    for _ in range(2):
        assert await failed(tool("leaves", threads)) == "leaves failed"
    assert await failed(tool("leaves_later")) == "leaves_later failed"


async def test_a_coroutine_that_is_cancelled_by_itself_is_answered() -> None:
    assert await failed(tool("gives_up")) == "gives_up failed"


async def test_a_coroutine_that_does_not_listen_is_left_behind() -> None:
    """It would keep its call from ending."""
    functions.deaf = True
    await failed(replace(tool("does_not_listen"), timeout_seconds=0.05), "timeout")
    running = asyncio.create_task(asked(tool("does_not_listen")))
    await asyncio.sleep(0)
    running.cancel()
    done, _ = await asyncio.wait((running,), timeout=1)
    assert done
    functions.deaf = False
    await asyncio.wait(python._left)


async def test_one_function_that_hangs_does_not_hold_up_another() -> None:
    hanging, quick = (python_tool(f"tests.tools.functions:{name}") for name in ("hang", "which_thread"))
    calls = [asyncio.create_task(failed(replace(hanging, timeout_seconds=0.2), "timeout")) for _ in range(40)]
    await asyncio.sleep(0)
    assert await asked(replace(quick, timeout_seconds=0.2)) == "tool"
    await asyncio.gather(*calls)
    functions.hanging.set()
    await asyncio.sleep(0)
    functions.hanging.clear()


async def test_a_coroutine_function_that_was_wrapped_is_still_one() -> None:
    assert await asked(tool("wrapped"), name="Ann") == '["Ann"]'
