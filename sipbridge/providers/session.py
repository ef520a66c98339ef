"""The agent over any dialect: commands go to the link in use, whose events go to whoever iterates.

A link that is lost in mid-call, or has to end, is followed by another (`succession.py`). What happens is noted on the
way through, so that the new one can be told the conversation so far and asked for what the old one owed; commands given
while there is none wait here.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, Self

from sipbridge.agent import (
    AgentError,
    AgentEvent,
    AgentOptions,
    AssistantAudio,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    Capabilities,
    HistoryItem,
    Resumed,
    SessionClosed,
    SessionOpen,
    ToolCallCancelled,
    ToolUsed,
    Usage,
    UserSpeechStarted,
)
from sipbridge.audio import Played
from sipbridge.errors import AgentClosedError, AgentStartError, ProviderError
from sipbridge.providers import Dialect
from sipbridge.providers.activity import Activity
from sipbridge.providers.channels import MAX_UNSENT_MS
from sipbridge.providers.link import Guard, Link
from sipbridge.providers.memory import Memory
from sipbridge.providers.names import Names
from sipbridge.providers.phrases import late_result
from sipbridge.providers.succession import NewDialect, Succession, Successor
from sipbridge.providers.waiting_audio import WaitingAudio

_MOST_COMMANDS = 50
"""That wait for a session; further ones are dropped and counted."""
_PLANNED_MS = 3000.0
"""Caller audio that is kept while a link is replaced on purpose: all of it, as long as that can take."""
_OF_REPLIES = AssistantTurnStarted | AssistantAudio | AssistantText | AssistantTurnEnd
"""What is still told of a link that was followed by another. Not its tool calls: the next one knows nothing of them."""
_HEAR_HIM_OUT = 1.0
"""Seconds that a new link is left to hear the caller itself, where he was speaking when the old one was lost."""


class Session:
    """One conversation with one model. See `sipbridge.agent.Agent` for what it promises."""

    def __init__(
        self,
        dialect: Dialect,
        *,
        slug: str,
        options: AgentOptions,
        connect_timeout: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
        successor: NewDialect | None = None,
        guard: Guard | None = None,
    ) -> None:
        """`options` are those that the dialect was made with, `successor` makes another one. Without it a session that
        is lost is over."""
        self._slug = slug
        self._connect_timeout = connect_timeout
        self._clock = clock
        self._guard = guard
        self._memory = Memory(options)
        self._activity = Activity(options, dialect.capabilities)
        first = self._new_link(dialect)
        self._succession = Succession(
            first,
            self,
            self._memory,
            self._activity,
            slug=slug,
            options=options,
            new_link=self._new_link,
            new_dialect=successor,
            connect_timeout=connect_timeout,
            clock=clock,
        )
        self._capabilities = dialect.capabilities
        self._names = Names()
        self._resumed = False  # by the vendor's handle: it was not told the history
        # ended: the model's side is gone and commands go nowhere; closed: by us, and commands raise.
        self._state: Literal["new", "starting", "open", "ended", "closed"] = "new"
        self._opening: asyncio.Task[None] | None = None
        self._abandoned = False
        self._closing: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[AgentEvent] | None = None
        # What is no link's to say, or what an iteration that was cancelled took from one without consuming it.
        self._own: deque[AgentEvent] = deque()
        self._fatal: AgentError | None = None
        self._finished = False
        self._commands: list[Callable[[], None]] = []
        self._untold: list[str] = []
        self._waiting = WaitingAudio(options.input_format)
        self._ask: asyncio.TimerHandle | None = None

    def _new_link(self, dialect: Dialect) -> Link:
        return Link(dialect, slug=self._slug, clock=self._clock, changed=self.wake, guard=self._guard)

    @property
    def slug(self) -> str:
        return self._slug

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def counters(self) -> Counter[str]:
        """What the dialects dropped, ignored or retried, by reason, and how often they followed each other."""
        link = self._succession.link
        return self._succession.counters + (link.dialect.counters if link is not None else Counter())

    @property
    def uplink_dropped_ms(self) -> float:
        link = self._succession.link
        return self._waiting.dropped_ms + self._succession.dropped_ms + (link.dropped_ms if link is not None else 0.0)

    @property
    def history(self) -> tuple[HistoryItem, ...]:
        return self._memory.history()

    # --- start and close ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Cancelled or failed, it leaves no socket, program or task behind; iteration then gives `SessionClosed`."""
        link = self._succession.link
        if self._state != "new" or link is None:
            raise AgentClosedError("an agent is started once, before it is closed")
        self._state = "starting"
        self._opening = asyncio.create_task(link.open(self._connect_timeout))
        try:
            await self._opening
        except asyncio.CancelledError:
            task = asyncio.current_task()
            await self._abandon(link, self._opening)
            self._not_started("cancelled")
            if task is None or task.cancelling():
                raise
        except BaseException as error:
            self._not_started((error.code if isinstance(error, AgentStartError) else "") or "failed")
            raise
        if self._abandoned:  # by close(): nobody cancelled us
            self._not_started("closed")
            raise AgentStartError(f"{self._slug} was closed while it started", code="closed")
        self._state = "open"
        self._push_waiting()

    async def _abandon(self, link: Link, opening: asyncio.Task[None]) -> None:
        """It is not wanted any more; it may have been opened at that very moment."""
        self._abandoned = True
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await link.abort()

    def _not_started(self, reason: str) -> None:
        if self._state != "closed":
            self._state = "ended"
        self._succession.link = None
        self._own = deque([SessionClosed(reason, expected=self._state == "closed")])

    async def close(self) -> None:
        """Done within a second, whatever the peer does. Events that were pending can still be read."""
        if self._state != "closed":
            starting = self._state == "starting"
            self._state = "closed"
            self._silence()
            link = self._succession.link
            if starting and self._opening is not None and link is not None:
                await self._abandon(link, self._opening)  # start() does the rest
                return
            if link is not None:
                link.dialect.close(self._clock())
                link.after()
            elif not self._finished:
                self.tell(SessionClosed("closed", expected=True))
                self.wake()
        await self._succession.close()

    def _end(self) -> None:
        """The model's side has ended the session, for good."""
        self._state = "ended"
        self._silence()
        self._closing = asyncio.create_task(self._succession.close())

    def _silence(self) -> None:
        self._succession.over()
        self._commands.clear()
        if self._ask is not None:
            self._ask.cancel()

    # --- events -------------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AgentEvent:
        if self._finished:
            raise StopAsyncIteration
        event = self._pull() or await self._wait()
        if isinstance(event, SessionClosed):
            self._finished = True
            if self._state != "closed":
                self._end()
        return event

    async def _wait(self) -> AgentEvent:
        waiter: asyncio.Future[AgentEvent] = asyncio.get_running_loop().create_future()
        self._waiter = waiter
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._own.appendleft(waiter.result())
            raise
        finally:
            self._waiter = None

    def wake(self) -> None:
        """There may be an event for whoever waits for one."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            event = self._pull()
            if event is not None:
                waiter.set_result(event)

    def tell(self, event: AgentEvent) -> None:
        """An event that is no link's."""
        self._own.append(event)

    def _pull(self) -> AgentEvent | None:
        while not self._own:
            link = self._succession.link
            event = link.next_event() if link is not None else None
            if event is None:
                if self._state == "open":
                    self._succession.settle()
                return None
            self._note(self._names.outward(event))
        return self._own.popleft()

    def _note(self, event: AgentEvent) -> None:
        """Take notice of what a link says, and pass it on."""
        match event:
            case SessionOpen() if self._names.number > 1:
                return
            case AgentError(fatal=True):
                self._fatal = event  # whether it is fatal for the call, too, is seen when the session closes
                return
            case SessionClosed():
                self._closed(event)
                return
            case UserSpeechStarted() | AssistantTurnStarted() if self._ask is not None:
                self._ask.cancel()
            case _:
                pass
        self._memory.observe(event)
        self._activity.observe(event, self._clock())
        self.tell(event)

    def _closed(self, event: SessionClosed) -> None:
        error, self._fatal = self._fatal, None
        self._end_replies()
        if self._state == "open" and self._succession.lost(event, error):
            return
        if error is not None:
            self.tell(error)
        self.tell(event)

    # --- one link after another ---------------------------------------------------------------------------------------

    def parted(self, link: Link, *, in_use: bool) -> None:
        """What it cost is told, and its replies are ended; what was owed to the caller is owed by the next one."""
        now = self._clock()
        owed = in_use and self._activity.owes_reply(now)
        while (event := link.next_event()) is not None:
            if isinstance(event, Usage) or (in_use and isinstance(event, _OF_REPLIES)):
                self._note(self._names.outward(event))
        if not in_use:
            return
        self._end_replies()
        if owed:
            self._activity.asked(now)

    def _end_replies(self) -> None:
        for reply_id in self._activity.lost(self._clock()):
            self.tell(AssistantTurnEnd(reply_id, "failed"))

    def replaced(self, successor: Successor) -> None:
        """Another link is in use: tell it what its history lacks, and ask for what is owed to the caller."""
        now, told, link = self._clock(), successor.options, successor.link
        owed, speaking, to_say = self._activity.owes_reply(now), self._activity.speaking, self._activity.unsaid(now)
        self._names = Names(self._names.number + 1)
        self._resumed = bool(told.resume_handle)
        self.tell(Resumed(context_kept=self._resumed or self._activity.transcribes))
        if self._memory.instructions != told.instructions:
            link.dialect.update_instructions(self._memory.instructions, now)
        results = self._results_unknown_to(told)
        for used in results:
            owed = self._tell_result(link, used) or owed
        for text in to_say:
            link.dialect.say(text, now)
        link.after()
        self._push_waiting()
        commands, self._commands = self._commands, []
        for command in commands:
            command()
        if commands or to_say or self._activity.owed_calls:
            return  # they bring a reply, or will
        if owed:
            self.create_response()
        elif speaking:
            self._ask = asyncio.get_running_loop().call_later(_HEAR_HIM_OUT, self._nothing_heard)

    def _results_unknown_to(self, told: AgentOptions) -> list[ToolUsed]:
        """Results of tools that came when the successor had been told all that it was told."""
        untold, self._untold = self._untold, []
        if not told.resume_handle:
            return self._memory.results_lacking_in(told.history)
        return [used for call_id in untold if (used := self._memory.used(call_id)) is not None]

    def _nothing_heard(self) -> None:
        """The caller was speaking when the session was lost, and has not been heard to since: he waits."""
        self._ask = None
        if self._state == "open":
            self.create_response()

    # --- the caller's sound -------------------------------------------------------------------------------------------

    def push_audio(self, pcm: bytes) -> None:
        if self._state == "closed":
            raise AgentClosedError("the agent is closed")
        if self._state == "ended":
            return
        link = self._succession.link
        if self._state != "open" or link is None:
            self._waiting.keep(pcm, _PLANNED_MS if self._succession.planned else MAX_UNSENT_MS)
            return
        link.dialect.push_audio(pcm, self._clock())
        link.after()
        if self._succession.beside:
            # Where the caller begins to speak as the link changes, the new one hears how he began.
            self._waiting.keep(pcm, MAX_UNSENT_MS, heard=True)
        else:
            self._waiting.clear()

    def _push_waiting(self) -> None:
        if (link := self._succession.link) is not None:
            for pcm in self._waiting.take(MAX_UNSENT_MS):
                link.dialect.push_audio(pcm, self._clock())
                link.after()

    # --- commands -----------------------------------------------------------------------------------------------------

    def _live(self) -> bool:
        """Whether a command can reach the model, now or soon; raises where it must not be given."""
        if self._state == "closed":
            raise AgentClosedError("the agent is closed")
        if self._state in ("new", "starting"):
            raise ProviderError("the agent is not started")
        return self._state == "open"

    def _link_for(self, command: Callable[[], None]) -> Link | None:
        """The link that takes the command now. Where there is none for a while, the command waits."""
        if not self._live():
            return None
        link = self._succession.link
        if link is None:
            if len(self._commands) < _MOST_COMMANDS:
                self._commands.append(command)
            else:
                self._succession.counters["commands_lost"] += 1
        return link

    def commit_input_audio(self) -> None:
        if self._live() and (link := self._succession.link) is not None:
            link.dialect.commit_input_audio(self._clock())
            link.after()

    def cancel(self, played: Sequence[Played]) -> None:
        if not self._live():
            return
        now, link = self._clock(), self._succession.link
        self._memory.cut(played, self._activity.open_replies)
        # A link cancels the calls of its own replies. Those of links that are gone are cancelled here.
        replies = {heard.reply_id for heard in played if link is None or not self._names.owns(heard.reply_id)}
        for call_id in self._activity.calls_of(replies):
            self._note(ToolCallCancelled(call_id))
        self._activity.cancelled(now)
        if link is not None:
            link.dialect.cancel(self._names.played(played), now)
            link.after()
        self.wake()

    def update_instructions(self, text: str) -> None:
        if self._live():
            self._memory.instructions = text
            if (link := self._succession.link) is not None:
                link.dialect.update_instructions(text, self._clock())
                link.after()

    def send_text(self, text: str) -> None:
        if (link := self._link_for(partial(self.send_text, text))) is not None:
            self._memory.told(text)
            link.dialect.send_text(text, self._clock())
            link.after()

    def send_image(self, data: bytes, media_type: str) -> None:
        if (link := self._link_for(partial(self.send_image, data, media_type))) is not None:
            link.dialect.send_image(data, media_type, self._clock())
            link.after()

    def say(self, text: str) -> None:
        if (link := self._link_for(partial(self.say, text))) is not None:
            self._activity.asked_to_say(text, self._clock())
            link.dialect.say(text, self._clock())
            link.after()

    def create_response(self) -> None:
        if (link := self._link_for(self.create_response)) is not None:
            self._activity.asked(self._clock())
            link.dialect.create_response(self._clock())
            link.after()

    def send_tool_result(self, call_id: str, output: str) -> None:
        if not self._live():
            return
        used = self._memory.answered(call_id, output)
        if used is None:
            self._succession.counters["tool_result_unexpected"] += 1
            return
        now, link, own_name = self._clock(), self._succession.link, self._names.call(call_id)
        self._activity.answered(call_id, now)
        if link is None:
            self._untold.append(call_id)
        elif own_name is not None:
            link.dialect.send_tool_result(own_name, output, now)
            link.after()
        elif self._tell_result(link, used) and not self._activity.owed_calls:
            self.create_response()

    def _tell_result(self, link: Link, used: ToolUsed) -> bool:
        """The result of a call of a link that is gone. True: it has to be asked to go on."""
        by_name = link.dialect.capabilities.takes_late_results and not self._resumed
        if by_name:
            link.dialect.send_tool_result(used.call_id, used.output or "", self._clock())
        else:
            link.dialect.send_text(late_result(used), self._clock())
        link.after()
        return not by_name
