"""Does each trunk answer, and does its registrar take us? A part of `check`."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress

from sipbridge import __version__
from sipbridge.config import Config
from sipbridge.errors import ConfigError, SipbridgeError
from sipbridge.finding import Finding
from sipbridge.gateway_file.trunks import Trunk
from sipbridge.logins import RegisterAt
from sipbridge.registrations import account_of
from sipbridge.sip.dns import DnsResolver
from sipbridge.sip.events import Registered, RegistrationFailed, SipEvent, Unregistered
from sipbridge.sip.own_addresses import Identity
from sipbridge.sip.ping import PingResult
from sipbridge.sip.registration import Registration
from sipbridge.sip.sockets import parse_listen
from sipbridge.sip.transport import SipTransport
from sipbridge.sip.user_agent import UserAgent
from sipbridge.trunks import proxy_of

_TAKEN_BACK_S = 1.0
"""How long the registrar may take to confirm that we are gone again."""


async def look_at_trunks(config: Config, resolver: DnsResolver, answer_s: float, *, register: bool) -> list[Finding]:
    """Each once, all at the same time; `register`: also whether we may register there."""
    if not config.trunks:
        return [Finding("ok", "trunks", "none: only this machine may call")]
    user_agent = UserAgent(
        new_token=lambda: secrets.token_hex(8),
        identity=Identity(product=f"sipbridge/{__version__}", public_address=config.sip.public_address),
    )
    registering: dict[Registration, asyncio.Queue[SipEvent]] = {}

    def tell(event: SipEvent) -> None:
        if isinstance(event, Registered | RegistrationFailed | Unregistered):
            registering[event.registration].put_nowait(event)

    try:
        transport = await SipTransport.open(
            user_agent, _any_ports(config), on_event=tell, resolver=resolver, tls=config.sip.tls.settings
        )
    except (OSError, SipbridgeError) as error:
        return [Finding("failed", f"trunk {trunk.name}", f"cannot be asked: {error}") for trunk in config.trunks]
    looks = [_trunk(trunk, user_agent, answer_s) for trunk in config.trunks]
    for trunk in config.trunks:
        if trunk.register_at is not None:
            looks.append(
                _registration(trunk.name, trunk.register_at, user_agent, registering, answer_s, really=register)
            )
    try:
        return list(await asyncio.gather(*looks))
    finally:
        await transport.close()


async def _registration(
    name: str,
    section: RegisterAt,
    user_agent: UserAgent,
    registering: dict[Registration, asyncio.Queue[SipEvent]],
    answer_s: float,
    *,
    really: bool,
) -> Finding:
    """Register, and take it back. Not where a gateway runs: the registrar might forget that one for it."""
    subject = f"registration {name}"
    if not really:
        return Finding("ok", subject, "not tried beside a gateway that is running; its log tells of it")
    try:
        account = account_of(section)
    except ConfigError as error:
        return Finding("failed", subject, str(error), f"see register.password of trunk {name}")
    registration = user_agent.register(account, time.monotonic())
    told = registering[registration] = asyncio.Queue()
    where = f"{account.aor.uri} at {section.server}"
    try:
        async with asyncio.timeout(answer_s):
            event = await told.get()
    except TimeoutError:
        event = None
    registration.stop(time.monotonic())
    if isinstance(event, Registered):
        with suppress(TimeoutError):
            async with asyncio.timeout(_TAKEN_BACK_S):
                await told.get()
        return Finding("ok", subject, f"{where} is possible, for {event.expires_s} s at a time; taken back again")
    if not isinstance(event, RegistrationFailed):
        return Finding("failed", subject, f"{where}: no answer within {answer_s:g} s", "see register.server")
    cure = _REGISTRATION_CURES.get(event.status, "see what the registrar's log says of it")
    return Finding("failed", subject, f"{where}: {event.status} {event.reason}", cure)


_REGISTRATION_CURES = {
    **dict.fromkeys((401, 403, 407), "see register.username and .password, and whether the account may come from here"),
    404: "see register.user: the registrar knows no such name",
    **dict.fromkeys((408, 503), "see register.server, and whether a firewall is between"),
    423: "a longer register.expires",
}


def _any_ports(config: Config) -> list[str]:
    """Where to ask from: the addresses of the listeners, at any port."""
    hosts = dict.fromkeys(parse_listen(url)[1][0] for url in config.sip.listen)
    bracketed = [f"[{host}]" if ":" in host else host for host in hosts]
    return [f"{transport}://{host}:0" for transport in ("udp", "tcp") for host in bracketed]


async def _trunk(trunk: Trunk, user_agent: UserAgent, answer_s: float) -> Finding:
    subject = f"trunk {trunk.name}"
    outbound = trunk.outbound
    if outbound is None:
        who = ", ".join(trunk.sources) or "whoever has its password"
        return Finding("ok", subject, f"calls come from {who}; none are placed over it")
    heard: asyncio.Future[PingResult] = asyncio.get_running_loop().create_future()

    def answered(result: PingResult) -> None:
        if not heard.done():
            heard.set_result(result)

    proxy = proxy_of(outbound)
    try:
        asking = user_agent.options(proxy, on_result=answered, now=time.monotonic())
    except SipbridgeError as error:
        return Finding("failed", subject, str(error), "see outbound.proxy")
    try:
        async with asyncio.timeout(answer_s):
            result = await heard
    except TimeoutError:
        asking.abandon()
        text = f"{proxy} did not answer OPTIONS within {answer_s:g} s"
        if outbound.ping_seconds == 0:
            return Finding("warning", subject, text, "as outbound.ping_seconds: 0 expects; only a call can tell")
        return Finding("failed", subject, text, _SILENT)
    if not result.answered:
        return Finding("failed", subject, f"{proxy} is {result.reason}", "see outbound.proxy and outbound.transport")
    text = f"{proxy} answered OPTIONS with {result.status} {result.reason} in {result.seconds * 1000:.0f} ms"
    if result.status == 503:
        return Finding("warning", subject, text, "it is there, and takes no calls at present")
    return Finding("ok", subject, text)


_SILENT = (
    "see outbound.proxy and .transport, whether a firewall is between, and whether the peer knows this address"
    " (some answer nobody else; some never answer OPTIONS: then outbound.ping_seconds: 0)"
)
