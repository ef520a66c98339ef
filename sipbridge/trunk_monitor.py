"""Asks each trunk's proxy whether it is there (OPTIONS), and keeps what it finds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable

import structlog

from sipbridge.errors import SipbridgeError
from sipbridge.gateway_file.trunks import Trunk
from sipbridge.sip.ping import PingResult
from sipbridge.sip.user_agent import UserAgent
from sipbridge.trunks import Health, Reachable, proxy_of

log = structlog.get_logger(__name__)


class TrunkMonitor:
    """`watch(...)` until `close()`; `state(name)` at any time."""

    def __init__(
        self, user_agent: UserAgent, clock: Callable[[], float], share: Callable[[], float] = random.random
    ) -> None:
        self._user_agent = user_agent
        self._clock = clock
        self._share = share
        self._loop = asyncio.get_running_loop()
        self._health: dict[str, Health] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def watch(self, trunks: Iterable[Trunk]) -> None:
        for trunk in trunks:
            if trunk.outbound is not None and trunk.outbound.ping_seconds > 0:
                self._health[trunk.name] = Health(trunk.outbound.ping_seconds)
                self._ask(trunk)

    def state(self, trunk: str) -> Reachable:
        health = self._health.get(trunk)
        return Reachable.UNKNOWN if health is None else health.state

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._health.clear()

    def _ask(self, trunk: Trunk) -> None:
        assert trunk.outbound is not None

        def heard(result: PingResult) -> None:
            self._heard(trunk, result.status if result.answered else None, result.reason)

        try:
            self._user_agent.options(proxy_of(trunk.outbound), on_result=heard, now=self._clock())
        except SipbridgeError as error:
            self._heard(trunk, None, str(error))

    def _heard(self, trunk: Trunk, status: int | None, reason: str) -> None:
        health = self._health.get(trunk.name)
        if health is None:
            return  # closed meanwhile
        before = health.state
        if health.heard(status):
            tell = log.info if health.state is Reachable.UP else log.warning
            tell("trunk", trunk=trunk.name, now=health.state.value, before=before.value, status=status, reason=reason)
        self._timers[trunk.name] = self._loop.call_later(health.next_after(self._share()), self._ask, trunk)
