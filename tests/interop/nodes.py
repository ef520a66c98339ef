"""A gateway in a thread of the test's own process, for what has no command: calls that it places."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import yaml

from sipbridge.config import Config
from sipbridge.configfile import parse
from sipbridge.gateway import Gateway
from sipbridge.outcome import CallReport, Ended
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenants import Tenant, TenantDirectory
from tests.interop.gateway import free_on_both, merge, offline


class Node:
    """Use as a context manager. Its only tenant is the embedded model, for every number. Several may share a queue of
    `reports`, where it is all the same which of them has a call."""

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        desk: str,
        address: str = "127.0.0.1",
        port: int | None = None,
        reports: queue.SimpleQueue[CallReport] | None = None,
    ) -> None:
        self.target = f"{address}:{port or free_on_both(address)}"
        usual = {
            "sip": {"listen": [f"udp://{self.target}", f"tcp://{self.target}"]},
            "media": {"address": address, "ports": "30400-30599"},
        }
        self._config = parse(yaml.safe_dump(merge(usual, config)), Config, "sipbridge.yaml")
        tenant = parse(yaml.safe_dump(offline("*", desk)), TenantConfig, "agent.yaml")
        self._tenants = TenantDirectory([Tenant("agent", tenant)])
        self._reports: queue.SimpleQueue[CallReport] = reports or queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gateway")
        self._gateway: Gateway

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._gateway = self._run(self._open())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """May be called twice."""
        if self._thread.is_alive():
            try:
                self._run(self._close())
            finally:
                self._end()

    def dial(self, to: str, *, from_: str | None = None, trunk: str | None = None) -> PlacedCall:
        """Call somebody, over the first trunk if none is named."""
        return PlacedCall(self, to, from_, trunk)

    def drain(self, retry_after: int | None) -> None:
        """Answer new calls with 503 from now on; None: take them again."""

        async def refuse() -> None:
            self._gateway.user_agent.unavailable = retry_after

        self._run(refuse())

    def next_report(self, timeout: float = 20) -> CallReport:
        """Of the next call to end, whoever placed it."""
        return self._reports.get(timeout=timeout)

    def forget(self) -> None:
        """The calls so far are nobody's business any more."""
        while not self._reports.empty():
            self._reports.get()

    async def _open(self) -> Gateway:
        return await Gateway(self._config, self._tenants, on_report=self._reports.put).__aenter__()

    async def _close(self) -> None:
        await self._gateway.__aexit__(None, None, None)

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class PlacedCall:
    """A call that the gateway has placed."""

    def __init__(self, node: Node, to: str, from_: str | None, trunk: str | None) -> None:
        async def dial() -> Any:
            return node._gateway.dial("agent", to, from_=from_, trunk=trunk)

        self._loop = node._loop
        self._session = node._run(dial())
        self._report: Future[CallReport] = asyncio.run_coroutine_threadsafe(self._session.report(), self._loop)

    def give_up(self) -> None:
        """Cancelled by us while it rings, hung up once it is answered."""
        self._loop.call_soon_threadsafe(self._session.end, Ended.CANCELLED)

    def report(self, timeout: float = 20) -> CallReport:
        """How it went, when it is over."""
        return self._report.result(timeout)
