"""MCP servers of the official SDK, as programs and over HTTP: their tools, and their ways to fail."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sipbridge.tenant_file.tool_sources import McpServerConfig
from sipbridge.tools import Tool
from sipbridge.tools.mcp import McpServer
from sipbridge.tools.mcp_program import MAX_MESSAGE, Lines
from tests.tools.asked import asked, failed

SERVER = str(Path(__file__).with_name("mcp_server.py"))
NAMES = ["add", "orders_state", "environment", "flood", "complain", "parcel", "hang", "fall_over"]

Way = Callable[..., AbstractAsyncContextManager[McpServer]]


@asynccontextmanager
async def opened(**config: Any) -> AsyncIterator[McpServer]:
    server = McpServer(McpServerConfig.model_validate({"name": "shop", **config}))
    server.start()
    try:
        await server.tried()
        yield server
    finally:
        await server.close()


def program(**config: Any) -> AbstractAsyncContextManager[McpServer]:
    return opened(command=sys.executable, args=[SERVER], **config)


@asynccontextmanager
async def over_http(**config: Any) -> AsyncIterator[McpServer]:
    process = await asyncio.create_subprocess_exec(sys.executable, SERVER, "http", "0", stderr=PIPE)
    assert process.stderr is not None
    while (found := re.search(rb"running on (\S+)", line := await process.stderr.readline())) is None:
        assert line, "it has not started"
    reading = asyncio.create_task(process.stderr.read())
    try:
        async with opened(url=f"{found[1].decode()}/mcp", **config) as server:
            yield server
    finally:
        if process.returncode is None:
            process.kill()
        await reading
        await process.wait()


WAYS = pytest.mark.parametrize("way", [program, over_http])
SLOW = pytest.mark.slow


def tools(server: McpServer, *taken: str) -> dict[str, Tool]:
    return {tool.name: tool for tool in server.tools(taken)}


@WAYS
async def test_a_server_s_tools_are_the_model_s(way: Way) -> None:
    async with way() as server:
        there = tools(server)
        assert list(there) == NAMES
        assert there["add"].description == "Adds two numbers."
        assert there["add"].declaration.parameters["required"] == ["a", "b"]
        assert await asked(there["add"], a=1, b=2) == "3"
        assert await asked(there["orders_state"], number="7") == "order 7 has been sent"
        assert "Error executing tool orders/state" in await failed(there["orders_state"], number="13")
        assert "pattern" in await failed(there["parcel"], code="A" * 50 + "!")  # said by the server, whose it is
        assert "'x' is not of type 'integer'" in await failed(there["add"], "invalid", a="x", b=1)


@SLOW
@WAYS
async def test_what_a_tool_does_wrong_costs_nothing_but_its_answer(way: Way) -> None:
    async with way() as server:
        there = tools(server)
        assert "1048576 byte" in await failed(there["flood"], megabytes=10)
        assert await asked(there["complain"], lines=2000) == "complained"
        assert "did not finish" in await failed(replace(there["hang"], timeout_seconds=0.1), "timeout")
        assert await asked(there["add"], a=1, b=2) == "3"


@SLOW
async def test_a_program_that_falls_over_is_started_again() -> None:
    async with program() as server:
        there = tools(server)
        await failed(there["fall_over"])
        assert "not available" in await failed(there["add"], a=1, b=2)
        await server.up.wait()
        assert await asked(there["add"], a=1, b=2) == "3"


async def test_a_server_of_an_older_day() -> None:
    async with opened(command=sys.executable, args=[str(Path(SERVER).with_name("mcp_old_server.py"))]) as server:
        assert await asked(tools(server)["hello"]) == "hello"


@SLOW
async def test_only_the_tools_that_are_wanted_and_names_that_are_free() -> None:
    async with program(tools=["add", "orders/state", "lacking"]) as server:
        assert list(tools(server)) == ["add", "orders_state"]
        assert list(tools(server, "add")) == ["shop_add", "orders_state"]
        assert list(tools(server, "add", "shop_add")) == ["orders_state"]


@SLOW
async def test_a_program_is_given_what_the_file_says_and_none_of_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDER_KEY", "k-123456")
    monkeypatch.setenv("SHOP_KEY", "s-123456")
    async with program(env={"KEY": "${SHOP_KEY}"}) as server:
        environment = tools(server)["environment"]
        assert await asked(environment, name="KEY") == "s-123456"
        assert await asked(environment, name="PROVIDER_KEY") == "(unset)"


@pytest.mark.parametrize(
    "config",
    [
        {"command": "/no/such/program"},
        {"command": "false"},
        {"command": "sh", "args": ["-c", "echo this is no MCP; sleep 0.1"]},
        {"url": "http://127.0.0.1:1/mcp"},
        {"command": "cat", "env": {"KEY": "${NO_SUCH_SHOP_KEY}"}},
    ],
)
async def test_a_server_that_is_not_there_has_no_tools(config: dict[str, Any]) -> None:
    async with opened(**config) as server:
        assert tools(server) == {}


def test_lines_have_a_bound() -> None:
    lines = Lines()
    assert lines.feed(b"a\nb") == [(b"a", True)]
    assert lines.feed(b"c\n\n") == [(b"bc", True), (b"", True)]
    for _ in range(20):
        assert lines.feed(bytes(MAX_MESSAGE // 10)) == []
    ((line, whole),) = lines.feed(b"\n")
    assert len(line) == MAX_MESSAGE
    assert not whole
    assert lines.feed(b"d\n") == [(b"d", True)]
