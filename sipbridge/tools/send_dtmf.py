"""`send_dtmf`: the agent presses keys, for the menus and door openers at the other end."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict, Field

from sipbridge.agent import ToolCall
from sipbridge.tools import CallControl, Tool

_PATTERN = r"^[0-9A-Da-d*#,wW]{1,32}$"


class SendDtmf(BaseModel):
    model_config = ConfigDict(extra="forbid")

    digits: str = Field(
        pattern=_PATTERN,
        json_schema_extra={"writeOnly": True},  # it may be a PIN: no record has it
        description="The keys, in order: 0-9, *, #. A comma is a pause of two seconds, w one of half a second.",
    )


async def _run(control: CallControl, request: ToolCall, arguments: SendDtmf) -> str:
    failure = await control.press_keys(request, arguments.digits)
    return json.dumps({"error": failure} if failure else {"pressed": arguments.digits})


def send_dtmf() -> Tool:
    return Tool(
        name="send_dtmf",
        description="Press keys on the telephone, as a caller would do in a menu.",
        arguments=SendDtmf,
        run=_run,
        steers_call=True,
    )
