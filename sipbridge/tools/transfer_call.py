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

_DESCRIPTION = "Hand the caller over to a person or department. "
_TELL_FIRST = "Tell the caller first that you are doing so."
_ASK_FIRST = "Ask the caller first whether he wants that, and wait for his answer."


class TransferCall(BaseModel):
    model_config = ConfigDict(extra="forbid")

    target: str


class ConsultAndTransfer(TransferCall):
    summary: str = Field(
        default="",
        max_length=600,
        description="For the person who is called, in one or two sentences: who is calling, and what about.",
    )


class ConfirmedTransferCall(TransferCall):
    agreed: bool | None = Field(
        default=None, description="What the caller answered when you asked him; leave it out where you have not asked."
    )


def transfer_call(targets: Mapping[str, str], *, attended: bool = False, confirm: bool = False) -> Tool:
    """`targets`: name -> sip: or tel: URI. The names are the only targets that are valid. `attended`: the person is
    asked first, and told a summary. `confirm`: only when the caller has agreed."""

    def named(target: str) -> str:
        if target not in targets:
            raise ValueError(f"there is no such target; there are: {', '.join(targets)}")
        return target

    target = Field(description="Whom the caller is handed over to.", json_schema_extra={"enum": list(targets)})
    asked_for: list[type[TransferCall]] = [ConsultAndTransfer] * attended + [ConfirmedTransferCall] * confirm
    arguments = create_model(
        "TransferCall", __base__=tuple(asked_for) or TransferCall, target=Annotated[str, AfterValidator(named), target]
    )

    async def run(control: CallControl, request: ToolCall, chosen: TransferCall) -> str | None:
        if isinstance(chosen, ConfirmedTransferCall):
            objection = await control.transfer_objection(chosen.target, chosen.agreed)
            if objection:
                return json.dumps({"not_yet": objection})
        summary = chosen.summary if isinstance(chosen, ConsultAndTransfer) else ""
        failure = await control.transfer(request, chosen.target, targets[chosen.target], summary)
        if not failure:
            return None  # nobody is left to be told
        return json.dumps({"error": f"the transfer to {chosen.target} did not succeed: {failure}"})

    return Tool(
        name="transfer_call",
        description=_DESCRIPTION + (_ASK_FIRST if confirm else _TELL_FIRST),
        arguments=arguments,
        run=run,
        steers_call=True,
    )
