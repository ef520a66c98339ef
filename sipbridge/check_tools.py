"""Are the servers there that tenants' tools need? A part of `check`: MCP servers are opened and closed, the hosts of
HTTP tools are looked up. No tool is used."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any
from urllib.parse import urlsplit

from sipbridge.errors import ConfigError
from sipbridge.finding import Finding
from sipbridge.tenant_file.tool_sources import HttpToolConfig, McpServerConfig
from sipbridge.tenants import Tenant
from sipbridge.tools.addresses import is_public, resolve

_LOOKUP_S = 5.0


async def look_at_tools(tenants: Sequence[Tenant]) -> list[Finding]:
    looks: list[Coroutine[Any, Any, Finding]] = []
    for tenant in tenants:
        looks += [_http(f"tenant {tenant.id}: tool {tool.name}", tool) for tool in tenant.config.tools.http]
        looks += [_mcp(f"tenant {tenant.id}: MCP server {server.name}", server) for server in tenant.config.tools.mcp]
    return list(await asyncio.gather(*looks))


async def _http(subject: str, tool: HttpToolConfig) -> Finding:
    parts = urlsplit(tool.url)
    host = parts.hostname or ""
    try:
        for secret in tool.headers.values():
            secret.reveal()
        async with asyncio.timeout(_LOOKUP_S):
            addresses = await resolve(host, parts.port or 443)
    except ConfigError as error:
        return Finding("failed", subject, str(error), "see its headers: until then it answers with an error")
    except OSError:  # TimeoutError is one
        return Finding("failed", subject, f"{host} cannot be looked up", "see its url, and whether DNS works here")
    private = [str(address) for address in addresses if not is_public(address)]
    if private and not tool.allow_private:
        cure = "allow_private: true, if that is meant"
        return Finding("failed", subject, f"{host} is {private[0]}, which is not public, so it is never asked", cure)
    return Finding("ok", subject, f"{host} has an address")


async def _mcp(subject: str, config: McpServerConfig) -> Finding:
    from sipbridge.tools.mcp import McpServer

    server = McpServer(config)
    server.start()
    try:
        await server.tried()
        names, why = [tool.name for tool in server.tools(())], server.trouble
    finally:
        await server.close()
    if why:
        way = "command, args and env" if config.command is not None else "url and headers"
        return Finding("failed", subject, why, f"see its {way}: until it is there its tools answer with an error")
    lacking = sorted(set(config.tools or ()) - set(server.offered))
    if lacking:
        return Finding("warning", subject, f"ready, but has no {', '.join(lacking)}", "see its tools")
    return Finding("ok", subject, f"ready, with {', '.join(names) or 'no tool at all'}")
