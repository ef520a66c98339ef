"""`hold`: the caller hears music until he says something, presses a key, or it has lasted long enough."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict, Field, create_model

from sipbridge.agent import ToolCall
from sipbridge.tools import CallControl, Tool


class Hold(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seconds: float


def hold(longest: float) -> Tool:
    """`longest`: seconds that the model may ask for at most, and gets where it says nothing."""
    seconds = Field(default=longest, gt=0, le=longest, description="How long at most.")
    arguments = create_model("Hold", __base__=Hold, seconds=(float, seconds))

    async def run(control: CallControl, request: ToolCall, chosen: Hold) -> str:
        return json.dumps({"over": await control.hold(request, chosen.seconds)})

    return Tool(
        name="hold",
        description="Put the caller on hold, with music. Tell the caller first. It ends when the caller speaks or"
        " presses a key, or after some time; the answer says which.",
        arguments=arguments,
        run=run,
        steers_call=True,
    )
