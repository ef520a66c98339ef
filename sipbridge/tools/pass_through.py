"""Pass-through tools: the call is handed to the client that is attached to the phone call, which answers it."""

from __future__ import annotations

from typing import Any

from sipbridge.agent import ToolCall
from sipbridge.tenant_file.tool_sources import PassThroughConfig
from sipbridge.tools import CallControl, Tool


async def _run(control: CallControl, request: ToolCall, arguments: dict[str, Any]) -> str:
    return await control.ask_client(request, arguments)


def pass_through(config: PassThroughConfig) -> Tool:
    return Tool(config.name, config.description, config.parameters, _run, timeout_seconds=config.timeout_seconds)
