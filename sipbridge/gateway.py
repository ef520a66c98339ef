"""The composition root: configuration -> listeners, media engine, tenants, calls. Who calls is shown to its tenant.

Who may speak to us is decided here, before the SIP parser: with no trunk configured only loopback addresses may,
otherwise the trunks' sources, and everybody where users are known who can prove who they are (`registrations`).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from types import TracebackType
from typing import Self

import structlog

from sipbridge import __version__, codecs, encryption
from sipbridge.agent import NewAgent
from sipbridge.call import CallSession
from sipbridge.call_fields import CallFields
from sipbridge.config import Config, SessionTimersConfig, codec_lists
from sipbridge.errors import CallNotPlacedError, TenantSourceError
from sipbridge.gateway_file.trunks import Trunk
from sipbridge.history.history import History
from sipbridge.history.last_words import LastWords
from sipbridge.history.refusals import RefusedCalls
from sipbridge.ladder_files import LadderFiles
from sipbridge.media import srtp
from sipbridge.media.dtls import DtlsIdentity
from sipbridge.media.engine import MediaEngine
from sipbridge.media.params import MediaSettings
from sipbridge.media.resample import Resampler
from sipbridge.metrics import Metrics
from sipbridge.outcome import ENDINGS, CallReport, Ended, reason_header
from sipbridge.prompts import load_prompt
from sipbridge.providers import new_agent_from_credential
from sipbridge.providers.breaker import Breaker
from sipbridge.recording_files.care import care_of
from sipbridge.recordings import Recordings
from sipbridge.registrations import Registrations
from sipbridge.sip.admission import LOOPBACK, Admission
from sipbridge.sip.dns import DnsResolver
from sipbridge.sip.dns_cache import DnsNeeded
from sipbridge.sip.events import IdentityEvent, InviteReceived, SipEvent
from sipbridge.sip.flow import FlowNeeded
from sipbridge.sip.ladder import Ladders
from sipbridge.sip.own_addresses import Identity
from sipbridge.sip.session_timer import SessionTimers
from sipbridge.sip.transport import SipTransport
from sipbridge.sip.user_agent import UserAgent
from sipbridge.switchboard import Switchboard
from sipbridge.tenant_gate import Allowance, TenantGate
from sipbridge.tenant_source.source import TenantSource
from sipbridge.tenants import Tenant
from sipbridge.tools.services import ToolServices
from sipbridge.trunk_monitor import TrunkMonitor
from sipbridge.trunks import Reachable

log = structlog.get_logger(__name__)

RETRY_AFTER_S = 5
_MOST_SPOKEN = 5
"""Calls of a tenant's at a time that are told in words that there is no room; the others get their 486 at once."""
_PARTING_S = 0.6
"""So long far ends may take to answer our last words when the node stops: over UDP they are said twice (T1: 0.5 s)."""


