"""Tools of an MCP server (Model Context Protocol), by the official SDK: a program of ours, or a server over HTTP.

A server is opened once, by a task of its own, and used by all calls of its tenant. Where it is gone it is opened again,
ever more slowly; until then each of its tools answers with an error. Needs the extra `mcp`, loaded at first use.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection
from importlib import import_module
from typing import TYPE_CHECKING, Any

import structlog

from sipbridge import __version__
from sipbridge.agent import ToolCall
from sipbridge.errors import ConfigError
from sipbridge.providers.failures import Secrets
from sipbridge.tenant_file.tool_sources import McpServerConfig
from sipbridge.tools import CallControl, Tool, ToolError
from sipbridge.tools.arguments import fault_of

if TYPE_CHECKING:
    import mcp_types as types
    from mcp import Client
    from mcp.client import Transport

log = structlog.get_logger(__name__)

_CONNECT_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 30.0
_STEADY_S = 30.0
"""A server that was up for so long is opened again without a pause like that of one that falls over at once."""
_MOST_TOOLS = 128
_MOST_PAGES = 20
_LARGEST_SCHEMA = 32_000
_LONGEST_DESCRIPTION = 4_000


class McpServer:
    def __init__(self, config: McpServerConfig) -> None:
        self._config = config
        self._task: asyncio.Task[None] | None = None
        self._client: Client | None = None
        self._usable_tools: tuple[types.Tool, ...] = ()
        self.offered: list[str] = []
        """All that it has, by its own names."""
        self._tried = asyncio.Event()
        self.up = asyncio.Event()
        """Set while it can be used."""
        self.trouble = ""
        """Why it can't, at the last try."""
        self._stirred = asyncio.Event()
        """The connection is gone, or may be, or its tools have changed."""
        self._lost = False
        self._mode = "legacy"
        """How to begin: by `initialize`, all that older servers know, of which some answer nothing else; those who know
        only MCP 2026-07-28 say so at once, and are asked the other way."""
        self._secrets = Secrets()

    # --- its life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open it, and keep it open until `close`."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"mcp {self._config.name}")

    async def tried(self) -> None:
        """Until it is open, or could not be opened."""
        await self._tried.wait()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        loop, pause, before = asyncio.get_running_loop(), _FIRST_PAUSE_S, ""
        while True:
            began = loop.time()
            try:
                await self._serve()
                why = "the connection is gone"
            except Exception as error:  # the SDK's and the transports', in groups; the boundary of one server
                why = self._secrets.redact(_words(error))
            finally:
                self._gone()
                self._tried.set()
            pause = _FIRST_PAUSE_S if loop.time() - began > _STEADY_S else min(pause * 2, _LONGEST_PAUSE_S)
            tell = log.debug if why == before else log.warning
            tell("MCP server not available", server=self._config.name, reason=why, again_in=pause)
            before = self.trouble = why
            await asyncio.sleep(pause)

    async def _serve(self) -> None:
        """Open it, and return when it is gone."""
        mcp, types = await asyncio.to_thread(_load)  # half a second, which no call has to wait for
        self._lost = False
        self._stirred.clear()

        async def message(what: object) -> None:
            if isinstance(what, types.ToolListChangedNotification):
                self._stirred.set()

        info = types.Implementation(name="sipbridge", version=__version__)
        mode, self._mode = self._mode, "auto" if self._mode == "legacy" else "legacy"
        connection = mcp.Client(self._transport(), client_info=info, message_handler=message, cache=None, mode=mode)
        async with asyncio.timeout(_CONNECT_S) as opening, connection as client:
            await self._list(client)
            opening.reschedule(None)
            self._client, self.trouble, self._mode = client, "", mode
            self.up.set()
            self._tried.set()
            log.info("MCP server ready", server=self._config.name, tools=len(self._usable_tools))
            while not self._lost:
                await self._stirred.wait()
                self._stirred.clear()
                if not self._lost:
                    async with asyncio.timeout(_CONNECT_S):
                        await self._list(client)

    def _transport(self) -> Transport:
        config = self._config
        if config.command is not None:
            from sipbridge.tools.mcp_program import program

            env = {name: secret.reveal() for name, secret in config.env.items()}
            self._secrets = Secrets("", env.values())
            return program(config.command, config.args, env, name=config.name, ended=self._gone)
        from sipbridge.tools.mcp_http import server

        assert config.url is not None
        headers = {name: secret.reveal() for name, secret in config.headers.items()}
        self._secrets = Secrets(config.url, headers.values())
        return server(config.url, headers)

    def _gone(self) -> None:
        self._lost, self._client = True, None
        self.up.clear()
        self._stirred.set()

    # --- its tools ----------------------------------------------------------------------------------------------------

    async def _list(self, client: Client) -> None:
        offered: list[types.Tool] = []
        cursor = None
        for _ in range(_MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            offered += page.tools
            cursor = page.next_cursor
            if not cursor or len(offered) >= _MOST_TOOLS:
                break
        wanted = self._config.tools
        self.offered = names = [tool.name for tool in offered]
        if lacking := [name for name in wanted or () if name not in names]:
            log.warning("MCP server lacks tools", server=self._config.name, lacking=lacking, there_are=names[:50])
        self._usable_tools = tuple(
            tool for tool in offered[:_MOST_TOOLS] if (wanted is None or tool.name in wanted) and self._usable(tool)
        )

    def _usable(self, tool: types.Tool) -> bool:
        schema = {"type": "object", **tool.input_schema}
        fault = "too large" if len(json.dumps(schema, default=str)) > _LARGEST_SCHEMA else fault_of(schema)
        if fault is not None:
            log.warning("MCP tool left out", server=self._config.name, tool=tool.name[:64], schema=fault[:200])
        return fault is None

    def tools(self, taken: Collection[str]) -> list[Tool]:
        """Those it had when it was last asked, under names that vendors take and nobody else has."""
        made: list[Tool] = []
        for offered in self._usable_tools:
            name = re.sub(r"[^A-Za-z0-9_-]", "_", offered.name)[:64]
            if name in taken:
                name = f"{self._config.name}_{name}"[:64]
            if not re.match(r"[A-Za-z_]", name):
                name = f"_{name}"[:64]
            if name not in taken and all(name != tool.name for tool in made):
                made.append(self._tool(name, offered))
        return made

    def _tool(self, name: str, offered: types.Tool) -> Tool:
        async def run(control: CallControl, request: ToolCall, arguments: dict[str, Any]) -> str:
            return await self._call(offered.name, arguments)

        description = (offered.description or offered.title or name)[:_LONGEST_DESCRIPTION]
        schema = _without_patterns({"type": "object", **offered.input_schema})
        return Tool(name, description, schema, run, timeout_seconds=self._config.timeout_seconds)

    async def _call(self, name: str, arguments: dict[str, Any]) -> str:
        from mcp import MCPError

        client = self._client
        if client is None:
            raise ToolError(f"the server {self._config.name} is not available at the moment")
        try:
            result = await client.call_tool(name, arguments)
        except MCPError as error:
            self._stirred.set()  # the tool's error, an answer that is too long, a session that is gone: see which
            raise ToolError(self._secrets.redact(f"{self._config.name}: {_words(error)}")) from None
        except Exception as error:
            # A transport that broke, an answer that is none: whatever it was, the next connection has a chance.
            self._gone()
            reason = self._secrets.redact(_words(error))
            log.warning("MCP call failed", server=self._config.name, tool=name, reason=reason)
            raise ToolError(f"the server {self._config.name} did not answer") from None
        text = _text(result)
        if result.is_error:
            raise ToolError(self._secrets.redact(text)[:2_000] or f"{name} failed")
        return text or "done"


def _without_patterns(schema: Any) -> Any:
    """A stranger's regular expression may take for ever; its server holds the arguments against it by itself."""
    if isinstance(schema, list):
        return [_without_patterns(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_patterns(inner)
        for key, inner in schema.items()
        if key != "patternProperties" and not (key == "pattern" and isinstance(inner, str))
    }


def _load() -> tuple[Any, Any]:
    import_module("sipbridge.tools.mcp_program")
    import_module("sipbridge.tools.mcp_http")
    return import_module("mcp"), import_module("mcp_types")


def _text(result: types.CallToolResult) -> str:
    """What of a result is for a model that hears and reads."""
    parts = []
    for block in result.content:
        if block.type == "text":
            parts.append(block.text)
        elif block.type == "resource":
            parts.append(getattr(block.resource, "text", "(data)"))
        elif block.type == "resource_link":
            parts.append(f"({block.name}: {block.uri})")
        else:
            parts.append(f"({block.type})")
    if not parts and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(parts)


def _words(error: BaseException) -> str:
    """What went wrong at the bottom of it, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, FileNotFoundError | PermissionError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, FileNotFoundError):
        return "there is no such program (what follows its name belongs into args)"
    if isinstance(error, ConfigError):
        return str(error)
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
