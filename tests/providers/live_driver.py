"""Drives a Live dialect in memory, with time as a number; everything it sends goes past the SDK's types."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from typing import Any

from sipbridge.agent import AgentOptions, SessionOpen, ToolDeclaration
from sipbridge.audio import PCMU
from sipbridge.providers.openai_live import OpenAILiveDialect
from tests.providers import drive
from tests.providers.live_sdk import check_client_event, check_server_event

Json = dict[str, Any]

OPTIONS = AgentOptions(input_format=PCMU, output_format=PCMU)
CREDENTIAL: Json = {"provider": "openai_live", "api_key": "sk-test-0123456789"}
LOOKUP = ToolDeclaration("lookup", "Looks up.", {"type": "object", "properties": {}})
LOUD, QUIET = b"\x20", b"\xff"
"""mu-law: eight octets a millisecond."""


class Driver(drive.Driver[OpenAILiveDialect]):
    def __init__(self, options: AgentOptions = OPTIONS, credential: Json | None = None) -> None:
        self._last_id = 0
        dialect = OpenAILiveDialect(credential or CREDENTIAL, options)
        super().__init__(dialect, dialect.channel, check_client_event, now=100.0)

    def told(self, kind: str, **fields: Any) -> None:
        """An event of the vendor's, which the SDK has to know."""
        self._last_id += 1
        message = {"type": kind, **fields}
        if kind != "session.output_audio.delta":
            message["event_id"] = f"event_{self._last_id}"
        check_server_event(message)
        self.raw(json.dumps(message))

    def stream(self, *pieces: tuple[bytes, int], delta_ms: int = 100) -> None:
        """Sound at the pace of speech: octets and for how many milliseconds."""
        sound = b"".join(octet * (8 * milliseconds) for octet, milliseconds in pieces)
        for start in range(0, len(sound), 8 * delta_ms):
            self.advance(delta_ms / 1000)
            delta = b64encode(sound[start : start + 8 * delta_ms]).decode()
            self.told("session.output_audio.delta", delta=delta)

    def take_sent(self) -> list[Json]:
        return drive.without_event_ids(super().take_sent())

    def open(self, expires_at: int = 4102444800) -> Driver:
        self.told("session.started", session=resource(expires_at))
        assert self.take_events() == [SessionOpen("live_1")]
        assert [message["type"] for message in self.take_sent()] == ["session.start"]
        return self


def options(**changes: Any) -> AgentOptions:
    return replace(OPTIONS, **changes)


def resource(expires_at: int = 4102444800) -> Json:
    return {"id": "live_1", "expires_at": expires_at, "model": "gpt-live-1", "status": "active"}


# events inside `response.event`


def response(kind: str, number: int = 1, **more: Any) -> Json:
    status = kind.removeprefix("response.") if kind != "response.created" else "in_progress"
    body = {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 1.0,
        "model": "gpt-5.5",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "status": status,
    }
    return {"type": kind, "sequence_number": 0, "response": body | more}


def call(call_id: str, arguments: str = "{}", name: str = "lookup") -> Json:
    item = {"type": "function_call", "id": f"fc_{call_id}", "call_id": call_id, "name": name, "arguments": arguments}
    done = {"type": "response.output_item.done", "output_index": 0, "sequence_number": 1}
    return done | {"item": item | {"status": "completed"}}