class Gateway:
    """Answers calls while it is entered (`async with`). `on_report` is given each call's report when it is over."""

    def __init__(
        self,
        config: Config,
        tenants: TenantSource,
        *,
        new_agent: NewAgent | None = None,
        history: History | None = None,
        on_report: Callable[[CallReport], None] = lambda report: None,
        serves: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Not one that `serves`: it registers nowhere, for it only makes calls, and whom it would be registered as is
        another gateway. `history` is entered already, and outlives this."""
        self._config = config
        self._history = history
        self._tenants = tenants
        self.breaker = Breaker()
        """Of the providers' servers, for all calls."""
        self._new_agent = new_agent or partial(new_agent_from_credential, breaker=self.breaker)
        self._on_report = on_report
        self._serves = serves
        self.metrics = Metrics()
        self.metrics.watch_providers(self.breaker)
        if history is not None:
            self.metrics.watch_history(history)
        for collector in tenants.collectors():
            self.metrics.registry.register(collector)
        self._clock = clock
        self.ladders = Ladders()
        self.gate = TenantGate(config.tenants.usage, clock)
        self._last_words = LastWords(clock)
        self._refused = (
            None if history is None else RefusedCalls(history.journal, self._last_words, self.ladders, clock)
        )
        self._arriving: set[asyncio.Task[None]] = set()
        """Calls whose tenant is looked up."""
        self._trunks = {trunk.name: trunk for trunk in config.trunks}
        networks = [network for trunk in config.trunks for network in trunk.sources]
        # Asked before the SIP parser. Strangers are heard, within a budget, where they get 403 (see `_invited`) or can
        # prove who they are.
        strangers = config.sip.unknown_sources == "forbid" or config.admits_strangers
        self.admission = Admission(networks if config.trunks else LOOPBACK, strangers=strangers)

    async def __aenter__(self) -> Self:
        """Open every listener. Raises `OSError` where an address cannot be had."""
        _load_what_a_call_needs(self._tenants.tenants)
        config = self._config
        wanted = dict.fromkeys(name for _, names in codec_lists(config) for name in names)
        if lacking := await asyncio.to_thread(codecs.prepare, wanted):
            log.warning("codecs not available on this machine", codecs=lacking)
        self.user_agent = self._make_user_agent()
        self.registrations = Registrations(config, self.user_agent, self._clock)
        self.user_agent.may_call = self.registrations.may_call
        async with AsyncExitStack() as stack:
            stack.callback(self._last_words.close)
            files = None if config.sip.ladders is None else LadderFiles(config.sip.ladders)
            if files is not None:
                stack.push_async_callback(files.close)
            self.recordings = self._open_recordings(stack)
            await self.gate.open()
            stack.push_async_callback(self.gate.close)
            tool_services = self._tool_services = ToolServices()
            stack.push_async_callback(tool_services.close)
            await tool_services.start({tenant.id: tenant.config.tools for tenant in self._tenants.tenants})
            identity = await asyncio.to_thread(_prepare_encryption) if encryption.wanted(config) else None
            self._engine = MediaEngine(_media_settings(config), clock=self._clock, identity=identity)
            stack.callback(self._engine.shut_down)
            self.transport = await SipTransport.open(
                self.user_agent,
                config.sip.listen,
                on_event=self._sip_event,
                admission=self.admission,
                clock=self._clock,
                tls=config.sip.tls.settings,
                resolver=DnsResolver(config.sip.nameservers),
            )
            stack.push_async_callback(self.transport.close)
            group = self._group = await stack.enter_async_context(asyncio.TaskGroup())
            self.calls = Switchboard(
                config,
                self.user_agent,
                self._engine,
                spawn=group.create_task,
                new_agent=self._new_agent,
                on_report=self._over,
                ladders=self.ladders,
                keep_ladder=None if files is None else files.keep,
                recordings=self.recordings,
                tool_services=tool_services,
                history=self._history,
                last_words=self._last_words,
                clock=self._clock,
            )
            self.metrics.count_calls(lambda: len(self.calls))
            self._tenants.subscribe(self._tenant_changed, self._tool_services.forget)
            stack.callback(self._tenants.subscribe, lambda tenant: None, lambda tenant_id: None)
            policy = self.user_agent.transfer_policy
            policy.refer = self.calls.may_refer
            policy.replace = lambda call, *_: self.calls.may_replace(call)
            self.trunks = TrunkMonitor(self.user_agent, self._clock)
            stack.callback(self.trunks.close)
            self.trunks.watch(config.trunks)
            clock_task = group.create_task(self._engine.run(self.calls.media_event))
            stack.callback(clock_task.cancel)
            self._to_close = stack.pop_all()
        self.user_agent.unavailable = None
        if self._serves:
            self.registrations.start()
        for weakness in encryption.weaknesses(config):
            log.warning(weakness.text, what=weakness.subject, cure=weakness.cure)
        log.info("listening", addresses=[str(address) for address in self.transport.addresses])
        return self

    def _make_user_agent(self) -> UserAgent:
        user_agent = UserAgent(
            new_token=lambda: secrets.token_hex(8),
            identity=Identity(product=f"sipbridge/{__version__}", public_address=self._config.sip.public_address),
            session_timers=_session_timers(self._config.sip.session_timers),
        )
        user_agent.unavailable = RETRY_AFTER_S  # until everything is there that a call needs
        user_agent.trace = lambda flow, sent, data: self.ladders.trace(flow, sent, data, self._clock())
        return user_agent

    def _open_recordings(self, stack: AsyncExitStack) -> Recordings | None:
        """Raises `ConfigError` where the key cannot be had: nothing that is to be sealed is ever written plain."""
        keys = self._config.recordings.key_ring()
        if self._serves:
            care = care_of(self._config, keys, self._tenants, self._history, self.metrics.count_recordings)
            care.start()
            stack.push_async_callback(care.close)
        directory = self._config.recordings.directory
        if directory is None:
            return None
        key = None if keys is None else keys.current
        recordings = Recordings(directory, self._clock, key=key, on_count=self.metrics.count_recordings)
        stack.push_async_callback(recordings.close)
        return recordings

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.user_agent.unavailable = RETRY_AFTER_S  # who calls now is not to be cut off a moment later
        async with self._to_close:
            for arriving in self._arriving:
                arriving.cancel()
            self.calls.end_all(Ended.SHUTDOWN)
            await self.registrations.stop()
            await self.calls.all_over.wait()
            await self.transport.settle(_PARTING_S)

    async def drain(self, seconds: float) -> None:
        """Take no new calls (503, so that a proxy tries the next node; where we are registered we take that back) and
        wait until those that are up have ended, but no longer than `seconds`."""
        log.info("draining", calls=len(self.calls), seconds=seconds)
        self.user_agent.unavailable = RETRY_AFTER_S
        self.registrations.withdraw()
        try:
            async with asyncio.timeout(seconds):
                await self.calls.all_over.wait()
        except TimeoutError:
            log.warning("calls are still up", calls=len(self.calls))

    def dial(self, tenant: Tenant | str, to: str, *, trunk: str | None = None, from_: str | None = None) -> CallSession:
        """Call somebody and let the tenant's agent talk to them; `await session.report()` says how it went.

        `to` is a number, a name, or a tel or sip URI; `trunk` the one to use, else the tenant's `outbound_trunk`, else
        the first that can be used and is not known to be down; `from_` a number, a name or an address to call from,
        else the trunk's. Raises `CallNotPlacedError` where no call can be made of that, or of any more.
        """
        if self.user_agent.unavailable is not None:
            raise CallNotPlacedError("the gateway is about to stop")
        if len(self.calls) >= self._config.limits.max_calls:
            raise CallNotPlacedError(f"{len(self.calls)} calls are up already (limits.max_calls)")
        found = self._tenants.get(tenant) if isinstance(tenant, str) else tenant
        if found is None:
            raise CallNotPlacedError(f"there is no tenant {tenant!r}")
        way = self._trunk_for(found, trunk)
        allowance = self.gate.admit(found)
        if not isinstance(allowance, Allowance):
            self.metrics.count_turned_away(allowance.partition(":")[0])
            raise CallNotPlacedError(f"tenant {found.id} may not call now: limits.{allowance}")
        try:
            return self.calls.dial(found, to, way, from_, allowance)
        except BaseException:
            allowance.over(None)
            raise

    def _trunk_for(self, tenant: Tenant, name: str | None) -> Trunk:
        name = name or tenant.config.outbound_trunk
        if name is not None:
            if name not in self._trunks:
                raise CallNotPlacedError(f"there is no trunk {name!r}")
            return self._trunks[name]
        ways = [trunk for trunk in self._trunks.values() if trunk.outbound is not None]
        if not ways:
            raise CallNotPlacedError("no trunk has 'outbound': there is no way to place a call")
        usable = (trunk for trunk in ways if self.trunks.state(trunk.name) in (Reachable.UP, Reachable.UNKNOWN))
        return next(usable, ways[0])

    def _over(self, report: CallReport) -> None:
        self.metrics.observe(report)
        self._on_report(report)

    def _tenant_changed(self, tenant: Tenant) -> None:
        """Another version is in force."""
        if tenant.config.tools.mcp:
            self._tool_services.of(tenant.id, tenant.config.tools)  # starting a server takes longer than a call waits
        self.calls.tenant_changed(tenant)

    # --- events -----------------------------------------------------------------------------------

    def _sip_event(self, event: SipEvent) -> None:
        match event:
            case InviteReceived():
                try:
                    self._invited(event)
                except Exception:
                    log.exception("call not begun", call_id=event.call.call_id)
                    event.call.reject(500, now=self._clock())  # the caller would wait in vain
            case FlowNeeded() | DnsNeeded():
                pass  # the transport's affair
            case _ if isinstance(event, IdentityEvent):
                self.registrations.event(event)
            case _:
                self.calls.call_event(event.call, event)

    def _invited(self, event: InviteReceived) -> None:
        now = self._clock()
        trunk = self.registrations.trunk_of(event)
        if trunk is None:
            event.call.reject(403, now=now)
            return
        if event.replaces is not None:
            self.calls.replace(event, event.replaces, trunk)
            return
        configured = self._trunks.get(trunk)
        if len(self.calls) + len(self._arriving) >= self._config.limits.max_calls:
            event.call.reject(503, now=now, headers=(("Retry-After", str(RETRY_AFTER_S)),))
            if self._refused is not None:
                fields_of = partial(self._fields_of, event, trunk)
                self._refused.note(fields_of, Ended.REFUSED, 503, detail="the node is full (limits.max_calls)")
            return
        fields = self._fields_of(event, trunk)
        found = self._tenants.find(fields)
        if not isinstance(found, Awaitable):
            self._take(event, found, fields, configured)
            return
        # Whoever has the tenants takes his time; the caller has his 100.
        arriving = self._group.create_task(self._take_later(event, found, fields, configured))
        self._arriving.add(arriving)
        arriving.add_done_callback(self._arriving.discard)

    def _fields_of(self, event: InviteReceived, trunk: str) -> CallFields:
        configured = self._trunks.get(trunk)
        return CallFields.of(
            event.request,
            trunk or None,
            trusted=configured is not None and configured.trust_identity,
            account=self.registrations.account_of(event),
        )

    async def _take_later(
        self, event: InviteReceived, found: Awaitable[Tenant | None], fields: CallFields, trunk: Trunk | None
    ) -> None:
        try:
            tenant = await found
            if event.call.is_over:
                log.info("gone before it had a tenant", to=fields.to, call_id=fields.call_id)
                self._refuse(event, fields, Ended.CALLER_CANCELLED)
            else:
                self._take(event, tenant, fields, trunk)
        except TenantSourceError as error:
            log.warning("tenant unknown", to=fields.to, call_id=fields.call_id, error=str(error))
            self._refuse(event, fields, Ended.TENANT_UNKNOWN, detail=str(error))
        except asyncio.CancelledError:
            self._refuse(event, fields, Ended.SHUTDOWN, headers=(("Retry-After", str(RETRY_AFTER_S)),))
            raise
        except Exception:
            log.exception("call not begun", call_id=fields.call_id)
            self._refuse(event, fields, Ended.INTERNAL_ERROR)  # the caller would wait in vain

    def _take(self, event: InviteReceived, tenant: Tenant | None, fields: CallFields, trunk: Trunk | None) -> None:
        """Whose call it is has been found out: it begins, or is refused."""
        if tenant is None:
            log.info("no tenant", to=fields.to, call_id=fields.call_id)
            self._refuse(event, fields, Ended.NO_TENANT)
        elif isinstance(allowance := self.gate.admit(tenant), Allowance):
            try:
                self.calls.answer(event, tenant, fields, trunk, allowance)
            except BaseException:
                allowance.over(None)
                raise
        else:
            self._turn_away(event, tenant, fields, trunk, allowance)

    def _turn_away(
        self, event: InviteReceived, tenant: Tenant, fields: CallFields, trunk: Trunk | None, why: str
    ) -> None:
        """There is no room for it at its tenant's. Never 503: the trunk would think that the gateway is full."""
        log.warning("limit of the tenant", tenant=tenant.id, limit=why, to=fields.to, call_id=fields.call_id)
        self.metrics.count_turned_away(why.partition(":")[0])
        if tenant.config.limits.spoken is None or self.calls.turning_away(tenant.id) >= _MOST_SPOKEN:
            self._refuse(event, fields, Ended.TENANT_LIMIT, tenant=tenant, detail=why, code=why)
        else:
            self.calls.answer(event, tenant.unrecorded, fields, trunk, turned_away=why)

    def _refuse(
        self,
        event: InviteReceived,
        fields: CallFields,
        ended: Ended,
        *,
        tenant: Tenant | None = None,
        detail: str = "",
        code: str = "",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Before there is a conversation. `tenant`: whose call it would have been; `code`: what the caller is told of
        why."""
        status = ENDINGS[ended].status
        assert status is not None
        if not event.call.is_over:
            reason = ("Reason", reason_header(ended, code))
            event.call.reject(status, now=self._clock(), headers=(reason, *headers))
        if self._refused is not None:
            self._refused.note(lambda: fields, ended, status, tenant=tenant, detail=detail)


def _media_settings(config: Config) -> MediaSettings:
    first, last = config.media.ports
    return MediaSettings(
        address=config.media.address,
        ports=range(first, last + 1),
        media_timeout_seconds=config.limits.media_timeout_seconds,
    )


def _session_timers(settings: SessionTimersConfig) -> SessionTimers:
    return SessionTimers(settings.expires_seconds, settings.min_seconds, settings.refresher)


def _prepare_encryption() -> DtlsIdentity:
    """Load what it needs, and make the certificate of this run."""
    srtp.load()
    return DtlsIdentity.make(datetime.now(UTC))


def _load_what_a_call_needs(tenants: Iterable[Tenant]) -> None:
    """What is read at first use: neither the first caller nor the audio of the others should wait for it."""
    import_module("sipbridge.providers.session")
    for name in ("unavailable", "goodbye", "one-moment", "consult"):
        for rate in (8000, 16000, 24000):
            load_prompt(name, rate)
    for tenant in tenants:
        tenant.load_sounds()
    for source, target in ((8000, 16000), (8000, 24000), (16000, 24000), (24000, 8000), (24000, 16000)):
        Resampler(source, target).process(bytes(source // 25))
