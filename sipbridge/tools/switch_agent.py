"""`switch_agent`: hand the caller over to another agent of the same tenant, in the same call.

Declared by itself where a tenant has several agents. The model chooses among the names of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from sipbridge.agent import ToolCall, ToolDeclaration
from sipbridge.tenant_file.agent import AgentConfig
from sipbridge.tools import CallControl, Tool, Toolbox, ToolError

SWITCH_AGENT: Final = "switch_agent"
_LONGEST_SUMMARY = 2000


class SwitchAgent(BaseModel):
    """A model is to give a summary; one that has none is not sent back for it."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"required": ["agent", "summary"]})

    agent: str
    summary: Annotated[str, AfterValidator(lambda text: text[:_LONGEST_SUMMARY])] = Field(
        default="",
        description="What the other agent has to know: what the caller wants, and what has been found out and done.",
    )


def switch_agent(agents: Mapping[str, AgentConfig]) -> Tool:
    """`agents`: those that may be handed over to."""

    def named(agent: str) -> str:
        if agent not in agents:
            raise ValueError(f"there is no such agent; there are: {', '.join(agents)}")
        return agent

    agent = Field(description=_described(agents), json_schema_extra={"enum": list(agents)})
    arguments = create_model("SwitchAgent", __base__=SwitchAgent, agent=Annotated[str, AfterValidator(named), agent])

    async def run(control: CallControl, request: ToolCall, chosen: SwitchAgent) -> None:
        if failure := await control.switch_agent(chosen.agent, chosen.summary):
            raise ToolError(failure)

    return Tool(
        name=SWITCH_AGENT,
        description=(
            "Hand the caller over to another agent, who goes on with this conversation. Say in a few words that you are"
            " doing so, in the same reply."
        ),
        arguments=arguments,
        run=run,
        steers_call=True,
    )


def _described(agents: Mapping[str, AgentConfig]) -> str:
    names = (f"{name}: {agent.description}" if agent.description else name for name, agent in agents.items())
    return "Who goes on. " + "; ".join(names)


def declared_to(
    name: str, config: AgentConfig, agents: Mapping[str, AgentConfig], toolbox: Toolbox
) -> tuple[ToolDeclaration, ...]:
    """What an agent may do: those of the tenant's tools that its file, or that of the agent which it stands in for,
    names, and handing over to any of the others."""
    allowed = config.tools
    if allowed is None and name in agents:
        allowed = agents[name].tools
    tools = [
        tool for tool in toolbox.declarations if tool.name != SWITCH_AGENT and (allowed is None or tool.name in allowed)
    ]
    others = {other: agent for other, agent in agents.items() if other != name}
    return (*tools, switch_agent(others).declaration) if others else tuple(tools)
