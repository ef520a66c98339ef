"""One call, made by a gateway that is there for nothing else: what `sipbridge dial` does."""

from __future__ import annotations

import asyncio

from sipbridge.call import CallSession
from sipbridge.config import Config
from sipbridge.gateway import Gateway
from sipbridge.history.opening import opened
from sipbridge.outcome import ENDINGS, CallReport, Ended
from sipbridge.tenant_source.source import TenantSource


def beside_another(config: Config) -> Config:
    """The same for a gateway that can run beside the one that serves calls: on whatever SIP ports are free."""
    listen = tuple(f"{url.rpartition(':')[0]}:0" for url in config.sip.listen if not url.startswith("ws"))
    return config.model_copy(update={"sip": config.sip.model_copy(update={"listen": listen})})


async def dial(
    config: Config,
    tenants: TenantSource,
    tenant: str,
    to: str,
    *,
    trunk: str | None = None,
    from_: str | None = None,
    stop: asyncio.Event,
) -> CallReport:
    """Call somebody, let the tenant's agent talk to them, and return how it went. `stop` ends it.

    Raises `CallNotPlacedError` where no call can be made of that, `OSError` where there is no port.
    """
    async with (
        opened(config, tenants) as history,
        Gateway(beside_another(config), tenants, history=history, serves=False) as gateway,
    ):
        session = gateway.dial(await tenants.fetch(tenant) or tenant, to, trunk=trunk, from_=from_)
        stopped = asyncio.create_task(_stopped(session, stop))
        try:
            return await session.report()
        finally:
            stopped.cancel()


async def _stopped(session: CallSession, stop: asyncio.Event) -> None:
    await stop.wait()
    session.end(Ended.SHUTDOWN if session.answered else Ended.CANCELLED)


def went_well(report: CallReport) -> bool:
    """There was a conversation, and those who had it ended it."""
    return report.setup_ms is not None and ENDINGS[report.ended].good
