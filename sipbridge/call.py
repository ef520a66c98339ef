"""CallSession: one conversation, one task group. Read this first.

    uplink      media_event(Audio)     -> Agent.push_audio                                     caller to agent
    downlink    AssistantAudio         -> Turn.may_play -> MediaStream.play                     agent to caller
    interrupt   UserSpeechStarted      -> Turn.interrupt -> MediaStream.discard -> Agent.cancel

SIP and media events arrive straight from the gateway, synchronously; the agent's are iterated in `_converse`. Whatever
ends the call goes through `end`, once; `run` then closes the dialog, the sound and the model, in every case.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, assert_never

import structlog

from sipbridge import agent as model
from sipbridge.agent import Agent, AgentEvent, NewAgent
from sipbridge.audio_health import AudioHealth
from sipbridge.call_record import CallRecord
from sipbridge.call_tools import CallTools
from sipbridge.errors import AgentStartError, CallNotAnsweredError, SipbridgeError
from sipbridge.floor import Floor
from sipbridge.handover import Legs, TransferLeg, refuse_transfer
from sipbridge.inbound_leg import InboundLeg
from sipbridge.keypad import Keypad
from sipbridge.leg import SipLeg
from sipbridge.media.events import Audio, Drained, EncryptionFailed, KeyPressed, MediaEvent, MediaTimeout, SourceChanged
from sipbridge.outbound_leg import OutboundLeg
from sipbridge.outcome import CallReport, Ended, ended_by, reason_header, unanswered
from sipbridge.paced_speech import PacedSpeech
from sipbridge.prices import Prices
from sipbridge.recordings import Recording, StartRecording
from sipbridge.sip.events import CallEnded, InfoReceived, ReferReceived, SipEvent
from sipbridge.tenants import CallFields, Tenant
from sipbridge.tools import toolbox_for
from sipbridge.turn import Turn, Verdict

log = structlog.get_logger(__name__)

_GRACE_S = 0.2
"""An agent heeds the deadline itself, and then it knows whose fault it was. This is for one that does not."""
_LAST_WORDS_S = 1.0
"""How long an agent that was closed may take to say so. All of ours do at once."""


class CallSession:
    """One conversation from its INVITE to its end. `await run()` is its whole life; everything else is an input."""

    def __init__(
        self,
        leg: SipLeg,
        tenant: Tenant,
        fields: CallFields,
        *,
        new_agent: NewAgent,
        max_seconds: float = 3600,
        clock: Callable[[], float] = time.monotonic,
        transfer_leg: TransferLeg = refuse_transfer,
        record: StartRecording | None = None,
        prices: Prices | None = None,
    ) -> None:
        """`transfer_leg` makes the leg that calls whom the far end asks for; it raises `CallNotPlacedError`. `record`
        begins a recording of the call."""
        config = tenant.config
        self._legs = Legs(leg, clock, transfer_leg)
        self._tenant = tenant
        self._fields = fields
        self._new_agent = new_agent
        self._max_seconds = max_seconds
        self._clock = clock
        self._deadlines = config.deadlines
        self._log = log.bind(call_id=fields.call_id, tenant=tenant.id)
        capabilities = tenant.capabilities
        # Where the model listens while it speaks, the floor is its own: nothing here cuts what it says.
        barge_in = config.barge_in.enabled and not capabilities.full_duplex
        self._turn = Turn(barge_in=barge_in, protect_greeting_ms=tenant.protect_greeting_ms)
        self._floor = Floor(self._turn, clock, self._log)
        self._new_recording = record
        self.recording: Recording | None = None
        self._prices = prices
        self._tools = CallTools(
            toolbox_for(config.tools, timeout_seconds=config.deadlines.tool_seconds),
            self._turn,
            self._floor,
            self._legs,
            reply_seconds=config.deadlines.reply_seconds,
            spawn=self._spawn,
            end=self.end,
        )
        self._full_duplex = capabilities.full_duplex
        self._paced: PacedSpeech | None = None
        self._uplink, self._downlink = capabilities.input_format, capabilities.output_format

        self._agent: Agent | None = None
        self._agent_lost = False
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._keypad = Keypad(self._keys_pressed)
        self._record = CallRecord(fields, tenant.id, outbound=leg.outbound, clock=clock)
        self._report: asyncio.Future[CallReport] = asyncio.get_running_loop().create_future()

    # --- the call's life --------------------------------------------------------------------------

    async def run(self) -> CallReport:
        """Answer, converse, clean up. Raises nothing but cancellation, and has cleaned up even then."""
        self._log.info("call began", to=self._fields.to)
        try:
            async with asyncio.TaskGroup() as self._group:
                self._spawn(self._live())
                self._spawn(self._limit())
                await self._over.wait()
                for task in tuple(self._tasks):
                    task.cancel()
        except* Exception:
            self._log.exception("call failed")
            self.end(Ended.INTERNAL_ERROR)
        finally:
            self.end(Ended.SHUTDOWN)
            await self._shut()
        report = self._record.report(
            self._leg.codec,
            self.audio_health(),
            self._turn,
            self._agent,
            provider=self._tenant.config.agent.provider,
            model=self._tenant.config.agent.model or "",
            prices=self._prices,
        )
        self._log.info("call ended", **report.to_log())
        self._report.set_result(report)
        return report

    @property
    def call_id(self) -> str:
        return self._fields.call_id

    @property
    def answered(self) -> bool:
        """They can talk, or could."""
        return self._record.answered_at is not None

    def audio_health(self) -> AudioHealth:
        """How it sounds, as far as it has come."""
        return self._record.audio_health(self._legs.figures)

    async def report(self) -> CallReport:
        """How it went, once it is over."""
        return await asyncio.shield(self._report)

    def end(self, ended: Ended, detail: str = "", *, status: int | None = None) -> None:
        """End the call now. The first reason given stands."""
        if self._record.end(ended, detail, status):
            self._over.set()

    async def _live(self) -> None:
        agent = await self._answer()
        if agent is None:
            return
        await self._leg.media_open.wait()
        if self._new_recording and (stream := self._leg.stream) and (codec := self._leg.codec):
            self.recording = self._new_recording(codec)
            stream.tap(self.recording)
        if (notice := self._tenant.notice(self._downlink.rate)) is not None:
            # What the caller is told of it comes before everything.
            self._floor.say(self._leg.stream, "notice", notice, self._downlink)
        if self._full_duplex:
            self._paced = PacedSpeech(self._downlink)
        if (words := self._tenant.first_words(self._fields)) is not None:
            if notice is not None and self._full_duplex:
                self._spawn(self._say_after_notice(agent, words))
            else:
                agent.say(words)
        await self._converse(agent)

    async def _say_after_notice(self, agent: Agent, words: str) -> None:
        """What comes at the pace of speech can't wait behind it."""
        await self._floor.until_silent()
        agent.say(words)

    async def _answer(self) -> Agent | None:
        """180 while the model connects, 200 when it can hear, 480 when it cannot: never a 200 followed by silence.
        Where we call, the model is made ready while it rings, so that it speaks as soon as somebody answers."""
        leg = self._leg
        try:
            leg.negotiate()
            if (codec := leg.likely_codec) is not None:
                self._uplink, self._downlink = self._tenant.formats(codec)
            leg.begin(self._uplink, self._downlink)
        except SipbridgeError as error:
            self._refuse(error.sip_status, Ended.REFUSED, str(error), error.label)
            return None
        seconds = self._deadlines.connect_seconds
        try:
            options = self._tenant.agent_options(self._fields, self._uplink, self._downlink, self._tools.declarations)
            agent = self._agent = self._new_agent(self._tenant.credential(), options, connect_timeout=seconds)
            async with asyncio.timeout(seconds + _GRACE_S):
                await agent.start()
        except TimeoutError:
            self._refuse(480, Ended.AGENT_NOT_READY, f"the agent was not ready within {seconds:g} s", "timeout")
            return None
        except SipbridgeError as error:
            code = error.code if isinstance(error, AgentStartError) else error.label
            self._refuse(480, Ended.AGENT_NOT_READY, str(error), code)
            return None
        try:
            await leg.answer()
        except CallNotAnsweredError as error:
            self.end(unanswered(error), str(error), status=error.sip_status)
            return None
        self._record.answered()
        return agent

    def _refuse(self, status: int, ended: Ended, detail: str, code: str) -> None:
        self._leg.reject(status, reason_header(ended, code))
        self.end(ended, detail)

    async def _limit(self) -> None:
        """The longest that a call may last, and a word before it is cut."""
        await asyncio.sleep(self._max_seconds)
        farewell = self._tenant.config.agent.farewell
        agent = self._agent if self.answered and not self._agent_lost else None
        if farewell is not None and agent is not None:
            replies = self._turn.replies
            agent.say(farewell)
            await self._floor.until_reply(replies, self._deadlines.reply_seconds)
        else:
            self._floor.say_prompt(self._leg.stream, "goodbye", self._downlink)
        self._turn.close_floor()
        await self._floor.until_silent()
        self.end(Ended.TOO_LONG, f"{self._max_seconds:g} s")

    async def _shut(self) -> None:
        assert self._record.outcome is not None
        self._keypad.close()
        self._legs.close(reason_header(self._record.outcome[0]))
        if self._agent is not None:
            await self._agent.close()
            await self._count_last(self._agent)

    async def _count_last(self, agent: Agent) -> None:
        """What a vendor charges for is in part only known when the session is over."""
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                async for event in agent:
                    if isinstance(event, model.Usage):
                        self._record.used(event)
        except TimeoutError:
            self._log.warning("the agent does not say that it is closed")

    # --- the agent's events: downlink -------------------------------------------------------------

    async def _converse(self, agent: Agent) -> None:
        closed, why = "closed", ""
        async for event in agent:
            if isinstance(event, model.SessionClosed):
                closed = event.reason
            elif isinstance(event, model.AgentError) and event.fatal:
                why = event.message
            self._agent_event(agent, event)
            self._floor.moved()
        # The model is gone and the caller is still there: a sentence and BYE, not dead air.
        self._agent_lost = True
        self._tools.agent_lost()
        self._finish(self._turn.model_lost())
        if self._turn.closing:
            # Nothing went wrong for the caller: what the goodbye is waiting for ends the call.
            if self._turn.silent:
                self._floor.say_prompt(self._leg.stream, "goodbye", self._downlink)
            return
        self._turn.close_floor()
        self._floor.say_prompt(self._leg.stream, "unavailable", self._downlink)
        await self._floor.until_silent()
        self.end(Ended.PROVIDER_FAILED, why if closed in why else f"{closed}: {why}" if why else closed)

    def _agent_event(self, agent: Agent, event: AgentEvent) -> None:
        stream = self._leg.stream
        match event:
            case model.AssistantAudio(reply_id, item_id, pcm):
                if stream and self._turn.may_play(reply_id, item_id, len(pcm), self._clock()):
                    if self._paced:
                        self._paced.play(stream, pcm, reply_id, item_id)
                    else:
                        stream.play(pcm, reply_id, item_id)
            case model.UserSpeechStarted():
                self._interrupt()
            case model.AssistantTurnStarted(reply_id):
                self._turn.reply_started(reply_id)
            case model.AssistantInterrupted(reply_id):
                if self._turn.cut(reply_id, self._clock()) is Verdict.DISCARD:
                    self._flush()
            case model.AssistantTurnEnd(reply_id, status):
                if status == "failed":
                    self._floor.breaks_off()
                self._finish(self._turn.reply_ended(reply_id))
            case model.ToolCall():
                self._tools.asked(agent, event)
            case model.ToolCallCancelled(call_id):
                self._tools.taken_back(call_id)
            case model.AgentError(message, code, fatal):
                self._log.warning("agent error", message=message, code=code, fatal=fatal)
            case model.Reconnecting(attempt):
                self._log.warning("agent reconnecting", attempt=attempt)
                if self._floor.falls_out():
                    self._spawn(self._floor.one_moment(lambda: self._leg.stream, self._downlink))
            case model.Resumed(context_kept):
                self._log.info("agent resumed", context_kept=context_kept)
                self._record.reconnects += self._floor.goes_on()
            case model.Usage():
                self._record.used(event)
            case model.SessionOpen() | model.SessionClosed():
                self._log.debug("agent session", now=type(event).__name__)
            case model.UserSpeechEnded() | model.UserTranscript() | model.AssistantText() | model.ToolCallDelta():
                pass
            case _:
                assert_never(event)

    def _finish(self, item_ids: tuple[str, ...]) -> None:
        """No more audio of these items will come; when they have been heard, `Drained` says so."""
        if self._leg.stream is not None:
            for item_id in item_ids:
                self._leg.stream.finish(item_id)

    # --- barge-in ---------------------------------------------------------------------------------

    def _interrupt(self) -> None:
        """The caller speaks or presses a key."""
        if self._turn.interrupt(self._clock()) is Verdict.DISCARD:
            self._flush()

    def _flush(self) -> None:
        """No old audio after the fade, and the model's memory ends where the caller's does."""
        self._record.barge_ins += 1
        played = self._leg.stream.discard() if self._leg.stream else ()
        if self._agent is not None and not self._agent_lost:
            self._agent.cancel(played)
        self._floor.moved()

    # --- the caller's sound and keys: uplink ------------------------------------------------------

    def media_event(self, event: MediaEvent) -> None:
        if self._record.answered_at is None and not self._leg.hears_early:
            return  # ringing tones and announcements: nobody is there yet
        match event:
            case Audio(pcm=pcm):
                if self._agent is not None and not self._agent_lost:
                    self._agent.push_audio(pcm)
                    self._record.audio_delivered()
            case Drained(item_id=item_id):
                self._turn.item_heard(item_id)
                self._floor.moved()
            case KeyPressed(digit=digit):
                self._key_pressed(digit, "rtp")
            case MediaTimeout(seconds=seconds):
                if not self._legs.moving:
                    self.end(Ended.MEDIA_TIMEOUT, f"no audio from the far end for {seconds:g} s")
            case EncryptionFailed(reason=reason):
                self.end(Ended.ENCRYPTION_FAILED, reason)
            case SourceChanged():
                self._log.debug("media source learned")
            case _:
                assert_never(event)

    def _key_pressed(self, digit: str, way: str) -> None:
        if self._keypad.press(digit, way, self._clock()):
            self._interrupt()

    def _keys_pressed(self, keys: str) -> None:
        self._tell_agent(f"The caller pressed {' '.join(keys)}.")

    def _tell_agent(self, text: str) -> None:
        """Something that happened, in words, to which the agent should react."""
        if self._agent is not None and not self._agent_lost:
            self._agent.send_text(text)
            self._agent.create_response()

    # --- what signalling brings -------------------------------------------------------------------

    @property
    def _leg(self) -> SipLeg:
        return self._legs.current

    def sip_event(self, event: SipEvent) -> None:
        if not self._legs.sip_event(event):
            return
        leg = self._leg
        if isinstance(leg, OutboundLeg) and leg.not_answered is not None:
            self.end(unanswered(leg.not_answered), str(leg.not_answered), status=leg.not_answered.sip_status)
        elif isinstance(event, CallEnded):
            self.end(*ended_by(event, outbound=self._record.outbound, transferred=leg.transfer_accepted))
        elif isinstance(event, ReferReceived):
            self._spawn(self._move(event))
        elif isinstance(event, InfoReceived) and event.key is not None:
            self._key_pressed(event.key.key, "info")
        elif leg.failure:
            self.end(Ended.SIGNALLING_FAILED, leg.failure)

    @property
    def can_move(self) -> bool:
        """It is up, and on one leg."""
        return self.answered and self._record.outcome is None and not self._legs.moving

    def replaced(self, leg: InboundLeg) -> None:
        """Another telephone takes the far end's place (RFC 3891)."""
        if self.can_move:
            self._legs.replaced(leg, self._uplink, self._downlink)
        else:
            leg.reject(486, reason_header(Ended.BUSY))

    async def _move(self, event: ReferReceived) -> None:
        """The far end wants us to call somebody who is to go on with this conversation (RFC 3515)."""
        failure = await self._legs.referred(event, self._uplink, self._downlink)
        if failure and self._legs.abandoned:
            self.end(Ended.CALLER_HUNG_UP, f"after a transfer that failed: {failure}")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        assert self._group is not None
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
