"""Speaker: one agent of a call, open: its session with a model under the names that are unique in the call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Self

from sipbridge.agent import (
    Agent,
    AgentError,
    AgentEvent,
    AgentOptions,
    Capabilities,
    HistoryItem,
    Resumed,
    SessionClosed,
    ToolUsed,
)
from sipbridge.audio import Played
from sipbridge.conversation.paced_speech import PacedSpeech
from sipbridge.media.stream import MediaStream
from sipbridge.providers.names import Names
from sipbridge.tenant_file.agent import AgentConfig
from sipbridge.turn_taking import TurnTaking

_LAST_WORDS_S = 1.0
"""How long an agent that was closed may take to say so. All of ours do at once."""


class Speaker:
    """`name` is the agent's in the tenant's file, `number` counts the agents of this call from 1. A speaker that is
    `lost` (its model is gone, or it was closed) takes every command and does nothing."""

    def __init__(
        self,
        name: str,
        config: AgentConfig,
        agent: Agent,
        capabilities: Capabilities,
        turns: TurnTaking,
        options: AgentOptions,
        number: int = 1,
        *,
        briefing: str = "",
        asked: Callable[[str], None] = lambda call_id: None,
    ) -> None:
        """`options` are what the agent was made with; `briefing` is what of its instructions holds for this call.
        `asked` is told whenever it is given something to answer: the name of the tool call whose result it is, or ""
        for anything else."""
        self.name = name
        self.config = config
        self.capabilities = capabilities
        self.turns = turns
        self.uplink, self.downlink = options.input_format, options.output_format
        self.instructions = options.instructions
        """Its own."""
        self._reminder = ""
        self.tools = tuple(tool.name for tool in options.tools)
        self.briefing = briefing
        self.lost = False
        self.why_lost = ""
        self._pushed = 0
        self._agent = agent
        self._asked = asked
        self._names = Names(number, "a")
        self._in_history = f"a{number}-"
        self._told_calls = frozenset(item.call_id for item in options.history if isinstance(item, ToolUsed))
        self._paced = PacedSpeech(self.downlink) if capabilities.full_duplex else None

    async def start(self) -> None:
        await self._agent.start()

    def __aiter__(self) -> Self:
        """Its events, as `Agent` promises them."""
        return self

    async def __anext__(self) -> AgentEvent:
        event = await anext(self._agent)
        if isinstance(event, AgentError) and event.fatal:
            self.why_lost = event.message
        elif isinstance(event, Resumed):
            self._pushed = 0
        elif isinstance(event, SessionClosed):
            self.lost = True
            closed, why = event.reason, self.why_lost
            self.why_lost = why if closed in why else f"{closed}: {why}" if why else closed
        return self._names.outward(event)

    async def close(self) -> tuple[AgentEvent, ...]:
        """What it had still to say, of which what the vendor charges for may be a part; nobody may be iterating."""
        await self.leave()
        last: list[AgentEvent] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                async for event in self:
                    last.append(event)
        return tuple(last)

    async def leave(self) -> None:
        """Close it; whoever iterates is told the rest."""
        self.lost = True
        await self._agent.close()

    # --- figures --------------------------------------------------------------------------------------------------

    @property
    def history(self) -> tuple[HistoryItem, ...]:
        """The conversation so far, what it was told of it included. Its tool calls have names in it that no other
        agent of the call gives."""
        return tuple(self._in_call(item) for item in self._agent.history)

    def _in_call(self, item: HistoryItem) -> HistoryItem:
        if not isinstance(item, ToolUsed) or item.call_id in self._told_calls:
            return item
        return replace(item, call_id=self._in_history + item.call_id)

    def owns(self, call_id: str) -> bool:
        """Whether a tool call of that name is this agent's."""
        return self._names.call(call_id) is not None

    def asked_for(self, call_id: str) -> ToolUsed | None:
        """The tool call of that name, where this agent has made it."""
        own_name = self._names.call(call_id)
        if own_name is None or own_name in self._told_calls:
            return None
        calls = (item for item in reversed(self._agent.history) if isinstance(item, ToolUsed))
        return next((item for item in calls if item.call_id == own_name), None)

    @property
    def pushed_ms(self) -> float:
        """Of the caller's sound, as its session counts it."""
        return self._pushed / self.uplink.bytes_per_ms

    @property
    def late_audio_bytes(self) -> int:
        return self._agent.counters["late_audio_bytes"]

    @property
    def uplink_dropped_ms(self) -> float:
        return self._agent.uplink_dropped_ms

    # --- commands -------------------------------------------------------------------------------------------------

    def play(self, stream: MediaStream, pcm: bytes, reply_id: str, item_id: str) -> None:
        """What it says, on a leg."""
        if self._paced is not None:
            self._paced.play(stream, pcm, reply_id, item_id)
        else:
            stream.play(pcm, reply_id, item_id)

    def push_audio(self, pcm: bytes) -> None:
        if not self.lost:
            self._pushed += len(pcm)
            self._agent.push_audio(pcm)

    def commit_input_audio(self) -> None:
        if not self.lost:
            self._agent.commit_input_audio()
            self._asked("")

    def cancel(self, played: Sequence[Played]) -> None:
        if not self.lost:
            self._agent.cancel(self._names.played(played))

    def say(self, text: str) -> None:
        if not self.lost:
            self._agent.say(text)
            self._asked("")

    def tell(self, text: str) -> None:
        """Something that happened, in words, to which it should react."""
        if not self.lost:
            self._agent.send_text(text)
            self._agent.create_response()
            self._asked("")

    def inform(self, text: str) -> None:
        """Something that it should know, and need not react to."""
        if not self.lost:
            self._agent.send_text(text)

    def create_response(self) -> None:
        if not self.lost:
            self._agent.create_response()
            self._asked("")

    def update_instructions(self, text: str) -> None:
        """Its own; what it was reminded of still holds."""
        self.instructions = text
        self._instruct()

    def remind(self, words: str) -> None:
        """What holds beside its instructions from now on, instead of what did. A model whose instructions can't be
        changed in mid-call has to do without."""
        self._reminder = words
        if self.capabilities.takes_instructions:
            self._instruct()

    def _instruct(self) -> None:
        if not self.lost:
            text = "\n\n".join(part for part in (self.instructions.rstrip(), self._reminder) if part)
            self._agent.update_instructions(text)

    def answer_tool(self, call_id: str, output: str) -> None:
        """Where the call is another agent's, or this one is gone, it is told nothing."""
        own_name = self._names.call(call_id)
        if not self.lost and own_name is not None:
            self._agent.send_tool_result(own_name, output)
            self._asked(call_id)
