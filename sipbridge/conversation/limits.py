"""The limits of one call, and what the caller hears when one is reached: length, money, silence, loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sipbridge import agent as model
from sipbridge.agent import AgentEvent
from sipbridge.conversation.agents import Agents
from sipbridge.conversation.announcements import Announcements
from sipbridge.conversation.context import CallContext
from sipbridge.conversation.loops import LoopDetector
from sipbridge.conversation.silence import Silence
from sipbridge.outcome import Ended
from sipbridge.prices import Prices
from sipbridge.tenant_gate import Allowance

_WARNING_S = 30.0
_WARNED_CALLS_S = 60.0
"""Where nothing is said about it, calls that may last so long end with that warning."""
_LAST_WORDS_S = 60.0
"""Where somebody is about to end the call already when its time is up; then it is over in any case."""
_WARNING_SHARE = 0.8
"""Of what a call may cost."""


class Limits:
    def __init__(
        self,
        call: CallContext,
        agents: Agents,
        announcements: Announcements,
        *,
        max_seconds: float,
        prices: Prices,
        busy: Callable[[], bool],
        allowance: Allowance | None = None,
    ) -> None:
        """`max_seconds`: the longest that any call of this node may last. `busy`: something is being done for the
        caller, so that he has to wait. `allowance`: its part in what all calls of its tenant may use."""
        self._call = call
        self._agents = agents
        self._config = call.tenant.config.limits
        self._announcements = announcements
        self._max_seconds = max_seconds
        self._began = call.clock()
        self._prices = prices
        self._warned = False
        self._allowance = allowance
        if allowance is not None:
            allowance.on_low = self._day_is_nearly_over
            allowance.on_exhausted = self._day_is_used_up
        turns = self._config.loop_turns
        self._loops = None if turns is None else LoopDetector(turns)
        self._silence = Silence(
            call,
            announcements,
            call.tenant.config.silence,
            quiet=lambda: not (agents.deaf or busy() or call.sounds.playing or call.turn.closing) and agents.ready,
        )

    # --- what happens -------------------------------------------------------------------------------------------------

    def agent_event(self, event: AgentEvent) -> None:
        self._silence.agent_event(event)
        if isinstance(event, model.Usage):
            self._count_money()
        if self._loops is not None:
            self._look_for_loop(self._loops, event)

    def agent_heard(self) -> None:
        """Something that was said to the caller has been heard to its end."""
        self._silence.stirred()
        if self._loops is not None and self._call.turn.silent:
            self._loops.agent_heard(self._call.clock())

    def caller_acted(self) -> None:
        """He has pressed a key."""
        self._silence.caller_stirred()

    # --- length -------------------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """The longest that a call may take from its INVITE on, where nobody answers it."""
        await asyncio.sleep(self._max_seconds)
        if not self._call.answered:
            self._call.end(Ended.TOO_LONG, f"{self._max_seconds:g} s")

    def answered(self) -> None:
        """They can talk: what limits that begins to count."""
        self._call.spawn(self._silence.watch())
        self._call.spawn(self._watch_length())
        if self._allowance is not None:
            self._allowance.answered()

    async def _watch_length(self) -> None:
        """The longest that they may, and a word before it is cut."""
        left = self._began + self._max_seconds - self._call.clock()
        if self._config.call_seconds is not None:
            left = min(left, self._config.call_seconds)
        warning = self._config.warning_seconds
        if warning is None:
            warning = _WARNING_S if left >= _WARNED_CALLS_S else 0.0
        ends_at = self._call.clock() + left
        if 0 < warning < left:
            await asyncio.sleep(left - warning)
            self._call.spawn(self._warn())
        await asyncio.sleep(max(0.0, ends_at - self._call.clock()))
        await self._announcements.goodbye(Ended.TOO_LONG, f"{left:g} s")
        await asyncio.sleep(_LAST_WORDS_S)
        self._call.end(Ended.TOO_LONG, f"{left:g} s")

    async def _warn(self) -> None:
        """Once in a call: soon it will be over."""
        if not (self._warned or self._call.turn.closing):
            self._warned = True
            await self._announcements.say(self._config.warning, "ending-soon")

    # --- money --------------------------------------------------------------------------------------------------------

    def _count_money(self) -> None:
        ceiling = self._config.spend_per_call
        if self._call.record.outcome is not None:
            return
        spent = self._call.record.spent(self._prices)
        if self._allowance is not None:
            self._allowance.spends(spent)
        if ceiling is None:
            return
        if spent >= ceiling:
            self._call.spawn(self._announcements.goodbye(Ended.SPEND_LIMIT, f"{spent:.4g} of {ceiling:g} USD"))
        elif spent >= _WARNING_SHARE * ceiling:
            self._call.spawn(self._warn())

    # --- what the tenant has left of its day --------------------------------------------------------------------------

    def _day_is_nearly_over(self) -> None:
        self._call.spawn(self._warn())

    def _day_is_used_up(self, words: str) -> None:
        if self._call.record.outcome is None and not self._call.turn.closing:
            self._call.spawn(self._announcements.goodbye(Ended.TENANT_LIMIT, words))

    # --- loops --------------------------------------------------------------------------------------------------------

    def _look_for_loop(self, loops: LoopDetector, event: AgentEvent) -> None:
        match event:
            case model.UserSpeechStarted():
                loops.caller_began(self._call.clock())
            case model.UserTranscript(text, True):
                loops.caller_said(text)
            case model.AssistantText(text=text, final=True):
                loops.agent_said(text)
            case _:
                return
        if (found := loops.found) and not self._call.turn.closing:
            self._call.spawn(self._announcements.goodbye(Ended.LOOP_DETECTED, found))
