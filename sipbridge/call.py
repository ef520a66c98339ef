"""CallSession: one conversation, one task group. Read this first.

    uplink      media_event(Audio)     -> Agents.current.push_audio                             caller to agent
    downlink    AssistantAudio         -> Turn.may_play -> Speaker.play -> MediaStream.play      agent to caller
    interrupt   UserSpeechStarted      -> BargeIn -> Turn -> MediaStream.pause | resume | discard -> Agents.cancel

SIP and media events arrive straight from the gateway, synchronously; the agent's are iterated by `Agents.converse`.
What a conversation is made of is in `conversation/`, put together in its `parts.py`. Whatever ends the call goes
through `end`, once; `run` then closes the dialog, the sound and the model, in every case.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, assert_never

import structlog

from sipbridge import agent as model
from sipbridge.agent import AgentEvent, NewAgent
from sipbridge.audio_health import AudioHealth
from sipbridge.call_fields import CallFields
from sipbridge.call_record import CallRecord
from sipbridge.conversation.attached import Client
from sipbridge.conversation.bridge import SecondLeg, nobody_to_call
from sipbridge.conversation.context import CallContext
from sipbridge.conversation.floor import Floor
from sipbridge.conversation.handover import Legs, TransferLeg, refuse_transfer
from sipbridge.conversation.parts import Parts
from sipbridge.conversation.sounds import Sounds
from sipbridge.conversation.speaker import Speaker
from sipbridge.history.facts import Noted, Started
from sipbridge.history.journal import NOWHERE, Journal
from sipbridge.history.privacy import discreet
from sipbridge.history.refusals import report_of_none
from sipbridge.inbound_leg import InboundLeg
from sipbridge.leg import SipLeg
from sipbridge.logs import DISCREET
from sipbridge.media.events import (
    Audio,
    Drained,
    EncryptionFailed,
    KeyPressed,
    MediaEvent,
    MediaTimeout,
    SourceChanged,
    SpeechEnded,
    SpeechStarted,
)
from sipbridge.outbound_leg import OutboundLeg
from sipbridge.outcome import ENDINGS, CallReport, Ended, ended_by, reason_header, unanswered
from sipbridge.prices import Prices
from sipbridge.recordings import StartRecording
from sipbridge.sip.events import CallEnded, InfoReceived, ReferReceived, ReinviteReceived, SipEvent
from sipbridge.sip.invite import Invite
from sipbridge.tenant_gate import Allowance
from sipbridge.tenants import Tenant
from sipbridge.tools.services import ToolServices
from sipbridge.turn import Rule, Turn

log = structlog.get_logger(__name__)


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
        second_leg: SecondLeg = nobody_to_call,
        record: StartRecording | None = None,
        prices: Prices | None = None,
        tool_services: ToolServices | None = None,
        journal: Journal = NOWHERE,
        allowance: Allowance | None = None,
        turned_away: str | None = None,
    ) -> None:
        """`transfer_leg` makes the leg that calls whom the far end asks for, `second_leg` the one to whom the tenant
        names; both raise `CallNotPlacedError`. `record` begins a recording of the call. `tool_services` is what its
        tools share with those of other calls. What happens is noted in `journal`.
        `allowance` is its part in its tenant's limits; `turned_away`: there is no room for it, and why: it only hears
        that (`limits.spoken`)."""
        self._tenant = tenant
        self._fields = fields
        self._clock = clock
        self.discreet = _discreet(tenant, fields, outbound=leg.outbound)
        """To be bound to every line in the log that may say who it is."""
        self._log = log.bind(call_id=fields.call_id, tenant=tenant.id, **self.discreet)
        self._legs = Legs(leg, clock, transfer_leg, self._log)
        self._turn = Turn(Rule(protect_greeting_ms=tenant.protect_greeting_ms))
        self._sounds = Sounds(self._legs)
        self._floor = Floor(self._turn, self._legs, self._sounds, clock, self._log)
        self.journal = journal
        self._record = CallRecord(fields, tenant, outbound=leg.outbound, clock=clock, journal=journal)
        self._call = CallContext(
            tenant,
            fields,
            self._legs,
            self._turn,
            self._floor,
            self._sounds,
            self._record,
            journal,
            spawn=self._spawn,
            end=self.end,
            clock=clock,
            log=self._log,
        )
        self._parts = Parts(
            self._call,
            new_agent=new_agent,
            second_leg=second_leg,
            max_seconds=max_seconds,
            record=record,
            prices=prices or Prices(),
            tool_services=tool_services,
            allowance=allowance,
        )
        self._turned_away = turned_away
        self._prices = prices

        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._report: asyncio.Future[CallReport] = asyncio.get_running_loop().create_future()

    # --- the call's life --------------------------------------------------------------------------

    async def run(self) -> CallReport:
        """Answer, converse, clean up. Raises nothing but cancellation, and has cleaned up even then."""
        self._log.info("call began", to=self._fields.to)
        self.journal.note(self._started())
        try:
            async with asyncio.TaskGroup() as self._group:
                self._spawn(self._live())
                self._spawn(self._parts.limits.watch())
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
            late_audio_bytes=self._parts.agents.late_audio_bytes,
            uplink_dropped_ms=self._parts.agents.uplink_dropped_ms,
            prices=self._prices,
        )
        line = report.to_log()
        if self._tenant.config.storage == "attributes":
            line |= {"detail": ""} | ({"fallback": ""} if report.fallback else {})
        self._log.info("call ended", **line)
        self._report.set_result(report)
        return report

    def _started(self) -> Started:
        fields, tenant = self._fields, self._tenant
        return Started(
            call_id=fields.call_id,
            direction="outbound" if self._record.outbound else "inbound",
            caller=fields.caller,
            to=fields.to,
            trunk=fields.trunk,
            tenant=tenant.id,
            tenant_version=tenant.version,
            provider=tenant.config.agent.provider,
            model=tenant.config.agent.model or "",
            caller_name="" if fields.identity is None else fields.identity.display,
        )

    @property
    def call_id(self) -> str:
        return self._fields.call_id

    @property
    def tenant_id(self) -> str:
        return self._tenant.id

    @property
    def answered(self) -> bool:
        """They can talk, or could."""
        return self._call.answered

    def attach(self, client: Client) -> None:
        """Tools that are passed through are this client's to answer from now on (`answer_tool`)."""
        self._parts.tools.attached.attach(client)

    def detach(self, client: Client) -> None:
        self._parts.tools.attached.detach(client)

    def answer_tool(self, call_id: str, output: str) -> bool:
        """What the attached client has to say to a tool's call. False: nobody waits for it (any more)."""
        return self._parts.tools.attached.answer(call_id, output)

    def audio_health(self) -> AudioHealth:
        """How it sounds, as far as it has come."""
        return self._record.audio_health(self._legs.figures)

    def tenant_changed(self, newer: Tenant) -> None:
        """Another version of the tenant is in force. The call keeps its own, but for what can change in mid-call, where
        the tenant wants that."""
        before = self._call.tenant
        if newer.config.apply_changes != "instructions" or self._record.outcome is not None:
            return
        self._call.tenant = before.with_instructions_of(newer)
        if self._parts.agents.renew(before, self._call.tenant):
            self._log.info("instructions changed", version=newer.version)
            self._call.journal.note(Noted("instructions", f"those of version {newer.version}"))

    def report_of_none(self) -> CallReport:
        """Where it has come to none."""
        outbound = self._record.outbound
        return report_of_none(
            self._fields, Ended.INTERNAL_ERROR, None, tenant=self._tenant, journal=self.journal, outbound=outbound
        )

    async def report(self) -> CallReport:
        """How it went, once it is over."""
        return await asyncio.shield(self._report)

    def end(self, ended: Ended, detail: str = "", *, status: int | None = None) -> None:
        """End the call now. The first reason given stands."""
        if self._record.end(ended, detail, status):
            self._over.set()

    async def _live(self) -> None:
        if self._turned_away is not None:
            await self._parts.answering.turn_away(self._turned_away)
        elif await self._parts.answering.answer():
            await self._parts.agents.converse(self._agent_event, self._parts.failure.lost)

    async def _shut(self) -> None:
        assert self._record.outcome is not None
        ended = self._record.outcome[0]
        self._parts.close()
        self._legs.close(reason_header(ended), ENDINGS[ended].status)
        await self._parts.agents.close()

    # --- the agent's events: downlink -------------------------------------------------------------

    def _agent_event(self, speaker: Speaker, event: AgentEvent) -> None:
        match event:
            case model.AssistantAudio(reply_id, item_id, pcm):
                stream = self._call.stream
                if stream and self._turn.may_play(reply_id, item_id, len(pcm), self._clock()):
                    self._sounds.give_way()
                    self._parts.journalist.plays(speaker, reply_id, item_id, pcm)
                    speaker.play(stream, pcm, reply_id, item_id)
            case model.AssistantTurnStarted(reply_id):
                self._turn.reply_started(reply_id)
            case model.AssistantTurnEnd(reply_id, status):
                self._call.finish_items(self._turn.reply_ended(reply_id, failed=status == "failed"))
            case model.ToolCall():
                self._parts.tools.asked(event)
            case model.ToolCallCancelled(call_id):
                self._parts.tools.taken_back(call_id)
            case model.AgentError(message, code, fatal):
                self._log.warning("agent error", message=message, code=code, fatal=fatal)
            case model.Reconnecting(attempt):
                self._log.warning("agent reconnecting", attempt=attempt)
            case model.Resumed(context_kept):
                self._log.info("agent resumed", context_kept=context_kept)
            case model.Usage():
                self._record.used(speaker.config, event)
            case model.SessionOpen() | model.SessionClosed():
                self._log.debug("agent session", agent=speaker.name, now=type(event).__name__)
            case model.UserSpeechStarted() | model.UserSpeechEnded() | model.AssistantInterrupted():
                pass  # see `BargeIn`
            case model.UserTranscript() | model.AssistantText() | model.ToolCallDelta():
                pass
            case _:
                assert_never(event)
        self._observe(event)

    def _observe(self, event: AgentEvent) -> None:
        for observer in self._parts.observers:
            observer.agent_event(event)
        self._floor.moved()

    # --- the caller's sound and keys: uplink ------------------------------------------------------

    def media_event(self, event: MediaEvent) -> None:
        if not self.answered and not self._leg.hears_early and not isinstance(event, Drained):
            return  # ringing tones and announcements: nobody is there yet
        parts = self._parts
        if parts.transfers.media_event(event):
            return
        match event:
            case Audio(pcm=pcm):
                if parts.agents.hear(pcm, private=parts.privacy.lasts):
                    self._record.audio_delivered()
                if not parts.privacy.lasts and not parts.agents.deaf:
                    parts.failure.caller_said(pcm)
            case SpeechStarted() | SpeechEnded():
                parts.journalist.ear_heard(event)
                if parts.privacy.lasts:
                    parts.limits.caller_acted()
                elif (heard := parts.barge_in.ear_heard(event)) is not None:
                    self._observe(heard)
            case Drained(item_id=item_id):
                self._turn.item_heard(item_id)
                self._sounds.drained(item_id)
                parts.journalist.heard_out(item_id)
                parts.barge_in.heard_out()
                parts.limits.agent_heard()
                self._floor.moved()
            case KeyPressed(digit=digit):
                self._key_pressed(digit, "rtp")
            case MediaTimeout(seconds=seconds):
                if not self._legs.moving:
                    self.end(Ended.MEDIA_TIMEOUT, f"no audio from the far end for {seconds:.1f} s")
            case EncryptionFailed(reason=reason):
                self.end(Ended.ENCRYPTION_FAILED, reason)
            case SourceChanged():
                self._log.debug("media source learned")
                self.journal.note(Noted("media_source"))
            case _:
                assert_never(event)

    def _key_pressed(self, digit: str, way: str) -> None:
        parts = self._parts
        if parts.keypad.press(digit, way, self._clock()):
            parts.limits.caller_acted()
            parts.holding.end("the caller pressed a key")
            if self._tenant.config.keys == "text":
                parts.confirmation.caller_acted()
                parts.barge_in.key_pressed()

    # --- what signalling brings -------------------------------------------------------------------

    @property
    def _leg(self) -> SipLeg:
        return self._legs.current

    def sip_event(self, event: SipEvent) -> None:
        if self._parts.transfers.bridge.sip_event(event) or not self._legs.sip_event(event):
            return
        leg = self._leg
        if isinstance(leg, OutboundLeg) and leg.not_answered is not None:
            self.end(unanswered(leg.not_answered), str(leg.not_answered), status=leg.not_answered.sip_status)
        elif isinstance(event, CallEnded):
            self.end(
                *ended_by(
                    event,
                    outbound=self._record.outbound,
                    transferred=self._parts.transfers.target if leg.transfer_accepted or self._legs.bridged else None,
                    answered=self.answered,
                ),
                status=None if self.answered else event.status,
            )
        elif isinstance(event, ReinviteReceived):
            self.journal.note(Noted("reinvite"))
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

    def can_move_from(self, call: Invite) -> bool:
        """The same, where that is the call it is on: not the one beside it."""
        return self.can_move and self._leg.owns(call)

    def replaced(self, leg: InboundLeg) -> None:
        """Another telephone takes the far end's place (RFC 3891)."""
        if self.can_move:
            self.journal.note(Noted("moved", "another telephone takes the far end's place (Replaces)"))
            self._legs.replaced(leg)
        else:
            leg.reject(486, reason_header(Ended.BUSY))

    async def _move(self, event: ReferReceived) -> None:
        """The far end wants us to call somebody who is to go on with this conversation (RFC 3515)."""
        failure = await self._legs.referred(event)
        self.journal.note(Noted("moved", failure and f"not: {failure}"))
        if failure and self._legs.abandoned:
            self.end(Ended.CALLER_HUNG_UP, f"after a transfer that failed: {failure}")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        assert self._group is not None
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _discreet(tenant: Tenant, fields: CallFields, *, outbound: bool) -> dict[str, Any]:
    storage = tenant.config.storage
    return {} if storage == "everything" else {DISCREET: discreet(storage, fields.to if outbound else fields.caller)}
