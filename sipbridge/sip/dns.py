"""Single questions to DNS, for the core's `DnsNeeded`: /etc/hosts first, then name servers, by dnspython.

Nothing here blocks the loop: dnspython, which takes long to import, is imported in a thread at the first question that
needs it, and asks with asyncio's sockets. Each question is put to one server after another without giving up the first
ones: a server that is slow is still heard, and one that is away costs little (`HEDGE_S`).
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from sipbridge.sip.dns_cache import Kind, Naptr, Record, Srv

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

log = structlog.get_logger(__name__)

HEDGE_S = 1.5
"""After so long without an answer the next server is asked as well; the same one again where there is one only."""
LIFETIME_S = 6.0
"""When a question is given up: a server that needs five seconds is still in time."""
LOCAL_TTL_S = 10.0
"""How long an entry of /etc/hosts is believed: it may be edited."""
_HOSTS = Path("/etc/hosts")
_bracketed = re.compile(r"\[([^\]]+)\](?::([0-9]+))?")


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    records: tuple[Record, ...] = ()
    ttl: float = LOCAL_TTL_S
    error: str | None = None
    """No server answered; without it, no records mean that there are none."""


class DnsResolver:
    def __init__(
        self,
        nameservers: Sequence[str] = (),
        *,
        hosts: Path | None = _HOSTS,
        hedge: float = HEDGE_S,
        lifetime: float = LIFETIME_S,
    ) -> None:
        """`nameservers` are addresses, each with a port if it is not 53 (`127.0.0.1:5353`, `[::1]:5353`); without any
        those of the system are asked. Raises ValueError for one that is no address."""
        self._servers = [parse_nameserver(text) for text in nameservers]
        self._hosts = _HostsFile(hosts)
        self._hedge = hedge
        self._lifetime = lifetime
        self._resolvers: list[Resolver] | None = None

    async def query(self, name: str, kind: Kind) -> DnsAnswer:
        """Whatever happens, an answer, about `lifetime` later at the latest; it does not raise."""
        host = name.rstrip(".").lower()
        addresses = self._hosts.addresses(host)
        if addresses is not None:
            version = {"A": 4, "AAAA": 6}.get(kind)
            return DnsAnswer(tuple(text for text in addresses if ipaddress.ip_address(text).version == version))
        if host.startswith("_") and self._hosts.addresses(host.split(".", 2)[-1]) is not None:
            return DnsAnswer()  # no server knows services of a name that is this machine's own
        try:
            resolvers = await self._load()
            async with asyncio.timeout(self._lifetime + self._hedge):
                return await self._ask(resolvers, host, kind)
        except Exception as error:
            # dnspython's exceptions are many, and some come from what a server sent. Whatever it is, it is no answer,
            # and whoever waits for one is told so.
            log.info("DNS question failed", name=name, kind=kind, error=str(error) or type(error).__name__)
            return DnsAnswer(error=str(error) or type(error).__name__)

    async def _load(self) -> list[Resolver]:
        if self._resolvers is None:
            asyncresolver: Any = await asyncio.get_running_loop().run_in_executor(
                None, import_module, "dns.asyncresolver"
            )
            system = asyncresolver.Resolver(configure=not self._servers)
            servers = self._servers or [(str(server), system.port) for server in system.nameservers]
            resolvers = []
            for address, port in servers:
                resolver = asyncresolver.Resolver(configure=False)
                resolver.nameservers, resolver.port = [address], port
                resolver.timeout = resolver.lifetime = self._lifetime
                resolver.search, resolver.domain, resolver.ndots = system.search, system.domain, system.ndots
                resolvers.append(resolver)
            self._resolvers = resolvers
        return self._resolvers

    async def _ask(self, resolvers: list[Resolver], host: str, kind: Kind) -> DnsAnswer:
        """The first answer of any server. One that fails at once makes room for the next."""
        waiting = [*resolvers, *resolvers[: max(0, 2 - len(resolvers))]]
        running: set[asyncio.Task[DnsAnswer]] = set()
        error: BaseException = OSError("no name server")
        try:
            while waiting or running:
                if waiting:
                    running.add(asyncio.ensure_future(_ask_one(waiting.pop(0), host, kind)))
                done, running = await asyncio.wait(
                    running, timeout=self._hedge if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    failure = task.exception()
                    if failure is None:
                        return task.result()
                    error = failure
            raise error
        finally:
            for task in running:
                task.cancel()


async def _ask_one(resolver: Resolver, host: str, kind: Kind) -> DnsAnswer:
    """Raises where the server did not answer the question."""
    from dns.resolver import NXDOMAIN  # imported by now

    try:
        answer = await resolver.resolve(host, kind, raise_on_no_answer=False, search="." not in host)
    except NXDOMAIN as nothing:
        responses: Any = nothing.kwargs["responses"].values()
        return DnsAnswer(ttl=min((response.resolve_chaining().minimum_ttl for response in responses), default=0))
    records = tuple(_record(kind, rdata) for rdata in answer.rrset or ())
    return DnsAnswer(records, answer.chaining_result.minimum_ttl)


def _record(kind: Kind, rdata: Any) -> Record:
    if kind == "SRV":
        return Srv(rdata.priority, rdata.weight, rdata.port, rdata.target.to_text())
    if kind == "NAPTR":
        flags, service = (octets.decode("latin-1") for octets in (rdata.flags, rdata.service))
        return Naptr(rdata.order, rdata.preference, flags, service, rdata.replacement.to_text())
    return str(rdata.address)


class _HostsFile:
    """Names of /etc/hosts, and `localhost`, which is this machine whatever is written anywhere (RFC 6761 §6.3)."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._read_at: float | None = None
        self._names: dict[str, list[str]] = {}

    def addresses(self, name: str) -> list[str] | None:
        """None: not here."""
        if name == "localhost" or name.endswith(".localhost"):
            return ["127.0.0.1", "::1"]
        self._refresh()
        return self._names.get(name)

    def _refresh(self) -> None:
        if self._path is None:
            return
        try:
            changed = self._path.stat().st_mtime
            if changed == self._read_at:
                return
            text = self._path.read_text(errors="replace")
        except OSError:
            self._names, self._read_at = {}, None
            return
        self._read_at = changed
        self._names = {}
        for line in text.splitlines():
            address, *names = line.partition("#")[0].split() or [""]
            if _is_plain_address(address):
                for name in names:
                    self._names.setdefault(name.rstrip(".").lower(), []).append(address)


def _is_plain_address(text: str) -> bool:
    try:
        return "%" not in str(ipaddress.ip_address(text))
    except ValueError:
        return False


def parse_nameserver(text: str) -> tuple[str, int]:
    """An address, in brackets where it is IPv6 and has a port. Raises ValueError."""
    host, port = text, "53"
    if text.count(":") == 1:
        host, _, port = text.partition(":")
    elif (match := _bracketed.fullmatch(text)) is not None:
        host, port = match[1], match[2] or "53"
    if not port.isdigit() or not 0 < int(port[:6]) < 65_536:
        raise ValueError(f"not the address of a name server: {text}")
    return str(ipaddress.ip_address(host)), int(port)
