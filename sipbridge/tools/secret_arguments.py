"""Arguments that come from the caller's keypad and not from the model: it neither sees them nor can give them.

The tool's declaration lacks them; when it runs they are taken from the call (once) and put in, and in what it answers
or complains of they are blotted out again. So they reach the tool and nothing else: no message to a model, no record of
the run, no log line of ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from sipbridge.agent import ToolCall
from sipbridge.logs import blotted
from sipbridge.tenant_file.digits import CollectDigitsConfig
from sipbridge.tools import CallControl, Tool, ToolError
from sipbridge.tools.arguments import ArgumentError, Schema, checked, schema_of

log = structlog.get_logger(__name__)


def secret_arguments(config: CollectDigitsConfig | None, tool: str) -> tuple[str, ...]:
    """The secure fields that go to the tool of this name."""
    fields = {} if config is None else config.fields
    return tuple(name for name, field in fields.items() if field.tool == tool)


def with_secrets(tool: Tool, names: Sequence[str]) -> Tool:
    """The same tool; its arguments of these names are what the caller has entered for the fields of these names."""
    shown = schema_of(tool.arguments)
    inner = tool.arguments if isinstance(tool.arguments, type) else _with_properties(shown, names)
    declared, required = shown.get("properties", {}), shown.get("required", ())
    needed = [name for name in names if name in required or name not in declared]

    async def run(control: CallControl, request: ToolCall, arguments: Mapping[str, Any]) -> str | None:
        if missing := control.lacking_digits(needed):
            raise ToolError(f"the caller has to enter {' and '.join(missing)} first: call collect_digits for it")
        own = {name: value for name, value in arguments.items() if name not in names}
        secrets = control.take_digits(names)
        try:
            whole = checked(inner, json.dumps({**own, **secrets}))
            result = await tool.run(control, request, whole)
        except (ArgumentError, ToolError) as error:
            raise ToolError(blotted(str(error), secrets.values())) from None
        except Exception as error:
            # Its message, and those of what caused it, may quote what it was given.
            log.error("tool failed", tool=tool.name, error=type(error).__name__)
            raise ToolError(f"{tool.name} failed") from None
        return None if result is None else blotted(result, secrets.values())

    return replace(tool, arguments=_without_properties(shown, names), run=run)


def _without_properties(schema: Schema, names: Sequence[str]) -> dict[str, Any]:
    properties = {name: kind for name, kind in schema.get("properties", {}).items() if name not in names}
    required = [name for name in schema.get("required", ()) if name not in names]
    return {**schema, "type": "object", "properties": properties, "required": required}


def _with_properties(schema: Schema, names: Sequence[str]) -> dict[str, Any]:
    return {**schema, "properties": {**dict.fromkeys(names, {"type": "string"}), **schema.get("properties", {})}}
