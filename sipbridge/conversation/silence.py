"""Nobody says anything: the caller is asked whether he is still there, again, and then the call is ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sipbridge import agent as model
from sipbridge.agent import AgentEvent
from sipbridge.conversation.announcements import Announcements
from sipbridge.conversation.context import CallContext
from sipbridge.outcome import Ended
from sipbridge.tenant_file.limits import SilenceConfig

_PROMPT = "still-there"
_TIMES = 2
"""How often it is asked where the tenant's file has no prompts of its own."""


_SPEAKS_S = 120.0
"""Who has begun to speak speaks for no longer, unless more is heard of him: a model may lose its end."""


class Silence:
    def __init__(
        self, call: CallContext, announcements: Announcements, config: SilenceConfig, quiet: Callable[[], bool]
    ) -> None:
        """`quiet` says whether anything else is going on that the caller may be waiting for."""
        self._call = call
        self._announcements = announcements
        self._config = config
        self._quiet = quiet
        self._speaking = False
        self._asked = 0
        self._stirred_at = call.clock()

    # --- what is heard ------------------------------------------------------------------------------------------------

    def agent_event(self, event: AgentEvent) -> None:
        match event:
            case model.UserSpeechStarted():
                self._speaking = True
                self.caller_stirred()
            case model.UserSpeechEnded() | model.UserTranscript():
                self._speaking = False
                self.caller_stirred()
            case model.AssistantTurnStarted():
                self._speaking = False  # not every vendor says that it ended
                self.stirred()
            case model.AssistantTurnEnd() | model.AssistantAudio() | model.ToolCall():
                self.stirred()
            case _:
                pass

    def stirred(self) -> None:
        """Something was heard, or has just been heard to its end."""
        self._stirred_at = self._call.clock()

    def caller_stirred(self) -> None:
        """He is there."""
        self._asked = 0
        self.stirred()

    # --- what comes of it ---------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """From the answer to the end. Does nothing where the tenant's file has no `silence.seconds`."""
        if (seconds := self._config.seconds) is None:
            return
        prompts: tuple[str | None, ...] = (None,) * _TIMES if self._config.prompts is None else self._config.prompts
        self.stirred()
        while True:
            passed = self._call.clock() - self._stirred_at
            if passed < seconds:
                await asyncio.sleep(seconds - passed)
            elif (self._speaking and passed < _SPEAKS_S) or not self._call.turn.silent or not self._quiet():
                await asyncio.sleep(seconds)  # the end of that is noted, and counts
            elif self._asked < len(prompts):
                self._asked += 1
                await self._announcements.say(prompts[self._asked - 1], _PROMPT)
                self.stirred()
            elif self._config.hang_up:
                await self._announcements.goodbye(Ended.CALLER_SILENT, f"{seconds:g} s, {len(prompts)} times asked")
                return
            else:
                await asyncio.sleep(seconds)
