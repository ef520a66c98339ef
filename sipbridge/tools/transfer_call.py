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


def transfer_call(targets: Mapping[str, str]) -> Tool:
    """`targets`: name -> sip: or tel: URI. The names are the only arguments that are valid."""

    def named(target: str) -> str:
        if target not in targets:
            raise ValueError(f"there is no such target; there are: {', '.join(targets)}")
        return target

    target = Field(description="Whom the caller is handed over to.", json_schema_extra={"enum": list(targets)})
    arguments = create_model(
        "TransferCall", __base__=TransferCall, target=Annotated[str, AfterValidator(named), target]
    )

    async def run(control: CallControl, request: ToolCall, chosen: TransferCall) -> str:
        failure = await control.transfer(request, chosen.target, targets[chosen.target])
        return json.dumps({"error": f"the transfer to {chosen.target} did not succeed: {failure}"})

    return Tool(
        name="transfer_call",
        description="Hand the caller over to a person or department. Tell the caller first that you are doing so.",
        arguments=arguments,
        run=run,
        steers_call=True,
    )
