"""The limits of tenants, kept: who asks for a seat, when a day's minutes run out, what is written down and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sipbridge.outcome import CallReport
from sipbridge.tenant_limits import Seat, TenantLimits, Used
from sipbridge.tenant_usage import TenantUsage
from sipbridge.tenants import Tenant

_WRITE_S = 5.0
"""So often what is used is written while calls are up: a process that is killed forgets no more."""
_LOW_S = 30.0
"""Of the day's minutes: then those who talk are told that it ends soon."""


class Allowance:
    """One call's part in its tenant's limits. `on_exhausted` is told when the day has nothing left, and before that
    `on_low` when its minutes are about to be used up."""

    def __init__(self, gate: TenantGate, seat: Seat) -> None:
        self._gate = gate
        self._seat = seat
        self._timer: asyncio.TimerHandle | None = None
        self.on_low: Callable[[], None] = lambda: None
        self.on_exhausted: Callable[[str], None] = lambda words: None

    def answered(self) -> None:
        self._gate.limits.answered(self._seat, self._gate.clock())
        self._watch()

    def spends(self, total: float) -> None:
        """So much has the call cost by now."""
        self._gate.limits.spends(self._seat, total, self._gate.clock(), self._gate.wall())
        self._look()

    def line_is_up(self, up: bool) -> None:
        """Whether there is a far end. Whoever calls when it has gone need not wait until this call is put away."""
        self._seat.vacant = not up

    def over(self, report: CallReport | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.on_low = lambda: None
        self.on_exhausted = lambda words: None
        if report is not None:
            total = sum(each.cost_usd or 0.0 for each in report.spent)
            self._gate.limits.spends(self._seat, total, self._gate.clock(), self._gate.wall())
        self._gate.over(self._seat)

    def _look(self) -> None:
        words = self._gate.limits.exhausted(self._seat, self._gate.clock(), self._gate.wall())
        if words is not None:
            self.on_exhausted(words)

    def _watch(self) -> None:
        """Other calls may use up the minutes meanwhile, or end: looked at again at half of what is left."""
        self._look()
        left = self._gate.limits.seconds_left(self._seat, self._gate.clock(), self._gate.wall())
        if left is not None:
            if left <= _LOW_S:
                self.on_low()
            pause = 60.0 if left == 0 else min(60.0, max(0.05, left if left < 1 else left / 2))
            self._timer = asyncio.get_running_loop().call_later(pause, self._watch)


class TenantGate:
    """Of one gateway; on its loop. `open` and `close` are awaited."""

    def __init__(
        self, path: Path, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self.clock = clock
        self.wall = wall
        self.limits = TenantLimits()
        self._usage = TenantUsage(path)
        self._limited: set[str] = set()
        """Tenants of which something is to be written."""
        self._writing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    async def open(self) -> None:
        for tenant, days in (await self._usage.load()).items():
            self.limits.remember(tenant, days)

    async def close(self) -> None:
        self._closing.set()
        if self._writing is not None:
            await self._writing
        await self._write()
        self._usage.close()

    def admit(self, tenant: Tenant) -> Allowance | str:
        """For a call that begins now; or which limit is in its way."""
        limits = tenant.config.limits
        seat = self.limits.admit(tenant.id, limits, self.clock(), self.wall())
        if isinstance(seat, str):
            return seat
        if limits.minutes_per_day is not None or limits.spend_per_day is not None:
            self._limited.add(tenant.id)
            if self._writing is None and not self._closing.is_set():
                self._writing = asyncio.get_running_loop().create_task(self._write_now_and_then())
        return Allowance(self, seat)

    def over(self, seat: Seat) -> None:
        self.limits.over(seat, self.clock(), self.wall())

    async def _write_now_and_then(self) -> None:
        """While there are calls."""
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_WRITE_S):
                        await self._closing.wait()
                        return
                were_up = self._are_up()
                await self._write()
                if not were_up and not self._are_up():  # one may have begun while that was written
                    return
        finally:
            self._writing = None

    def _are_up(self) -> bool:
        return any(self.limits.calls(tenant) for tenant in self._limited)

    async def _write(self) -> None:
        self.limits.count(self.clock(), self.wall())
        more: dict[str, Used] = {tenant: used for tenant, used in self.limits.unsaved() if tenant in self._limited}
        if not more:
            return
        totals = await self._usage.add(more)
        for tenant, used in (more if totals is None else totals).items():
            if totals is None:
                self.limits.not_saved(tenant, used)
            else:
                self.limits.kept(tenant, used)
