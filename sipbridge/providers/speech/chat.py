"""A language model asked over HTTP, by OpenAI's Chat Completions with streaming, which nearly every server speaks.

Source: the vendor's SDK 3.54, `CompletionCreateParams` and `ChatCompletionChunk`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import httpx  # noqa: F401 - here and not by the first call that asks over HTTP, which it would hold up

from sipbridge.agent import AgentOptions, ToolDeclaration
from sipbridge.errors import ConfigError, UnknownProviderError
from sipbridge.providers import Endpoint, HttpEnd, Outgoing
from sipbridge.providers.access import REQUESTS, url_and_key
from sipbridge.providers.speech.part import Part, http_endpoint
from sipbridge.providers.wire import Json, merged, number_of, parameters_of, read_json, text_of

URL = "https://api.openai.com/v1/chat/completions"
_SLUGS = ("openai", "openai_compatible")
_MOST_CALLS = 32
_MOST_ARGUMENTS = 256 * 1024


@dataclass(frozen=True, slots=True)
class Wrote:
    text: str


@dataclass(frozen=True, slots=True)
class Called:
    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is whole (or as long as it may be); calls come before it."""

    whole: bool
    counts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class NotAnswered:
    """Nothing more comes of what was asked. `again`: the same may be asked once more."""

    message: str
    code: str
    again: bool


ChatEvent: TypeAlias = Wrote | Called | Finished | NotAnswered


@dataclass(slots=True)
class _Call:
    call_id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class _Answer:
    calls: dict[int, _Call] = field(default_factory=dict)
    reason: str = ""
    counts: dict[str, float] = field(default_factory=dict)


def tools_of(tools: Sequence[ToolDeclaration]) -> list[Json]:
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": parameters_of(tool)},
        }
        for tool in tools
    ]


class ChatModel(Part[ChatEvent]):
    """`ask`, then `Wrote` and `Called` events, then `Finished` or `NotAnswered`. After `cancel` none of them."""

    name = "llm"

    def __init__(self, section: Mapping[str, Any], options: AgentOptions) -> None:
        super().__init__(section)
        check_llm(section)
        self._url, self._key = url_and_key(section, URL, "llm", REQUESTS)
        if not self.model:
            raise ConfigError("llm.model: is needed")
        self._request: Json = {"model": self.model, "stream": True, "stream_options": {"include_usage": True}}
        if options.temperature is not None:
            self._request["temperature"] = options.temperature
        if options.tools:
            self._request["tools"] = tools_of(options.tools)
        self._request = merged(self._request, section.get("extra") or {})
        self._asked: deque[_Answer | None] = deque()
        """Requests whose end has not come; None: nobody wants the answer any more."""
        self._calls = 0

    def endpoint(self) -> Endpoint:
        return http_endpoint(self._url, self._key)

    @property
    def busy(self) -> bool:
        return any(answer is not None for answer in self._asked)

    def ask(self, messages: list[Json]) -> None:
        self._asked.append(_Answer())
        self._send({**self._request, "messages": messages})

    def cancel(self) -> None:
        if self.busy:
            self._asked = deque([None] * len(self._asked))
            self._outbox.append(Outgoing("", b""))

    # --- what comes in ------------------------------------------------------------------------------------------------

    def on_message(self, message: str | bytes, now: float) -> None:
        end = HttpEnd.parse(message)
        if not self._asked:
            return
        answer = self._asked[0]
        if end is not None:
            self._asked.popleft()
            if answer is not None:
                self._on_end(answer, end)
        elif answer is not None and isinstance(message, str):
            data = message.removeprefix("data:").strip()
            if data and data != "[DONE]":
                self._on_chunk(answer, read_json(data))

    def _on_chunk(self, answer: _Answer, chunk: Json) -> None:
        if error := chunk.get("error"):
            self._asked[0] = None
            words = text_of(error, "message") if isinstance(error, dict) else str(error)
            code = text_of(error, "code") if isinstance(error, dict) else ""
            self._events.append(NotAnswered(words[:200] or "error", code or "error", again=True))
            return
        if isinstance(usage := chunk.get("usage"), dict):
            answer.counts = counts_of(usage)
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            if text := text_of(delta, "content") or text_of(delta, "refusal"):
                self._events.append(Wrote(text))
            for call in delta.get("tool_calls") or ():
                self._on_call(answer, call)
            answer.reason = text_of(choice, "finish_reason") or answer.reason

    def _on_call(self, answer: _Answer, told: Json) -> None:
        """Some servers leave the index out, and send each call whole."""
        index = number_of(told, "index")
        index = len(answer.calls) if index is None else index
        if index not in answer.calls and len(answer.calls) >= _MOST_CALLS:
            self.counters["calls_dropped"] += 1
            return
        call = answer.calls.setdefault(index, _Call())
        function = told.get("function") or {}
        call.call_id = call.call_id or text_of(told, "id")
        call.name = call.name or text_of(function, "name")
        call.arguments = (call.arguments + text_of(function, "arguments"))[:_MOST_ARGUMENTS]

    def _on_end(self, answer: _Answer, end: HttpEnd) -> None:
        if end.code:
            self._events.append(NotAnswered(end.message, end.code, end.again))
            return
        for _, call in sorted(answer.calls.items()):
            if call.name:
                self._calls += 1
                call_id = call.call_id or f"call-{self._calls}"
                self._events.append(Called(call_id, call.name, call.arguments or "{}"))
        self._events.append(Finished(answer.reason not in ("length", "content_filter"), answer.counts))

    def closed(self, code: int, reason: str, now: float) -> None:
        waiting, self._asked = self.busy, deque()
        if waiting:
            self._events.append(NotAnswered(f"can't be reached: {reason or code}", "closed", again=True))


def check_llm(section: Mapping[str, Any]) -> None:
    """Raises `UnknownProviderError`."""
    slug = str(section.get("provider") or "").lower()
    if slug not in _SLUGS:
        raise UnknownProviderError(f"llm.provider: there is no {slug!r}, but {', '.join(_SLUGS)}")


def counts_of(usage: Json) -> dict[str, float]:
    """`usage` of an answer, by the names of `agent.Usage`."""
    details = usage.get("prompt_tokens_details")
    found = {
        "input_tokens": number_of(usage, "prompt_tokens"),
        "output_tokens": number_of(usage, "completion_tokens"),
        "input_cached_tokens": number_of(details, "cached_tokens") if isinstance(details, dict) else None,
    }
    return {name: count for name, count in found.items() if count}
