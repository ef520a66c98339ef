"""Drives a Gemini dialect in memory, with time as a number; everything it sends goes past the SDK's types, and past the
simulated service's rules of order."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from typing import Any

from sipbridge.agent import AgentEvent, AgentOptions, SessionOpen
from sipbridge.providers.gemini import GeminiDialect
from sipbridge.simulator.gemini_check import Session, check_message
from tests.providers.genai_sdk import check_client_event
from tests.providers.order import OrderChecker

OPTIONS = AgentOptions()
CREDENTIAL = {"provider": "gemini", "api_key": "AIza-test-0123456789"}
VERTEX = {
    "provider": "gemini",
    "model": "gemini-live-2.5-flash-native-audio",
    "vertex": {"project": "acme-1", "location": "europe-west4", "token": "ya29.test-token"},
}
CHANNEL = GeminiDialect.channel

Json = dict[str, Any]


class Driver:
    """`sent` and `events` hold what came out and was not yet taken."""

    def __init__(self, options: AgentOptions = OPTIONS, credential: Json | None = None) -> None:
        self.now = 0.0
        self.order = OrderChecker()
        self.sent: list[Json] = []
        self.events: list[AgentEvent] = []
        self._vertex = "vertex" in (credential or {})
        self._service = Session(vertex=self._vertex)
        self.dialect = GeminiDialect(credential or CREDENTIAL, options)
        self.dialect.start(self.now)
        self.dialect.channel_opened(CHANNEL, self.now)
        self._collect()

    def _collect(self) -> None:
        for message in self.dialect.messages_to_send():
            assert message.channel == CHANNEL
            data = json.loads(message.data)
            check_client_event(data, vertex=self._vertex)
            assert check_message(data, self._service) is None
            self._service.took(data)
            self.sent.append(data)
        fresh = []
        while (event := self.dialect.next_event()) is not None:
            fresh.append(event)
        self.order.feed(fresh)
        self.events += fresh

    # what happens

    def server(self, *messages: Json) -> Driver:
        """Messages of the vendor, as given: not always valid ones. They come in binary frames."""
        for message in messages:
            self.dialect.receive(CHANNEL, json.dumps(message).encode(), self.now)
            self._collect()
        return self

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
        """Time passes; timers ring when they are due."""
        end = self.now + seconds
        while (due := self.dialect.get_timer()) is not None and due <= end:
            self.now = max(self.now, due)
            self.dialect.handle_timer(self.now)
            self._collect()
        self.now = end

    # what came of it

    def take_sent(self) -> list[Json]:
        sent, self.sent = self.sent, []
        return sent

    def take_events(self) -> list[AgentEvent]:
        events, self.events = self.events, []
        return events

    def open(self) -> Driver:
        self.server({"setupComplete": {"sessionId": "s1"}})
        assert self.take_events() == [SessionOpen("s1")]
        setup = self.take_sent()
        assert [next(iter(message)) for message in setup] in (["setup"], ["setup", "clientContent"])
        return self


def options(**changes: Any) -> AgentOptions:
    return replace(OPTIONS, **changes)


# the vendor's messages, as short as they may be


def content(**fields: Any) -> Json:
    return {"serverContent": fields}


def audio(milliseconds: int = 100) -> Json:
    """24 kHz: 48 octets a millisecond."""
    data = b64encode(b"\x01\x02" * (24 * milliseconds)).decode()
    part = {"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": data}}
    return content(modelTurn={"role": "model", "parts": [part]})


def said(text: str, **more: Any) -> Json:
    return content(outputTranscription={"text": text, **more})


def heard(text: str, **more: Any) -> Json:
    return content(inputTranscription={"text": text, **more})


GENERATED = content(generationComplete=True)
COMPLETE = content(turnComplete=True)
INTERRUPTED = content(interrupted=True)


def call(*calls: tuple[str, str, Json]) -> Json:
    return {"toolCall": {"functionCalls": [{"id": id_, "name": name, "args": args} for id_, name, args in calls]}}


def taken_back(*ids: str) -> Json:
    return {"toolCallCancellation": {"ids": list(ids)}}


def response(call_id: str, name: str, result: Json, **more: Any) -> Json:
    return {"toolResponse": {"functionResponses": [{"id": call_id, "name": name, "response": result, **more}]}}
