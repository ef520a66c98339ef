"""`sipbridge check`: does what the configuration names work, and if not, what is to be done?

Every look takes a bounded time, and all of them are taken at once. Nothing is changed by looking: listeners are bound
and let go, a trunk is asked by OPTIONS, a model's session is opened and closed.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryFile
from typing import Any

from sipbridge import codecs, health
from sipbridge.certificates import validity
from sipbridge.check_history import look_at_history
from sipbridge.check_providers import look_at_providers
from sipbridge.check_tools import look_at_tools
from sipbridge.check_trunks import look_at_trunks
from sipbridge.check_webhooks import look_at_webhooks
from sipbridge.config import Config, codec_lists
from sipbridge.encryption import weaknesses
from sipbridge.errors import ConfigError
from sipbridge.finding import Finding
from sipbridge.sip.dns import DnsResolver
from sipbridge.sip.flow import Transport
from sipbridge.sip.headers import Uri
from sipbridge.sip.sockets import parse_listen
from sipbridge.tenant_source.looking import look_at_backend
from sipbridge.tenants import Tenant
from sipbridge.trunks import proxy_of

_RECORDED_HOUR = 4 * 8000 * 3600
"""Bytes of a narrowband call as WAV."""
_FEW_HOURS = 10
ANSWER_S = 5.0
"""How long a trunk may take to answer."""
_THERE_S = 1.0
"""Likewise whoever is on this machine."""
_SOON_DAYS = 14
_RUNNING = "in use by what speaks SIP: sipbridge, if it is running"


async def check(
    config: Config,
    tenants: Sequence[Tenant] = (),
    *,
    resolver: DnsResolver | None = None,
    answer_s: float = ANSWER_S,
    base: Path = Path(),
) -> list[Finding]:
    """All that can be looked at from here, in the order of the configuration; then the tenants' agents and tools.
    `base`: where sipbridge.yaml lies."""
    resolver = resolver or DnsResolver(config.sip.nameservers)
    looks: list[Coroutine[Any, Any, Finding]] = [_listener(url) for url in config.sip.listen]
    looks.append(_media(config))
    looks += [_name(name, where, resolver) for name, where in _names(config)]
    if config.tenants.backend is not None:
        looks.append(look_at_backend(config, base))
    found = list(await asyncio.gather(*looks))
    found += await asyncio.to_thread(_codecs, config)
    found += _certificates(config)
    if config.recordings.directory is not None:
        found.append(await asyncio.to_thread(_recordings, config.recordings.directory))
    if config.recordings.key is not None:
        found.append(_recordings_key(config))
    found += await look_at_webhooks(config)
    found += await look_at_history(config)
    found += weaknesses(config)
    running = any(finding.text == _RUNNING for finding in found)
    trunks, agents, tools = await asyncio.gather(
        look_at_trunks(config, resolver, answer_s, register=not running),
        look_at_providers(tenants),
        look_at_tools(tenants),
    )
    return [*found, *trunks, *agents, *tools]


# --- listeners --------------------------------------------------------------------------------------------------------


async def _listener(url: str) -> Finding:
    subject = f"listener {url}"
    transport, (host, port) = parse_listen(url)
    try:
        _bind(transport, host, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return Finding("failed", subject, error.strerror or str(error), _cure(error))
        if await _speaks_sip(transport, host, port):
            return Finding("ok", subject, _RUNNING)
        return Finding("failed", subject, "in use by another program", "stop that, or change the port in sip.listen")
    return Finding("ok", subject, "can be had")


def _bind(transport: Transport, host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    with closing(socket.socket(family, kind)) as sock:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        if kind == socket.SOCK_STREAM:
            sock.listen(1)


def _cure(error: OSError) -> str:
    match error.errno:
        case errno.EADDRNOTAVAIL:
            return "name an address of this machine (behind NAT the inner one, and sip.public_address for the outer)"
        case errno.EACCES:
            return "take a port from 1024 on, or allow this one to the program"
        case _:
            return "see sip.listen"


async def _speaks_sip(transport: Transport, host: str, port: int) -> bool:
    """Over UDP one OPTIONS tells; over the others whatever accepts a connection is believed."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        if transport == "udp":
            return await asyncio.to_thread(health.ping, host, port, _THERE_S) is not None
        async with asyncio.timeout(_THERE_S):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    return True


async def _media(config: Config) -> Finding:
    address, (first, last) = config.media.address, config.media.ports
    subject = f"media {address}:{first}-{last}"
    free = 0
    for port in range(first + first % 2, min(last, first + 40), 2):
        try:
            _bind("udp", address, port)
            free += 1
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return Finding("failed", subject, error.strerror or str(error), "media.address is to be one of ours")
    if free == 0:
        return Finding("warning", subject, "its first ports are all in use", "is a gateway running? else media.ports")
    calls = (last - first + 1) // 2
    if ipaddress.ip_address(address).is_loopback and not all(map(_on_this_machine, config.sip.listen)):
        return Finding(
            "warning", subject, "only this machine's own sound gets there", "media.address: as in sip.listen"
        )
    if calls < config.limits.max_calls:
        return Finding("warning", subject, f"ports for {calls} calls", "widen media.ports, or lower limits.max_calls")
    return Finding("ok", subject, f"ports for {calls} calls")


