"""Agents: who speaks for us in a call. One at a time has the line, another one may follow.

A successor is opened beside the one that speaks (`open`), is told the conversation so far, and then takes the line
(`use`). What is heard from then on is what it says (`converse`); the predecessor is closed, and only what it has cost
is still noted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count

from sipbridge import agent as model
from sipbridge.agent import AgentEvent, HistoryItem, NewAgent, ToolDeclaration, ToolUsed
from sipbridge.audio import Played
from sipbridge.conversation.context import CallContext
from sipbridge.conversation.speaker import Speaker
from sipbridge.errors import AgentStartError
from sipbridge.providers.phrases import late_result
from sipbridge.tenant_file.agent import AgentConfig
from sipbridge.tenants import Tenant
from sipbridge.tools.switch_agent import SWITCH_AGENT

_GRACE_S = 0.2
"""An agent heeds the deadline itself, and then it knows whose fault it was. This is for one that does not."""
_MOST_UNTOLD = 50
"""That whoever follows an agent is told of what came meanwhile."""


class Agents:
    def __init__(
        self,
        call: CallContext,
        new_agent: NewAgent,
        tools: Callable[[str, AgentConfig], tuple[ToolDeclaration, ...]],
    ) -> None:
        """`tools` says what an agent of that name may do."""
        self._call = call
        self._new_agent = new_agent
        self._tools = tools
        self._opened: list[Speaker] = []
        self._numbers = count(1)
        self._leaving: set[asyncio.Future[None]] = set()
        self.current: Speaker | None = None
        """Who has the line. It may be lost, and nobody may have followed yet."""
        self._followed = asyncio.Event()
        self._untold: list[Callable[[], None]] = []
        self.asked: Callable[[str], None] = lambda call_id: None
        """Told whenever an agent is given something to answer (see `Speaker`)."""
        self.followed: Callable[[], None] = lambda: None
        """Told that another one has the line."""
        self.deaf = False
        """The agent is not to hear what is said: it is given silence, for its stream must go on."""

    # --- one after another ------------------------------------------------------------------------------------------

    async def open(
        self, name: str, config: AgentConfig, history: Sequence[HistoryItem] = (), briefing: str = ""
    ) -> Speaker:
        """Make an agent ready to hear and to speak, beside the one that has the line. Where there is one, it goes on
        with that one's conversation (`history`) and greets nobody; the `briefing` comes behind its instructions, and
        holds for whoever stands in for it, too. Raises `AgentStartError`, `ConfigError`, `UnknownProviderError`."""
        call, tenant = self._call, self._call.tenant.with_agent(config)
        if self.current is not None and self.current.name == name:
            briefing = briefing or self.current.briefing
        seconds = tenant.config.deadlines.connect_seconds
        formats = tenant.formats(call.legs.current.likely_codec)
        options = tenant.agent_options(call.fields, *formats, self._tools(name, config), history=history)
        goes_on = self.current is not None
        options = replace(options, instructions=options.instructions + briefing, goes_on=goes_on)
        agent = self._new_agent(tenant.credential(), options, connect_timeout=seconds)
        speaker = Speaker(
            name,
            config,
            agent,
            tenant.capabilities,
            tenant.turns,
            options,
            next(self._numbers),
            briefing=briefing,
            asked=lambda call_id: self.asked(call_id),
        )
        self._opened.append(speaker)
        try:
            async with asyncio.timeout(seconds + _GRACE_S):
                await speaker.start()
        except TimeoutError:
            self.dismiss(speaker)
            raise AgentStartError(f"the agent was not ready within {seconds:g} s", code="timeout") from None
        except Exception:
            self.dismiss(speaker)
            raise
        return speaker

    def use(self, speaker: Speaker) -> None:
        """It has the line from now on; its predecessor is closed. What that one has said is still heard."""
        predecessor, self.current = self.current, speaker
        self.followed()
        self._call.record.took_the_line(speaker.name)
        self._call.turn.rule = speaker.turns.rule
        self._call.legs.use_formats(speaker.uplink, speaker.downlink)
        self.listen()
        if predecessor is not None:
            self._call.finish_items(self._call.turn.model_lost())
            self._call.spawn(predecessor.leave())
        self._followed.set()
        untold, self._untold = self._untold, []
        for command in untold:
            command()

    def listen(self) -> None:
        """Give the leg an ear of our own, where whoever has the line needs one. Once there is sound, and when that
        changes."""
        if self.current is not None and (stream := self._call.stream) is not None:
            stream.listen(self.current.turns.detector())

    async def converse(
        self, told: Callable[[Speaker, AgentEvent], None], lost: Callable[[Speaker], Awaitable[bool]]
    ) -> None:
        """Hand on what whoever has the line says, until nobody is left: `lost` is asked what becomes of the call
        whose speaker's model is gone for good, and returns whether somebody else has the line now."""
        while (speaker := self.current) is not None:
            self._followed.clear()
            reading = self._call.spawn(self._read(speaker, told))
            followed = asyncio.ensure_future(self._followed.wait())
            try:
                await asyncio.wait({reading, followed}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                followed.cancel()
            if self.current is speaker and not await lost(speaker):
                return

    async def _read(self, speaker: Speaker, told: Callable[[Speaker, AgentEvent], None]) -> None:
        """To its last word, which comes when another one has had the line for a while."""
        async for event in speaker:
            if self.current is speaker:
                told(speaker, event)
            elif isinstance(event, model.Usage):
                self._call.record.used(speaker.config, event)

    def dismiss(self, speaker: Speaker) -> None:
        """Close one that is not to have the line after all."""
        self._opened.remove(speaker)
        leaving = asyncio.ensure_future(self._close(speaker))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def retire(self) -> None:
        """Nobody speaks for us any more, and nobody has to be paid for it."""
        speaker, self.current = self.current, None
        if speaker is not None:
            await speaker.leave()

    async def close(self) -> None:
        """All of them. What is charged for is in part only known now."""
        for speaker in self._opened:
            await self._close(speaker)
        if self._leaving:
            await asyncio.wait(self._leaving)

    async def _close(self, speaker: Speaker) -> None:
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
        """The conversation so far, for whoever goes on with it: without what only concerns the one that had it, which
        is who handed over to whom, and calls whose result is still to come (`answer_tool` tells that one)."""
        items = () if self.current is None else self.current.history
        return tuple(
            item
            for item in items
            if not isinstance(item, ToolUsed) or (item.output is not None and item.name != SWITCH_AGENT)
        )

    @property
    def can_say(self) -> bool:
        """Somebody would say to the caller what he is told to."""
        return self.ready and not self.deaf and self.current is not None and self.current.capabilities.can_say

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

    def hear(self, pcm: bytes, *, private: bool = False) -> bool:
        """What the caller says, in the uplink's format. Whether it was meant for somebody who is there. `private`: it
        is no agent's business what that is, and silence is heard instead."""
        speaker = self.current
        if speaker is None or speaker.lost:
            return False
        silence = speaker.uplink.silence
        speaker.push_audio(silence * (len(pcm) // len(silence)) if self.deaf or private else pcm)
        return not self.deaf

    def cancel(self, played: Sequence[Played]) -> None:
        if self.current is not None:
            self.current.cancel(played)

    def say(self, text: str) -> None:
        if self.current is not None:
            self.current.say(text)

    def tell(self, text: str) -> None:
        """Something that happened, in words, to which the agent should react. Where it is gone, who follows is told;
        where there is none yet, the first to come knows it, and greets."""
        if self.current is None:
            self._waits(partial(self._inform, text))
        elif not self._waits(partial(self.tell, text)):
            self.current.tell(text)

    def _inform(self, text: str) -> None:
        if self.current is not None:
            self.current.inform(text)

    def _waits(self, command: Callable[[], None]) -> bool:
        """Nobody can be told at the moment: whoever follows is."""
        if self.ready:
            return False
        if len(self._untold) < _MOST_UNTOLD:
            self._untold.append(command)
        return True

    def create_response(self) -> None:
        if self.current is not None:
            self.current.create_response()

    def renew(self, before: Tenant, now: Tenant) -> bool:
        """The instructions of the tenant's agents are others now. Whether that changes anything for who has the line; a
        model whose instructions can't be changed goes on as it began."""
        speaker = self.current
        if speaker is None:
            return False
        old, new = before.config.agents.get(speaker.name), now.config.agents.get(speaker.name)
        if old is None or new is None or speaker.config.instructions != old.instructions:
            return False  # somebody else stands in for it, with instructions of its own
        speaker.config = speaker.config.model_copy(update={"instructions": new.instructions})
        text = now.with_agent(speaker.config).instructions(self._call.fields) + speaker.briefing
        if text == speaker.instructions or not speaker.capabilities.takes_instructions:
            return False
        speaker.update_instructions(text)
        return True

    def brief(self, fact: str) -> None:
        """More is known of the call (`CallContext.fields`) than when the agent was opened: `fact`, which is in its
        instructions now. A model whose instructions can't be changed is told the sentence."""
        if (speaker := self.current) is None:
            return
        text = self._call.tenant.with_agent(speaker.config).instructions(self._call.fields) + speaker.briefing
        if text == speaker.instructions:
            return  # it was opened after that was known
        speaker.instructions = text
        if speaker.capabilities.takes_instructions:
            speaker.update_instructions(text)
        else:
            speaker.inform(fact)

    def answer_tool(self, call_id: str, output: str) -> None:
        """Of a call that a predecessor made, whoever has the line now is told in words what came of it."""
        if self.current is None or self._waits(partial(self.answer_tool, call_id, output)):
            return
        if self.current.owns(call_id):
            self.current.answer_tool(call_id, output)
            return
        for predecessor in self._opened:
            if (used := predecessor.asked_for(call_id)) is not None:
                self.tell(late_result(replace(used, output=output)))
                return
