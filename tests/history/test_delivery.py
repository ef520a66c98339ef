"""From an outbox to sinks that fail in every way: virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from sipbridge.gateway_file.history import Retry
from sipbridge.history.delivery import Courier
from sipbridge.history.facts import Ended, Entry, Noted, Started
from sipbridge.history.outbox import Outbox, OutboxError
from sipbridge.history.sink import EntryRefusedError, Pace, SinkUnavailableError
from tests import virtual

RETRY = Retry(attempts=5, backoff_seconds=1)


class FakeSink:
    """Has what it was given. `away`: takes nothing meanwhile."""

    name = "fake"

    def __init__(self, pace: Pace | None = None) -> None:
        self.pace = pace or Pace()
        self.has: list[Entry] = []
        self.away: Exception | None = None
        self.hates: set[int] = set()
        self.deliveries: list[list[tuple[str, int]]] = []
        self.under_way = 0
        self.most_under_way = 0
        self.seconds = 0.0

    def wants(self, entry: Entry) -> bool:
        return True

    async def deliver(self, entries: Sequence[Entry]) -> None:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            self.deliveries.append([(entry.record, entry.seq) for entry in entries])
            await virtual.pass_time(self.seconds)
            if self.away is not None:
                raise self.away
            if any(entry.seq in self.hates for entry in entries):
                raise EntryRefusedError("not that one")
            self.has += entries
        finally:
            self.under_way -= 1

    async def close(self) -> None:
        pass

    def seqs(self, record: str) -> list[int]:
        return [entry.seq for entry in self.has if entry.record == record]


def call(record: str, count: int, first: int = 0) -> list[Entry]:
    return [Entry(record, seq, 1.0, Noted.kind, {}) for seq in range(first, first + count)]


class Way:
    def __init__(self, sink: FakeSink, outbox: Outbox) -> None:
        self.sink = sink
        self.outbox = outbox
        self.courier = Courier("fake", sink, outbox, RETRY, asyncio.get_running_loop().time)

    def add(self, *entries: Entry) -> None:
        self.courier.added(self.outbox.add(entries, 1.0))


@asynccontextmanager
async def way(sink: FakeSink, outbox: Outbox | None = None) -> AsyncIterator[Way]:
    outbox = outbox or Outbox(None)
    outbox.owe({"fake": sink.wants})
    made = Way(sink, outbox)
    task = asyncio.create_task(made.courier.run())
    yield made
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    outbox.close()


@virtual.timed
async def test_a_store_that_is_away_for_ten_minutes_gets_everything_once_and_in_order() -> None:
    sink = FakeSink()
    async with way(sink) as there:
        sink.away = SinkUnavailableError("gone")
        for minute in range(10):
            for number in range(100):
                there.add(*call(f"{minute}-{number}", 20))
            await virtual.pass_time(60)
        assert sink.has == []
        assert len(sink.deliveries) < 25  # it is not hammered
        sink.away = None
        await virtual.pass_time(60)
        assert len(sink.has) == 20_000
        assert sink.seqs("3-7") == list(range(20))
        assert there.outbox.waiting() == {"fake": (0, None)}
        assert there.courier.settled.is_set()
        assert there.courier.counters["delivered"] == 20_000


@virtual.timed
async def test_calls_do_not_wait_for_each_other_and_stay_in_order() -> None:
    sink = FakeSink(Pace(entries=1, mixed=False, calls=4))
    sink.seconds = 1.0
    async with way(sink) as there:
        for record in "abcdefgh":
            there.add(*call(record, 5))
        await virtual.pass_time(10.5)
        assert len(sink.has) == 40  # 5 deliveries each, 8 calls, 4 at a time: 10 s
        assert all(sink.seqs(record) == [0, 1, 2, 3, 4] for record in "abcdefgh")
        assert sink.most_under_way == 4


@virtual.timed
async def test_what_is_refused_is_set_aside_and_the_rest_goes_on() -> None:
    for pace in (Pace(), Pace(entries=3, mixed=False)):
        sink = FakeSink(pace)
        sink.hates = {2}
        async with way(sink) as there:
            there.add(*call("a", 5), *call("b", 2))
            await virtual.pass_time(1)
            assert (sink.seqs("a"), sink.seqs("b")) == ([0, 1, 3, 4], [0, 1])
            assert there.courier.counters["refused"] == 1
            assert there.outbox._rows("SELECT record, seq FROM refused") == [("a", 2)]
            assert there.outbox.waiting() == {"fake": (0, None)}


@virtual.timed
async def test_a_fault_in_a_sink_is_one_entrys_and_not_for_ever() -> None:
    class Buggy(FakeSink):
        async def deliver(self, entries: Sequence[Entry]) -> None:
            if any(entry.seq == 1 for entry in entries):
                raise KeyError("bug")
            await super().deliver(entries)

    sink = Buggy()
    async with way(sink) as there:
        there.add(*call("a", 4))
        await virtual.pass_time(60)
        assert sink.seqs("a") == [0, 2, 3]
        assert there.courier.counters["refused"] == 1


@virtual.timed
async def test_a_sink_that_never_answers_is_given_up_and_asked_again() -> None:
    sink = FakeSink()
    sink.seconds = 1e6
    async with way(sink) as there:
        there.add(*call("a", 2))
        await virtual.pass_time(59)
        assert len(sink.deliveries) == 1
        sink.seconds = 0
        await virtual.pass_time(3)
        assert sink.seqs("a") == [0, 1]
        assert there.courier.counters["retries"] == 1


@virtual.timed
async def test_what_the_outbox_could_not_be_told_is_told_later_and_not_delivered_again() -> None:
    class Full(Outbox):
        full = True

        def done(self, sink: str, entries: Sequence[Entry]) -> None:
            if self.full:
                raise OutboxError("database or disk is full")
            super().done(sink, entries)

    outbox, sink = Full(None), FakeSink()
    async with way(sink, outbox) as there:
        there.add(*call("a", 2))
        await virtual.pass_time(5)
        there.add(*call("a", 2, first=2))
        outbox.full = False
        await virtual.pass_time(60)
        assert sink.seqs("a") == [0, 1, 2, 3]
        assert outbox.waiting() == {"fake": (0, None)}


@virtual.timed
async def test_who_wants_the_whole_call_gets_it_when_it_has_ended() -> None:
    sink = FakeSink(Pace(entries=2, mixed=False, calls=4, whole=True))
    started = Started("c", "inbound", "", "", None, "t", 0, "", "")
    async with way(sink) as there:
        there.add(Entry("a", 0, 1.0, Started.kind, started.to_json()), *call("a", 5, first=1))
        await virtual.pass_time(10)
        assert sink.deliveries == []
        there.add(Entry("a", 6, 2.0, Ended.kind, {}))
        await virtual.pass_time(1)
        assert sink.deliveries == [[("a", seq) for seq in range(7)]]
        there.add(Entry("a", 7, 3.0, "recording.ready", {}))
        await virtual.pass_time(1)
        assert there.outbox.waiting() == {"fake": (0, None)}


@virtual.timed
async def test_what_was_owed_before_is_delivered_without_anything_new() -> None:
    outbox, sink = Outbox(None), FakeSink(Pace(entries=1, mixed=False))
    outbox.owe({"fake": sink.wants})
    outbox.add([*call("a", 3), *call("b", 3)], 1.0)
    async with way(sink, outbox):
        await virtual.pass_time(1)
        assert (sink.seqs("a"), sink.seqs("b")) == ([0, 1, 2], [0, 1, 2])


@virtual.timed
async def test_where_each_delivery_costs_more_gathers_for_the_next_one() -> None:
    sink = FakeSink(Pace(pause=0.5))
    async with way(sink) as there:
        for seq in range(10):
            there.add(*call("a", 1, seq))
            await virtual.pass_time(0.04)
        assert [len(each) for each in sink.deliveries] == [1], "the first one need not wait"
        await virtual.pass_time(1.0)
        assert [len(each) for each in sink.deliveries] == [1, 9]
