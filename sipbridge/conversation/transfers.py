"""Handing the caller over to somebody whom the tenant's file names.

*Blind*: the caller's side is asked to call the target (REFER). Where it does not want to or does not know how, we call
it ourselves, and connect the two over us. *Attended*: we call the target, tell who wants what, and ask; who presses 1
gets the caller, by a REFER with Replaces where the caller's side can do that, else over us. Meanwhile the caller hears
music, and the agent does not hear the caller. What comes to nothing gives the call back to the agent, with the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

from sipbridge.conversation.agents import Agents
from sipbridge.conversation.bridge import Bridge, SecondLeg
from sipbridge.conversation.context import CallContext
from sipbridge.conversation.keypad import Keypad
from sipbridge.history.facts import Transferred
from sipbridge.media.events import MediaEvent, SpeechEnded, SpeechStarted
from sipbridge.outcome import Ended
from sipbridge.referring import Referred
from sipbridge.tenant_file.tools import TransferCallConfig

_UNNOTICED_S = 1.0
"""A REFER that is over by then needs no music."""
_DECISIONS = {"1": "", "2": "the call was declined"}
"""Key -> why it is not taken."""


class Transfers:
    def __init__(self, call: CallContext, agents: Agents, keypad: Keypad, second_leg: SecondLeg) -> None:
        self._call = call
        self._agents = agents
        self._keypad = keypad
        self.bridge = Bridge(call, second_leg)
        self.target = ""
        """Name of the latest."""
        self._way = ""
        """Which it takes: see `facts.Transferred`."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._patience: asyncio.Timeout | None = None
        """Set while one may be stopped."""
        self.settled = asyncio.Event()
        """Cleared while the caller has nobody: from the announcement until he is connected, or back."""
        self.settled.set()

    @property
    def under_way(self) -> bool:
        """Somebody is being called, asked, or referred to."""
        return not self._idle.is_set()

    async def over(self) -> None:
        """Return when none is under way. One that succeeds never is over, as long as the two are connected."""
        await self._idle.wait()

    async def hand_over(self, name: str) -> str:
        """The same where no agent can announce it: by the name of a target of `tools.transfer_call`. Where it succeeds
        there is nothing left to do for anybody, and this does not return."""
        tool = self._call.tenant.config.tools.transfer_call
        if tool is None or name not in tool.targets:
            return f"there is no target {name!r}"
        failure = await self.transfer(name, tool.targets[name], self._call.floor.until_silent)
        if not failure:
            await asyncio.Event().wait()  # until the call's end cancels this
        return failure

    async def transfer(
        self,
        name: str,
        target: str,
        announced: Callable[[], Awaitable[None]],
        *,
        say: Callable[[str], None] | None = None,
        summary: str = "",
    ) -> str:
        """Hand the caller over when `announced` is done. Of an attended transfer: what the target is told (`summary`),
        and what makes the agent say it (`say`). Returns why it did not succeed: an empty text, where it did and nobody
        of ours is needed any more."""
        tool = self._call.tenant.config.tools.transfer_call
        if tool is None:
            return "this tenant transfers nobody"
        if self.under_way:
            self._call.journal.note(Transferred(name, "", False, "another transfer is under way"))
            return "another transfer is under way"
        words = f"{summary} {tool.question}".strip()
        consult = partial(self._consult, name, tool, say or self._agents.say, words)
        self.target, self._way = name, ""
        self._idle.clear()
        self.settled.clear()
        failure = "taken back"
        try:
            async with asyncio.timeout(None) as self._patience:
                await announced()
                if tool.mode == "attended":
                    self._way = "attended"
                    failure = await self._call_and(consult, target, tool)
                else:
                    failure = await self._blind(name, target, tool)
        except TimeoutError:
            failure = "the call is ending"
        finally:
            self._patience = None
            self.settled.set()
            if failure:
                self._idle.set()
                self._failed(name, failure)
        return failure

    def _failed(self, name: str, failure: str) -> None:
        outcome = self._call.record.outcome
        if outcome is not None and outcome[0] is Ended.TRANSFERRED:  # their BYE was quicker than their last NOTIFY
            self._call.journal.note(Transferred(name, self._way, True, outcome[1]))
            return
        self._call.log.info("transfer failed", target=name, failure=failure)
        self._call.journal.note(Transferred(name, self._way, False, failure))

    def _succeeded(self, name: str) -> None:
        self._call.journal.note(Transferred(name, self._way, True))

    async def stop(self) -> None:
        """The call is about to end: whoever is being called or asked is hung up, and it is the caller who is spoken to.
        Nothing, where the two are connected."""
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time())
            await self.settled.wait()

    def media_event(self, event: MediaEvent) -> bool:
        """Whether it is of the second leg, or of a caller to whom nobody of ours listens at the moment."""
        if self.bridge.media_event(event):
            return True
        return self._agents.deaf and isinstance(event, SpeechStarted | SpeechEnded)

    def _key_pressed(self, key: str) -> None:
        """By the caller. While he waits there is nobody to take it."""
        if self._call.legs.bridged:
            self.bridge.key_pressed(key, by_second=False)

    # --- blind ------------------------------------------------------------------------------------

    async def _blind(self, name: str, target: str, tool: TransferCallConfig) -> str:
        refused = ""
        if tool.via != "bridge":
            self._way = "refer"
            referred = await self._refer(target, tool)
            if not referred.failure:
                self._succeeded(name)
                self._call.end(Ended.TRANSFERRED, name)
            if not referred.failure or tool.via == "refer" or referred.by_target:
                return referred.failure
            refused = f"{referred.failure}; "
        self._way = "bridge"
        failure = await self._call_and(partial(self._connect, name), target, tool)
        return failure and refused + failure

    async def _refer(self, target: str, tool: TransferCallConfig) -> Referred:
        leg = self._call.legs.current
        with self._caller_waits(_UNNOTICED_S):
            return await leg.refer(target, seconds=tool.ring_seconds)

    # --- by a call of our own ---------------------------------------------------------------------

    async def _call_and(self, connect: Callable[[], Awaitable[str]], target: str, tool: TransferCallConfig) -> str:
        """Call the target, and go on with it when it answers. Unless the two are connected at the end, it is hung
        up."""
        try:
            with self._caller_waits():
                return await self.bridge.call(target, tool.ring_seconds) or await connect()
        finally:
            if not self._call.legs.bridged:
                self.bridge.give_up()

    async def _connect(self, name: str) -> str:
        """The caller hears whom he was transferred to, and the agent is not needed any more."""
        if self.bridge.gone:
            return self.bridge.gone
        self._call.turn.cut_all()
        self._call.sounds.stop()
        self.bridge.connect(name)
        self._succeeded(name)
        self._call.log.info("bridged", target=name)
        self._call.spawn(self._agents.retire())
        return ""

    # --- attended ---------------------------------------------------------------------------------

    async def _consult(self, name: str, tool: TransferCallConfig, say: Callable[[str], None], words: str) -> str:
        """The target has answered: ask, and connect the two."""
        failure = await self._asked(tool, say, words)
        if not failure and tool.via == "refer":
            return await self._replace(name, tool)
        failure = failure or await self._connect(name)
        if not failure and tool.via == "auto":  # nobody has to wait for how that goes
            self._call.spawn(self._leave_them(name, tool))
        return failure

    async def _replace(self, name: str, tool: TransferCallConfig) -> str:
        """The caller's side takes our place in the call that the target has with us."""
        legs = self._call.legs
        referred = await legs.current.refer("", seconds=tool.ring_seconds, replaces=legs.second)
        if not referred.failure:
            if not legs.bridged:
                self._succeeded(name)
            self._call.end(Ended.TRANSFERRED, name)
        return referred.failure

    async def _leave_them(self, name: str, tool: TransferCallConfig) -> None:
        if failure := await self._replace(name, tool):
            self._call.log.info("the two stay connected over us", target=name, reason=failure)

    async def _asked(self, tool: TransferCallConfig, say: Callable[[str], None], words: str) -> str:
        """Whether the target takes the caller: an empty text, or why not."""
        call = self._call
        decision: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def decide(failure: str) -> None:
            if not decision.done():
                decision.set_result(failure)

        self.bridge.on_key = lambda key: decide(_DECISIONS[key]) if key in _DECISIONS else None
        self.bridge.on_end = decide
        call.legs.consulting = True
        asking = call.spawn(self._ask(say, words))
        try:
            await asyncio.wait((asking, decision), return_when=asyncio.FIRST_COMPLETED)
            async with asyncio.timeout(tool.accept_seconds):
                return await decision
        except TimeoutError:
            return "nobody took the call"
        finally:
            asking.cancel()
            # What it has not said by now is nothing for the caller.
            call.turn.cut_all()
            self._agents.cancel(call.discard())
            call.legs.consulting = False

    async def _ask(self, say: Callable[[str], None], words: str) -> None:
        """In the agent's voice, or, where it has none at the moment, in ours."""
        floor, seconds = self._call.floor, self._call.tenant.config.deadlines.reply_seconds
        speaker = self._agents.current
        able = self._agents.ready and speaker is not None and speaker.capabilities.can_say
        if not (able and await floor.until_said(partial(say, words), seconds)):
            floor.say_prompt("consult")
            await floor.until_silent()

    # --- what both have in common -----------------------------------------------------------------

    @contextmanager
    def _caller_waits(self, unnoticed_seconds: float = 0.0) -> Iterator[None]:
        """With music, unless it is for a moment only; and what he says meanwhile is not for the agent."""
        sounds = self._call.sounds
        play = partial(sounds.loop, self._call.tenant.hold_music, returns=True)
        timer = None
        self._agents.deaf = True
        self._keypad.take(self._key_pressed)
        if unnoticed_seconds:
            timer = asyncio.get_running_loop().call_later(unnoticed_seconds, play)
        else:
            play()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            if not self._call.legs.bridged:
                self._agents.deaf = False
                self._keypad.give_back(self._key_pressed)
            sounds.stop()
