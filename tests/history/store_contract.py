"""What every store of calls promises, asked of each in the same words: derive from `StoreContract`, and be `store`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sipbridge.history.facts import Answered, Ended, Entry, Fact, Noted, Started, Turn
from sipbridge.history.sink import Query, Store

T = TypeVar("T")

ALICE, BOB = "+15550101", "+15550102"


def started(**changes: Any) -> Started:
    facts: dict[str, Any] = {
        "call_id": f"{secrets.token_hex(4)}@example.com",
        "direction": "inbound",
        "caller": ALICE,
        "to": "+15550100",
        "trunk": "pbx",
        "tenant": "acme",
        "tenant_version": 7,
        "provider": "openai",
        "model": "gpt-realtime-2.1",
        "node": "node-1",
    }
    return Started(**{**facts, **changes})


def ended(reason: str = "caller_hung_up", outcome: str = "completed", **more: Any) -> Ended:
    report = {"ended": reason, "outcome": outcome, "detail": "BYE", "seconds": 12.5, "cost_usd": 0.25, **more}
    return Ended(report, ({"at": 0.0, "sent": False, "peer": "127.0.0.1", "title": "INVITE", "text": "INVITE sip:"},))


def said(text: str, number: int = 1) -> Turn:
    return Turn(number, "caller", text, 1.0, 2.0)


class Call:
    """One call's entries, numbered from 0, a second apart."""

    def __init__(self, *facts: Fact, at: float = 1_800_000_000.0) -> None:
        self.record = f"{int(at * 1000):012x}{secrets.token_hex(10)}"
        self.entries = [Entry(self.record, seq, at + seq, fact.kind, fact.to_json()) for seq, fact in enumerate(facts)]


