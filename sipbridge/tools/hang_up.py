"""`hang_up`: the agent ends the call, after its goodbye was heard."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from sipbridge.agent import ToolCall
from sipbridge.tools import CallControl, Tool


class HangUp(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=200, description="Why the call ends, in a few words.")


async def _run(control: CallControl, request: ToolCall, arguments: HangUp) -> None:
    await control.end_call(request, arguments.reason)


def hang_up() -> Tool:
    return Tool(
        name="hang_up",
        description="End the phone call. Say goodbye first; the caller hears it to its end before the line closes.",
        arguments=HangUp,
        run=_run,
        steers_call=True,
    )
