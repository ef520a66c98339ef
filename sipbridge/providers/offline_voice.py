"""How the embedded model speaks: replies made of parts, handed out faster than they will be heard. Pure.

Ten times as fast, that is: not all at once, so that a long reply does not hold up the loop that serves every call, and
so that there is, as with a real model, a time in which a reply is being made and can be cut.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from sipbridge.agent import (
    AgentEvent,
    AssistantAudio,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    ToolCall,
)
from sipbridge.audio import AudioFormat, Played
from sipbridge.prompts import convert_rate

CHUNK_MS = 100
FRAME_MS = 20
BURST_MS = 500
"""How much is handed out at a time ..."""
INTERVAL_S = 0.05
"""... and how often."""


@dataclass(frozen=True, slots=True)
class Speech:
    """Words and their sound, at the output's rate."""

    words: str
    pcm: bytes


Part: TypeAlias = Speech | str
"""Speech, or text that must be synthesised first."""


@dataclass(frozen=True, slots=True)
class CallTool:
    name: str
    arguments: str


@dataclass(slots=True)
class Plan:
    """What a reply will be."""

    parts: list[Part]
    tool: CallTool | None = None


@dataclass(slots=True)
class _Reply:
    reply_id: str
    item_id: str
    parts: deque[Part]
    tool: CallTool | None
    words: list[str] = field(default_factory=list)
    position: int = 0
    """Bytes of the first part that have been handed out."""
    awaits_synthesis: bool = False


class Voice:
    """Replies one after another; each ends with exactly one `AssistantTurnEnd`."""

    def __init__(self, output_format: AudioFormat) -> None:
        self._format = output_format
        self._plans: deque[Plan] = deque()
        self._current: _Reply | None = None
        self._awaited: deque[_Reply] = deque()
        self._texts: list[str] = []
        self._made_ms: dict[str, float] = {}
        self._replies = 0
        self._calls = 0
        self.due: float | None = None
        """When `speak` wants to be called again."""
        self.tool_calls: dict[str, str] = {}
        """Calls made and not yet answered: id -> name."""

    @property
    def current_reply(self) -> str | None:
        return self._current.reply_id if self._current else None

    @property
    def has_spoken(self) -> bool:
        return bool(self._made_ms)

    def add(self, plan: Plan) -> None:
        self._plans.append(plan)

    def texts_to_synthesise(self) -> list[str]:
        """Takes them. For each, in order, `synthesised` must be called once."""
        texts, self._texts = self._texts, []
        return texts

    def synthesised(self, pcm: bytes | None, substitute: Speech) -> None:
        """The oldest text has become sound, or could not: then `substitute` is said in its place."""
        reply = self._awaited.popleft()
        reply.awaits_synthesis = False
        text = reply.parts[0]
        reply.parts[0] = Speech(text, pcm) if pcm is not None and isinstance(text, str) else substitute

    def cut_short(self, played: Sequence[Played]) -> bool:
        """Whether one of these items was not heard to its end; a frame that is missing there is not missed."""
        return any(item.played_ms + FRAME_MS < self._made_ms.get(item.item_id, 0.0) for item in played)

    def will_call(self, name: str) -> bool:
        """Whether a call of this tool is on its way: planned, in the reply under way, or not answered yet."""
        replies: list[Plan | _Reply] = [*self._plans, *([self._current] if self._current else [])]
        return name in self.tool_calls.values() or any(reply.tool and reply.tool.name == name for reply in replies)

    def speak(self, now: float) -> list[AgentEvent]:
        """The next burst, where it is time for one."""
        events: list[AgentEvent] = []
        if self.due is not None and now < self.due:
            return events
        self.due = None
        budget = BURST_MS * self._format.bytes_per_ms
        while budget > 0:
            if self._current is None and not self._begin(events):
                return events
            if self._current is not None and self._current.awaits_synthesis:
                return events
            budget -= self._continue(events, budget)
        self.due = now + INTERVAL_S
        return events

    def stop_current(self) -> list[AgentEvent]:
        reply = self._current
        return [] if reply is None else self._end(reply, "cancelled")

    def stop(self) -> list[AgentEvent]:
        self._plans.clear()
        self.due = None
        return self.stop_current()

    def _begin(self, events: list[AgentEvent]) -> bool:
        if not self._plans:
            return False
        plan = self._plans.popleft()
        self._replies += 1
        self._current = _Reply(f"reply-{self._replies}", f"item-{self._replies}", deque(plan.parts), plan.tool)
        events.append(AssistantTurnStarted(self._current.reply_id))
        return True

    def _continue(self, events: list[AgentEvent], budget: int) -> int:
        """Hands out up to `budget` bytes of the current reply; returns how many."""
        reply = self._current
        assert reply is not None
        if not reply.parts:
            events += self._end(reply, "completed")
            return 0
        part = reply.parts[0]
        if isinstance(part, str):
            reply.awaits_synthesis = True
            self._awaited.append(reply)
            self._texts.append(part)
            return 0
        if reply.position == 0:
            reply.words.append(part.words)
            events.append(AssistantText(reply.reply_id, part.words, final=False))
        size = min(budget, CHUNK_MS * self._format.bytes_per_ms)
        chunk = part.pcm[reply.position : reply.position + size]
        reply.position += len(chunk)
        if reply.position >= len(part.pcm):
            reply.parts.popleft()
            reply.position = 0
        if chunk:
            made = self._made_ms.get(reply.item_id, 0.0)
            self._made_ms[reply.item_id] = made + self._format.duration_ms(chunk)
            events.append(AssistantAudio(reply.reply_id, reply.item_id, chunk))
        return len(chunk)

    def _end(self, reply: _Reply, status: str) -> list[AgentEvent]:
        self._current = None
        events: list[AgentEvent] = []
        if reply.words:
            events.append(AssistantText(reply.reply_id, " ".join(reply.words), final=True))
        if status == "cancelled":
            return [*events, AssistantTurnEnd(reply.reply_id, "cancelled")]
        if reply.tool is not None:
            self._calls += 1
            call_id = f"call-{self._calls}"
            self.tool_calls[call_id] = reply.tool.name
            events.append(ToolCall(call_id, reply.tool.name, reply.tool.arguments, reply.reply_id))
        return [*events, AssistantTurnEnd(reply.reply_id)]


def recorded(pcm: bytes, rate: int, words: str, output_rate: int) -> Speech:
    """Somebody's own voice as speech of ours."""
    return Speech(words, convert_rate(pcm, rate, output_rate))


def read_wav(data: bytes, rate: int) -> bytes:
    """The sound of a 16-bit mono WAV at another rate; empty where it is none.

    A program that writes to a pipe cannot know the length beforehand, so the sizes in its header are not believed: the
    sound goes to the end of what came.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return b""
    found, position = 0, 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if name == b"fmt " and position + 16 <= len(data):
            encoding, channels, found, _, _, bits = struct.unpack_from("<HHIIHH", data, position)
            if (encoding, channels, bits) != (1, 1, 16) or not 4000 <= found <= 192_000:
                return b""
        elif name == b"data":
            end = min(len(data), position + size)
            pcm = data[position : end - (end - position) % 2]
            return convert_rate(pcm, found, rate) if found else b""
        position += size + size % 2
    return b""
