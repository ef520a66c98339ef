"""The composition root: configuration -> listeners, media engine, tenants; each INVITE -> a CallSession.

Who may speak to us is decided here, before the SIP parser: with no trunk configured only loopback addresses may,
otherwise the trunks' sources.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import lru_cache
from importlib import import_module
from types import TracebackType
from typing import Self

import structlog

from sipbridge import __version__, codecs
from sipbridge.call import CallSession, NewAgent
from sipbridge.config import Config
from sipbridge.leg import MediaChoices, SipLeg
from sipbridge.media.engine import LocalPort, MediaEngine, MediaParams, MediaSettings
from sipbridge.media.events import MediaEvent
from sipbridge.media.stream import MediaStream
from sipbridge.outcome import CallReport, Ended
from sipbridge.prompts import load_prompt
from sipbridge.providers import new_agent_from_credential
from sipbridge.sip.admission import LOOPBACK, Admission, source_address
from sipbridge.sip.core import Identity
from sipbridge.sip.dns_cache import DnsNeeded
from sipbridge.sip.events import (
    Authenticated,
    AuthenticationFailed,
    BindingsChanged,
    CredentialsNeeded,
    InviteReceived,
    SipEvent,
)
from sipbridge.sip.flow import FlowNeeded
from sipbridge.sip.headers import readable
from sipbridge.sip.message import Request
from sipbridge.sip.transport import SipTransport
from sipbridge.sip.user_agent import UserAgent
from sipbridge.tenants import CallFields, Tenant, TenantDirectory

log = structlog.get_logger(__name__)

RETRY_AFTER_S = 5


class Gateway:
    """Answers calls while it is entered (`async with`). `on_report` is given each call's report when it is over."""

    def __init__(
        self,
        config: Config,
        tenants: TenantDirectory,
        *,
        new_agent: NewAgent = new_agent_from_credential,
        on_report: Callable[[CallReport], None] = lambda report: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._tenants = tenants
        self._new_agent = new_agent
        self._on_report = on_report
        self._clock = clock
        self._choices = MediaChoices(
            codecs=tuple(codec.name for codec in codecs.select(config.media.codecs)),
            public_address=config.sip.public_address,
        )
        self._sessions: dict[object, CallSession] = {}
        self._by_handle: dict[int, CallSession] = {}
        self._all_over = asyncio.Event()
        self._all_over.set()
        self.trunk_of = lru_cache(maxsize=4096)(self._find_trunk)
        networks = [network for trunk in config.trunks for network in trunk.sources]
        # Asked before the SIP parser. With `forbid`, strangers get an answer, within a budget: see `_invited`.
        self.admission = Admission(
            networks if config.trunks else LOOPBACK, strangers=config.sip.unknown_sources == "forbid"
        )

    async def __aenter__(self) -> Self:
        """Open every listener. Raises `OSError` where an address cannot be had."""
        _load_what_a_call_needs()
        config = self._config
        first, last = config.media.ports
        settings = MediaSettings(
            address=config.media.address,
            ports=range(first, last + 1),
            media_timeout_seconds=config.limits.media_timeout_seconds,
        )
        self.user_agent = UserAgent(
            new_token=lambda: secrets.token_hex(8),
            identity=Identity(product=f"sipbridge/{__version__}", public_address=config.sip.public_address),
        )
        async with AsyncExitStack() as stack:
            self._engine = MediaEngine(settings, clock=self._clock)
            stack.callback(self._engine.shut_down)
            self.transport = await SipTransport.open(
                self.user_agent,
                config.sip.listen,
                on_event=self._sip_event,
                admission=self.admission,
                clock=self._clock,
            )
            stack.push_async_callback(self.transport.close)
            self._group = await stack.enter_async_context(asyncio.TaskGroup())
            clock_task = self._group.create_task(self._engine.run(self._media_event))
            stack.callback(clock_task.cancel)
            self._to_close = stack.pop_all()
        log.info("listening", addresses=[str(address) for address in self.transport.addresses])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.user_agent.unavailable = RETRY_AFTER_S  # who calls now is not to be cut off a moment later
        async with self._to_close:
            for session in list(self._sessions.values()):
                session.end(Ended.SHUTDOWN)
            await self._all_over.wait()

    @property
    def calls(self) -> int:
        """How many calls are up or being set up."""
        return len(self._sessions)

    async def drain(self, seconds: float) -> None:
        """Take no new calls (503, so that a proxy tries the next node) and wait until those that are up have ended, but
        no longer than `seconds`."""
        self.user_agent.unavailable = RETRY_AFTER_S
        try:
            async with asyncio.timeout(seconds):
                await self._all_over.wait()
        except TimeoutError:
            log.warning("calls are still up", calls=self.calls)

    # --- who may speak to us ----------------------------------------------------------------------

    def _find_trunk(self, address: str) -> str | None:
        """The trunk that this address belongs to; the empty name for loopback while no trunk is configured."""
        source = source_address(address)
        if not self._config.trunks:
            return "" if source.is_loopback else None
        for trunk in self._config.trunks:
            if any(source in ipaddress.ip_network(network) for network in trunk.sources):
                return trunk.name
        return None

    # --- events -----------------------------------------------------------------------------------

    def _media_event(self, event: MediaEvent) -> None:
        session = self._by_handle.get(event.handle)
        if session is not None:
            session.media_event(event)

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
            case CredentialsNeeded() | Authenticated() | AuthenticationFailed() | BindingsChanged():
                pass  # nobody is challenged yet
            case _:
                session = self._sessions.get(event.call)
                if session is not None:
                    session.sip_event(event)

    def _invited(self, event: InviteReceived) -> None:
        now = self._clock()
        trunk = self.trunk_of(event.flow.remote[0])
        if trunk is None:
            event.call.reject(403, now=now)
            return
        if self.calls >= self._config.limits.max_calls:
            event.call.reject(503, now=now, headers=(("Retry-After", str(RETRY_AFTER_S)),))
            return
        fields = _fields(event.request, trunk or None)
        tenant = self._tenants.resolve(fields)
        if tenant is None:
            log.info("no tenant", to=fields.to, call_id=fields.call_id)
            event.call.reject(404, now=now)
            return
        self._start(event, tenant, fields)

    def _start(self, event: InviteReceived, tenant: Tenant, fields: CallFields) -> None:
        handles: list[int] = []

        def open_stream(port: LocalPort, params: MediaParams) -> MediaStream:
            stream = MediaStream(self._engine, self._engine.start(port, params))
            self._by_handle[stream.handle] = session
            handles.append(stream.handle)
            return stream

        leg = SipLeg(
            event.call,
            event.offer,
            engine=self._engine,
            open_stream=open_stream,
            choices=self._choices,
            session_id=str(secrets.randbits(62)),
            clock=self._clock,
        )
        session = CallSession(
            leg,
            tenant,
            fields,
            new_agent=self._new_agent,
            max_seconds=self._config.limits.max_call_seconds,
            clock=self._clock,
        )
        self._sessions[event.call] = session
        self._all_over.clear()

        async def run() -> None:
            try:
                self._on_report(await session.run())
            except Exception:
                # The boundary of one call: what goes wrong in it must not take the others with it.
                log.exception("call failed", call_id=fields.call_id)
            finally:
                for handle in handles:
                    del self._by_handle[handle]
                del self._sessions[event.call]
                if not self._sessions:
                    self._all_over.set()

        self._group.create_task(run())


def _load_what_a_call_needs() -> None:
    """What is read at first use: neither the first caller nor the audio of the others should wait for it."""
    import_module("sipbridge.providers.session")
    for name in ("unavailable", "goodbye"):
        for rate in (8000, 24000):
            load_prompt(name, rate)


def _fields(request: Request, trunk: str | None) -> CallFields:
    headers: dict[str, str] = {}
    for name, value in request.headers:
        headers.setdefault(name, readable(value))
    caller = request.from_.uri
    return CallFields(
        to=readable(request.request_uri.username),
        caller=readable(caller.username or str(caller)),
        trunk=trunk,
        call_id=readable(request.call_id),
        headers=headers,
    )
