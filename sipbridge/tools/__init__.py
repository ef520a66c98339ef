"""Tools: what the model may do in a call beside talking.

A tool is one declaration: a name, a description, its parameters (a pydantic model of ours, or a JSON Schema from
elsewhere) and a coroutine. `Toolbox` checks the arguments, runs the tool beside the audio with a time-out and turns
whatever happens into one `Answer`: nothing a model sends and nothing a tool does raises into the call.

To add one: write a file with a function that returns a `Tool`, and name it in `toolbox_for`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from sipbridge.agent import ToolCall, ToolDeclaration
from sipbridge.conversation.entry import Collected
from sipbridge.outcome import RunOutcome
from sipbridge.tenant_file.agent import AgentConfig
from sipbridge.tenant_file.tools import ToolsConfig
from sipbridge.tools.arguments import ArgumentError, Parameters, checked, schema_of, shown
from sipbridge.tools.quota import Quota

if TYPE_CHECKING:
    from sipbridge.call_fields import CallFields
    from sipbridge.tools.services import ToolServices

log = structlog.get_logger(__name__)

MAX_RESULT_BYTES = 32_000
"""What a model is given of a result at most (UTF-8); the rest is cut, and the model is told so."""


class ToolError(Exception):
    """A tool could not do what it was asked for. The message is for the model: no secret is in it."""


class CallControl(Protocol):
    """What a tool may do to the call that it runs in. `spoken` of a request: the reply that made it had speech."""

    @property
    def fields(self) -> CallFields:
        """What is known of the call."""

    async def ask_client(self, request: ToolCall, arguments: Mapping[str, Any]) -> str:
        """The answer of the client that is attached to the call. Raises `ToolError` where none is."""

    async def end_call(self, request: ToolCall, reason: str) -> None:
        """Hang up when the goodbye has been heard to its last packet."""

    async def switch_agent(self, name: str, summary: str) -> str:
        """Give the line to another agent, with what this one says of the call. Returns why it did not succeed; where
        it does, the model that asked for it is gone."""

    async def transfer(self, request: ToolCall, name: str, target: str, summary: str = "") -> str:
        """Announce, then hand the caller over to `target` (a URI), who is told the `summary` where that is asked first.
        Returns why it did not succeed; an empty text where it did, and the agent is not needed any more."""

    async def hold(self, request: ToolCall, seconds: float) -> str:
        """Music for the caller, once what is being said was heard. Returns why it is over."""

    async def transfer_objection(self, name: str, agreed: bool | None) -> str:
        """Why the caller may not be handed over to that target now, where he has to agree to it, in words for the
        model; "" if he has. `agreed`: what the model says that he has answered."""

    async def press_keys(self, request: ToolCall, keys: str) -> str:
        """Press keys (0-9, A-D, * and #; `,` and `w` are pauses), after what was said with the request has been heard.
        Returns what went wrong, or an empty text."""

    async def collect_digits(self, request: ToolCall, field: str, asking: str) -> Collected | None:
        """Let the caller enter the tenant's field of this name; `asking` is for an agent that has not asked for it.
        None: he is entering something already."""

    def lacking_digits(self, fields: Sequence[str]) -> list[str]:
        """For which of these secure fields nothing was entered that has not been taken."""

    def take_digits(self, fields: Sequence[str]) -> dict[str, str]:
        """What was entered for these secure fields: once, then it is forgotten."""


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str
    arguments: Parameters
    """A pydantic model, or a JSON Schema of an object."""
    run: Callable[[CallControl, ToolCall, Any], Awaitable[str | None]]
    """Given the call, the request and the arguments: an instance of the model, or a dictionary that fits the schema.
    None: there is nothing to tell the model. Raises `ToolError` with words for it."""
    steers_call: bool = False
    """It speaks and waits by itself, under the call's own deadlines, so the tools' time-out does not apply."""
    timeout_seconds: float | None = None
    """Where it is not the tenant's (`deadlines.tool_seconds`)."""

    @property
    def declaration(self) -> ToolDeclaration:
        return ToolDeclaration(self.name, self.description, schema_of(self.arguments))


@dataclass(frozen=True, slots=True)
class Answer:
    """`text` is for the model; None: there is nothing to tell it."""

    text: str | None
    outcome: RunOutcome = "ok"
    error: str = ""


class Toolbox:
    """The tools that one call has."""

    def __init__(
        self,
        tools: Iterable[Tool],
        *,
        timeout_seconds: float = 10,
        quota: Quota | None = None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """`close` gives back what the tools share with other calls; call it when the call is over."""
        self.close = close
        self._tools = {tool.name: tool for tool in tools}
        self._timeout_seconds = timeout_seconds
        self._quota = quota

    @property
    def declarations(self) -> tuple[ToolDeclaration, ...]:
        return tuple(tool.declaration for tool in self._tools.values())

    def steers(self, request: ToolCall) -> bool:
        """It is done to the call itself (`Tool.steers_call`)."""
        tool = self._tools.get(request.name)
        return tool is not None and tool.steers_call

    def shown(self, request: ToolCall) -> str:
        """Its arguments for the record, without what is secret."""
        tool = self._tools.get(request.name)
        return shown({} if tool is None else schema_of(tool.arguments), request.arguments)

    async def run(self, control: CallControl, request: ToolCall, known: Collection[str] | None = None) -> Answer:
        """The answer to send to the model. `known`: those that it was told of; None: all. Raises nothing but
        cancellation."""
        known = self._tools if known is None else known
        tool = self._tools.get(request.name) if request.name in known else None
        if tool is None:
            names = ", ".join(known) or "none"
            return _failed("unknown", f"there is no tool {request.name[:64]!r}; there are: {names}")
        try:
            arguments = checked(tool.arguments, request.arguments)
        except ArgumentError as error:
            return _failed("invalid", str(error))
        if self._quota is not None and not tool.steers_call:
            refusal = self._quota.refusal(asyncio.get_running_loop().time())
            if refusal is not None:
                return _failed("refused", refusal)
        return await self._run(tool, control, request, arguments)

    async def _run(self, tool: Tool, control: CallControl, request: ToolCall, arguments: Any) -> Answer:
        seconds = tool.timeout_seconds or self._timeout_seconds
        limit = asyncio.timeout(None if tool.steers_call else seconds)
        try:
            async with limit:
                result = await tool.run(control, request, arguments)
            return Answer(None if result is None else shortened(result))
        except ToolError as error:
            return _failed("error", str(error))
        except (Exception, asyncio.CancelledError) as error:
            # A tool is other people's code: its failure is the model's to handle, not the call's to die of.
            if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
                raise
            if limit.expired():
                return _failed("timeout", f"{tool.name} did not finish within {seconds:g} seconds")
            log.exception("tool failed", tool=tool.name)
            return _failed("error", f"{tool.name} failed")


def toolbox_for(
    config: ToolsConfig,
    agents: Mapping[str, AgentConfig] | None = None,
    *,
    timeout_seconds: float,
    tenant: str = "",
    services: ToolServices | None = None,
) -> Toolbox:
    """The tools that a tenant's file asks for, for one call. `services`: what they share with other calls. Which of
    them an agent may use, `switch_agent.declared_to` says."""
    from sipbridge.tools.collect_digits import collect_digits
    from sipbridge.tools.hang_up import hang_up
    from sipbridge.tools.hold import hold
    from sipbridge.tools.send_dtmf import send_dtmf
    from sipbridge.tools.services import ToolServices
    from sipbridge.tools.switch_agent import switch_agent
    from sipbridge.tools.transfer_call import transfer_call

    shared = (services or ToolServices()).borrow(tenant, config)
    tools = []
    if config.hang_up is not None:
        tools.append(hang_up())
    if config.transfer_call is not None:
        attended, confirm = config.transfer_call.mode == "attended", config.transfer_call.confirm
        tools.append(transfer_call(config.transfer_call.targets, attended=attended, confirm=confirm))
    if config.hold is not None:
        tools.append(hold(config.hold.seconds))
    if config.send_dtmf is not None:
        tools.append(send_dtmf())
    if config.collect_digits is not None:
        tools.append(collect_digits(config.collect_digits.fields))
    if agents is not None and len(agents) > 1:
        tools.append(switch_agent(agents))
    tools += [_given_secrets(tool, config) for tool in shared.tools]
    quota = Quota(config.quotas.per_call, shared.minute)
    return Toolbox(tools, timeout_seconds=timeout_seconds, quota=quota, close=shared.give_back)


def _given_secrets(tool: Tool, config: ToolsConfig) -> Tool:
    """With what only the caller's keypad can give it."""
    from sipbridge.tools.secret_arguments import secret_arguments, with_secrets

    names = secret_arguments(config.collect_digits, tool.name)
    return with_secrets(tool, names) if names else tool


def _is_being_cancelled() -> bool:
    """It is we who are to stop; else the tool has been cancelled by itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _failed(outcome: RunOutcome, message: str) -> Answer:
    return Answer(json.dumps({"error": message}, ensure_ascii=False), outcome, message)


def shortened(result: str) -> str:
    data = result[: MAX_RESULT_BYTES + 1].encode("utf-8", "replace")
    if len(data) <= MAX_RESULT_BYTES:
        return data.decode()
    return data[:MAX_RESULT_BYTES].decode("utf-8", "ignore") + "... (cut: the result is longer)"
