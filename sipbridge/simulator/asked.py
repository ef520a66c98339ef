"""Models that are asked over HTTP, simulated as OpenAI has them: chat completions, speech, transcriptions.

Every request is checked and recorded as the WebSocket models' messages are.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from email.parser import BytesParser
from typing import Any, ClassVar, Self

from sipbridge.audio import PCM_24K
from sipbridge.simulator.conversation import Conversation
from sipbridge.simulator.http import Broken, HttpAnswer, HttpRequest, HttpServer
from sipbridge.simulator.model import SessionRecord
from sipbridge.simulator.openai_check import ANY, NULLABLE, check_value
from sipbridge.simulator.script import ToolUse

Json = dict[str, Any]
_NUMBER = (int, float)
_GARBAGE = (b'{"choices":', b"[]", b"7", b'{"choices":[{"delta":{"content":9}}]}')


class AskedServer:
    """Listens as long as it is entered. One record for all requests: over HTTP nobody has a session."""

    path: ClassVar[str] = ""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.script = conversation.script
        self.record = SessionRecord({}, self.path, close_code=1000)
        self.record.closed.set()
        self.sessions = [self.record]
        self._http = HttpServer(self._answer)
        self._asked = 0

    @property
    def url(self) -> str:
        return self._http.url + self.path

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.__aexit__(None, None, None)

    def drop(self) -> None:
        """Between requests there is no connection to cut."""

    def refuse(self, code: str, message: str, status: int = 400) -> HttpAnswer:
        self.record.violations.append((code, message))
        return _error(status, code, message)

    async def _answer(self, request: HttpRequest) -> HttpAnswer:
        fault, number = self.script.fault, self._asked
        self._asked += 1
        if request.path != self.path or request.method != "POST":
            return self.refuse("not_found", f"{request.method} {request.path}", 404)
        if not request.headers.get("authorization", "").startswith("Bearer "):
            return self.refuse("invalid_api_key", "no key", 401)
        if fault and fault.name == "status":
            return _error(fault.number or 401, "refused", "The simulator was told to refuse.")
        if fault and fault.name == "rate_limit" and number < (fault.number or 1):
            return _error(429, "rate_limit_exceeded", "Rate limit reached.")
        if fault and fault.name == "silence":
            await asyncio.Event().wait()
        return await self.answer(request)

    async def answer(self, request: HttpRequest) -> HttpAnswer:
        raise NotImplementedError

    async def misbehave(self, piece: int) -> bytes:
        """What comes instead of, or before, the piece with this number."""
        fault = self.script.fault
        if fault is None:
            return b""
        if fault.name == "garbage":
            return b"data: " + _GARBAGE[piece % len(_GARBAGE)] + b"\n\n"
        if piece == fault.after and fault.name in ("drop", "close"):
            raise Broken
        if piece == fault.after and fault.name == "hang":
            await asyncio.Event().wait()
        return b""


def _error(status: int, code: str, message: str) -> HttpAnswer:
    return HttpAnswer.of({"error": {"message": message, "code": code, "type": "error", "param": None}}, status)


def _event(content: Json) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


# --- chat completions -------------------------------------------------------------------------------------------------

_TOOL = {
    "type": frozenset({"function"}),
    "function": {"name": str, "description": str, "parameters": ANY, "strict": bool},
}
_CALL = {"id": str, "type": frozenset({"function"}), "function": {"name": str, "arguments": str}}
_MESSAGE = {
    "role": frozenset({"system", "developer", "user", "assistant", "tool"}),
    "content": (str, list, type(None)),
    "tool_calls": [_CALL],
    "tool_call_id": str,
    "name": str,
}
_CHAT = {
    "model": str,
    "messages": [_MESSAGE],
    "stream": bool,
    "stream_options": {"include_usage": bool, "include_obfuscation": bool},
    "tools": [_TOOL],
    "tool_choice": ANY,
    "parallel_tool_calls": bool,
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "max_completion_tokens": int,
    "max_tokens": int,
    "reasoning_effort": str,
    "metadata": {NULLABLE: None},
    "seed": int,
    "stop": ANY,
    "user": str,
}


class ChatServer(AskedServer):
    path: ClassVar[str] = "/v1/chat/completions"

    async def answer(self, request: HttpRequest) -> HttpAnswer:
        body = request.json()
        if not isinstance(body, dict):
            return self.refuse("invalid_json", "not a JSON object")
        self.record.add(body)
        if refusal := check_value(body, _CHAT):
            return self.refuse(refusal.code, refusal.message)
        if wrong := wrong_order(body.get("messages") or []):
            return self.refuse("invalid_messages", wrong)
        return HttpAnswer(200, self._write(body), {"content-type": "text/event-stream; charset=utf-8"})

    async def _write(self, body: Json) -> AsyncIterator[bytes]:
        script, number = self.script, self.conversation.next_reply()
        text, tool = self._plan(number, body["messages"][-1])
        self.conversation.wrote(number, text)
        if script.think_ms:
            await asyncio.sleep(script.think_ms / 1000)
        yield self._chunk(number, {"role": "assistant", "content": ""})
        words = text.split(" ") if text else []
        for piece, word in enumerate(words):
            yield await self.misbehave(piece)
            if (fault := script.fault) and fault.name == "error" and piece == min(fault.after, len(words) - 1):
                yield _event(
                    {"error": {"message": "The simulator was told to fail.", "code": fault.argument or "error"}}
                )
            yield self._chunk(number, {"content": word if piece == 0 else " " + word})
            await asyncio.sleep(0)
        for index in range(tool.times if tool else 0):
            for delta in self._call(number, index, tool):
                yield self._chunk(number, {"tool_calls": [delta]})
        yield self._chunk(number, {}, "tool_calls" if tool else "stop")
        if (body.get("stream_options") or {}).get("include_usage"):
            counts = {"prompt_tokens": 100, "completion_tokens": len(words), "total_tokens": 100 + len(words)}
            yield _event(self._base(number) | {"choices": [], "usage": counts})
        yield b"data: [DONE]\n\n"

    def _plan(self, number: int, last: Json) -> tuple[str, ToolUse | None]:
        tool, text = self.script.tools.get(number), self.conversation.utterance(number).text
        asked = last.get("content") or ""
        if last["role"] == "user" and "call:" in asked:
            name, _, arguments = asked.partition("call:")[2].partition(" ")
            tool = ToolUse(name, arguments or "{}")
        elif last["role"] == "tool":
            text = f"The tool said: {asked}"
        return ("" if tool is not None and not tool.spoken else text), tool

    def _call(self, number: int, index: int, tool: ToolUse | None) -> list[Json]:
        assert tool is not None
        middle = len(tool.arguments) // 2
        call_id = f"call_{number}_{index}"
        self.record.open_calls.append(call_id)
        begun = {"id": call_id, "type": "function", "function": {"name": tool.name, "arguments": ""}}
        pieces = (tool.arguments[:middle], tool.arguments[middle:])
        return [
            {"index": index, **begun},
            *({"index": index, "function": {"arguments": piece}} for piece in pieces if piece),
        ]

    def _base(self, number: int) -> Json:
        return {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "sim"}

    def _chunk(self, number: int, delta: Json, reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _event(self._base(number) | {"choices": [choice], "usage": None})


def wrong_order(messages: list[Json]) -> str:
    """ "": every call is answered right behind it, and nothing is answered that was not called."""
    owed: list[str] = []
    if not messages:
        return "no messages"
    for message in messages:
        if message["role"] == "tool":
            if message.get("tool_call_id") not in owed:
                return "a tool's result without its call"
            owed.remove(message["tool_call_id"])
        elif owed:
            return "a call without its result"
        owed += [call["id"] for call in message.get("tool_calls") or ()]
        if message["role"] != "assistant" and message.get("content") is None:
            return "a message without content"
    return "a call without its result" if owed else ""


# --- speech -----------------------------------------------------------------------------------------------------------

_SPEECH = {
    "model": str,
    "input": str,
    "voice": (str, dict),
    "response_format": frozenset({"pcm"}),
    "instructions": str,
    "speed": _NUMBER,
    "stream_format": frozenset({"audio"}),
}


class SpeechServer(AskedServer):
    path: ClassVar[str] = "/v1/audio/speech"

    async def answer(self, request: HttpRequest) -> HttpAnswer:
        body = request.json()
        if not isinstance(body, dict):
            return self.refuse("invalid_json", "not a JSON object")
        self.record.add(body)
        refusal = check_value(body, _SPEECH)
        if refusal or not body.get("input") or len(body["input"]) > 4096 or not {"model", "voice"} <= body.keys():
            return self.refuse("invalid_request", refusal.message if refusal else "input, model and voice")
        return HttpAnswer(200, self._speak(body["input"]), {"content-type": "audio/pcm"})

    async def _speak(self, text: str) -> AsyncIterator[bytes]:
        script = self.script
        sound = self.conversation.part_of_sound(text, PCM_24K)
        size = PCM_24K.bytes_per_ms * script.delta_ms
        if script.think_ms:
            await asyncio.sleep(script.think_ms / 1000)
        for number, start in enumerate(range(0, len(sound), size)):
            if (fault := script.fault) is not None and fault.name != "garbage":
                await self.misbehave(number)
            yield sound[start : start + size]
            await asyncio.sleep(script.delta_ms / 1000 / script.speed if script.speed > 0 else 0)


# --- transcriptions ---------------------------------------------------------------------------------------------------

_FORM = frozenset({"file", "model", "language", "prompt", "response_format", "temperature"})


class HearingServer(AskedServer):
    path: ClassVar[str] = "/v1/audio/transcriptions"

    async def answer(self, request: HttpRequest) -> HttpAnswer:
        fields = _form(request)
        self.record.add({name: value.decode() for name, value in fields.items() if name != "file"})
        if not {"file", "model"} <= fields.keys() or fields.keys() - _FORM or fields["file"][:4] != b"RIFF":
            return self.refuse("invalid_request", str(sorted(fields)))
        self.record.audio += fields["file"][44:]
        await asyncio.sleep(self.script.think_ms / 1000)
        text = self.conversation.next_transcript()
        return HttpAnswer.of({"text": text, "usage": {"type": "duration", "seconds": 1}})


def _form(request: HttpRequest) -> Mapping[str, bytes]:
    head = f"Content-Type: {request.headers.get('content-type', '')}\r\n\r\n".encode()
    message = BytesParser().parsebytes(head + request.body)
    fields: dict[str, bytes] = {}
    for part in message.get_payload() if message.is_multipart() else ():
        name = part.get_param("name", header="content-disposition")  # type: ignore[union-attr]
        fields[str(name)] = part.get_payload(decode=True)  # type: ignore[union-attr,assignment]
    return fields
