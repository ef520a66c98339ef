"""History: one gateway's journals, and the way of what they take to the store and to whoever else is to know.

    loop of the calls          CallJournal.note -> its queue
    thread "history"           queue -> Outbox (durable) -> a Courier for each sink

The thread has an event loop of its own, in which the sinks live. What cannot be written waits in the journals' queues,
which have a bound; nothing of it comes back to the calls.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import structlog

from sipbridge.history.call_journal import CallJournal
from sipbridge.history.delivery import Courier
from sipbridge.history.facts import Entry, Fact
from sipbridge.history.journal import Journal
from sipbridge.history.outbox import LATE, Outbox, OutboxError
from sipbridge.history.sink import Sink
from sipbridge.history_config import HistoryConfig
from sipbridge.tenants import Tenant

log = structlog.get_logger(__name__)

_SWITCH_INTERVAL_S = 0.0005
"""The interpreter runs one thread at a time: so long the loop of the calls waits for it."""
_GATHER_S = 0.05
"""Between two commits."""
_MOST_AT_ONCE = 200
_TRY_AGAIN_S = 5.0
_SIGN_OF_LIFE_S = 5.0
_LOOK_AROUND_S = 30.0
_OPENING_S = 10.0
_CLOSING_S = 5.0


class History:
    """Of one gateway, while it is entered. `sinks` is called in the thread: what they need is loaded there."""

    def __init__(
        self,
        config: HistoryConfig,
        sinks: Callable[[], Sequence[Sink]],
        *,
        node: str,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.node = node
        self.counters: Counter[str] = Counter()
        """`written`, `crashed`: calls closed after a crash, `failed`: attempts to write."""
        self._config = config
        self._make_sinks = sinks
        self._clock = clock
        self._wall = wall
        self._woken_journals: deque[CallJournal] = deque()
        self._late: deque[Entry] = deque()
        self._awake = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._opened = threading.Event()
        # Of the thread:
        self._outbox: Outbox
        self._couriers: list[Courier] = []
        self._batch: list[Entry] = []
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        """The outbox is open, and calls that a crash has cut are closed. Where that takes long it goes on beside."""
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL_S))
        self._thread.start()
        if not await asyncio.to_thread(self._opened.wait, _OPENING_S):
            log.error("history is not open yet: calls are taken meanwhile", outbox=str(self._config.outbox))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What waits is written, and delivered within `drain_seconds`; the rest is when it is opened again."""
        self._loop.call_soon_threadsafe(self._stop.set)
        await asyncio.to_thread(self._thread.join, self._config.drain_seconds + _CLOSING_S)
        if self._thread.is_alive():
            log.error("history is stuck: left alone", outbox=str(self._config.outbox))

    # --- on the loop of the calls -------------------------------------------------------------------------------------

    def journal(self, tenant: Tenant) -> Journal:
        """Of a call that begins now."""
        return CallJournal(
            wall=self._wall(),
            clock=self._clock,
            storage=tenant.config.storage,
            queue_max=self._config.queue_max,
            node=self.node,
            wake=self._woken,
        )

    def note_late(self, record: str, fact: Fact) -> None:
        """Something about a call that is over, by somebody who does not have its journal. From any thread."""
        self._late.append(Entry(record, LATE, round(self._wall(), 6), fact.kind, fact.to_json()))
        self._rouse()

    def _woken(self, journal: CallJournal) -> None:
        self._woken_journals.append(journal)
        self._rouse()

    def _rouse(self) -> None:
        if not self._awake:
            self._awake = True
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._wake.set)

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._live())
        except Exception:
            log.exception("history has ended: nothing is kept any more")
        finally:
            self._opened.set()

    async def _live(self) -> None:
        async with AsyncExitStack() as stack:
            sinks = list(self._make_sinks())
            for sink in sinks:
                stack.push_async_callback(sink.close)
            self._open([sink.name for sink in sinks])
            stack.callback(lambda: self._outbox.close())
            self._couriers = [Courier(sink, self._outbox, self._config.retry, self._clock) for sink in sinks]
            self._opened.set()
            tasks = [asyncio.create_task(courier.run()) for courier in self._couriers]
            tasks.append(asyncio.create_task(self._look_after()))
            writing = asyncio.create_task(self._write())
            await self._stop.wait()
            await self._drain()
            for task in (*tasks, writing):
                task.cancel()
            await asyncio.gather(*tasks, writing, return_exceptions=True)

    def _open(self, names: Sequence[str]) -> None:
        try:
            self._outbox = Outbox.open(self._config.outbox)
        except OutboxError as error:
            log.error("no outbox: what is not delivered is lost when this process ends", error=str(error))
            self._outbox = Outbox(None)
        forgotten = self._outbox.owe(names)
        if forgotten:
            log.warning("no longer configured: what it was owed is forgotten", **forgotten)
        self._recover()

    def _recover(self) -> None:
        crashed = self._outbox.close_crashed(self.node)
        self._outbox.adopt(self.node)
        if crashed:
            self.counters["crashed"] += len(crashed)
            log.warning("calls closed that were up when the node died", calls=len(crashed))

    async def _write(self) -> None:
        """What journals have goes into the outbox, a few times a second."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._awake = False
            while self._gather():
                await self._commit()
                await asyncio.sleep(_GATHER_S)

    def _gather(self) -> bool:
        """Fill the batch; whether there is anything."""
        while self._late and len(self._batch) < _MOST_AT_ONCE:
            self._batch.append(self._late.popleft())
        while self._woken_journals and len(self._batch) < _MOST_AT_ONCE:
            journal = self._woken_journals.popleft()
            taken = journal.take(_MOST_AT_ONCE - len(self._batch))
            self._batch += taken
            if len(self._batch) >= _MOST_AT_ONCE:  # there may be more of it
                self._woken_journals.append(journal)
        return bool(self._batch)

    async def _commit(self) -> None:
        while not self._try_to_commit():  # noqa: ASYNC110 (there is nothing to wait for: a disk tells nobody)
            await asyncio.sleep(_TRY_AGAIN_S)

    def _try_to_commit(self) -> bool:
        try:
            kept = self._outbox.add(self._batch, self._wall())
        except OutboxError as error:
            self.counters["failed"] += 1
            log.error("history not written: it waits", error=str(error), entries=len(self._batch))
            return False
        self.counters["written"] += len(kept)
        self._batch = []
        for courier in self._couriers:
            courier.added(kept)
        return True

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(_SIGN_OF_LIFE_S)
            try:
                self._outbox.alive(self._wall())
            except OutboxError as error:
                log.warning("outbox", error=str(error))

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._config.drain_seconds):
                while self._gather():
                    await self._commit()
                await asyncio.gather(*(courier.settled.wait() for courier in self._couriers))
        except TimeoutError:
            log.warning("history is not delivered yet: it waits in the outbox", outbox=str(self._config.outbox))
