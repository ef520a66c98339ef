"""Everything between two telephones' ends, for real: a gateway, a model's server, and phones on 127.0.0.1.

    async with house(Script(...), tenant="tools: {hang_up: {}}") as bench:
        phone = await bench.phone()
        await phone.call()

On leaving it, no call, leg, port, task or descriptor may be left, and the user agent must be idle.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Literal

import yaml

from sipbridge.config import Config
from sipbridge.configfile import parse
from sipbridge.gateway import Gateway
from sipbridge.history.history import History
from sipbridge.media.events import MediaStats
from sipbridge.outcome import CallReport
from sipbridge.simulator.model import WIRES, ModelServer, SessionRecord
from sipbridge.simulator.script import Script
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_source.directory import TenantDirectory
from sipbridge.tenant_source.opening import load_directory, watched
from sipbridge.tenants import Tenant
from tests.loopback.phone import Phone
from tests.loopback.waiting import Watched

_PORTS = "28000-28399"
_TRANSACTIONS_S = 64.0
"""By then every SIP timer has run out (Timers B, F, H, J, L: 32 s; a BYE may begin with the end of another)."""


class Clock:
    """The gateway's time: real, but it can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class _Sessions(list[SessionRecord]):
    """Tells when a session begins."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed

    def append(self, record: SessionRecord) -> None:
        super().append(record)
        self._changed()


class House(Watched):
    def __init__(self, model: ModelServer) -> None:
        super().__init__()
        self.model = model
        model.sessions = _Sessions(self.changed)
        self.gateway: Gateway
        self.tenants: TenantDirectory
        self.clock = Clock()
        self.reports: list[CallReport] = []
        self.phones: list[Phone] = []

    def reported(self, report: CallReport) -> None:
        self.reports.append(report)
        self.changed()

    async def report(self, count: int = 1, *, within: float = 3.0) -> CallReport:
        """The `count`-th call's, as soon as it is over."""
        await self.until(lambda: len(self.reports) >= count, within=within)
        return self.reports[count - 1]

    async def session(self, count: int = 1, *, within: float = 3.0) -> SessionRecord:
        """The model's record of the `count`-th session, as soon as it has begun."""
        await self.until(lambda: len(self.model.sessions) >= count, within=within)
        return self.model.sessions[count - 1]

    def address(self, transport: Literal["udp", "tcp"] = "udp") -> tuple[str, int]:
        return self.gateway.transport.address(transport)

    async def phone(
        self, *, transport: Literal["udp", "tcp"] = "udp", host: str = "127.0.0.1", user: str = "agent"
    ) -> Phone:
        phone = await Phone.open(self.address(transport), transport=transport, host=host, user=user)
        self.phones.append(phone)
        return phone

    @property
    def media(self) -> MediaStats:
        """The figures of the one leg that is up."""
        engine = self.gateway._engine
        return engine.stats(next(iter(engine._seats)))

    def pass_time(self, seconds: float) -> None:
        """For the gateway's SIP, so much time goes by at once."""
        self.clock.ahead += seconds
        self.gateway.user_agent.handle_timer(self.clock())
        self.gateway.transport.flush()


async def within(seconds: float, event: asyncio.Event) -> None:
    async with asyncio.timeout(seconds):
        await event.wait()


@asynccontextmanager
async def house(
    script: Script | None = None,
    *,
    tenant: str = "",
    config: str = "",
    provider: str = "openai",
    url: Callable[[ModelServer], str] = lambda model: model.url,
    phones: Sequence[Phone] = (),
    history: History | None = None,
    files: Path | None = None,
) -> AsyncIterator[House]:
    """`tenant` and `config` are YAML, merged over what a test needs in any case. The tenant is dialled as `agent`.
    `phones` had to be there before. `history` is entered already. `files`: where the tenant is a file,
    `tenants/t.yaml`, which may change."""
    descriptors = _descriptors()
    async with ModelServer(script or Script(), wire=provider if provider in WIRES else "openai") as model:
        bench = House(model)
        bench.phones += phones
        text = _tenant(tenant, provider, url(model))
        directory = TenantDirectory([Tenant("t", parse(text, TenantConfig, "t.yaml"))])
        base = {
            "sip": {"listen": ["udp://127.0.0.1:0", "tcp://127.0.0.1:0"]},
            "media": {"ports": _PORTS, "codecs": ["PCMU", "PCMA"]},
            "limits": {"media_timeout_seconds": 600},
        }
        settings = parse(yaml.safe_dump(_merged(base, config)), Config, "sipbridge.yaml")
        watch: AbstractAsyncContextManager[object] = nullcontext()
        if files is not None:
            (files / "tenants").mkdir(exist_ok=True)
            (files / "tenants" / "t.yaml").write_text(text)
            directory = load_directory(settings, files, keep=True)
            watch = watched(settings, directory, files / "sipbridge.yaml", settled=lambda count: bench.changed())
        bench.tenants = directory
        built = Gateway(settings, directory, on_report=bench.reported, clock=bench.clock, history=history)
        async with watch, built as gateway:
            bench.gateway = gateway
            engine = gateway._engine
            free = engine.free_ports
            try:
                yield bench
            finally:
                for phone in bench.phones:
                    await phone.close()
                await asyncio.sleep(0)  # sockets close in the loop's next turn
            await within(3.0, gateway.calls.all_over)
            assert engine.legs == 0
            assert engine.free_ports == free
            bench.pass_time(_TRANSACTIONS_S)
            bench.pass_time(_TRANSACTIONS_S)
            assert gateway.user_agent.idle
    for record in model.sessions:
        assert record.closed.is_set()
    assert {item for item in _descriptors().items() if item not in descriptors.items()} == set()


def _tenant(text: str, provider: str, url: str) -> str:
    agent = {"provider": provider, "instructions": "You are a test.", "turn_detection": {"silence_ms": 100}}
    if provider in WIRES:
        agent |= {"url": url}
    base = {"match": {"to": "agent"}, "agent": agent, "deadlines": {"connect_seconds": 1}}
    if "agents" in (yaml.safe_load(text) or {}):  # all of them are the test's own
        del base["agent"]
    return yaml.safe_dump(_merged(base, text), sort_keys=False)


def _merged(base: dict[str, object], text: str) -> dict[str, object]:
    def merge(old: object, new: object) -> object:
        if isinstance(old, dict) and isinstance(new, dict):
            return old | {key: merge(old.get(key), value) for key, value in new.items()}
        return new

    merged = merge(base, yaml.safe_load(text) or {})
    assert isinstance(merged, dict)
    return merged


def _descriptors() -> dict[str, str]:
    """What is open, by number."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the listing's own
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found
