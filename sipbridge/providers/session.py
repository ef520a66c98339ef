"""The agent over any dialect: its commands go to the link in use, whose events go to whoever iterates."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Literal, Self

from sipbridge.agent import AgentEvent, Capabilities, SessionClosed
from sipbridge.audio import PCM_16K, AudioFormat, Played
from sipbridge.errors import AgentClosedError, AgentStartError, ProviderError
from sipbridge.providers import Dialect
from sipbridge.providers.channels import MAX_UNSENT_MS
from sipbridge.providers.link import Link


class Session:
    """One conversation with one model. See `sipbridge.agent.Agent` for what it promises."""

    def __init__(
        self,
        dialect: Dialect,
        *,
        slug: str,
        input_format: AudioFormat = PCM_16K,
        connect_timeout: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = Link(dialect, slug=slug, clock=clock, changed=self._wake)
        self._slug = slug
        self._input_format = input_format
        self._connect_timeout = connect_timeout
        self._clock = clock
        # ended: the model's side is gone and commands go nowhere; closed: by us, and commands raise.
        self._state: Literal["new", "starting", "open", "ended", "closed"] = "new"
        self._opening: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[AgentEvent] | None = None
        # What an iteration that was cancelled took from the link without consuming it, or what is not the link's.
        self._taken: deque[AgentEvent] = deque()
        self._finished = False
        self._early: deque[bytes] = deque()
        self._early_ms = 0.0
        self._early_dropped_ms = 0.0

    @property
    def slug(self) -> str:
        return self._slug

    @property
    def capabilities(self) -> Capabilities:
        return self._link.dialect.capabilities

    @property
    def counters(self) -> Counter[str]:
        """What the dialect dropped, ignored or retried, by reason."""
        return self._link.dialect.counters

    @property
    def uplink_dropped_ms(self) -> float:
        return self._early_dropped_ms + self._link.dropped_ms

    # --- start and close ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Cancelled or failed, it leaves no socket, program or task behind; iteration then gives `SessionClosed`."""
        if self._state != "new":
            raise AgentClosedError("an agent is started once, before it is closed")
        self._state = "starting"
        self._opening = asyncio.create_task(self._link.open(self._connect_timeout))
        try:
            await self._opening
        except asyncio.CancelledError:
            task = asyncio.current_task()
            ours = task is not None and not task.cancelling()  # close() has ended the opening, nobody cancelled us
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
            self._not_started("cancelled")
            if ours:
                raise AgentStartError(f"{self._slug} was closed while it started", code="closed") from None
            raise
        except AgentStartError as error:
            self._not_started(error.code or "failed")
            raise
        except BaseException:
            self._not_started("failed")
            raise
        self._state = "open"
        self._push_early()

    def _not_started(self, reason: str) -> None:
        if self._state != "closed":
            self._state = "ended"
        self._taken = deque([SessionClosed(reason, expected=self._state == "closed")])

    async def close(self) -> None:
        """Done within a second, whatever the peer does. Events that were pending can still be read."""
        if self._state != "closed":
            starting = self._state == "starting"
            self._state = "closed"
            self._link.dialect.close(self._clock())
            if starting and self._opening is not None:
                self._opening.cancel()  # start() does the rest
                await asyncio.gather(self._opening, return_exceptions=True)
                return
            self._link.after()
        await self._link.close()

    # --- events -------------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AgentEvent:
        if self._finished:
            raise StopAsyncIteration
        event = self._taken.popleft() if self._taken else await self._next()
        if isinstance(event, SessionClosed):
            self._finished = True
            if self._state != "closed":
                self._end()
        return event

    async def _next(self) -> AgentEvent:
        event = self._link.next_event()
        if event is not None:
            return event
        waiter: asyncio.Future[AgentEvent] = asyncio.get_running_loop().create_future()
        self._waiter = waiter
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._taken.append(waiter.result())
            raise
        finally:
            self._waiter = None

    def _wake(self) -> None:
        """There may be an event for whoever waits for one."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            event = self._link.next_event()
            if event is not None:
                waiter.set_result(event)

    def _end(self) -> None:
        """The model's side has ended the session: its channels are of no more use."""
        self._state = "ended"
        self._closing = asyncio.create_task(self._link.close())

    # --- commands -----------------------------------------------------------------------------------------------------

    def push_audio(self, pcm: bytes) -> None:
        if self._state == "open":
            self._link.dialect.push_audio(pcm, self._clock())
            self._link.after()
        elif self._state in ("new", "starting"):
            self._keep_early(pcm)
        elif self._state == "closed":
            raise AgentClosedError("the agent is closed")

    def _keep_early(self, pcm: bytes) -> None:
        """Before the session is open: the newest `MAX_UNSENT_MS` wait, older audio is dropped and counted."""
        self._early.append(pcm)
        self._early_ms += self._input_format.duration_ms(pcm)
        while self._early_ms > MAX_UNSENT_MS:
            oldest_ms = self._input_format.duration_ms(self._early.popleft())
            self._early_ms -= oldest_ms
            self._early_dropped_ms += oldest_ms

    def _push_early(self) -> None:
        if self._early:
            self._link.dialect.push_audio(b"".join(self._early), self._clock())
            self._early.clear()
            self._link.after()

    def _live(self) -> bool:
        """Whether a command can reach the model; raises where it must not be given."""
        if self._state == "closed":
            raise AgentClosedError("the agent is closed")
        if self._state in ("new", "starting"):
            raise ProviderError("the agent is not started")
        return self._state == "open"

    def commit_input_audio(self) -> None:
        if self._live():
            self._link.dialect.commit_input_audio(self._clock())
            self._link.after()

    def cancel(self, played: Sequence[Played]) -> None:
        if self._live():
            self._link.dialect.cancel(played, self._clock())
            self._link.after()

    def update_instructions(self, text: str) -> None:
        if self._live():
            self._link.dialect.update_instructions(text, self._clock())
            self._link.after()

    def send_text(self, text: str) -> None:
        if self._live():
            self._link.dialect.send_text(text, self._clock())
            self._link.after()

    def send_image(self, data: bytes, media_type: str) -> None:
        if self._live():
            self._link.dialect.send_image(data, media_type, self._clock())
            self._link.after()

    def say(self, text: str) -> None:
        if self._live():
            self._link.dialect.say(text, self._clock())
            self._link.after()

    def create_response(self) -> None:
        if self._live():
            self._link.dialect.create_response(self._clock())
            self._link.after()

    def send_tool_result(self, call_id: str, output: str) -> None:
        if self._live():
            self._link.dialect.send_tool_result(call_id, output, self._clock())
            self._link.after()
