"""What tools share over all calls: connections, MCP servers, threads, and what a tenant has left of its quota."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import structlog

from sipbridge.configfile import Place
from sipbridge.errors import ConfigError
from sipbridge.tenant_file.tools import OWN_TOOLS, ToolsConfig
from sipbridge.tools import Tool
from sipbridge.tools.pass_through import pass_through
from sipbridge.tools.python import python_tool
from sipbridge.tools.quota import MinuteQuota

if TYPE_CHECKING:
    from sipbridge.tools.http import HttpTool
    from sipbridge.tools.mcp import McpServer

log = structlog.get_logger(__name__)

_FIRST_TRY_S = 5.0
"""How long the gateway's start waits for MCP servers: calls that come before they are there have to do without."""


@dataclass(slots=True, eq=False)
class TenantTools:
    """One version of a tenant's. When another has taken its place it is closed, but not before the last call that has
    borrowed it has given it back."""

    config: ToolsConfig
    minute: MinuteQuota
    http: tuple[HttpTool, ...]
    servers: tuple[McpServer, ...]
    others: tuple[Tool, ...]
    unused: Callable[[TenantTools], None]
    """Told when nobody needs it any more."""
    borrowed: int = 0
    retired: bool = False

    def give_back(self) -> None:
        self.borrowed -= 1
        if self.retired and not self.borrowed:
            self.unused(self)

    def retire(self) -> None:
        self.retired = True
        if not self.borrowed:
            self.unused(self)

    @property
    def tools(self) -> list[Tool]:
        """Those there are now. Where an MCP server's tool has a name that is taken, the server's is put before it."""
        tools = [*(tool.tool for tool in self.http), *self.others]
        taken = {tool.name for tool in tools} | set(OWN_TOOLS)
        for server in self.servers:
            for tool in server.tools(taken):
                taken.add(tool.name)
                tools.append(tool)
        return tools

    async def close(self) -> None:
        for tool in self.http:
            await tool.close()
        await asyncio.gather(*(server.close() for server in self.servers))


class ToolServices:
    """MCP servers are one for each tenant that names them, shared by its calls: a program takes a second to start,
    which no caller should wait for; and what one tenant's server knows is no other's."""

    def __init__(self) -> None:
        self._tenants: dict[str, TenantTools] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._started = False

    def of(self, tenant: str, config: ToolsConfig) -> TenantTools:
        """A tenant's tools but those that are done to the call itself. Another `config` takes the old one's place."""
        known = self._tenants.get(tenant)
        if known is not None and known.config == config:
            return known
        made = self._tenants[tenant] = self._make(config, known)
        for server in made.servers if self._started else ():
            server.start()
        if known is not None:
            known.retire()
        return made

    def borrow(self, tenant: str, config: ToolsConfig) -> TenantTools:
        """The same for a call, which says when it is over (`give_back`)."""
        tools = self.of(tenant, config)
        tools.borrowed += 1
        return tools

    def forget(self, tenant: str) -> None:
        """There is no such tenant any more."""
        if (known := self._tenants.pop(tenant, None)) is not None:
            known.retire()

    def _close(self, tools: TenantTools) -> None:
        if not tools.http and not tools.servers:
            return
        task = asyncio.create_task(tools.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _make(self, config: ToolsConfig, before: TenantTools | None) -> TenantTools:
        http: tuple[HttpTool, ...] = ()
        servers: tuple[McpServer, ...] = ()
        if config.http:
            from sipbridge.tools.http import HttpTool

            http = tuple(HttpTool(each) for each in config.http)
        if config.mcp:
            from sipbridge.tools.mcp import McpServer

            servers = tuple(McpServer(each) for each in config.mcp)
        others = [pass_through(each) for each in config.pass_through]
        for name in config.python:
            try:
                others.append(python_tool(name))
            except ConfigError as error:  # when it was loaded it was there
                log.error("tool left out", tool=name, error=str(error))
        most = config.quotas.per_minute
        minute = before.minute if before is not None and before.minute.most == most else MinuteQuota(most)
        return TenantTools(config, minute, http, servers, tuple(others), self._close)

    async def start(self, configs: Mapping[str, ToolsConfig]) -> None:
        """Import, and connect; not longer than a few seconds. What is not there by then is tried again later."""
        self._started = True
        servers = [server for tenant, config in configs.items() for server in self.of(tenant, config).servers]
        tries = [asyncio.create_task(server.tried()) for server in servers]
        if tries:
            _, late = await asyncio.wait(tries, timeout=_FIRST_TRY_S)
            for task in late:
                task.cancel()

    async def close(self) -> None:
        await asyncio.gather(*(tenant.close() for tenant in self._tenants.values()), *self._closing)
        self._tenants.clear()


def faults(config: ToolsConfig) -> Iterator[tuple[Place, str]]:
    """What only this installation can tell: is the function there, is the extra installed?"""
    for number, name in enumerate(config.python):
        try:
            python_tool(name)
        except ConfigError as error:
            yield ("python", number), str(error)
    if config.mcp and find_spec("mcp") is None:
        yield ("mcp",), "MCP servers need an extra: pip install 'sipbridge[mcp]'"
