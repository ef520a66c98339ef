"""Drives a model that writes and its voice in memory, with time as a number; both vendors' types judge what is sent."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from sipbridge.agent import AgentOptions, SessionOpen
from sipbridge.audio import PCMU
from sipbridge.providers import Dialect, Outgoing, new_dialect
from tests.providers import cartesia_sdk, openai_sdk
from tests.providers.drive import Drive, without_event_ids

Json = dict[str, Any]
OPTIONS = AgentOptions(input_format=PCMU, output_format=PCMU)
CREDENTIAL: Json = {
    "provider": "openai",
    "api_key": "sk-test-0123456789",
    "voice_provider": {"provider": "cartesia", "api_key": "sk_car_0123456789", "voice": "voice-1"},
}


class Driver(Drive[Dialect]):
    """`model` and `voice` hold what was sent to each."""

    def __init__(self, credential: Json | None = None, **changes: Any) -> None:
        self.model: list[Json] = []
        self.voice: list[Json] = []
        super().__init__(new_dialect(credential or CREDENTIAL, replace(OPTIONS, **changes)))

    def took(self, message: Outgoing) -> None:
        data = json.loads(message.data)
        if message.channel == "voice":
            cartesia_sdk.check_client_event(data)
            self.voice.append(data)
        else:
            openai_sdk.check_client_event(data)
            self.model.append(data)

    def open(self) -> Driver:
        self.from_model({"type": "session.created", "session": {"id": "sess_1"}})
        self.from_model({"type": "session.updated", "session": {}})
        assert self.take_events() == [SessionOpen("sess_1")]
        return self

    # what happens

    def from_model(self, *messages: Json) -> None:
        for message in messages:
            self.receive("realtime", json.dumps(message))

    def from_voice(self, *messages: Json) -> None:
        for message in messages:
            self.receive("voice", json.dumps(message))

    # what came of it

    def take_model(self) -> list[Json]:
        sent, self.model = self.model, []
        return without_event_ids(sent)

    def take_voice(self) -> list[tuple[str, str]]:
        """(context, text), with "|" after the last piece; (context, "cancel")."""
        sent, self.voice = self.voice, []
        return [
            (m["context_id"], "cancel" if "cancel" in m else m["transcript"] + ("" if m["continue"] else "|"))
            for m in sent
        ]


# the model's events, as short as they may be


def text_delta(reply_id: str, text: str, item_id: str = "item_1") -> Json:
    place = {"response_id": reply_id, "item_id": item_id, "output_index": 0, "content_index": 0}
    return {"type": "response.output_text.delta", "delta": text, **place}


def text_done(reply_id: str, text: str, item_id: str = "item_1") -> Json:
    place = {"response_id": reply_id, "item_id": item_id, "output_index": 0, "content_index": 0}
    return {"type": "response.output_text.done", "text": text, **place}
