"""Answering: from the INVITE to where both can talk.

    when_ready          180 while the model connects, 200 when it can hear, 480 when it cannot
    ring_then_answer    the same, and not before it has rung so often
    immediately         200 at once, and a sound of our own until the model can be heard

Never a 200 followed by silence. Where we call, the model is made ready while it rings, so that it speaks as soon as
somebody answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sipbridge.conversation.agents import Agents
from sipbridge.conversation.context import CallContext
from sipbridge.conversation.failure import Failure
from sipbridge.conversation.sounds import sound_of
from sipbridge.errors import AgentStartError, CallNotAnsweredError, SipbridgeError
from sipbridge.history.facts import Noted
from sipbridge.outcome import Ended, reason_header
from sipbridge.outcome import unanswered as ended_unanswered
from sipbridge.tenant_file.sounds import TONE

RING_S = 5.0
"""From one ring to the next, in most of Europe (ITU-T E.180 supplement 2: 1 s in 5; North America has 2 s in 6)."""
SENTENCE_S = 5.0
"""A waiting sound up to so long is taken for a sentence, which nobody cuts short; a longer one is music."""
_HELLO_S = 1.0
"""Whom we call says his name first; then he is to hear something."""


class Answering:
    def __init__(
        self, call: CallContext, agents: Agents, failure: Failure, on_answered: Callable[[], None] = lambda: None
    ) -> None:
        """`on_answered`: there is sound both ways from now on."""
        self._call = call
        self._agents = agents
        self._failure = failure
        self._on_answered = on_answered
        self._picking: asyncio.Task[None] | None = None
        self._up = False
        self._waiting: asyncio.Task[None] | None = None

    async def answer(self) -> bool:
        """Whether the call is up and an agent has the line, with its first words asked for; else it has been ended."""
        call, leg, config = self._call, self._call.legs.current, self._call.tenant.config
        at_once = config.answer == "immediately" and not leg.outbound
        sound = config.waiting_sound
        try:
            leg.negotiate()
            early = config.early_media and sound is not None and not at_once and not leg.outbound
            leg.begin(*call.tenant.formats(leg.likely_codec), early_media=early)
        except SipbridgeError as error:
            self._refuse(error.sip_status, Ended.REFUSED, str(error), error.label)
            return False
        if early and leg.stream is not None and sound is not None:
            call.sounds.loop(sound_of(sound))
        try:
            if at_once and not await self.pick_up():
                return False
            if not await self._open_while_it_rings():
                return False
        except SipbridgeError as error:
            code = error.code if isinstance(error, AgentStartError) else error.label
            self._refuse(480, Ended.AGENT_NOT_READY, str(error), code)
            return False
        finally:
            if self._waiting is not None:
                self._waiting.cancel()
        if not await self.pick_up():
            return False
        self._tell_of_machine()
        self._speak_first()
        return True

    async def turn_away(self, why: str) -> None:
        """Answer, say that there is no room (`limits.spoken`), and hang up; no agent is asked for it."""
        call, leg, sound = self._call, self._call.legs.current, self._call.tenant.config.limits.spoken
        assert sound is not None
        try:
            leg.negotiate()
            leg.begin(*call.tenant.formats(leg.likely_codec))
            if not await self.pick_up():
                return
        except SipbridgeError as error:
            self._refuse(error.sip_status, Ended.REFUSED, str(error), error.label)
            return
        call.floor.say("spoken", sound_of(sound))
        await call.end_when_heard(Ended.TENANT_LIMIT, why)

    async def pick_up(self) -> bool:
        """Answer now, or wait until we are answered; once, whoever asks for it. False: it came to nothing, and the call
        has been ended."""
        if self._picking is None:
            self._picking = self._call.spawn(self._pick_up())
        await asyncio.shield(self._picking)
        return self._up

    async def _pick_up(self) -> None:
        call, leg = self._call, self._call.legs.current
        try:
            await leg.answer()
        except CallNotAnsweredError as error:
            call.end(ended_unanswered(error), str(error), status=error.sip_status)
            return
        call.record.answered(leg.codec)
        if leg.machine:
            call.log.info("answered by a machine", kind=leg.machine)
            call.journal.note(Noted("machine", leg.machine))
            call.answered_by_machine(leg.machine)
            if call.tenant.config.machine == "hang_up":
                call.end(Ended.ANSWERING_MACHINE, leg.machine)
                return
        await leg.media_open.wait()
        call.sounds.stop()
        self._on_answered()
        if call.tenant.notice(leg.formats[1].rate) is not None:  # that the call is recorded comes before everything
            call.floor.say("notice", lambda rate: call.tenant.notice(rate) or b"")
        self._up = True
        if not self._agents.ready and (leg.outbound or call.tenant.config.answer == "immediately"):
            self._waiting = call.spawn(self._be_heard())

    # --- until there is an agent --------------------------------------------------------------------------------------

    async def _open_while_it_rings(self) -> bool:
        """As soon as may be. Where it is to ring for a while the model is asked just in time: nobody pays for one that
        listens to a ringing tone."""
        config, leg = self._call.tenant.config, self._call.legs.current
        loop = asyncio.get_running_loop()
        if leg.outbound:  # somebody may be quicker than the model
            self._picking = self._call.spawn(self._pick_up())
        rings = config.rings * RING_S if config.answer == "ring_then_answer" and not leg.outbound else 0.0
        until = loop.time() + rings
        await asyncio.sleep(max(0.0, rings - config.deadlines.connect_seconds))
        if not await self._failure.open_first(self.pick_up):
            return False
        if not self._call.answered:
            await asyncio.sleep(max(0.0, until - loop.time()))
        return True

    async def _be_heard(self) -> None:
        """They are there and no agent is yet. Once only: whoever has something to say meanwhile has the line."""
        call, sound = self._call, self._call.tenant.config.waiting_sound
        if call.legs.current.outbound:
            await asyncio.sleep(_HELLO_S)
            call.floor.say_prompt("one-moment")
            return
        if sound is None:
            return
        if sound != TONE and len(sound_of(sound)(8000)) <= SENTENCE_S * 16000:
            call.floor.say("welcome", sound_of(sound))
            sound = TONE
        await call.floor.until_silent()
        if not call.sounds.playing:
            call.sounds.loop(sound_of(sound))

    def _refuse(self, status: int, ended: Ended, detail: str, code: str) -> None:
        leg = self._call.legs.current
        leg.reject(status, reason_header(ended, code))
        self._call.end(ended, detail, status=None if leg.outbound else status)

    # --- the first words ----------------------------------------------------------------------------------------------

    def _tell_of_machine(self) -> None:
        """The agent was made ready before anybody knew what would answer."""
        fields = self._call.fields
        if fields.machine:
            self._agents.brief(fields.answered_by)

    def _speak_first(self) -> None:
        call, speaker = self._call, self._agents.current
        words = None if speaker is None else call.tenant.with_agent(speaker.config).first_words(call.fields)
        if words is None or speaker is None or not speaker.capabilities.can_say:
            call.sounds.stop()
        elif call.turn.silent or not speaker.capabilities.full_duplex:
            speaker.say(words)
        else:
            call.spawn(self._say_after_us(words))

    async def _say_after_us(self, words: str) -> None:
        """What comes at the pace of speech can't wait behind what we say ourselves."""
        await self._call.floor.until_silent()
        self._agents.say(words)
