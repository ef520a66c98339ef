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
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Self

import structlog

from sipbridge.errors import ConfigError
from sipbridge.gateway_file.history import HistoryConfig
from sipbridge.history.call_journal import CallJournal
from sipbridge.history.delivery import Courier
from sipbridge.history.facts import Entry, Fact
from sipbridge.history.journal import Journal
from sipbridge.history.outbox import LATE, Outbox, OutboxError
from sipbridge.history.privacy import Storage
from sipbridge.history.sink import Sink
from sipbridge.tenants import Tenant

log = structlog.get_logger(__name__)

STORE = "store"
"""Another store gets what the one before has not taken."""
_SWITCH_INTERVAL_S = 0.0005
"""The interpreter runs one thread at a time: so long the loop of the calls waits for it."""
_GATHER_S = 0.25
"""Between two commits, each of which costs some milliseconds however little is in it. The first waits for nothing."""
_HURRY_S = 0.02
"""The same where a call has begun: a node that dies is to know of it."""
_MOST_AT_ONCE = 200
_MOST_JOURNALS = 2000
"""Of calls whose facts wait to be written."""
_TRY_AGAIN_S = 5.0
_SIGN_OF_LIFE_S = 5.0
_LOOK_AROUND_S = 30.0
_OPENING_S = 10.0
_CLOSING_S = 5.0


