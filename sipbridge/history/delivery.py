"""From the outbox to one sink: in order per call, again and again until it has taken everything.

`Schedule` decides when a sink is asked, and for which call; it keeps no entries and no time. `Courier` does it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from heapq import heappop, heappush

import structlog

from sipbridge.gateway_file.history import Retry
from sipbridge.history.facts import Ended, Entry, RecordingReady, Summarised
from sipbridge.history.outbox import Outbox, OutboxError
from sipbridge.history.sink import EntryRefusedError, Sink, SinkUnavailableError

log = structlog.get_logger(__name__)

DELIVERY_S = 60.0
"""So long one delivery may take in all."""
_LONGEST_REST_S = 60.0
_LONGEST_RETRY_AFTER_S = 3600.0
_BREATH_S = 0.0003
"""For each entry, after a delivery that is followed by another."""
_MOST_AT_ONCE = 100_000
_ALL = ""
"""Stands for every call, where deliveries are mixed."""
_AT_THE_END = (Ended.kind, RecordingReady.kind, Summarised.kind)


class Schedule:
    """Of one sink. A call that has something due is ready, under way, or put off; it is never under way twice.

    A sink that fails is asked again after `backoff_seconds`, and after twice as long each time; after `attempts`
    failures in a row it is asked once a while, for one call. The call whose delivery failed waits as long for itself,
    so that one that nobody can take does not keep the others.
    """

    def __init__(self, retry: Retry, calls: int = 1) -> None:
        self._retry = retry
        self._calls = calls
        self._ready: deque[str] = deque()
        self._put_off: list[tuple[float, str]] = []
        self._where: dict[str, str] = {}
        """`ready`, `under way`, `again` (under way, and more has come since) or `put off`."""
        self._failures: dict[str, int] = {}
        self.failures = 0
        """Of the sink, in a row."""
        self._resumes = 0.0
        self._under_way = 0

    def added(self, call: str) -> None:
        """Something is due."""
        match self._where.get(call):
            case None:
                self._where[call] = "ready"
                self._ready.append(call)
            case "under way":
                self._where[call] = "again"

    def next(self, now: float) -> str | None:
        """The call to deliver now: it is under way from here on."""
        if now < self._resumes or self._under_way >= (1 if self.failures else self._calls):
            return None
        while self._put_off and self._put_off[0][0] <= now:
            self._make_ready(heappop(self._put_off)[1])
        if not self._ready:
            return None
        call = self._ready.popleft()
        self._where[call] = "under way"
        self._under_way += 1
        return call

    def wakes(self) -> float | None:
        """When there may be something to deliver next; None: not before something is added or comes back."""
        if self._under_way >= (1 if self.failures else self._calls):
            return None
        if self._ready:
            return self._resumes
        return max(self._resumes, self._put_off[0][0]) if self._put_off else None

    def delivered(self, call: str, *, more: bool) -> None:
        """The sink has taken it. `more`: there is more of that call already."""
        self._under_way -= 1
        self._failures.pop(call, None)
        if self.failures > 1:  # it was the sink, not those calls
            for _, other in self._put_off:
                self._make_ready(other)
            self._put_off.clear()
        self.failures, self._resumes = 0, 0.0
        if more or self._where[call] == "again":
            self._make_ready(call)
        else:
            del self._where[call]

    def failed(self, call: str, now: float, retry_after: float | None = None, *, only_this_call: bool = False) -> float:
        """The sink could not take it; in how many seconds it is asked again."""
        self._under_way -= 1
        self._failures[call] = self._failures.get(call, 0) + 1
        pause = max(self._pause(self._failures[call]), min(retry_after or 0.0, _LONGEST_RETRY_AFTER_S))
        if not only_this_call:
            self.failures += 1
            of_sink = max(self._pause(self.failures), min(retry_after or 0.0, _LONGEST_RETRY_AFTER_S))
            self._resumes = max(self._resumes, now + of_sink)
            pause = max(pause, of_sink)
        self._where[call] = "put off"
        heappush(self._put_off, (now + pause, call))
        return pause

    @property
    def resting(self) -> bool:
        """It has failed so often that it is left alone."""
        return self.failures >= self._retry.attempts

    @property
    def idle(self) -> bool:
        """Nothing is due."""
        return not self._where

    def _make_ready(self, call: str) -> None:
        self._where[call] = "ready"
        self._ready.append(call)

    def _pause(self, failures: int) -> float:
        backoff = self._retry.backoff_seconds
        doubled = backoff * 2.0 ** (min(failures, self._retry.attempts + 1) - 1)
        return min(doubled, max(backoff, _LONGEST_REST_S))


class Courier:
    """Delivers to one sink while `run` runs. `counters`: `delivered`, `retries`, `refused`."""

    def __init__(self, name: str, sink: Sink, outbox: Outbox, retry: Retry, clock: Callable[[], float]) -> None:
        """`name`: under which the outbox owes it what it owes it."""
        self.name = name
        self.sink = sink
        self.counters: Counter[str] = Counter()
        self.schedule = Schedule(retry, 1 if sink.pace.mixed else sink.pace.calls)
        self.settled = asyncio.Event()
        """Everything is delivered, or the sink is left alone for the time being."""
        self.on_trouble: Callable[[OutboxError], None] = lambda error: None
        """The outbox cannot be used, for this sink at least."""
        self._attempts = retry.attempts
        self._clock = clock
        self._changed = asyncio.Event()
        self._taken: dict[str, Sequence[Entry]] = {}
        """By call: what the sink has and the outbox could not be told of yet."""
        self._stumbled: Counter[tuple[str, int]] = Counter()
        """Entries that the sink has raised something unforeseen of."""
        self.use(outbox)

    def use(self, outbox: Outbox) -> None:
        """From now on; and it may have more than is known."""
        self._outbox = outbox
        try:
            for call in outbox.calls_due(self.name, kinds=_AT_THE_END if self.sink.pace.whole else ()):
                self._due(call)
        except OutboxError as error:
            log.warning("what is due is not known yet", sink=self.sink.name, error=str(error))
        self._look()

    def added(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if self.sink.wants(entry) and (not self.sink.pace.whole or entry.kind in _AT_THE_END):
                self._due(entry.record)
        self._look()

    def _due(self, record: str) -> None:
        self.schedule.added(_ALL if self.sink.pace.mixed else record)

    def _look(self) -> None:
        self._changed.set()
        if self.schedule.idle or self.schedule.resting:
            self.settled.set()
        else:
            self.settled.clear()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                while (call := self.schedule.next(self._clock())) is not None:
                    group.create_task(self._serve(call))
                wakes = self.schedule.wakes()
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if wakes is None else max(0.0, wakes - self._clock())):
                        await self._changed.wait()

    async def _serve(self, call: str) -> None:
        try:
            entries, more = await self._deliver(call)
        except (SinkUnavailableError, OutboxError) as error:
            self._failed(call, error)
        else:
            if more:  # a thread that computes holds up the audio's: not for long without a rest
                await asyncio.sleep(entries * _BREATH_S)
            elif self.sink.pace.pause:
                await asyncio.sleep(self.sink.pace.pause)
            if self.schedule.failures:
                log.info("history is taken again", sink=self.sink.name)
            self.schedule.delivered(call, more=more)
        self._look()

    def _failed(self, call: str, error: SinkUnavailableError | OutboxError) -> None:
        self.counters["retries"] += 1
        rested, now = self.schedule.resting, self._clock()
        if isinstance(error, SinkUnavailableError):
            pause = self.schedule.failed(call, now, error.retry_after, only_this_call=error.only_this_call)
        else:
            pause = self.schedule.failed(call, now)
            self.on_trouble(error)
        if not rested:  # then it has been said often enough
            tell = log.error if self.schedule.resting else log.warning
            tell("history not taken", sink=self.sink.name, error=str(error), again_in_seconds=round(pause, 1))

    async def _deliver(self, call: str) -> tuple[int, bool]:
        """How many entries, and whether there are more of them."""
        most = _MOST_AT_ONCE if self.sink.pace.whole else self.sink.pace.entries
        if (taken := self._taken.pop(call, None)) is not None:
            self._done(call, taken)
        entries = self._outbox.due(self.name, most, None if call == _ALL else call)
        if entries:
            await self._give(call, entries)
        return len(entries), len(entries) >= most

    async def _give(self, call: str, entries: Sequence[Entry]) -> None:
        try:
            await self._hand_over(entries)
        except EntryRefusedError as error:
            if len(entries) > 1:
                for entry in entries:
                    await self._give(call, [entry])
                return
            entry = entries[0]
            log.error("history refused", sink=self.sink.name, record=entry.record, seq=entry.seq, error=str(error))
            self._outbox.refused(self.name, entry, str(error))
            self.counters["refused"] += 1
        else:
            self.counters["delivered"] += len(entries)
            for entry in entries if self._stumbled else ():
                self._stumbled.pop((entry.record, entry.seq), None)
            self._done(call, entries)

    def _done(self, call: str, entries: Sequence[Entry]) -> None:
        try:
            self._outbox.done(self.name, entries)
        except OutboxError:
            self._taken[call] = entries
            raise

    async def _hand_over(self, entries: Sequence[Entry]) -> None:
        try:
            async with asyncio.timeout(DELIVERY_S):
                await self.sink.deliver(entries)
        except TimeoutError:
            raise SinkUnavailableError(f"{self.sink.name}: no answer within {DELIVERY_S:g} s") from None
        except (SinkUnavailableError, EntryRefusedError):
            raise
        except Exception as error:
            # The boundary of one sink: a fault in it is neither the others' nor the call's.
            log.exception("history not taken", sink=self.sink.name)
            text = f"{self.sink.name}: {type(error).__name__}: {error}"
            if len(entries) == 1:
                name = (entries[0].record, entries[0].seq)
                self._stumbled[name] += 1
                if self._stumbled[name] < self._attempts:
                    raise SinkUnavailableError(text) from error
                del self._stumbled[name]
            raise EntryRefusedError(text) from error
