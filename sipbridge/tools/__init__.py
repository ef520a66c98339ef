"""Tools: what the model may do in a call beside talking.

A tool is one declaration: a name, a description, the pydantic model of its arguments (whose JSON Schema the model sees)
and a coroutine. `Toolbox` checks the arguments, runs the tool beside the audio with a time-out and turns whatever
happens into one answer for the model: nothing a model sends and nothing a tool does raises into the call.

To add one: write a file with a function that returns a `Tool`, and name it in `toolbox_for`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from pydantic import BaseModel, ValidationError

from sipbridge.agent import ToolCall, ToolDeclaration
from sipbridge.agent_config import AgentConfig
from sipbridge.tool_config import ToolsConfig

log = structlog.get_logger(__name__)

MAX_RESULT_CHARACTERS = 32_000
"""What a model is given of a result at most; the rest is cut, and the model is told so."""


class CallControl(Protocol):
    """What a tool may do to the call that it runs in. `spoken` of a request: the reply that made it had speech."""

    async def end_call(self, request: ToolCall, reason: str) -> None:
        """Hang up when the goodbye has been heard to its last packet."""

    async def switch_agent(self, name: str, summary: str) -> str:
        """Give the line to another agent, with what this one says of the call. Returns why it did not succeed; where
        it does, the model that asked for it is gone."""

    async def transfer(self, request: ToolCall, name: str, target: str) -> str:
        """Announce, then hand the caller over to `target` (a URI). Returns why it did not succeed; where it does, the
        call is over and this does not return."""


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str
    arguments: type[BaseModel]
    run: Callable[[CallControl, ToolCall, Any], Awaitable[str | None]]
    """Given the call, the request and an instance of `arguments`. None: there is nothing to tell the model."""
    steers_call: bool = False
    """It speaks and waits by itself, under the call's own deadlines, so the tools' time-out does not apply."""

    @property
    def declaration(self) -> ToolDeclaration:
        schema = self.arguments.model_json_schema()
        schema.pop("title", None)
        schema.pop("description", None)
        return ToolDeclaration(self.name, self.description, schema)


class Toolbox:
    """The tools of one tenant."""

    def __init__(self, tools: Iterable[Tool], *, timeout_seconds: float = 10) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._timeout_seconds = timeout_seconds

    @property
    def declarations(self) -> tuple[ToolDeclaration, ...]:
        return tuple(tool.declaration for tool in self._tools.values())

    async def run(self, control: CallControl, request: ToolCall) -> str | None:
        """The answer to send to the model, or None where there is none. Raises nothing but cancellation."""
        tool = self._tools.get(request.name)
        if tool is None:
            return _error(f"there is no tool {request.name!r}; there are: {', '.join(self._tools) or 'none'}")
        try:
            arguments = tool.arguments.model_validate_json(request.arguments or "{}")
        except ValidationError as error:
            return _error("; ".join(_explain(error)))
        timeout = None if tool.steers_call else self._timeout_seconds
        try:
            async with asyncio.timeout(timeout):
                result = await tool.run(control, request, arguments)
        except TimeoutError:
            return _error(f"{request.name} did not finish within {self._timeout_seconds:g} seconds")
        except Exception:
            # A tool is other people's code: its failure is the model's to handle, not the call's to die of.
            log.exception("tool failed", tool=request.name)
            return _error(f"{request.name} failed")
        return None if result is None else _shortened(result)


def toolbox_for(
    config: ToolsConfig, agents: Mapping[str, AgentConfig] | None = None, *, timeout_seconds: float
) -> Toolbox:
    """The tools that a tenant's file asks for. Which of them an agent may use, `switch_agent.declared_to` says."""
    from sipbridge.tools.hang_up import hang_up
    from sipbridge.tools.switch_agent import switch_agent
    from sipbridge.tools.transfer_call import transfer_call

    tools = []
    if config.hang_up is not None:
        tools.append(hang_up())
    if config.transfer_call is not None:
        tools.append(transfer_call(config.transfer_call.targets))
    if agents is not None and len(agents) > 1:
        tools.append(switch_agent(agents))
    return Toolbox(tools, timeout_seconds=timeout_seconds)


def _explain(error: ValidationError) -> Iterable[str]:
    for problem in error.errors(include_url=False, include_input=False):
        place = ".".join(str(part) for part in problem["loc"])
        yield f"{place}: {problem['msg']}" if place else problem["msg"]


def _error(message: str) -> str:
    return json.dumps({"error": message})


def _shortened(result: str) -> str:
    if len(result) <= MAX_RESULT_CHARACTERS:
        return result
    return result[:MAX_RESULT_CHARACTERS] + f"... (cut, {len(result)} characters in all)"