class History:
    """Of one gateway, while it is entered. `sinks` makes them in the thread, where what they need is loaded; by the
    names under which they are owed what they have not taken, the store's being `STORE`."""

    def __init__(
        self,
        config: HistoryConfig,
        sinks: Callable[[], Mapping[str, Sink]],
        *,
        node: str,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.node = node
        self.figures = Figures()
        self.sinks: dict[str, Courier] = {}
        """Who is told, by the names under which they are owed what they have not taken."""
        self._config = config
        self._make_sinks = sinks
        self._clock = clock
        self.wall = wall
        self._journals: deque[CallJournal] = deque()
        self._late: deque[Entry] = deque()
        self._awake = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._opened = threading.Event()
        self._failure: ConfigError | None = None
        # Of the thread:
        self._outbox: Outbox
        self._batch: list[Entry] = []
        self._wake = asyncio.Event()
        self._begun = asyncio.Event()
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        """The outbox is open, and calls that a crash has cut are closed. Where that takes long it goes on beside: calls
        are taken meanwhile. Raises `ConfigError` where a sink cannot be what is configured."""
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL_S))
        self._thread.start()
        if not await asyncio.to_thread(self._opened.wait, _OPENING_S):
            log.error("history is not open yet: calls are taken meanwhile", outbox=str(self._config.outbox))
        if self._failure is not None:
            raise self._failure
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What waits is written, and delivered within `drain_seconds`; the rest is when it is opened again."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        await asyncio.to_thread(self._thread.join, self._config.drain_seconds + _CLOSING_S)
        if self._thread.is_alive():
            log.error("history is stuck: left alone", outbox=str(self._config.outbox))

    # --- on the loop of the calls -------------------------------------------------------------------------------------

    def journal(self, tenant: Tenant | None, storage: Storage = "everything") -> Journal:
        """Of a call that begins now. Where it is nobody's, `storage` is what is kept of it."""
        begins = True

        def wake(journal: CallJournal) -> None:
            nonlocal begins
            self._noted(journal)
            if begins:
                begins = False
                self._tell(self._begun)

        return CallJournal(
            wall=self.wall(),
            clock=self._clock,
            storage=storage if tenant is None else tenant.config.storage,
            queue_max=self._config.queue_max,
            node=self.node,
            wake=wake,
        )

    def note_late(self, record: str, fact: Fact) -> None:
        """Something about a call that is over, by somebody who does not have its journal. From any thread."""
        self._late.append(Entry(record, LATE, round(self.wall(), 6), fact.kind, fact.to_json()))
        self._rouse()

    def _noted(self, journal: CallJournal) -> None:
        """There is something in a journal that was empty."""
        if len(self._journals) >= _MOST_JOURNALS:  # nothing could be written for long
            self.figures.counts["dropped"] += self._journals.popleft().waiting
        self._journals.append(journal)
        self._rouse()

    def _rouse(self) -> None:
        if not self._awake:
            self._awake = True
            self._tell(self._wake)

    def _tell(self, event: asyncio.Event) -> None:
        with suppress(RuntimeError):  # it has been closed
            self._loop.call_soon_threadsafe(event.set)

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._live())
        except ConfigError as error:
            self._failure = error
        except Exception:
            log.exception("history has ended: nothing is kept any more")
        finally:
            self._opened.set()

    async def _live(self) -> None:
        async with AsyncExitStack() as stack:
            sinks = dict(self._make_sinks())
            for sink in sinks.values():
                stack.push_async_callback(sink.close)
            self._wants = {name: sink.wants for name, sink in sinks.items()}
            self._outbox = self._open() or self._in_memory()
            stack.callback(lambda: self._outbox.close())
            for name, sink in sinks.items():
                courier = Courier(name, sink, self._outbox, self._config.retry, self._clock)
                courier.on_trouble = self._mend
                self.sinks[name] = courier
            self._opened.set()
            tasks = [asyncio.create_task(courier.run()) for courier in self.sinks.values()]
            tasks += [asyncio.create_task(self._look_after()), asyncio.create_task(self._write())]
            stopped = asyncio.create_task(self._stop.wait())
            await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
            await self._drain()
            for task in (stopped, *tasks):
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, Exception):
                    log.error("history is incomplete", exc_info=ended)

    # --- the outbox ---------------------------------------------------------------------------------------------------

    def _open(self) -> Outbox | None:
        """The one on the disk, with what the dead have left; None where there is no such thing."""
        try:
            outbox = Outbox.open(self._config.outbox)
        except OutboxError as error:
            log.error("no outbox: what is not delivered is lost when this process ends", error=str(error))
            return None
        try:
            try:
                forgotten = outbox.owe(self._wants)
                crashed = len(outbox.close_crashed(self.node))
            except OutboxError as error:
                if not error.damaged:
                    raise
                forgotten = {}
                outbox, crashed = self._instead_of(outbox, self.node)
            crashed += outbox.adopt(self.node)
        except OutboxError as error:
            log.error(
                "the outbox cannot be used: what is not delivered is lost when this process ends", error=str(error)
            )
            outbox.close()
            return None
        if forgotten:
            log.warning("no longer configured: what they were owed is forgotten", **forgotten)
        if crashed:
            self.figures.counts["crashed"] += crashed
            log.warning("calls closed that were up when a node died", calls=crashed)
        self.figures.durable = True
        return outbox

    def _instead_of(self, damaged: Outbox, node: str | None = None) -> tuple[Outbox, int]:
        """With what can be read of it, and how many calls were closed (`Outbox.salvage`)."""
        fresh = damaged.begin_anew()
        try:
            fresh.owe(self._wants)
            crashed = fresh.salvage(damaged, node)
        except OutboxError as error:
            log.error("what was in the outbox is lost", error=str(error))
            crashed = 0
        damaged.close()
        return fresh, crashed

    def _in_memory(self) -> Outbox:
        outbox = Outbox(None)
        outbox.owe(self._wants)
        self.figures.durable = False
        return outbox

    def _use(self, outbox: Outbox) -> None:
        """Another one, from now on."""
        self._outbox = outbox
        for courier in self.sinks.values():
            courier.use(outbox)

    # --- from the journals to the outbox ------------------------------------------------------------------------------

    async def _write(self) -> None:
        """A few times a second."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._awake = False
            while self._gather():
                while not self._commit():  # noqa: ASYNC110 (there is nothing to wait for: a disk tells nobody)
                    await asyncio.sleep(_TRY_AGAIN_S)
                await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(_HURRY_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(_GATHER_S - _HURRY_S):
                await self._begun.wait()
        self._begun.clear()

    def _gather(self) -> bool:
        """Fill the batch; whether there is anything. What comes late comes after what was noted before it."""
        while self._journals and len(self._batch) < _MOST_AT_ONCE:
            journal = self._journals.popleft()
            try:
                self._batch += journal.take(_MOST_AT_ONCE - len(self._batch))
            except Exception:
                # The boundary of one call: what is wrong with its facts must not keep those of others.
                log.exception("history of a call is incomplete", record=journal.record)
            if journal.waiting:
                self._journals.append(journal)
        while self._late and len(self._batch) < _MOST_AT_ONCE:
            self._batch.append(self._late.popleft())
        return bool(self._batch)

    def _commit(self) -> bool:
        """Write the batch; False: it is to be tried again."""
        try:
            kept = self._outbox.add(self._batch, self.wall())
        except OutboxError as error:
            self.figures.counts["failed"] += 1
            log.error("history is not written: it waits", error=str(error), entries=len(self._batch))
            self._mend(error)
            return False
        self.figures.counts["written"] += len(kept)
        for entry in kept:
            if left_out := entry.data.get("left_out"):
                self.figures.counts["dropped"] += sum(left_out.values())
        self._batch = []
        for courier in self.sinks.values():
            courier.added(kept)
        return True

    def _mend(self, error: OutboxError) -> None:
        """Another one in the place of a damaged one."""
        if error.damaged:
            with suppress(OutboxError):
                fresh, _ = self._instead_of(self._outbox)
                self._use(fresh)

    async def _look_after(self) -> None:
        """What is to be done now and then."""
        looked_around = self._clock()
        while True:
            await asyncio.sleep(_SIGN_OF_LIFE_S)
            with suppress(OutboxError):  # it is told of where entries are to be written
                if self._outbox.gone:
                    log.error("somebody has deleted the outbox", path=str(self._outbox.path))
                    if (another := self._open()) is not None:
                        self._move_to(another)
                self._outbox.alive(self.wall())
                self._measure()
                if self._clock() - looked_around >= _LOOK_AROUND_S:
                    looked_around = self._clock()
                    self._look_around()

    def _look_around(self) -> None:
        """Has somebody died beside us? Is there an outbox on the disk again?"""
        if self._outbox.path is not None:
            self.figures.counts["crashed"] += self._outbox.adopt(self.node)
            self._outbox.forget(self.wall())
            for courier in self.sinks.values():
                courier.use(self._outbox)
        elif (outbox := self._open()) is not None:
            self._move_to(outbox)

    def _move_to(self, outbox: Outbox) -> None:
        """With all that the one has that was used until now, or not at all."""
        try:
            outbox.take_over(self._outbox)
        except OutboxError as error:
            log.error("the outbox cannot be used yet", error=str(error))
            self.figures.durable = self._outbox.path is not None
            outbox.close()
            return
        log.info("there is an outbox again", outbox=str(outbox.path))
        self._outbox.close()
        self._use(outbox)

    def _measure(self) -> None:
        self.figures.waiting = self._outbox.waiting()

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._config.drain_seconds):
                while self._gather():
                    while not self._commit():  # noqa: ASYNC110 (likewise)
                        await asyncio.sleep(_TRY_AGAIN_S)
                await asyncio.gather(*(courier.settled.wait() for courier in self.sinks.values()))
        except TimeoutError:
            log.warning("history is not delivered yet: it waits in the outbox", outbox=str(self._config.outbox))


class Figures:
    """What is counted and measured: written by the thread, read by anybody."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """`written`, `failed` (attempts to write), `crashed` (calls closed after a crash), `dropped`."""
        self.durable = False
        """The outbox is on the disk."""
        self.waiting: dict[str, tuple[int, float | None]] = {}
        """By sink: how many entries it is owed, and when the oldest of them happened."""
