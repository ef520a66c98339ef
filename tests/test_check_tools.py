"""`sipbridge check` and the servers that tenants' tools need."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from sipbridge.check_tools import look_at_tools
from sipbridge.finding import Finding
from sipbridge.tenants import Tenant
from tests.tools import mcp_server
from tests.tools.asked import tenant_with

SHOP = {"name": "shop", "command": sys.executable, "args": [str(Path(mcp_server.__file__))]}


def found(tools: str) -> list[Finding]:
    return asyncio.run(look_at_tools([Tenant("acme", tenant_with(tools))]))


def test_servers_that_are_there() -> None:
    (shop,) = found(f"  mcp: [{json.dumps(SHOP)}]\n")
    assert shop.verdict == "ok"
    assert shop.text.startswith("ready, with add, orders_state, ")


@pytest.mark.slow
def test_a_server_that_lacks_a_tool() -> None:
    (shop,) = found(f"  mcp: [{json.dumps({**SHOP, 'tools': ['add', 'subtract']})}]\n")
    assert (shop.verdict, shop.text) == ("warning", "ready, but has no subtract")


def test_a_server_that_is_not() -> None:
    (shop,) = found("  mcp: [{name: shop, command: no-such-program}]\n")
    assert (shop.verdict, shop.subject) == ("failed", "tenant acme: MCP server shop")
    assert "No such file" in shop.text


@pytest.mark.parametrize(
    ("url", "more", "verdict", "text"),
    [
        ("http://127.0.0.1:9/", "", "failed", "127.0.0.1 is 127.0.0.1, which is not public, so it is never asked"),
        ("http://127.0.0.1:9/", ", allow_private: true", "ok", "127.0.0.1 has an address"),
        ("http://192.0.2.1/", ", headers: {X-Key: '${NO_SUCH_KEY}'}", "failed", "the environment variable NO_SUCH_KEY"),
    ],
)
def test_hosts_of_http_tools(url: str, more: str, verdict: str, text: str) -> None:
    (tool,) = found(f"  http: [{{name: order, description: d, url: '{url}'{more}}}]\n")
    assert tool.verdict == verdict
    assert tool.text.startswith(text)
