"""What the caller has entered reaches the tool that is named, and from there nothing comes back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from sipbridge.agent import ToolCall
from sipbridge.configfile import parse
from sipbridge.errors import ConfigError
from sipbridge.tenant_config import TenantConfig
from sipbridge.tools import CallControl, Tool, Toolbox, ToolError
from sipbridge.tools.secret_arguments import with_secrets
from tests.tools.test_toolbox import Call

CARD = "4929000000000006"
SCHEMA = {
    "type": "object",
    "properties": {"amount": {"type": "number"}, "card": {"type": "string", "pattern": "^4"}},
    "required": ["amount", "card"],
    "additionalProperties": False,
}


class Pay(BaseModel):
    amount: float
    card: str


class Shop:
    """A tool that takes whatever it is given, and does as it is told."""

    def __init__(self, parameters: Any, does: Any = "paid") -> None:
        self.given: list[Any] = []
        self._does = does
        self.tool = with_secrets(Tool("pay", "Pay.", parameters, self._run), ["card"])

    async def _run(self, call: CallControl, request: ToolCall, arguments: Any) -> str:
        self.given.append(arguments.model_dump() if isinstance(arguments, BaseModel) else arguments)
        if isinstance(self._does, Exception):
            raise self._does
        return str(self._does)

    def asked(self, arguments: str = '{"amount": 5}', digits: str = CARD) -> str:
        call = Call()
        call.digits = {"card": digits} if digits else {}
        answer = asyncio.run(Toolbox([self.tool]).run(call, ToolCall("c1", "pay", arguments, "r1")))
        assert answer.text is not None
        return answer.text


@pytest.mark.parametrize("parameters", [SCHEMA, Pay, {"type": "object", "properties": {"amount": {"type": "number"}}}])
def test_the_tool_has_the_digits_and_the_model_does_not(parameters: Any) -> None:
    shop = Shop(parameters)
    assert set(shop.tool.declaration.parameters["properties"]) == {"amount"}
    assert "card" not in json.dumps(shop.tool.declaration.parameters)
    assert shop.asked() == "paid"
    assert shop.given == [{"amount": 5, "card": CARD}]


def test_without_digits_it_is_not_asked() -> None:
    shop = Shop(SCHEMA)
    assert "has to enter card first" in shop.asked(digits="")
    assert shop.given == []


def test_what_need_not_be_there_need_not_be_entered() -> None:
    shop = Shop({**SCHEMA, "required": ["amount"]})
    assert shop.asked(digits="") == "paid"
    assert shop.given == [{"amount": 5}]


def test_the_model_cannot_give_them() -> None:
    assert "card" in json.loads(Shop(SCHEMA).asked('{"amount": 5, "card": "4111"}'))["error"]
    lax = Shop({"type": "object", "properties": {"card": {"type": "string"}}})
    lax.asked('{"card": "4111"}', digits="")
    lax.asked('{"card": "4111"}')
    assert lax.given == [{}, {"card": CARD}]


@pytest.mark.parametrize(
    "does",
    [
        f"paid with {CARD}",
        json.dumps({"card": int(CARD)}),
        "paid with 4929 0000 0000 0006.",
        "paid with 4929-0000-0000-0006",
        ToolError(f"no such card: {CARD}"),
        ValueError(f"no such card: {CARD}"),
    ],
)
def test_nothing_comes_back(does: object) -> None:
    with capture_logs() as logs:
        answer = Shop(SCHEMA, does).asked()
    for told in (answer, repr(logs)):
        assert CARD not in told.replace(" ", "").replace("-", "")


def test_what_does_not_fit_is_not_quoted() -> None:
    answer = Shop(SCHEMA).asked(digits="5105105105105100")
    assert "card" in json.loads(answer)["error"]
    assert "5105" not in answer


def test_the_named_tool_has_to_be_there() -> None:
    tenant = """
agent: {provider: offline}
tools:
  collect_digits:
    fields:
      card: {digits: 16, secure: true, tool: %s}
  pass_through: [{name: pay, description: Pay.}]
"""
    parse(tenant % "pay", TenantConfig, "t.yaml")
    for wrong in ("paid", "hang_up"):
        with pytest.raises(ConfigError, match=r"t.yaml:6: .*fields.card.tool: no such tool; known are: pay"):
            parse(tenant % wrong, TenantConfig, "t.yaml")