def _on_this_machine(url: str) -> bool:
    return ipaddress.ip_address(parse_listen(url)[1][0]).is_loopback


# --- codecs -----------------------------------------------------------------------------------------------------------


def _codecs(config: Config) -> list[Finding]:
    """Those that this machine has, and each that is configured in vain."""
    found = [Finding("ok", "codecs", f"this machine has {', '.join(codecs.available_codecs())}")]
    lists = dict(codec_lists(config))
    for name in codecs.prepare(dict.fromkeys(name for names in lists.values() for name in names)):
        places = " and ".join(place for place, names in lists.items() if name in names)
        cure = f"{_CODEC_CURES.get(name, 'see README.md')}, or take it out of {places}"
        found.append(Finding("warning", f"codec {name}", "not on this machine: neither offered nor answered", cure))
    for place, names in lists.items():
        if not codecs.select(names):
            found.append(Finding("failed", place, "none of these is on this machine", "add PCMU and PCMA"))
    return found


_CODEC_CURES = {
    "opus": "install libopus (Debian: apt-get install libopus0), or PyAV from its wheel",
    "G722": "install PyAV from its wheel (pip install av)",
}


# --- recordings -------------------------------------------------------------------------------------------------------


def _recordings(directory: Path) -> Finding:
    """Can files be made there, and how many?"""
    subject = f"recordings {directory}"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with TemporaryFile(dir=directory):
            free = disk_usage(directory).free
    except OSError as error:
        cure = "recordings.directory is to be one that we may write to"
        return Finding("failed", subject, error.strerror or str(error), cure)
    hours = free // _RECORDED_HOUR
    if hours < _FEW_HOURS:
        return Finding("warning", subject, f"room for {hours} hours of calls", "make room there, or record elsewhere")
    return Finding("ok", subject, f"room for {hours} hours of calls")


def _recordings_key(config: Config) -> Finding:
    try:
        keys = config.recordings.key_ring()
    except ConfigError as error:
        return Finding("failed", "recordings.key", str(error), "without it the gateway does not start")
    assert keys is not None
    return Finding("ok", "recordings.key", f"recordings are encrypted with the key {keys.current.id.hex()}")


# --- certificates -----------------------------------------------------------------------------------------------------


def _certificates(config: Config) -> Iterator[Finding]:
    """That they can be used together was seen when the configuration was read."""
    tls = config.sip.tls
    for key, path in (("certificate", tls.certificate), ("ca", tls.ca)):
        if path is not None:
            yield _expiry(f"sip.tls.{key} {path}", path, datetime.now(UTC))


def _expiry(subject: str, path: Path, now: datetime) -> Finding:
    try:
        first, last = validity(path.read_text(encoding="ascii", errors="replace"))
    except (OSError, ValueError) as error:
        return Finding("failed", subject, str(error), "it is to hold a certificate in PEM")
    if now < first:
        return Finding("failed", subject, f"not valid before {first:%F %T} UTC", "is this machine's clock right?")
    if now > last:
        return Finding("failed", subject, f"expired on {last:%F}", "renew it: nobody who looks will connect")
    days = (last - now).days
    if days < _SOON_DAYS:
        return Finding("warning", subject, f"expires in {days} days, on {last:%F}", "renew it")
    return Finding("ok", subject, f"valid until {last:%F}, {days} days")


# --- names ------------------------------------------------------------------------------------------------------------


def _names(config: Config) -> Iterator[tuple[str, str]]:
    """Every host name that SIP has to resolve, once, with the key that has it."""
    found: dict[str, str] = {}
    if config.sip.public_address is not None:
        found[config.sip.public_address] = "sip.public_address"
    for trunk in config.trunks:
        if trunk.outbound is not None:
            found.setdefault(proxy_of(trunk.outbound).host, f"outbound.proxy of trunk {trunk.name}")
        if trunk.register_at is not None:
            found.setdefault(Uri.parse(trunk.register_at.server).host, f"register.server of trunk {trunk.name}")
    return ((host, where) for host, where in found.items() if not _is_address(host))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _name(name: str, where: str, resolver: DnsResolver) -> Finding:
    subject = f"name {name}"
    services = ("_sip._udp.", "_sip._tcp.", "_sips._tcp.")
    a, aaaa, *srv = await asyncio.gather(
        resolver.query(name, "A"),
        resolver.query(name, "AAAA"),
        *(resolver.query(service + name, "SRV") for service in services),
    )
    servers = [service for service, answer in zip(services, srv, strict=True) if answer.records]
    addresses = [str(record) for answer in (a, aaaa) for record in answer.records]
    if not servers and not addresses:
        if a.error is not None:
            cure = "see /etc/resolv.conf, and whether a firewall stops DNS"
            return Finding("failed", subject, f"no name server answers ({a.error})", cure)
        return Finding("failed", subject, "there is no such name", f"see {where}")
    parts = [f"SRV for {', '.join(servers)}"] if servers else []
    parts += [", ".join(addresses)] if addresses else []
    return Finding("ok", subject, "; ".join(parts))