class StoreContract:
    """`store` opens what is asked; it is asked on a loop of its own, as the history's thread does."""

    @pytest.fixture
    def store(self) -> Callable[[], Store]:
        """Makes the store: called within the loop."""
        raise NotImplementedError

    def ask(self, store: Callable[[], Store], question: Callable[[Store], Awaitable[T]]) -> T:
        async def asked() -> T:
            opened = store()
            try:
                return await question(opened)
            finally:
                await opened.close()

        return asyncio.run(asked())

    def test_a_call_is_a_row_and_its_entries(self, store: Callable[[], Store]) -> None:
        call = Call(started(call_id="one@example.com"), Answered(80, "PCMU"), said("hello"), ended())

        async def question(store: Store) -> None:
            await store.deliver(call.entries)
            (row,) = await store.calls(Query())
            assert (row.record, row.call_id, row.tenant, row.tenant_version) == (
                call.record,
                "one@example.com",
                "acme",
                7,
            )
            assert (row.caller, row.to, row.trunk, row.node) == (ALICE, "+15550100", "pbx", "node-1")
            assert (row.began_at, row.ended_at) == (call.entries[0].at, call.entries[3].at)
            assert row.answered_at is not None
            assert (row.ended, row.outcome, row.detail) == ("caller_hung_up", "completed", "BYE")
            assert (row.seconds, row.cost_usd) == (12.5, 0.25)
            assert row.report is not None
            assert row.report["ended"] == "caller_hung_up"
            assert await store.entries(call.record) == call.entries

        self.ask(store, question)

    def test_a_call_that_is_up_has_no_end(self, store: Callable[[], Store]) -> None:
        call = Call(started(), Answered(80, "PCMU"), said("hello"))

        async def question(store: Store) -> None:
            await store.deliver(call.entries)
            (row,) = await store.calls(Query())
            assert (row.ended, row.ended_at, row.outcome, row.report) == (None, None, None, None)

        self.ask(store, question)

    def test_what_comes_again_changes_nothing(self, store: Callable[[], Store]) -> None:
        call = Call(started(), said("hello"), ended())

        async def question(store: Store) -> None:
            await store.deliver(call.entries)
            before = await store.calls(Query())
            await store.deliver(call.entries)
            await store.deliver(call.entries[:1])
            other = Entry(call.record, 1, 5.0, "call.note", Noted("something else").to_json())
            await store.deliver([other])
            assert await store.entries(call.record) == call.entries
            assert await store.calls(Query()) == before

        self.ask(store, question)

    def test_the_pieces_of_a_call_come_one_after_another(self, store: Callable[[], Store]) -> None:
        call = Call(started(), Answered(80, "PCMU"), said("one"), said("two", 2), ended())

        async def question(store: Store) -> None:
            for entry in call.entries:
                await store.deliver([entry])
            assert await store.entries(call.record) == call.entries
            (row,) = await store.calls(Query())
            assert (row.ended, row.tenant) == ("caller_hung_up", "acme")

        self.ask(store, question)

    def test_entries_of_several_calls_come_in_one_delivery(self, store: Callable[[], Store]) -> None:
        calls = [Call(started(), said("hello"), ended(), at=1_800_000_000.0 + number) for number in range(20)]

        async def question(store: Store) -> None:
            mixed = [entry for seq in range(3) for call in calls for entry in call.entries[seq : seq + 1]]
            await store.deliver(mixed)
            assert [row.record for row in await store.calls(Query())] == [call.record for call in reversed(calls)]
            for call in calls:
                assert await store.entries(call.record) == call.entries

        self.ask(store, question)

    def test_what_was_taken_is_there_when_it_is_opened_again(self, store: Callable[[], Store]) -> None:
        call = Call(started(), ended())
        self.ask(store, lambda opened: opened.deliver(call.entries))
        assert self.ask(store, lambda opened: opened.entries(call.record)) == call.entries

    @pytest.mark.parametrize(
        "text",
        [
            "Grüße, 你好, שלום, 👋🏽",
            "NUL \x00 and other controls \x01\x1b\x7f",
            "'; DROP TABLE calls; -- \\ \" % _ {} $1 :name",
            "x" * 1_000_000,
            "👋" * 300_000,
        ],
        ids=["unicode", "controls", "quotes", "1 MB", "1 MB of emoji"],
    )
    def test_whatever_was_said_comes_back_as_it_was(self, store: Callable[[], Store], text: str) -> None:
        call = Call(started(), said(text), ended(detail=text[:2000]))

        async def question(store: Store) -> None:
            await store.deliver(call.entries)
            assert await store.entries(call.record) == call.entries
            (row,) = await store.calls(Query())
            assert row.report is not None
            assert row.report["detail"] == text[:2000]

        self.ask(store, question)

    def test_a_stranger_may_choose_any_call_id_and_name(self, store: Callable[[], Store]) -> None:
        names = ["", "\x00", "a" * 60_000, "ü'\"%\\"]
        calls = [
            Call(started(call_id=name, caller=name, to=name), ended(), at=1_800_000_000.0 + number)
            for number, name in enumerate(names)
        ]

        async def question(store: Store) -> None:
            for call in calls:
                await store.deliver(call.entries)
            assert len(await store.calls(Query())) == len(names)
            for name, call in zip(names, calls, strict=True):
                assert call.record in [row.record for row in await store.find(name)] or not name
                assert call.record in [row.record for row in await store.calls(Query(caller=name))]

        self.ask(store, question)

    def test_numbers_come_back_as_they_were(self, store: Callable[[], Store]) -> None:
        at = 1_763_765_432.1234567
        odd = {"big": 2**60, "small": 1e-300, "negative": -0.5, "none": None, "yes": True, "list": [1, [2.5, {}]]}
        entry = Entry("0" * 32, 0, at, "call.note", odd)

        async def question(store: Store) -> None:
            await store.deliver([entry])
            assert await store.entries("0" * 32) == [entry]

        self.ask(store, question)

    def test_what_no_database_takes_is_taken_as_well_as_can_be(self, store: Callable[[], Store]) -> None:
        odd = {"what": "half of a pair: \ud83d", "nan": float("nan"), "object": Path("/x"), "list": [float("inf")]}
        entry = Entry("0" * 32, 0, 5.0, "call.note", odd)

        async def question(store: Store) -> None:
            await store.deliver([entry])
            (kept,) = await store.entries("0" * 32)
            assert kept.data == {"what": "half of a pair: ?", "nan": None, "object": "/x", "list": [None]}

        self.ask(store, question)

    def test_calls_are_looked_for_by_what_they_are(self, store: Callable[[], Store]) -> None:
        begin = 1_800_000_000.0
        calls = {
            "first": Call(started(tenant="acme", caller=ALICE), ended(), at=begin),
            "failed": Call(started(tenant="acme", caller=BOB), ended("provider_failed", "failed"), at=begin + 100),
            "other": Call(started(tenant="beta", caller=ALICE, to=BOB), ended("busy", "unanswered"), at=begin + 200),
            "up": Call(started(tenant="beta", caller=BOB), at=begin + 300),
        }
        asked = {
            Query(): ["up", "other", "failed", "first"],
            Query(limit=2): ["up", "other"],
            Query(tenant="acme"): ["failed", "first"],
            Query(tenant="nobody"): [],
            Query(since=begin + 100): ["up", "other", "failed"],
            Query(until=begin + 100): ["first"],
            Query(since=begin + 50, until=begin + 250): ["other", "failed"],
            Query(outcome="failed"): ["failed"],
            Query(outcome="provider_failed"): ["failed"],
            Query(outcome="busy"): ["other"],
            Query(caller=ALICE): ["other", "first"],
            Query(number=BOB): ["up", "other", "failed"],
            Query(caller=ALICE, tenant="beta"): ["other"],
        }

        async def question(store: Store) -> None:
            for call in calls.values():
                await store.deliver(call.entries)
            names = {call.record: name for name, call in calls.items()}
            for query, expected in asked.items():
                assert [names[row.record] for row in await store.calls(query)] == expected, query

        self.ask(store, question)

    def test_a_call_is_found_by_its_names(self, store: Callable[[], Store]) -> None:
        calls = [Call(started(call_id="again@example.com"), ended(), at=1_800_000_000.0 + n) for n in range(3)]

        async def question(store: Store) -> None:
            for call in calls:
                await store.deliver(call.entries)
            latest_first = [call.record for call in reversed(calls)]
            assert [row.record for row in await store.find("again@example.com")] == latest_first
            assert [row.record for row in await store.find(calls[1].record)] == [calls[1].record]
            assert [row.record for row in await store.find(calls[1].record[:20])] == [calls[1].record]
            for nobody in ("nobody@example.com", calls[1].record[:7], "%", "________", "", "a" * 40):
                assert await store.find(nobody) == []

        self.ask(store, question)

    def test_a_caller_is_erased_with_everything_that_was_said(self, store: Callable[[], Store]) -> None:
        calls = [
            Call(started(caller=ALICE), said("secret"), ended(), at=1_800_000_000.0),
            Call(started(caller=BOB, to=ALICE, direction="outbound"), said("secret"), ended(), at=1_800_000_001.0),
            Call(started(caller=BOB), said("stays"), ended(), at=1_800_000_002.0),
        ]

        async def question(store: Store) -> None:
            for call in calls:
                await store.deliver(call.entries)
            gone = await store.erase(ALICE)
            assert {row.record for row in gone} == {calls[0].record, calls[1].record}
            assert await store.entries(calls[0].record) == await store.entries(calls[1].record) == []
            assert [row.record for row in await store.calls(Query())] == [calls[2].record]
            assert await store.entries(calls[2].record) == calls[2].entries
            assert await store.erase(ALICE) == []

        self.ask(store, question)

    def test_calls_of_a_tenant_expire(self, store: Callable[[], Store]) -> None:
        begin = 1_800_000_000.0
        old = many(1200, "acme", begin)
        kept = [Call(started(tenant="acme"), ended(), at=begin + 5000), Call(started(tenant="beta"), ended(), at=begin)]

        async def question(store: Store) -> None:
            for start in range(0, len(old), 100):
                await store.deliver([entry for call in old[start : start + 100] for entry in call.entries])
            for call in kept:
                await store.deliver(call.entries)
            assert await store.expire("acme", begin + 5000) == 1200
            assert {row.record for row in await store.calls(Query(limit=10_000))} == {call.record for call in kept}
            assert await store.entries(old[0].record) == []
            assert await store.expire("acme", begin + 5000) == 0

        self.ask(store, question)


def many(count: int, tenant: str, at: float) -> list[Call]:
    return [Call(started(tenant=tenant), ended(), at=at + number / 1000) for number in range(count)]
