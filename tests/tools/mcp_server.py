"""An MCP server by the official SDK: `python mcp_server.py` speaks by standard input and output, `... http PORT` by
streamable HTTP."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import anyio
from mcp.server.mcpserver import MCPServer
from pydantic import Field

server = MCPServer("shop")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool(name="orders/state")
def orders_state(number: str) -> str:
    """State of an order."""
    if number == "13":
        raise ValueError("no such order")
    return f"order {number} has been sent"


@server.tool()
def environment(name: str) -> str:
    """A variable of the environment."""
    return os.environ.get(name, "(unset)")


@server.tool()
def flood(megabytes: int) -> str:
    """Says very much."""
    return "x" * (megabytes * 1024 * 1024)


@server.tool()
def complain(lines: int) -> str:
    """Writes to standard error."""
    for _ in range(lines):
        sys.stderr.write("all is well " * 100 + "\n")
    return "complained"


@server.tool()
def parcel(code: Annotated[str, Field(pattern="^(A+)+$")]) -> str:
    """Where a parcel is."""
    return "here"


@server.tool()
async def hang() -> str:
    """Never answers."""
    await anyio.sleep_forever()
    return "never"


@server.tool()
def fall_over() -> str:
    """Ends the server."""
    os._exit(3)


if __name__ == "__main__":
    if sys.argv[1:2] == ["http"]:
        server.run(transport="streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
    else:
        server.run()
