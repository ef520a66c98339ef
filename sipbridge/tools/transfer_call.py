"""`transfer_call`: hand the caller over to one of the tenant's named targets.

The model chooses among names from the tenant's file. It never supplies a number or an address: what a caller can talk a
model into must not be able to place a call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from sipbridge.agent import ToolCall
from sipbridge.tools import CallControl, Tool


class TransferCall(BaseModel):
    model_config = ConfigDict(extra="forbid")

    target: str


class ConsultAndTransfer(TransferCall):
    summary: str = Field(
        default="",
        max_length=600,
        description="For the person who is called, in one or two sentences: who is calling, and what about.",
    )


def transfer_call(targets: Mapping[str, str], *, attended: bool = False) -> Tool:
    """`targets`: name -> sip: or tel: URI. The names are the only arguments that are valid. `attended`: the person is
    asked first, and told a summary."""

    def named(target: str) -> str:
        if target not in targets:
            raise ValueError(f"there is no such target; there are: {', '.join(targets)}")
        return target

    target = Field(description="Whom the caller is handed over to.", json_schema_extra={"enum": list(targets)})
    shape = ConsultAndTransfer if attended else TransferCall
    arguments = create_model("TransferCall", __base__=shape, target=Annotated[str, AfterValidator(named), target])

    async def run(control: CallControl, request: ToolCall, chosen: TransferCall) -> str:
        summary = chosen.summary if isinstance(chosen, ConsultAndTransfer) else ""
        failure = await control.transfer(request, chosen.target, targets[chosen.target], summary)
        return json.dumps({"error": f"the transfer to {chosen.target} did not succeed: {failure}"})

    return Tool(
        name="transfer_call",
        description="Hand the caller over to a person or department. Tell the caller first that you are doing so.",
        arguments=arguments,
        run=run,
        steers_call=True,
    )
