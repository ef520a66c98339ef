"""A gateway in a thread of the test's own process, for what has no command: calls that it places, and what its model
hears."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import yaml

from sipbridge.config import Config
from sipbridge.configfile import parse
from sipbridge.gateway import Gateway
from sipbridge.media.events import MediaStats
from sipbridge.outcome import CallReport, Ended
from sipbridge.simulator.model import ModelServer, SessionRecord
from sipbridge.simulator.script import Script
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_source.directory import TenantDirectory
from sipbridge.tenants import Tenant
from tests.interop.gateway import free_on_both, merge, offline


class Node:
    """Use as a context manager. Its only tenant is the embedded model, for every number; with `script` a simulated one
    behind a WebSocket, which tells what it hears. Several may share a queue of `reports`, where it is all the same
    which of them has a call."""

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        desk: str,
        address: str = "127.0.0.1",
        port: int | None = None,
        reports: queue.SimpleQueue[CallReport] | None = None,
        script: Script | None = None,
        agent: Mapping[str, Any] | None = None,
        tools: Mapping[str, Any] | None = None,
    ) -> None:
        self.target = f"{address}:{port or free_on_both(address)}"
        usual = {
            "sip": {"listen": [f"udp://{self.target}", f"tcp://{self.target}"]},
            "media": {"address": address, "ports": "30400-30599"},
        }
        self._config = parse(yaml.safe_dump(merge(usual, config)), Config, "sipbridge.yaml")
        self._tenant = offline("*", desk)
        if script is not None:
            self._tenant["agent"] = {"provider": "openai", "api_key": "none"}
        self._tenant["agent"] |= agent or {}
        self._tenant["tools"] = dict(tools or self._tenant["tools"])
        self._script = script
        self._stack = AsyncExitStack()
        self._reports: queue.SimpleQueue[CallReport] = reports or queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gateway")
        self._gateway: Gateway
        self._model: ModelServer

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

    def hearing(self, enough: Callable[[SessionRecord], bool], timeout: float = 20) -> SessionRecord:
        """What the model of the latest call hears, as soon as it is `enough` (asked again whenever more has come)."""
        return self._run(asyncio.wait_for(self._hearing(enough), timeout), timeout + 5)  # type: ignore[no-any-return]

    def media(self, wanted: Callable[[MediaStats], bool] = lambda _: True, timeout: float = 20) -> MediaStats:
        """The figures of the one leg that is up, as soon as they are as `wanted`; looked at whenever the model hears
        something."""
        found: list[MediaStats] = []

        def look(_: SessionRecord) -> bool:
            engine = self._gateway._engine
            found.append(engine.stats(next(iter(engine._seats))))
            return wanted(found[-1])

        self.hearing(look, timeout)
        return found[-1]

    def press(self, keys: str) -> None:
        """Send them to the far end of the one call that is up."""

        async def send() -> None:
            engine = self._gateway._engine
            handle = next(iter(engine._seats))
            assert all(engine.send_key(handle, key) for key in keys)

        self._run(send())

    async def _hearing(self, enough: Callable[[SessionRecord], bool]) -> SessionRecord:
        session = await self._model.session(max(0, len(self._model.sessions) - 1))
        await session.wait_until(lambda: enough(session))
        return session

    async def _open(self) -> Gateway:
        if self._script is not None:
            self._model = await self._stack.enter_async_context(ModelServer(self._script))
            self._tenant["agent"]["url"] = self._model.url
        tenant = parse(yaml.safe_dump(self._tenant), TenantConfig, "agent.yaml")
        gateway = Gateway(self._config, TenantDirectory([Tenant("agent", tenant)]), on_report=self._reports.put)
        return await self._stack.enter_async_context(gateway)

    async def _close(self) -> None:
        await self._stack.aclose()

    def _run(self, work: Any, timeout: float = 20) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

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
