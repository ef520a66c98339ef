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
from sipbridge.call import CallSession, NewAgent
from sipbridge.config import Config, Outbound, Trunk
from sipbridge.errors import CallNotPlacedError
from sipbridge.leg import InboundLeg, LegParts, MediaChoices, OutboundLeg, Place, SipLeg
from sipbridge.media.engine import LocalPort, MediaEngine, MediaParams
from sipbridge.media.events import MediaEvent
from sipbridge.media.stream import MediaStream
from sipbridge.outcome import CallReport, Ended
from sipbridge.sip.events import CallEnded, InviteReceived, SipEvent
from sipbridge.sip.headers import NameAddr, Uri, readable
from sipbridge.sip.invite import Invite
from sipbridge.sip.ladder import Ladder, Ladders
from sipbridge.sip.uac import OutgoingInvite
from sipbridge.sip.user_agent import UserAgent
from sipbridge.tenants import CallFields, Tenant
from sipbridge.trunks import Budget, caller_of, proxy_of, target_of

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Line:
    """What belongs to one conversation."""

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
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._ladders = ladders
        self._keep_ladder = keep_ladder
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

    # --- calls ------------------------------------------------------------------------------------

    def answer(self, event: InviteReceived, tenant: Tenant, fields: CallFields, trunk: Trunk | None) -> CallSession:
        """A call that came in begins."""
        line = _Line()
        leg = InboundLeg(event.call, event.offer, self._parts(line, trunk))
        return self._begin(leg, line, tenant, fields, event.call)

    def dial(self, tenant: Tenant, to: str, trunk: Trunk, from_: str | None) -> CallSession:
        """A call of our own begins. Raises `CallNotPlacedError` where it can be seen beforehand that it cannot."""
        outbound = _way_out(trunk)
        target, caller = target_of(outbound, to), caller_of(outbound, from_)
        call_id = secrets.token_hex(16)
        fields = CallFields(
            to=readable(target.username), caller=readable(caller.uri.username), trunk=trunk.name, call_id=call_id
        )
        line = _Line()

        def place(offer: bytes) -> OutgoingInvite:
            return self._place(trunk, outbound, session, target, caller, offer, call_id=call_id)

        leg = self._calling(line, trunk, outbound, place)
        session = self._begin(leg, line, tenant, fields)
        return session

    def _calling(self, line: _Line, trunk: Trunk, outbound: Outbound, place: Place) -> OutboundLeg:
        return OutboundLeg(
            place,
            self._parts(line, trunk),
            ring_seconds=outbound.ring_seconds,
            hears_early=outbound.early_media,
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
                call_id=call_id,
                headers=headers,
            )
        except BaseException:
            budget.give_back()
            raise
        self._placed[call] = budget
        self._belongs(call, session)
        log.info("calling", trunk=trunk.name, to=str(target), call_id=call.call_id, session=session.call_id)
        return call

    def _belongs(self, call: Invite, session: CallSession) -> None:
        self._by_call[call] = session
        self._ladders.joined(session.call_id, call.call_id)
        self._lines[session].calls.append(call)

    def _parts(self, line: _Line, trunk: Trunk | None) -> LegParts:
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
            ),
            session_id=str(secrets.randbits(62)),
            clock=self._clock,
        )

    def _begin(
        self, leg: SipLeg, line: _Line, tenant: Tenant, fields: CallFields, call: Invite | None = None
    ) -> CallSession:
        session = CallSession(
            leg,
            tenant,
            fields,
            new_agent=self._new_agent,
            max_seconds=self._config.limits.max_call_seconds,
            clock=self._clock,
        )
        self._lines[session] = line
        self._ladders.opened(session.call_id)
        line.session = session
        if call is not None:
            self._belongs(call, session)
        self.all_over.clear()
        self._spawn(self._run(session, line))
        return session

    async def _run(self, session: CallSession, line: _Line) -> None:
        try:
            self._on_report(await session.run())
        except Exception:
            # The boundary of one call: what goes wrong in it must not take the others with it.
            log.exception("call failed", call_id=session.call_id)
        finally:
            for handle in line.handles:
                del self._by_handle[handle]
            for call in line.calls:
                del self._by_call[call]
            del self._lines[session]
            ladder = self._ladders.ended(session.call_id)
            if ladder is not None and self._keep_ladder is not None:
                self._keep_ladder(ladder)
            if not self._lines:
                self.all_over.set()


def _way_out(trunk: Trunk) -> Outbound:
    if trunk.outbound is None:
        raise CallNotPlacedError(f"trunk {trunk.name} has no 'outbound': calls cannot be placed over it")
    return trunk.outbound
