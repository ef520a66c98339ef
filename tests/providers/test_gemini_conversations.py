"""Whole conversations on Gemini's wire, in the form of `test_openai_conversations`: `options`, then `server`, `command`
or `wait` (seconds), each followed by all the `client` messages and `event`s that come of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from sipbridge.agent import AgentEvent, AssistantAudio, ToolDeclaration, TurnDetection
from sipbridge.audio import Played
from tests.providers.gemini_driver import Driver, options
from tests.providers.genai_sdk import check_server_event

CONVERSATIONS = sorted((Path(__file__).parent / "data").glob("gemini_*.jsonl"))


@pytest.mark.parametrize("path", CONVERSATIONS, ids=lambda path: path.stem)
def test_conversation(path: Path) -> None:
    steps = [json.loads(line) for line in path.read_text().splitlines()]
    driver = _driver(steps[0])
    vertex = "vertex" in steps[0]["credential"]
    for number, step in enumerate(steps[1:], start=2):
        place = f"{path.name}:{number}"
        if step.keys() & {"server", "command", "wait"}:
            assert (driver.sent, driver.events) == ([], []), f"before {place}"
        if "server" in step:
            check_server_event(step["server"], vertex=vertex)
            driver.server(step["server"])
        elif "command" in step:
            driver.command(step["command"], *[_argument(value) for value in step["with"]])
        elif "wait" in step:
            driver.advance(step["wait"])
        elif "client" in step:
            assert driver.sent.pop(0) == step["client"], place
        else:
            assert _as_data(driver.events.pop(0)) == (step["event"], step["is"]), place
    assert (driver.sent, driver.events) == ([], [])
    driver.order.done()


def _driver(first: dict[str, Any]) -> Driver:
    wanted = first["options"]
    return Driver(
        options(
            **{key: wanted[key] for key in ("instructions", "voice", "language")},
            turn_detection=TurnDetection(silence_ms=wanted["silence_ms"]),
            tools=tuple(ToolDeclaration(**tool) for tool in wanted["tools"]),
        ),
        first["credential"],
    )


def _argument(value: Any) -> Any:
    if isinstance(value, dict):
        return bytes(int(value["octets"]))
    return [Played(*entry) for entry in value] if isinstance(value, list) else value


def _as_data(event: AgentEvent) -> tuple[str, dict[str, Any]]:
    data = asdict(event)
    if isinstance(event, AssistantAudio):
        data["pcm"] = len(event.pcm)
    return type(event).__name__, data
