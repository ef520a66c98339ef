"""One reply of the simulated OpenAI model: what it will say or call, and the events that tell so."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from sipbridge.audio import AudioFormat
from sipbridge.simulator.script import ToolUse

Json: TypeAlias = dict[str, Any]
Emit: TypeAlias = Callable[..., None]
"""`emit(type, **fields)` sends one event."""


@dataclass(slots=True)
class Plan:
    """Decided when the reply begins."""

    text: str
    audio: bytes
    """Empty: nothing is spoken."""
    tool: ToolUse | None = None
    modalities: tuple[str, ...] = ("audio",)
    metadata: Json | None = None


@dataclass(slots=True)
class SpokenItem:
    """An assistant message of the conversation, as far as truncation is concerned."""

    id: str
    sent: int = 0
    """Octets of audio sent of it."""
    truncated_ms: int | None = None


@dataclass(slots=True)
class Reply:
    """Emits the events of one response, in the service's order, whether it is let finish or cut at any point."""

    id: str
    plan: Plan
    audio_format: AudioFormat
    new_id: Callable[[str], str]
    emit: Emit
    status: Literal["in_progress", "completed", "cancelled", "incomplete", "failed"] = "in_progress"
    item: SpokenItem | None = None
    output: list[Json] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    def describe(self, details: Json | None = None) -> Json:
        usage = None if self.status == "in_progress" else self._usage()
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": self.status,
            "status_details": details,
            "output": self.output,
            "conversation_id": "conv_1",
            "output_modalities": list(self.plan.modalities),
            "max_output_tokens": "inf",
            "audio": {"output": {"format": _format(self.audio_format), "voice": "marin"}},
            "usage": usage,
            "metadata": self.plan.metadata,
        }

    def _usage(self) -> Json:
        spoken = self.item.sent // self.audio_format.bytes_per_ms // 50 if self.item else 0
        written = max(1, len("".join(self.said)) // 4)
        cached = {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0}
        return {
            "total_tokens": 100 + spoken + written,
            "input_tokens": 100,
            "output_tokens": spoken + written,
            "input_token_details": {
                "text_tokens": 60,
                "audio_tokens": 40,
                "image_tokens": 0,
                "cached_tokens": 0,
                "cached_tokens_details": cached,
            },
            "output_token_details": {"text_tokens": written, "audio_tokens": spoken},
        }

    # --- speech -------------------------------------------------------------------------------------------------------

    def begin_speech(self) -> SpokenItem:
        self.item = SpokenItem(self.new_id("item"))
        message = self._message("in_progress", [])
        self.emit("response.output_item.added", response_id=self.id, output_index=0, item=message)
        self.emit("conversation.item.added", previous_item_id=None, item=message)
        part = {"type": "audio", "transcript": ""} if self.plan.audio else {"type": "text", "text": ""}
        self.emit("response.content_part.added", part=part, **self._place())
        return self.item

    def say(self, words: str, audio: bytes) -> None:
        assert self.item is not None
        if words:
            self.said.append(words)
            kind = "response.output_audio_transcript.delta" if self.plan.audio else "response.output_text.delta"
            self.emit(kind, delta=words, **self._place())
        if audio:
            self.item.sent += len(audio)
            self.emit("response.output_audio.delta", delta=b64encode(audio).decode("ascii"), **self._place())

    def end_speech(self, *, whole: bool) -> None:
        if self.item is None or self.output:
            return
        text = "".join(self.said)
        if self.plan.audio:
            self.emit("response.output_audio.done", **self._place())
            self.emit("response.output_audio_transcript.done", transcript=text, **self._place())
            part, content = {"type": "audio", "transcript": text}, {"type": "output_audio", "transcript": text}
        else:
            self.emit("response.output_text.done", text=text, **self._place())
            part = content = {"type": "text", "text": text}
            content = {"type": "output_text", "text": text}
        self.emit("response.content_part.done", part=part, **self._place())
        message = self._message("completed" if whole else "incomplete", [content])
        self.emit("conversation.item.done", previous_item_id=None, item=message)
        self.emit("response.output_item.done", response_id=self.id, output_index=0, item=message)
        self.output.append(message)

    def _place(self) -> Json:
        assert self.item is not None
        return {"response_id": self.id, "item_id": self.item.id, "output_index": 0, "content_index": 0}

    def _message(self, status: str, content: list[Json]) -> Json:
        assert self.item is not None
        return {
            "id": self.item.id,
            "object": "realtime.item",
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }

    # --- tool calls ---------------------------------------------------------------------------------------------------

    def call(self, tool: ToolUse) -> str:
        """One whole call; returns its id."""
        item_id, call_id = self.new_id("item"), self.new_id("call")
        index = len(self.output)
        place = {"response_id": self.id, "output_index": index, "item_id": item_id, "call_id": call_id}
        item: Json = {
            "id": item_id,
            "object": "realtime.item",
            "type": "function_call",
            "status": "in_progress",
            "name": tool.name,
            "call_id": call_id,
            "arguments": "",
        }
        self.emit("response.output_item.added", response_id=self.id, output_index=index, item=item)
        self.emit("conversation.item.added", previous_item_id=None, item=item)
        middle = len(tool.arguments) // 2
        for piece in (tool.arguments[:middle], tool.arguments[middle:]):
            if piece:
                self.emit("response.function_call_arguments.delta", delta=piece, **place)
        self.emit("response.function_call_arguments.done", name=tool.name, arguments=tool.arguments, **place)
        done = item | {"status": "completed", "arguments": tool.arguments}
        self.emit("conversation.item.done", previous_item_id=None, item=done)
        self.emit("response.output_item.done", response_id=self.id, output_index=index, item=done)
        self.output.append(done)
        return call_id

    # --- end ----------------------------------------------------------------------------------------------------------

    def finish(
        self,
        status: Literal["completed", "cancelled", "failed"],
        *,
        reason: str | None = None,
        error: Json | None = None,
    ) -> None:
        self.status = status
        self.end_speech(whole=status == "completed")
        details: Json | None = None
        if status != "completed":
            details = {"type": status}
            if reason:
                details["reason"] = reason
            if error:
                details["error"] = error
        self.emit("response.done", response=self.describe(details))


def _format(audio: AudioFormat) -> Json:
    return {"type": "audio/pcm", "rate": 24000} if audio.encoding == "pcm16" else {"type": f"audio/{audio.encoding}"}
