"""`collect_digits`: the caller enters a number by keys.

The agent is told the number, or, of a secure field, only that there is one: the number itself goes to the tool that the
tenant's file names, as an argument that the model neither sees nor gives (`secret_arguments.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from sipbridge.agent import ToolCall
from sipbridge.conversation.entry import Collected, Entered
from sipbridge.tenant_file.digits import DigitsField
from sipbridge.tools import CallControl, Tool


class CollectDigits(BaseModel):
    model_config = ConfigDict(extra="forbid")

    field: str


def collect_digits(fields: Mapping[str, DigitsField]) -> Tool:
    """The names of the fields are the only arguments that are valid."""

    def named(field: str) -> str:
        if field not in fields:
            raise ValueError(f"there is no such field; there are: {', '.join(fields)}")
        return field

    described = "; ".join(f"{name}: {_described(name, field)}" for name, field in fields.items())
    field = Field(description=f"What the caller enters. {described}", json_schema_extra={"enum": list(fields)})
    arguments = create_model(
        "CollectDigits", __base__=CollectDigits, field=Annotated[str, AfterValidator(named), field]
    )

    async def run(control: CallControl, request: ToolCall, chosen: CollectDigits) -> str:
        collected = await control.collect_digits(request, chosen.field, asking(chosen.field, fields[chosen.field]))
        return json.dumps(_told(chosen.field, fields[chosen.field], collected))

    return Tool(
        name="collect_digits",
        description="Let the caller enter a number with the telephone's keys. In the same reply, before you call this,"
        " ask for it in one short sentence; then wait, and say nothing until there is a result.",
        arguments=arguments,
        run=run,
        steers_call=True,
    )


def asking(name: str, field: DigitsField) -> str:
    """What an agent is to do that has not asked yet."""
    end = "" if field.terminator is None else f", and {_KEYS[field.terminator]} at the end"
    return (
        f"Ask the caller in one short sentence to enter this with the telephone's keys{end}:"
        f" {_described(name, field)}. Say nothing else."
    )


_KEYS = {"#": "the pound key", "*": "the star key"}


def _described(name: str, field: DigitsField) -> str:
    many = f"{field.least}" if field.least == field.most else f"{field.least} to {field.most}"
    return f"{field.description or name.replace('_', ' ')} ({many} digits)"


def _told(name: str, field: DigitsField, collected: Collected | None) -> dict[str, object]:
    """The result."""
    if collected is None:
        return {"error": "the caller is entering something else already"}
    match collected.how:
        case Entered.WHOLE if field.secure:
            note = f"You are not shown them. Call {field.tool} now: it is given them, once."
            return {"field": name, "entered": collected.count, "note": note}
        case Entered.WHOLE:
            return {"field": name, "digits": collected.digits}
        case Entered.SHORT:
            return {"error": f"the caller entered {collected.count} digits, which is too few"}
        case Entered.LATE:
            return {"error": f"the caller entered {collected.count} digits and then pressed no more keys"}
        case Entered.AGAIN:
            return {"error": "the caller pressed a key to hear the question again: ask once more, and call this again"}
