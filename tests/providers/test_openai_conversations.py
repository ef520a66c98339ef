"""Whole conversations, as recorded: what the server said, what we commanded, what had to be sent and told.

One line is one step of a file: `server` (a vendor's message), `command` (ours, `with` its arguments), then the
`client` messages and `event`s that must follow from it, all of them and no others. `note` is a comment;
`"lenient": true` says that from here on the server's messages are not the vendor's own.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from sipbridge.agent import AgentEvent, AssistantAudio, ToolDeclaration, TurnDetection
from sipbridge.audio import Played
from tests.providers.openai_driver import Driver, options
from tests.providers.openai_sdk import check_server_event

CONVERSATIONS = sorted((Path(__file__).parent / "data").glob("openai_*.jsonl"))


@pytest.mark.parametrize("path", CONVERSATIONS, ids=lambda path: path.stem)
def test_conversation(path: Path) -> None:
    steps = [json.loads(line) for line in path.read_text().splitlines()]
    driver, lenient = _driver(steps[0]["options"]), False
    for number, step in enumerate(steps[1:], start=2):
        place = f"{path.name}:{number}"
        lenient = lenient or step.get("lenient", False)
        if "server" in step or "command" in step:
            assert not driver.sent, f"before {place}: sent {driver.sent}"
            assert not driver.events, f"before {place}: told {driver.events}"
        if "server" in step:
            if not lenient:
                check_server_event(step["server"])
            driver.server(step["server"])
        elif "command" in step:
            driver.command(step["command"], *[_argument(value) for value in step["with"]])
        elif "client" in step:
            assert driver.sent, f"{place}: nothing was sent"
            assert _without_id(driver.sent.pop(0)) == step["client"], place
        elif "event" in step:
            assert driver.events, f"{place}: nothing was told"
            assert _as_data(driver.events.pop(0)) == (step["event"], step["is"]), place
    assert not driver.sent
    assert not driver.events


def _driver(wanted: dict[str, Any]) -> Driver:
    return Driver(
        options(
            instructions=wanted["instructions"],
            voice=wanted["voice"],
            language=wanted["language"],
            turn_detection=TurnDetection(silence_ms=wanted["silence_ms"]),
            tools=tuple(ToolDeclaration(**tool) for tool in wanted["tools"]),
        )
    )


def _argument(value: Any) -> Any:
    if isinstance(value, dict):
        return b"\x55" * int(value["octets"])
    return [Played(*entry) for entry in value] if isinstance(value, list) else value


def _without_id(message: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key != "event_id"}


def _as_data(event: AgentEvent) -> tuple[str, dict[str, Any]]:
    data = asdict(event)
    if isinstance(event, AssistantAudio):
        data["pcm"] = len(event.pcm)
    return type(event).__name__, data
