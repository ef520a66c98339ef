"""Drives a Gemini dialect in memory, with time as a number; everything it sends goes past the SDK's types, and past the
simulated service's rules of order."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from typing import Any, Self

from sipbridge.agent import AgentOptions, SessionOpen
from sipbridge.providers.gemini import GeminiDialect
from sipbridge.simulator.gemini_check import Session, check_message
from tests.providers import drive
from tests.providers.genai_sdk import check_client_event

OPTIONS = AgentOptions()
CREDENTIAL = {"provider": "gemini", "api_key": "AIza-test-0123456789"}
VERTEX = {
    "provider": "gemini",
    "model": "gemini-live-2.5-flash-native-audio",
    "vertex": {"project": "acme-1", "location": "europe-west4", "token": "ya29.test-token"},
}
CHANNEL = GeminiDialect.channel

Json = dict[str, Any]


class Driver(drive.Driver[GeminiDialect]):
    def __init__(self, options: AgentOptions = OPTIONS, credential: Json | None = None) -> None:
        self._vertex = "vertex" in (credential or {})
        self._service = Session(vertex=self._vertex)
        super().__init__(GeminiDialect(credential or CREDENTIAL, options), CHANNEL, self._check)

    def _check(self, data: Json) -> None:
        check_client_event(data, vertex=self._vertex)
        assert check_message(data, self._service) is None
        self._service.took(data)

    def server(self, *messages: Json | bytes) -> Self:
        """They come in binary frames."""
        return super().server(*(json.dumps(message).encode() for message in messages))

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
