"""Whatever a model asks for and whatever a tool does, the model gets one answer and the call none of the trouble."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from sipbridge.agent import ToolCall
from sipbridge.call_fields import CallFields
from sipbridge.conversation.entry import Collected
from sipbridge.tenant_file.tools import HangUpConfig, ToolsConfig, TransferCallConfig
from sipbridge.tools import MAX_RESULT_BYTES, CallControl, Tool, Toolbox, ToolError, toolbox_for


class Call:
    """Notes what tools do to it."""

    def __init__(self, failure: str = "486 Busy Here", objection: str = "") -> None:
        self._objection = objection
        self.done: list[tuple[str, ...]] = []
        self.fields = CallFields(to="agent", caller="+15550123", call_id="c1")
        self._failure = failure
        self.digits: dict[str, str] = {}

    async def ask_client(self, request: ToolCall, arguments: Mapping[str, Any]) -> str:
        raise ToolError("nobody is there")

    async def end_call(self, request: ToolCall, reason: str) -> None:
        self.done.append(("end", reason))

    async def switch_agent(self, name: str, summary: str) -> str:
        return f"{name}: {summary}"

    async def transfer_objection(self, name: str, agreed: bool | None) -> str:
        self.done.append(("may", name, str(agreed)))
        return self._objection

    async def transfer(self, request: ToolCall, name: str, target: str, summary: str = "") -> str:
        self.done.append(("transfer", name, target, summary) if summary else ("transfer", name, target))
        return self._failure

    async def hold(self, request: ToolCall, seconds: float) -> str:
        self.done.append(("hold", f"{seconds:g}"))
        return "the caller speaks"

    async def press_keys(self, request: ToolCall, keys: str) -> str:
        self.done.append(("keys", keys))
        return ""

    async def collect_digits(self, request: ToolCall, field: str, asking: str) -> Collected | None:
        self.done.append(("collect", field, asking))
        return None

    def lacking_digits(self, fields: Sequence[str]) -> list[str]:
        return [field for field in fields if field not in self.digits]

    def take_digits(self, fields: Sequence[str]) -> dict[str, str]:
        return {field: self.digits.pop(field) for field in fields if field in self.digits}


def run(toolbox: Toolbox, name: str, arguments: str, call: Call | None = None) -> str | None:
    return asyncio.run(toolbox.run(call or Call(), ToolCall("c1", name, arguments, "r1"))).text


def error(result: str | None) -> str:
    assert result is not None
    answer = json.loads(result)
    assert set(answer) == {"error"}
    return str(answer["error"])


TARGETS = {"desk": "sip:100@pbx.example.com", "sales": "tel:+15550100"}
BOTH = toolbox_for(
    ToolsConfig(hang_up=HangUpConfig(), transfer_call=TransferCallConfig(targets=TARGETS)), timeout_seconds=1
)


def test_only_the_tools_that_are_named_exist() -> None:
    assert toolbox_for(ToolsConfig(), timeout_seconds=1).declarations == ()
    assert [tool.name for tool in BOTH.declarations] == ["hang_up", "transfer_call"]


def test_hang_up() -> None:
    call = Call()
    assert run(BOTH, "hang_up", '{"reason": "all said"}', call) is None
    assert run(BOTH, "hang_up", "", call) is None
    assert call.done == [("end", "all said"), ("end", "")]


def test_transfer_takes_names_only_and_the_schema_says_which() -> None:
    call = Call()
    assert "did not succeed: 486 Busy Here" in error(run(BOTH, "transfer_call", '{"target": "sales"}', call))
    assert call.done == [("transfer", "sales", "tel:+15550100")]
    schema = BOTH.declarations[1].parameters
    assert schema["properties"]["target"]["enum"] == ["desk", "sales"]
    assert schema["required"] == ["target"]


def test_a_transfer_that_the_caller_has_to_agree_to() -> None:
    asks = toolbox_for(ToolsConfig(transfer_call=TransferCallConfig(targets=TARGETS, confirm=True)), timeout_seconds=1)
    call = Call(objection="Ask him.")
    assert json.loads(run(asks, "transfer_call", '{"target": "desk"}', call) or "") == {"not_yet": "Ask him."}
    assert call.done == [("may", "desk", "None")]
    call = Call()
    error(run(asks, "transfer_call", '{"target": "desk", "agreed": true}', call))
    assert call.done == [("may", "desk", "True"), ("transfer", "desk", "sip:100@pbx.example.com")]
    assert "agreed" in asks.declarations[0].parameters["properties"]
    assert "agreed" not in BOTH.declarations[1].parameters["properties"]


@pytest.mark.parametrize(
    "target",
    [
        "sip:100@pbx.example.com",
        "tel:+15550100",
        "+15550100",
        "Desk",
        "desk ",
        "",
        "desk\r\nX: y",
        "ｄｅｓｋ",
        None,
        1,
        ["desk"],
    ],
)
def test_what_is_not_a_target_is_never_transferred_to(target: object) -> None:
    call = Call()
    assert "target" in error(run(BOTH, "transfer_call", json.dumps({"target": target}), call))
    assert call.done == []


@pytest.mark.parametrize("arguments", ["{", "[]", "null", '"desk"', '{"target": "desk", "uri": "sip:x@y"}', "\x00"])
def test_arguments_that_do_not_fit_go_back_as_an_error(arguments: str) -> None:
    call = Call()
    error(run(BOTH, "transfer_call", arguments, call))
    assert call.done == []


def test_an_unknown_tool_is_answered() -> None:
    assert error(run(BOTH, "rm", "{}")) == "there is no tool 'rm'; there are: hang_up, transfer_call"


class Nothing(BaseModel):
    pass


async def _raises(call: CallControl, request: ToolCall, arguments: Nothing) -> str:
    raise RuntimeError("secret detail")


async def _hangs(call: CallControl, request: ToolCall, arguments: Nothing) -> str:
    await asyncio.Event().wait()
    return "never"


async def _floods(call: CallControl, request: ToolCall, arguments: Nothing) -> str:
    return "x" * 10_000_000


def test_a_tool_that_misbehaves_costs_the_call_nothing() -> None:
    box = Toolbox(
        [
            Tool("raises", "", Nothing, _raises),
            Tool("hangs", "", Nothing, _hangs),
            Tool("floods", "", Nothing, _floods),
        ],
        timeout_seconds=0.01,
    )
    assert error(run(box, "raises", "{}")) == "raises failed"
    assert error(run(box, "hangs", "{}")) == "hangs did not finish within 0.01 seconds"
    flood = run(box, "floods", "{}")
    assert flood is not None
    assert MAX_RESULT_BYTES < len(flood) < MAX_RESULT_BYTES + 100


@pytest.mark.parametrize("answer", [5, b"x", ["x"], object()])
def test_an_answer_that_is_no_text_is_a_failure(answer: Any) -> None:
    """A client that is attached to the call may say anything."""

    async def answers(control: CallControl, request: ToolCall, arguments: Any) -> Any:
        return answer

    odd = Tool("odd", "d", {"type": "object"}, answers)
    assert error(run(Toolbox([odd]), "odd", "{}")) == "odd failed"


def test_a_tool_that_cancels_itself_is_answered() -> None:
    async def gives_up(control: CallControl, request: ToolCall, arguments: Any) -> str:
        raise asyncio.CancelledError

    assert error(run(Toolbox([Tool("odd", "d", {"type": "object"}, gives_up)]), "odd", "{}")) == "odd failed"
