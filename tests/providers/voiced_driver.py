"""Drives a model that writes and its voice in memory, with time as a number; both vendors' types judge what is sent."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from sipbridge.agent import AgentEvent, AgentOptions, SessionOpen
from sipbridge.audio import PCMU
from sipbridge.providers import Dialect, new_dialect
from tests.providers import cartesia_sdk, openai_sdk
from tests.providers.order import OrderChecker

Json = dict[str, Any]
OPTIONS = AgentOptions(input_format=PCMU, output_format=PCMU)
CREDENTIAL: Json = {
    "provider": "openai",
    "api_key": "sk-test-0123456789",
    "voice_provider": {"provider": "cartesia", "api_key": "sk_car_0123456789", "voice": "voice-1"},
}


class Driver:
    """`model` and `voice` hold what was sent to each, `events` what came out, until it is taken."""

    def __init__(self, credential: Json | None = None, **changes: Any) -> None:
        self.now = 0.0
        self.order = OrderChecker()
        self.model: list[Json] = []
        self.voice: list[Json] = []
        self.events: list[AgentEvent] = []
        self.dialect: Dialect = new_dialect(credential or CREDENTIAL, replace(OPTIONS, **changes))
        self.dialect.start(self.now)
        for channel in self.dialect.endpoints():
            self.dialect.channel_opened(channel, self.now)
        self._collect()

    def _collect(self) -> None:
        for message in self.dialect.messages_to_send():
            data = json.loads(message.data)
            if message.channel == "voice":
                cartesia_sdk.check_client_event(data)
                self.voice.append(data)
            else:
                openai_sdk.check_client_event(data)
                self.model.append(data)
        fresh = []
        while (event := self.dialect.next_event()) is not None:
            fresh.append(event)
        self.order.feed(fresh)
        self.events += fresh

    def open(self) -> Driver:
        self.from_model({"type": "session.created", "session": {"id": "sess_1"}})
        self.from_model({"type": "session.updated", "session": {}})
        assert self.take_events() == [SessionOpen("sess_1")]
        return self

    # what happens

    def from_model(self, *messages: Json) -> None:
        for message in messages:
            self.dialect.receive("realtime", json.dumps(message), self.now)
            self._collect()

    def from_voice(self, *messages: Json) -> None:
        for message in messages:
            self.dialect.receive("voice", json.dumps(message), self.now)
            self._collect()

    def command(self, name: str, *arguments: Any) -> None:
        if name == "cancel":
            self.order.cancelled()
        getattr(self.dialect, name)(*arguments, self.now)
        self._collect()

    def drop(self, channel: str, code: int = 1006) -> None:
        self.dialect.channel_closed(channel, code, "", self.now)
        self._collect()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = self.dialect.get_timer()
        if due is not None and due <= self.now:
            self.dialect.handle_timer(self.now)
            self._collect()

    # what came of it

    def take_model(self) -> list[Json]:
        sent, self.model = self.model, []
        return [{key: value for key, value in message.items() if key != "event_id"} for message in sent]

    def take_voice(self) -> list[tuple[str, str]]:
        """(context, text), with "|" after the last piece; (context, "cancel")."""
        sent, self.voice = self.voice, []
        return [
            (m["context_id"], "cancel" if "cancel" in m else m["transcript"] + ("" if m["continue"] else "|"))
            for m in sent
        ]

    def take_events(self) -> list[AgentEvent]:
        events, self.events = self.events, []
        return events


# the model's events, as short as they may be


def text_delta(reply_id: str, text: str, item_id: str = "item_1") -> Json:
    place = {"response_id": reply_id, "item_id": item_id, "output_index": 0, "content_index": 0}
    return {"type": "response.output_text.delta", "delta": text, **place}


def text_done(reply_id: str, text: str, item_id: str = "item_1") -> Json:
    place = {"response_id": reply_id, "item_id": item_id, "output_index": 0, "content_index": 0}
    return {"type": "response.output_text.done", "text": text, **place}
