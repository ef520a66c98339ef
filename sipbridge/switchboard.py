"""The calls that are up: makes legs and conversations, and brings every event to its own.

Whether a call is taken at all, and for whom, the gateway has decided before.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog

from sipbridge import codecs
from sipbridge.agent import NewAgent
from sipbridge.call import CallSession
from sipbridge.call_fields import CallFields
from sipbridge.config import Config
from sipbridge.encryption import local_security
from sipbridge.errors import CallNotPlacedError
from sipbridge.gateway_file.trunks import Outbound, Trunk
from sipbridge.history.history import History
from sipbridge.history.journal import NOWHERE, Journal
from sipbridge.history.last_words import LastWords
from sipbridge.inbound_leg import InboundLeg
from sipbridge.leg import LegParts, MediaChoices, SipLeg
from sipbridge.media.engine import MediaEngine
from sipbridge.media.events import MediaEvent
from sipbridge.media.params import MediaParams
from sipbridge.media.ports import LocalPort
from sipbridge.media.stream import MediaStream
from sipbridge.outbound_leg import OutboundLeg, Place
from sipbridge.outcome import CallReport, Ended
from sipbridge.recording_files.about import About
from sipbridge.recordings import Recordings, StartRecording
from sipbridge.sip.events import CallEnded, InviteReceived, ReferReceived, SipEvent
from sipbridge.sip.headers import NameAddr, Uri, readable
from sipbridge.sip.invite import Invite
from sipbridge.sip.ladder import Ladder, Ladders
from sipbridge.sip.refer import Referral
from sipbridge.sip.uac import OutgoingInvite
from sipbridge.sip.user_agent import UserAgent
from sipbridge.tenant_gate import Allowance
from sipbridge.tenants import Tenant
from sipbridge.tools.services import ToolServices
from sipbridge.trunks import Budget, caller_of, credentials_of, permitted_target, proxy_of, target_of

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Line:
    """What belongs to one conversation."""

    trunk: Trunk | None
    fade_ms: int = 10
    allowance: Allowance | None = None
    turned_away: str | None = None
    session: CallSession | None = None
    handles: list[int] = field(default_factory=list)
    calls: list[Invite] = field(default_factory=list)


class Switchboard:
    """`spawn` runs a conversation; `on_report` is given its report when it is over."""

    def __init__(
        self,
        config: Config,
        user_agent: UserAgent,
        engine: MediaEngine,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        new_agent: NewAgent,
        on_report: Callable[[CallReport], None],
        ladders: Ladders,
        keep_ladder: Callable[[Ladder], None] | None,
        recordings: Recordings | None,
        tool_services: ToolServices,
        history: History | None,
        last_words: LastWords,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._ladders = ladders
        self._keep_ladder = keep_ladder
        self._recordings = recordings
        self._tool_services = tool_services
        self._history = history
        self._last_words = last_words
        self._user_agent = user_agent
        self._engine = engine
        self._spawn = spawn
        self._new_agent = new_agent
        self._on_report = on_report
        self._clock = clock
        self._lines: dict[CallSession, _Line] = {}
        self._by_call: dict[Invite, CallSession] = {}
        self._by_handle: dict[int, CallSession] = {}
        outbound = [(trunk.name, trunk.outbound) for trunk in config.trunks if trunk.outbound is not None]
        self.budgets = {name: Budget(way.max_calls, way.calls_per_hour) for name, way in outbound}
        self._placed: dict[Invite, Budget] = {}
        self.all_over = asyncio.Event()
        """Set while no call is up."""
        self.all_over.set()

    @property
    def sessions(self) -> list[CallSession]:
        return list(self._lines)

    def __len__(self) -> int:
        """How many calls are up or being set up."""
        return len(self._lines)

    def turning_away(self, tenant_id: str) -> int:
        """How many calls of a tenant's are just told that there is no room for them."""
        return sum(
            line.turned_away is not None and session.tenant_id == tenant_id for session, line in self._lines.items()
        )

    def tenant_changed(self, tenant: Tenant) -> None:
        """Another version is in force: calls of its that are up may take something of it."""
        if tenant.config.apply_changes != "new_calls":
            for session in self.sessions:
                if session.tenant_id == tenant.id:
                    session.tenant_changed(tenant)

    def end_all(self, ended: Ended) -> None:
        for session in self.sessions:
            session.end(ended)

    # --- events -----------------------------------------------------------------------------------

    def media_event(self, event: MediaEvent) -> None:
        session = self._by_handle.get(event.handle)
        if session is not None:
            session.media_event(event)

    def call_event(self, call: Invite, event: SipEvent) -> None:
        """What signalling tells of a call."""
        session = self._by_call.get(call)
        if isinstance(event, CallEnded):
            budget = self._placed.pop(call, None)
            if budget is not None:
                budget.give_back()
        if session is not None:
            session.sip_event(event)
            if isinstance(event, CallEnded):
                self._count(self._lines[session])

    # --- calls ------------------------------------------------------------------------------------

    def answer(
        self,
        event: InviteReceived,
        tenant: Tenant,
        fields: CallFields,
        trunk: Trunk | None,
        allowance: Allowance | None = None,
        turned_away: str | None = None,
    ) -> CallSession:
        """A call that came in begins; the last two as in `CallSession`."""
        line = _Line(trunk, tenant.config.barge_in.fade_ms, allowance, turned_away)
        leg = InboundLeg(event.call, event.offer, self._parts(line, trunk))
        return self._begin(leg, line, tenant, fields, event.call)

    def dial(
        self, tenant: Tenant, to: str, trunk: Trunk, from_: str | None, allowance: Allowance | None = None
    ) -> CallSession:
        """A call of our own begins. Raises `CallNotPlacedError` where it can be seen beforehand that it cannot."""
        outbound = _way_out(trunk)
        target, caller = target_of(outbound, to), caller_of(trunk, outbound, from_)
        call_id = secrets.token_hex(16)
        fields = CallFields(
            to=readable(target.username), caller=readable(caller.uri.username), trunk=trunk.name, call_id=call_id
        )
        line = _Line(trunk, tenant.config.barge_in.fade_ms, allowance)
        leg = self._calling(line, trunk, target, caller, call_id=call_id)
        return self._begin(leg, line, tenant, fields)

    # --- what far ends ask for --------------------------------------------------------------------

    def may_refer(self, call: Invite, referral: Referral) -> bool:
        """Whether the far end of a call may have us call somebody (`TransferPolicy`)."""
        line = self._line_of(call)
        trunk = None if line is None else line.trunk
        permitted = (
            trunk is not None and trunk.accept_refer and permitted_target(trunk, referral.refer_to.uri) is not None
        )
        if not permitted:
            log.warning("REFER refused", call_id=call.call_id, to=str(referral.refer_to.uri))
        return permitted

    def may_replace(self, call: Invite) -> bool:
        """Whether a call may be replaced by another of its trunk."""
        line = self._line_of(call)
        permitted = line is not None and line.trunk is not None and line.trunk.accept_refer
        if not permitted:
            log.warning("Replaces refused", call_id=call.call_id)
        return permitted

    def replace(self, event: InviteReceived, replaced: Invite, trunk: str) -> None:
        """A call that came by `trunk` wants to take the place of one that `may_replace` permitted: the conversation
        goes on with it. What it takes over is the far end's own side of the call, so it has to be of the same trunk."""
        line = self._line_of(replaced)
        if line is None or line.session is None:
            event.call.reject(481, now=self._clock())
        elif line.trunk is None or line.trunk.name != trunk:
            log.warning("Replaces refused", call_id=replaced.call_id, trunk=trunk)
            event.call.reject(403, now=self._clock())
        else:
            log.info("call replaced", call_id=line.session.call_id, by=event.call.call_id)
            self._belongs(event.call, line.session)
            line.session.replaced(InboundLeg(event.call, event.offer, self._parts(line, line.trunk)))

    def _line_of(self, call: Invite) -> _Line | None:
        """Of a call that a conversation is on, and not about to leave."""
        session = self._by_call.get(call)
        return self._lines[session] if session is not None and session.can_move_from(call) else None

    def _transfer_leg(self, line: _Line, event: ReferReceived) -> OutboundLeg:
        """To whom a REFER asks for. Raises `CallNotPlacedError`."""
        trunk = line.trunk
        target = None if trunk is None else permitted_target(trunk, event.refer_to.uri)
        if trunk is None or target is None:
            raise CallNotPlacedError("no trunk permits it")
        headers = event.replaces.headers if event.replaces is not None else ()
        discreet = {} if line.session is None else line.session.discreet
        by = str(event.referred_by or "")
        log.info("transfer asked for", call_id=event.call.call_id, by=by, to=str(target), **discreet)
        return self._calling(line, trunk, target, caller_of(trunk, _way_out(trunk), None), headers=headers)

    def _second_leg(self, line: _Line, tenant: Tenant, target: str, ring_seconds: float) -> OutboundLeg:
        """To whom the tenant's file names, beside the caller's. Raises `CallNotPlacedError`."""
        trunk = self._way_for(line, tenant)
        outbound = _way_out(trunk)
        caller = caller_of(trunk, outbound, None)
        return self._calling(line, trunk, target_of(outbound, target), caller, ring_seconds=ring_seconds)

    def _way_for(self, line: _Line, tenant: Tenant) -> Trunk:
        """The tenant's trunk, else the one that the call is on, else the first that calls can be placed over."""
        name = tenant.config.outbound_trunk
        if name is not None:
            named = next((trunk for trunk in self._config.trunks if trunk.name == name), None)
            if named is None:
                raise CallNotPlacedError(f"there is no trunk {name!r}")
            return named
        candidates = ([] if line.trunk is None else [line.trunk]) + list(self._config.trunks)
        way = next((trunk for trunk in candidates if trunk.outbound is not None), None)
        if way is None:
            raise CallNotPlacedError("no trunk has 'outbound': there is no way to place a call")
        return way

    # --- legs that call ---------------------------------------------------------------------------

    def _calling(
        self,
        line: _Line,
        trunk: Trunk,
        target: Uri,
        caller: NameAddr,
        *,
        call_id: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        ring_seconds: float | None = None,
    ) -> OutboundLeg:
        outbound = _way_out(trunk)

        def place_at(target: Uri, call_id: str | None) -> Place:
            def place(offer: bytes) -> OutgoingInvite:
                assert line.session is not None
                return self._place(
                    trunk, outbound, line.session, target, caller, offer, call_id=call_id, headers=headers
                )

            return place

        def redirect(contacts: tuple[NameAddr, ...]) -> Place | None:
            if not trunk.follow_redirects:
                return None
            permitted = (permitted_target(trunk, contact.uri) for contact in contacts)
            target = next((found for found in permitted if found is not None), None)
            log.info("redirected", trunk=trunk.name, to=str(target or "nowhere that is permitted"))
            return None if target is None else place_at(target, None)

        return OutboundLeg(
            place_at(target, call_id),
            self._parts(line, trunk),
            ring_seconds=outbound.ring_seconds if ring_seconds is None else ring_seconds,
            hears_early=outbound.early_media,
            redirect=redirect,
        )

    def _place(
        self,
        trunk: Trunk,
        outbound: Outbound,
        session: CallSession,
        target: Uri,
        caller: NameAddr,
        offer: bytes,
        *,
        call_id: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> OutgoingInvite:
        """Send an INVITE over a trunk, for a conversation. Raises `CallNotPlacedError` above the trunk's budget."""
        now, budget = self._clock(), self.budgets[trunk.name]
        budget.take(now)
        try:
            call = self._user_agent.invite(
                target,
                from_=caller,
                offer=offer,
                now=now,
                next_hop=proxy_of(outbound),
                credentials=credentials_of(trunk),
                call_id=call_id,
                headers=headers,
            )
        except BaseException:
            budget.give_back()
            raise
        self._placed[call] = budget
        self._belongs(call, session)
        names = {"call_id": call.call_id, "session": session.call_id}
        log.info("calling", trunk=trunk.name, to=str(target), **names, **session.discreet)
        return call

    def _belongs(self, call: Invite, session: CallSession) -> None:
        self._by_call[call] = session
        self._ladders.joined(session.call_id, call.call_id)
        self._lines[session].calls.append(call)
        self._count(self._lines[session])

    def _parts(self, line: _Line, trunk: Trunk | None) -> LegParts:
        """Of a leg over that trunk."""

        def open_stream(port: LocalPort, params: MediaParams) -> MediaStream:
            stream = MediaStream(self._engine, self._engine.start(port, params))
            assert line.session is not None
            self._by_handle[stream.handle] = line.session
            line.handles.append(stream.handle)
            return stream

        names = trunk.codecs if trunk is not None and trunk.codecs is not None else self._config.media.codecs
        return LegParts(
            engine=self._engine,
            open_stream=open_stream,
            choices=MediaChoices(
                codecs=tuple(codec.name for codec in codecs.select(names)),
                public_address=self._config.sip.public_address,
                uplink_ms=self._config.media.uplink_ms,
                fade_ms=line.fade_ms,
                security=local_security(
                    self._config, trunk, secret=secrets.token_bytes(32), fingerprint=self._engine.fingerprint
                ),
            ),
            session_id=str(secrets.randbits(62)),
            clock=self._clock,
        )

    def _begin(
        self, leg: SipLeg, line: _Line, tenant: Tenant, fields: CallFields, call: Invite | None = None
    ) -> CallSession:
        journal = NOWHERE if self._history is None else self._history.journal(tenant)
        session = CallSession(
            leg,
            tenant,
            fields,
            new_agent=self._new_agent,
            max_seconds=self._config.limits.max_call_seconds,
            prices=self._config.prices,
            tool_services=self._tool_services,
            clock=self._clock,
            transfer_leg=lambda event: self._transfer_leg(line, event),
            second_leg=lambda target, seconds: self._second_leg(line, tenant, target, seconds),
            record=self._recording_of(fields, tenant, journal),
            journal=journal,
            allowance=line.allowance,
            turned_away=line.turned_away,
        )
        self._lines[session] = line
        self._ladders.opened(session.call_id)
        line.session = session
        if call is not None:
            self._belongs(call, session)
        self.all_over.clear()
        self._spawn(self._run(session, line))
        return session

    def _recording_of(self, fields: CallFields, tenant: Tenant, journal: Journal) -> StartRecording | None:
        recording = tenant.config.recording
        # A voice is personal data: what may keep none may not be recorded, whatever else was asked for.
        if not tenant.config.records or self._recordings is None:
            return None
        about = About(
            fields.call_id,
            tenant.id,
            record=journal.record,
            caller=fields.caller,
            to=fields.to,
            outbound=fields.identity is None,
            retention_days=recording.retention_days,
        )
        return self._recordings.of(about, recording.format, journal)

    def _count(self, line: _Line) -> None:
        if line.allowance is not None:
            line.allowance.line_is_up(not all(call.is_over for call in line.calls))

    async def _run(self, session: CallSession, line: _Line) -> None:
        report = None
        try:
            report = await session.run()
            self._on_report(report)
        except Exception:
            # The boundary of one call: what goes wrong in it must not take the others with it.
            log.exception("call failed", call_id=session.call_id)
        finally:
            for handle in line.handles:
                del self._by_handle[handle]
            for call in line.calls:
                del self._by_call[call]
            del self._lines[session]
            line.session = None  # its leg knows the line: without this nothing of the call is freed before a collection
            if not self._lines:
                self.all_over.set()
            try:
                self._tell(session, line, report)
            except Exception:
                log.exception("what became of a call is not kept", call_id=session.call_id)

    def _tell(self, session: CallSession, line: _Line, report: CallReport | None) -> None:
        """A call is over: whoever is to know of it does."""
        ladder = self._ladders.ended(session.call_id)
        if line.allowance is not None:
            line.allowance.over(report)
        self._last_words.note(session.journal, report or session.report_of_none(), ladder)
        discreet = bool(session.discreet)  # a ladder has everybody's numbers in it
        if ladder is not None and self._keep_ladder is not None and not discreet:
            self._keep_ladder(ladder)


def _way_out(trunk: Trunk) -> Outbound:
    if trunk.outbound is None:
        raise CallNotPlacedError(f"trunk {trunk.name} has no 'outbound': calls cannot be placed over it")
    return trunk.outbound
