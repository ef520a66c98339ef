"""Drives an OpenAI dialect in memory, with time as a number; everything it sends goes past the SDK's types."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sipbridge.agent import AgentOptions, SessionOpen
from sipbridge.audio import PCMU
from sipbridge.providers.openai import CHANNEL, OpenAIDialect
from tests.providers import drive
from tests.providers.openai_sdk import check_client_event

OPTIONS = AgentOptions(input_format=PCMU, output_format=PCMU)
CREDENTIAL = {"provider": "openai", "api_key": "sk-test-0123456789"}

Json = dict[str, Any]


class Driver(drive.Driver[OpenAIDialect]):
    def __init__(
        self,
        options: AgentOptions = OPTIONS,
        credential: Json | None = None,
        dialect: Callable[[Json, AgentOptions], OpenAIDialect] = OpenAIDialect,
        check: Callable[[Json], None] = check_client_event,
    ) -> None:
        super().__init__(dialect(credential or CREDENTIAL, options), CHANNEL, check)

    def take_sent(self) -> list[Json]:
        return drive.without_event_ids(super().take_sent())

    def open(self) -> Driver:
        self.server({"type": "session.created", "session": {"id": "sess_1"}})
        self.server({"type": "session.updated", "session": {}})
        assert self.take_events() == [SessionOpen("sess_1")]
        assert [message["type"] for message in self.take_sent()] == ["session.update"]
        return self


def options(**changes: Any) -> AgentOptions:
    return replace(OPTIONS, **changes)


# the vendor's events, as short as they may be


def created(reply_id: str) -> Json:
    return {"type": "response.created", "response": {"id": reply_id, "status": "in_progress"}}


def audio(reply_id: str, item_id: str, milliseconds: int) -> Json:
    """mu-law: eight octets a millisecond."""
    delta = b64encode(b"\x55" * (8 * milliseconds)).decode()
    place = {"response_id": reply_id, "item_id": item_id, "output_index": 0, "content_index": 0}
    return {"type": "response.output_audio.delta", "delta": delta, **place}


def call(reply_id: str, call_id: str, arguments: str = "{}", name: str = "lookup") -> Json:
    return {
        "type": "response.function_call_arguments.done",
        "response_id": reply_id,
        "item_id": f"item_{call_id}",
        "output_index": 0,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }


def done(reply_id: str, status: str = "completed", reason: str | None = None, **more: Any) -> Json:
    details = {"type": status, "reason": reason} if reason else None
    response = {"id": reply_id, "status": status, "status_details": details, "output": [], **more}
    return {"type": "response.done", "response": response}


def speech_started(at_ms: int = 0) -> Json:
    return {"type": "input_audio_buffer.speech_started", "audio_start_ms": at_ms, "item_id": "item_user"}


def error(code: str, event_id: str | None = None, kind: str = "invalid_request_error") -> Json:
    detail = {"type": kind, "code": code, "message": f"about {code}", "param": None, "event_id": event_id}
    return {"type": "error", "error": detail}
