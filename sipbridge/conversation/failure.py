"""When an agent fails: what the caller hears, who goes on with the conversation, and how it ends where nobody can.

An agent has failed when it could not be opened, when its session is gone, or when a deadline has passed without a sign
of it (`deadlines.py`). Then the tenant's `fallback` is gone through, step by step: a prompt, somebody who stands in and
is told the conversation so far, a person; and a goodbye where nobody is left. Until somebody else has the line the
agent that failed may come back. See docs/failures.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from sipbridge.agent import AgentEvent, AssistantAudio, Reconnecting, Resumed
from sipbridge.conversation.agents import Agents
from sipbridge.conversation.context import CallContext
from sipbridge.conversation.deadlines import Deadlines, Phase
from sipbridge.conversation.meanwhile import Meanwhile
from sipbridge.conversation.speaker import Speaker
from sipbridge.conversation.switching import Switching
from sipbridge.conversation.transfers import Transfers
from sipbridge.conversation.watch import Watch
from sipbridge.errors import SipbridgeError
from sipbridge.history.facts import Noted
from sipbridge.media.convert import Converter
from sipbridge.outcome import Ended
from sipbridge.providers.waiting_audio import WaitingAudio
from sipbridge.tenant_file.agent import AgentConfig
from sipbridge.tenant_file.fallback import FallbackStep, standing_in

_HEAR_HIM_OUT_S = 1.0
"""Seconds that who stands in is left to hear the caller itself, where he was speaking when the agent failed."""
_MOST_UNHEARD_MS = 3000.0
"""Of what the caller says while nobody hears him: the latest, for who stands in."""
_PATIENCE = {Phase.BROKEN: 2}
"""How often an agent may miss its deadline where nobody could take its place; else once."""

PickUp: TypeAlias = Callable[[], Awaitable[bool]]
"""Answers the call where it is not answered yet; returns whether it is up. Where it is not, it has been ended."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """Whose place is to be taken. `speaker` is None where it could not be opened."""

    name: str
    config: AgentConfig
    why: str
    speaker: Speaker | None = None


class Failure:
    """An `Observer`: it is told of every event of the agent in use."""

    def __init__(
        self, call: CallContext, agents: Agents, transfers: Transfers, switching: Switching, watch: Watch
    ) -> None:
        self._call = call
        self._agents = agents
        self._transfers = transfers
        self._switching = switching
        self._steps = call.tenant.config.fallback
        self._at = 0
        """The step that comes next. What comes before it has been used up by those who stood in."""
        self._under_way: asyncio.Task[None] | None = None
        self._final = False
        """The agent that failed is not to come back: the caller is told goodbye, or handed over."""

        self._watch = watch
        watch.missed = self._missed
        self._misses = 0
        self._meanwhile = Meanwhile(call, self._next_prompt, lambda: self._watch.out)
        self._hear_him_out: asyncio.TimerHandle | None = None
        self._unheard: WaitingAudio | None = None

    # --- failures -----------------------------------------------------------------------------------------------------

    async def open_first(self, pick_up: PickUp) -> bool:
        """Give the line to the agent that the call begins with, or to who stands in for it; returns whether somebody
        has it, else the call has been ended. What has to be heard calls `pick_up` first. Raises what `Agents.open`
        does where nobody could be opened and the caller has heard nothing."""
        name, config = next(iter(self._call.tenant.config.agents.items()))
        try:
            self._agents.use(await self._agents.open(name, config))
        except SipbridgeError as error:
            self._note(f"{config.provider} failed: {error}")
            if not await self._go_through(_Failed(name, config, str(error)), pick_up):
                raise
        return self._agents.ready

    async def lost(self, speaker: Speaker) -> bool:
        """Its session is gone. Whether the conversation goes on with another agent (see `Agents.converse`)."""
        call = self._call
        if await self._switching.lost(speaker):
            return True
        call.finish_items(call.turn.model_lost())
        if self._under_way is None:
            if call.turn.closing:
                # Nothing went wrong for the caller: what the goodbye is waiting for ends the call.
                if call.turn.silent:
                    call.floor.say_prompt("goodbye")
                return False
            self._begin(speaker.why_lost)
        if self._under_way is not None:
            await self._under_way
        return self._agents.ready

    def _missed(self, phase: Phase) -> None:
        """A deadline has passed."""
        if self._transfers.under_way:
            return  # it is told how that went, and then it is to say something
        why = f"nothing came of it in time ({phase.name.lower()})"
        if phase is Phase.OUT:
            if any(step.agent is not None for step in self._steps[self._at :]):
                self._begin("its session was lost")
            return  # else it may go on trying: there is nobody better
        self._call.log.warning("deadline missed", phase=phase.name.lower())
        self._call.journal.note(Noted("deadline", phase.name.lower()))
        self._misses += 1
        if self._at < len(self._steps) or self._misses > _PATIENCE.get(phase, 1):
            self._begin(why)
            return
        self._meanwhile.begins()
        self._meanwhile.word()
        if phase is not Phase.REPLYING:
            self._agents.create_response()
        if phase is not Phase.BROKEN:
            self._watch.again()

    def _begin(self, why: str) -> None:
        speaker = self._agents.current
        if speaker is not None and self._under_way is None:
            self._note(f"{speaker.config.provider} failed: {why}")
            self._under_way = self._call.spawn(
                self._take_its_place(_Failed(speaker.name, speaker.config, why, speaker))
            )

    async def _take_its_place(self, failed: _Failed) -> None:
        try:
            await self._transfers.over()  # of one that succeeds nobody returns
            self._meanwhile.begins()
            await self._switching.over()  # who is switched to is as good as who would stand in
            if self._agents.current is failed.speaker:
                await self._go_through(failed, _is_up)
        finally:
            self._under_way = None

    # --- the steps ----------------------------------------------------------------------------------------------------

    async def _go_through(self, failed: _Failed, pick_up: PickUp) -> bool:
        """Step after step, until somebody has the line or the call is over. False: nobody is left, and the caller has
        heard nothing."""
        goodbye: FallbackStep | None = None
        for at in range(self._at, len(self._steps)):
            step = self._steps[at]
            if step.agent is not None:
                if await self._stand_in(failed, step.agent):
                    self._at = at + 1
                    return True
                continue
            if not self._call.answered and not await pick_up():
                return True
            if step.prompt is not None:
                if not (self._meanwhile.said and at == self._at):  # it was the word that he had when the trouble began
                    self._meanwhile.say(step.prompt)
            elif step.transfer is not None:
                await self._hand_over(
                    failed, step.transfer, announced=at > 0 and self._steps[at - 1].prompt is not None
                )
            else:
                goodbye = step
            if self._agents.current is not failed.speaker:
                return True
        if not self._call.answered:
            return False
        await self._say_goodbye(failed, goodbye)
        return True

    async def _stand_in(self, failed: _Failed, agent: AgentConfig) -> bool:
        """Somebody else goes on with the conversation. Whether somebody has the line."""
        config = standing_in(agent, failed.config)
        try:
            speaker = await self._agents.open(failed.name, config, self._agents.history)
        except SipbridgeError as error:
            self._note(f"{config.provider} failed: {error}")
            return False
        if self._agents.current is not failed.speaker:  # who was switched to meanwhile
            self._agents.dismiss(speaker)
            return True
        self._note(f"{config.provider} stands in")
        if failed.speaker is None:
            self._agents.use(speaker)  # there was no conversation yet
            return True
        before = self._watch.deadlines
        self._agents.use(speaker)
        self._let_hear(failed.speaker, speaker)
        self._go_on(speaker, before)
        return True

    def _let_hear(self, predecessor: Speaker, speaker: Speaker) -> None:
        """What the caller has said since nobody hears him."""
        converter = Converter(predecessor.uplink, speaker.uplink)
        for pcm in () if self._unheard is None else self._unheard.take(_MOST_UNHEARD_MS):
            speaker.push_audio(converter.process(pcm))
        self._unheard = None

    def _go_on(self, speaker: Speaker, before: Deadlines) -> None:
        """Have it say what the agent before it owed to the caller; `before` is that one's."""
        call = self._call
        if before.owes:
            words = None if before.spoke else call.tenant.with_agent(speaker.config).first_words(call.fields)
            if words is not None:
                speaker.say(words)
            else:
                speaker.create_response()
        elif before.phase is not Phase.WORKING:  # where a tool is at work its result brings an answer
            if before.phase is Phase.CALLER:
                loop = asyncio.get_running_loop()
                self._hear_him_out = loop.call_later(_HEAR_HIM_OUT_S, self._nothing_heard, speaker)
            self._well()

    def _nothing_heard(self, speaker: Speaker) -> None:
        """The caller was speaking, and has not been heard to since: he waits for an answer."""
        if self._agents.current is speaker and self._watch.deadlines.phase is Phase.FREE:
            speaker.create_response()

    async def _hand_over(self, failed: _Failed, target: str, *, announced: bool) -> None:
        """To a person; returns where that did not succeed."""
        self._part_with(failed)
        if not announced:
            self._call.floor.say_prompt("transferring")
        self._meanwhile.said = True
        failure = await self._transfers.hand_over(target)
        self._note(f"transfer to {target} failed: {failure}")
        self._call.floor.say_prompt("transfer-failed")

    async def _say_goodbye(self, failed: _Failed, step: FallbackStep | None) -> None:
        call = self._call
        self._part_with(failed)
        call.turn.close_floor()
        self._meanwhile.said = True
        if step is not None and step.goodbye is not None:
            self._meanwhile.say(step.goodbye)
        else:
            call.floor.say_prompt("unavailable")
        await call.floor.until_silent()
        call.end(Ended.AGENT_NOT_READY if failed.speaker is None else Ended.PROVIDER_FAILED, failed.why)

    def _part_with(self, failed: _Failed) -> None:
        """It is not to come back, nor to be paid for."""
        self._final = True
        self._call.finish_items(self._call.turn.model_lost())
        if failed.speaker is not None and not failed.speaker.lost:
            self._call.spawn(failed.speaker.leave())

    def _next_prompt(self) -> str | None:
        return self._steps[self._at].prompt if self._at < len(self._steps) else None

    def _note(self, text: str) -> None:
        self._call.log.warning("fallback", what=text)
        self._call.record.fell_back(text)

    # --- the agent's events -------------------------------------------------------------------------------------------

    def agent_event(self, event: AgentEvent) -> None:
        if self._agents.current is None:
            return  # it has retired
        was_out = self._watch.out
        self._watch.agent_event(event)
        if isinstance(event, Reconnecting) and not was_out:
            self._meanwhile.session_lost()
        elif isinstance(event, Resumed):
            self._call.record.reconnects += was_out
        if isinstance(event, AssistantAudio | Resumed):
            self._comes_back()
            self._unheard = None
            if isinstance(event, AssistantAudio) or not self._watch.deadlines.owes:
                self._well()

    def _well(self) -> None:
        """Somebody speaks, or nobody has to."""
        self._misses = 0
        self._meanwhile.over()

    def caller_said(self, pcm: bytes) -> None:
        """Perhaps nobody hears it, and then it is for who stands in."""
        speaker = self._agents.current
        if speaker is None or self._final or not (self._under_way or self._watch.out):
            return
        if self._unheard is None:
            self._unheard = WaitingAudio(speaker.uplink)
        self._unheard.keep(pcm, _MOST_UNHEARD_MS)

    def _comes_back(self) -> None:
        """The agent that seemed to have failed, before somebody else had its place."""
        if self._under_way is not None and not self._final:
            self._note("it has come back")
            self._under_way.cancel()
            self._under_way = None

    def close(self) -> None:
        self._watch.close()
        if self._hear_him_out is not None:
            self._hear_him_out.cancel()


async def _is_up() -> bool:
    return True
