"""Running one tool, as a call does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

from sipbridge.agent import ToolCall
from sipbridge.call_fields import CallFields
from sipbridge.configfile import parse
from sipbridge.outcome import RunOutcome
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_file.tools import ToolsConfig
from sipbridge.tools import Answer, CallControl, Tool, Toolbox

FIELDS = CallFields(to="agent", caller="+15550123", call_id="c 1/2", headers={"X-Member": "é 7"})


@dataclass
class _Call:
    fields: CallFields = FIELDS


CALL = cast(CallControl, _Call())


async def ask(tool: Tool, /, **arguments: Any) -> Answer:
    return await Toolbox([tool]).run(CALL, ToolCall("c1", tool.name, json.dumps(arguments), "r1"))


async def asked(tool: Tool, /, **arguments: Any) -> str:
    """What it answers where all goes well."""
    answer = await ask(tool, **arguments)
    assert answer.outcome == "ok", answer
    return answer.text or ""


async def failed(tool: Tool, outcome: RunOutcome = "error", /, **arguments: Any) -> str:
    answer = await ask(tool, **arguments)
    assert answer.outcome == outcome, answer
    assert answer.text is not None
    assert json.loads(answer.text) == {"error": answer.error}
    return answer.error


def tenant_with(tools: str) -> TenantConfig:
    return parse(f"agent: {{provider: offline}}\ntools:\n{tools}", TenantConfig, "t.yaml")


def tools(text: str) -> ToolsConfig:
    """`tools:` of a tenant's file."""
    return tenant_with(text).tools
