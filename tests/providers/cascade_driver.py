"""Drives a cascade in memory, with time as a number: Flux, a chat model and Cartesia, each vendor's types as judges."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from typing import Any

from sipbridge.agent import AgentOptions, SessionOpen
from sipbridge.audio import PCMU
from sipbridge.providers import Dialect, HttpEnd, Outgoing, new_dialect
from tests.providers import cartesia_sdk, speech_sdk
from tests.providers.drive import Drive

Json = dict[str, Any]
OPTIONS = AgentOptions(instructions="You run a hotel.", input_format=PCMU, output_format=PCMU)
WELL = HttpEnd("")
CREDENTIAL: Json = {
    "provider": "cascade",
    "stt": {"provider": "deepgram", "api_key": "dg-0123456789"},
    "llm": {"provider": "openai", "api_key": "sk-0123456789", "model": "gpt-test"},
    "tts": {"provider": "cartesia", "api_key": "sk_car_0123456789", "voice": "voice-1"},
}


class Driver(Drive[Dialect]):
    """`asked`, `spoken` and `heard` hold what was sent to each part, until it is taken."""

    def __init__(self, credential: Json | None = None, **changes: Any) -> None:
        self.asked: list[Json | None] = []
        """Questions to the language model; None: a cancel."""
        self.spoken: list[tuple[str, str]] = []
        self.heard: list[Json | bytes] = []
        super().__init__(new_dialect(credential or CREDENTIAL, replace(OPTIONS, **changes)))

    def took(self, message: Outgoing) -> None:
        if message.channel == "llm":
            body = json.loads(message.data) if message.data else None
            if body is not None:
                speech_sdk.check_chat(body)
            self.asked.append(body)
        elif message.channel == "voice":
            data = json.loads(message.data)
            cartesia_sdk.check_client_event(data)
            cancelled = "cancel" in data
            self.spoken.append((data["context_id"], "cancel" if cancelled else data["transcript"]))
        elif isinstance(message.data, bytes):
            assert message.audio_ms > 0
            self.heard.append(message.data)
        else:
            speech_sdk.check_listen(json.loads(message.data))
            self.heard.append(json.loads(message.data))

    def open(self) -> Driver:
        self.ear({"type": "Connected", "request_id": "req_1", "sequence_id": 0})
        assert self.take_events() == [SessionOpen("req_1")]
        return self

    # what happens

    def ear(self, *messages: Json) -> None:
        for message in messages:
            speech_sdk.check_heard(message)
            self.receive("stt", json.dumps(message))

    def turn(self, text: str, index: int = 0) -> None:
        """The caller says this."""
        first = text.split()[0] if text else ""
        self.ear(turn_info("StartOfTurn", first, index), turn_info("EndOfTurn", text, index, trigger="model"))

    def model(self, *deltas: str | Json, end: HttpEnd | None = WELL) -> None:
        """Text deltas, or whole `delta` objects; then how the request ended (None: not yet)."""
        for delta in deltas:
            self._chunk({"content": delta} if isinstance(delta, str) else delta)
        if end is not None:
            if not end.code:
                self.receive("llm", "data:[DONE]")
            self.receive("llm", str(end))

    def _chunk(self, delta: Json) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": None, "logprobs": None}
        base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        speech_sdk.check_chunk(base)
        self.receive("llm", "data:" + json.dumps(base))

    def voice(self, context: str, seconds: float = 1.0, *, done: bool = True, words: str = "") -> None:
        pcm = b64encode(b"\x55" * round(8000 * seconds)).decode()
        place: Json = {"context_id": context, "status_code": 206}
        if words:
            each = seconds / len(words.split())
            timed = [(word, i * each, (i + 1) * each) for i, word in enumerate(words.split())]
            told = {key: [entry[i] for entry in timed] for i, key in enumerate(("words", "start", "end"))}
            self.receive("voice", json.dumps({"type": "timestamps", "done": False, "word_timestamps": told} | place))
        chunk = {"type": "chunk", "data": pcm, "done": False, "step_time": 1.0}
        self.receive("voice", json.dumps(chunk | place))
        if done:
            self.receive("voice", json.dumps({"type": "done", "context_id": context, "done": True, "status_code": 200}))

    # what came of it

    def take_asked(self) -> list[Any]:
        asked, self.asked = self.asked, []
        return asked

    def question(self) -> list[Json]:
        """The messages of the one question that was asked."""
        (body,) = self.take_asked()
        messages: list[Json] = body["messages"]
        return messages

    def take_spoken(self) -> list[tuple[str, str]]:
        spoken, self.spoken = self.spoken, []
        return spoken


def turn_info(event: str, text: str, index: int = 0, **more: Any) -> Json:
    return {
        "type": "TurnInfo",
        "request_id": "req_1",
        "sequence_id": 1,
        "event": event,
        "turn_index": index,
        "audio_window_start": 0.2,
        "audio_window_end": 1.4,
        "transcript": text,
        "words": [{"word": word, "confidence": 0.9} for word in text.split()],
        "end_of_turn_confidence": 0.5,
        **more,
    }


def tool_delta(index: int, call_id: str = "", name: str = "", arguments: str = "") -> Json:
    function: Json = {"arguments": arguments} | ({"name": name} if name else {})
    call: Json = {"index": index, "function": function}
    return {"tool_calls": [call | ({"id": call_id, "type": "function"} if call_id else {})]}
