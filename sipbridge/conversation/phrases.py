"""What an agent says counts as what it does, where its model calls no tools (`phrases` in a tenant's file).

Found in the agent's own words, when all of them are known, never in the caller's; what comes of it is the same as with
the tools: the goodbye is heard to its end, and a transfer goes to a target that the tenant has named, or nowhere.
"""

from __future__ import annotations

from collections.abc import Callable

from sipbridge import agent as model
from sipbridge.agent import AgentEvent
from sipbridge.conversation.agents import Agents
from sipbridge.conversation.confirmation import Confirmation
from sipbridge.conversation.context import CallContext
from sipbridge.conversation.transfers import Transfers
from sipbridge.outcome import Ended
from sipbridge.wording import plain_words, says

_LONGEST = 20_000
"""Characters of one text that are looked at."""


class Phrases:
    def __init__(
        self,
        call: CallContext,
        agents: Agents,
        transfers: Transfers,
        confirmation: Confirmation,
        *,
        busy: Callable[[], bool],
    ) -> None:
        """`busy`: a tool of the model's is at work."""
        self._call = call
        self._agents = agents
        self._transfers = transfers
        self._confirmation = confirmation
        self._busy = busy
        phrases, tool = call.tenant.config.phrases, call.tenant.config.tools.transfer_call
        self._hang_up = [(phrase, plain_words(phrase)) for phrase in phrases.hang_up]
        self._transfer = [(name, plain_words(said)) for name, those in phrases.transfer.items() for said in those]
        self._confirm = tool is not None and tool.confirm
        self._transferring = False
        self._barge_ins = 0

    def agent_event(self, event: AgentEvent) -> None:
        match event:
            case model.AssistantTurnStarted():
                self._barge_ins = self._call.record.barge_ins
            case model.AssistantText(text=text, final=True) if self._hang_up or self._transfer:
                self._said(text)
            case _:
                pass

    def _said(self, text: str) -> None:
        if self._call.turn.closing or self._cut_short:
            return
        words = plain_words(text[:_LONGEST])
        goodbye = next((phrase for phrase, found in self._hang_up if says(words, found)), None)
        if goodbye is not None and self._may("hang_up"):
            self._call.turn.close_floor()
            self._call.spawn(self._call.end_when_heard(Ended.AGENT_HUNG_UP, f"said {goodbye!r}"))
            return
        name = next((name for name, found in self._transfer if says(words, found)), None)
        if name is not None and self._may("transfer_call") and not self._transferring:
            self._transferring = True
            self._call.spawn(self._put_through(name))

    def _may(self, tool: str) -> bool:
        """What an agent may not do by a tool (`agents.NAME.tools`) it may not do by words."""
        tools = None if self._agents.current is None else self._agents.current.config.tools
        return tools is None or tool in tools

    @property
    def _cut_short(self) -> bool:
        """The caller has interrupted, so nobody knows how much of it he has heard."""
        return self._call.record.barge_ins > self._barge_ins

    async def _put_through(self, name: str) -> None:
        try:
            await self._call.floor.until_silent()
            if self._cut_short or self._busy() or self._call.turn.closing:
                return
            words = await self._confirmation.objection(name) if self._confirm else ""
            if not words:
                failure = await self._transfers.hand_over(name)
                words = f"The transfer to {name} did not succeed: {failure}. Tell the caller, and go on."
            self._agents.tell(words)
        finally:
            self._transferring = False
