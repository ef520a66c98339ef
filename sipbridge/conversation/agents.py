"""Agents: who speaks for us in a call. One at a time has the line, another one may follow.

A successor is opened beside the one that speaks (`open`), is told the conversation so far, and then takes the line
(`use`). The iteration over events (`converse`) goes on with it; the predecessor is closed and has no more to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sipbridge import agent as model
from sipbridge.agent import AgentEvent, HistoryItem, NewAgent, ToolDeclaration
from sipbridge.agent_config import AgentConfig
from sipbridge.audio import Played
from sipbridge.conversation.context import CallContext
from sipbridge.conversation.speaker import Speaker
from sipbridge.errors import AgentStartError
from sipbridge.tenants import CallFields

_GRACE_S = 0.2
"""An agent heeds the deadline itself, and then it knows whose fault it was. This is for one that does not."""


@dataclass(frozen=True, slots=True)
class Lost:
    """An agent's model is gone in mid-call, and the agent could not get another session by itself."""

    speaker: Speaker
    why: str


class Agents:
    def __init__(
        self, call: CallContext, new_agent: NewAgent, tools: Callable[[str], tuple[ToolDeclaration, ...]]
    ) -> None:
        """`tools` says what the agent of that name may do."""
        self._call = call
        self._new_agent = new_agent
        self._tools = tools
        self._opened: list[Speaker] = []
        self.current: Speaker | None = None
        """Who has the line. It may be lost, and nobody may have followed yet."""
        self.asked: Callable[[str], None] = lambda call_id: None
        """Told whenever an agent is given something to answer (see `Speaker`)."""
        self.deaf = False
        """The agent is not to hear what is said: it is given silence, for its stream must go on."""

    # --- one after another ------------------------------------------------------------------------------------------

    async def open(self, name: str, config: AgentConfig, history: Sequence[HistoryItem] = ()) -> Speaker:
        """Make an agent ready to hear and to speak, beside the one that has the line. With a `history` it goes on with
        a conversation and greets nobody. Raises `AgentStartError`, `ConfigError`, `UnknownProviderError`."""
        call, tenant = self._call, self._call.tenant.with_agent(config)
        seconds = tenant.config.deadlines.connect_seconds
        formats = tenant.formats(call.legs.current.likely_codec)
        options = tenant.agent_options(call.fields, *formats, self._tools(name), history=history)
        agent = self._new_agent(tenant.credential(), options, connect_timeout=seconds)
        speaker = Speaker(
            name,
            config,
            agent,
            tenant.capabilities,
            tenant.turns,
            formats,
            len(self._opened) + 1,
            asked=self._was_asked,
        )
        self._opened.append(speaker)
        try:
            async with asyncio.timeout(seconds + _GRACE_S):
                await speaker.start()
        except TimeoutError:
            raise AgentStartError(f"the agent was not ready within {seconds:g} s", code="timeout") from None
        return speaker

    def _was_asked(self, call_id: str) -> None:
        self.asked(call_id)

    def use(self, speaker: Speaker) -> None:
        """It has the line from now on; its predecessor is closed."""
        predecessor, self.current = self.current, speaker
        self._call.turn.rule = speaker.turns.rule
        self._call.legs.use_formats(speaker.uplink, speaker.downlink)
        self.listen()
        if predecessor is not None:
            self._call.spawn(predecessor.leave())

    def listen(self) -> None:
        """Give the leg an ear of our own, where whoever has the line needs one. Once there is sound, and when that
        changes."""
        if self.current is not None and (stream := self._call.stream) is not None:
            stream.listen(self.current.turns.detector())

    async def converse(
        self, told: Callable[[Speaker, AgentEvent], None], lost: Callable[[Lost], Awaitable[bool]]
    ) -> None:
        """Hand on what whoever has the line says, until nobody is left: `lost` is asked what becomes of the call, and
        returns whether somebody else has the line now."""
        while (speaker := self.current) is not None:
            closed, why = "closed", ""
            async for event in speaker:
                if isinstance(event, model.SessionClosed):
                    closed = event.reason
                elif isinstance(event, model.AgentError) and event.fatal:
                    why = event.message
                told(speaker, event)
            if self.current is speaker:
                reason = why if closed in why else f"{closed}: {why}" if why else closed
                if not await lost(Lost(speaker, reason)):
                    return

    async def retire(self) -> None:
        """Nobody speaks for us any more, and nobody has to be paid for it."""
        speaker, self.current = self.current, None
        if speaker is not None:
            await speaker.leave()

    async def close(self) -> None:
        """All of them. What is charged for is in part only known now."""
        for speaker in self._opened:
            for event in await speaker.close():
                if isinstance(event, model.Usage):
                    self._call.record.used(speaker.config, event)

    # --- whoever has the line -----------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Somebody hears what the caller says."""
        return self.current is not None and not self.current.lost

    @property
    def history(self) -> tuple[HistoryItem, ...]:
        """The conversation so far."""
        return () if self.current is None else self.current.history

    @property
    def can_say(self) -> bool:
        """Somebody would say what he is told to."""
        return self.ready and self.current is not None and self.current.capabilities.can_say

    @property
    def farewell(self) -> str | None:
        """What whoever has the line says when the call is ended."""
        return None if self.current is None else self.current.config.farewell

    @property
    def late_audio_bytes(self) -> int:
        return sum(speaker.late_audio_bytes for speaker in self._opened)

    @property
    def uplink_dropped_ms(self) -> float:
        return sum(speaker.uplink_dropped_ms for speaker in self._opened)

    def hear(self, pcm: bytes) -> bool:
        """What the caller says, in the uplink's format. Whether somebody has heard it."""
        speaker = self.current
        if speaker is None or speaker.lost:
            return False
        silence = speaker.uplink.silence
        speaker.push_audio(silence * (len(pcm) // len(silence)) if self.deaf else pcm)
        return not self.deaf

    def cancel(self, played: Sequence[Played]) -> None:
        if self.current is not None:
            self.current.cancel(played)

    def say(self, text: str) -> None:
        if self.current is not None:
            self.current.say(text)

    def tell(self, text: str) -> None:
        """Something that happened, in words, to which the agent should react."""
        if self.current is not None:
            self.current.tell(text)

    def create_response(self) -> None:
        if self.current is not None:
            self.current.create_response()

    def update_instructions(self, text: str) -> None:
        if self.current is not None:
            self.current.update_instructions(text)

    def brief(self, fact: str, before: CallFields) -> None:
        """More is known of the call than `before`: the instructions say so where their template asks for it, else with
        this sentence. A model whose instructions can't be changed is told the sentence."""
        if (speaker := self.current) is None:
            return
        tenant, fields = self._call.tenant.with_agent(speaker.config), self._call.fields
        if not speaker.capabilities.takes_instructions:
            speaker.inform(fact)
        elif (text := tenant.instructions(fields)) != tenant.instructions(before):
            speaker.update_instructions(text)
        else:
            speaker.update_instructions(f"{text.rstrip()}\n\n{fact}".lstrip())

    def answer_tool(self, call_id: str, output: str) -> None:
        if self.current is not None:
            self.current.answer_tool(call_id, output)
