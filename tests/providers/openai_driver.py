"""Drives an OpenAI dialect in memory, with time as a number; everything it sends goes past the SDK's types."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sipbridge.agent import AgentEvent, AgentOptions, SessionOpen
from sipbridge.audio import PCMU
from sipbridge.providers.openai import CHANNEL, OpenAIDialect
from tests.providers.openai_sdk import check_client_event
from tests.providers.order import OrderChecker

OPTIONS = AgentOptions(input_format=PCMU, output_format=PCMU)
CREDENTIAL = {"provider": "openai", "api_key": "sk-test-0123456789"}

Json = dict[str, Any]


class Driver:
    """`sent` and `events` hold what came out and was not yet taken."""

    def __init__(
        self,
        options: AgentOptions = OPTIONS,
        credential: Json | None = None,
        dialect: Callable[[Json, AgentOptions], OpenAIDialect] = OpenAIDialect,
        check: Callable[[Json], None] = check_client_event,
    ) -> None:
        self.now = 0.0
        self._check = check
        self.order = OrderChecker()
        self.sent: list[Json] = []
        self.events: list[AgentEvent] = []
        self.dialect = dialect(credential or CREDENTIAL, options)
        self.dialect.start(self.now)
        self.dialect.channel_opened(CHANNEL, self.now)
        self._collect()

    def _collect(self) -> None:
        for message in self.dialect.messages_to_send():
            assert message.channel == CHANNEL
            data = json.loads(message.data)
            self._check(data)
            self.sent.append(data)
        fresh = []
        while (event := self.dialect.next_event()) is not None:
            fresh.append(event)
        self.order.feed(fresh)
        self.events += fresh

    # what happens

    def server(self, *messages: Json) -> None:
        """Messages of the vendor, as given: not always valid ones."""
        for message in messages:
            self.dialect.receive(CHANNEL, json.dumps(message), self.now)
            self._collect()

    def raw(self, data: str | bytes) -> None:
        self.dialect.receive(CHANNEL, data, self.now)
        self._collect()

    def command(self, name: str, *arguments: Any) -> None:
        if name == "cancel":
            self.order.cancelled()
        getattr(self.dialect, name)(*arguments, self.now)
        self._collect()

    def drop(self, code: int = 1006, reason: str = "") -> None:
        self.dialect.channel_closed(CHANNEL, code, reason, self.now)
        self._collect()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = self.dialect.get_timer()
        if due is not None and due <= self.now:
            self.dialect.handle_timer(self.now)
            self._collect()

    # what came of it

    def take_sent(self) -> list[Json]:
        """Messages without their event ids."""
        sent, self.sent = self.sent, []
        return [{key: value for key, value in message.items() if key != "event_id"} for message in sent]

    def take_events(self) -> list[AgentEvent]:
        events, self.events = self.events, []
        return events

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
