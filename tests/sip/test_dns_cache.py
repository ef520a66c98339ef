"""What DNS said, for how long it is believed, and who waits for it. All times are numbers."""

from __future__ import annotations

from collections import Counter

import pytest

from sipbridge.sip.dns_cache import MAX_ENTRIES, MAX_RECORDS, DnsCache, DnsNeeded, Records
from sipbridge.sip.timers import Schedule

NAME = "pbx.example.com"


class Asking:
    def __init__(self) -> None:
        self.asked: list[DnsNeeded] = []
        self.told: list[tuple[float, Records]] = []
        self.schedule = Schedule()
        self.counters: Counter[str] = Counter()
        self.cache = DnsCache(self.asked.append, self.schedule, self.counters)

    def look_up(self, now: float, name: str = NAME) -> None:
        self.cache.look_up(name, "A", lambda records, now: self.told.append((now, records)), now)

    def answer(self, now: float, *records: str, ttl: float = 60.0, error: str | None = None) -> None:
        self.cache.answered(NAME, "A", records, ttl, now, error)

    def advance(self, until: float) -> None:
        while (deadline := self.schedule.next_deadline()) is not None and deadline <= until:
            owner = self.schedule.pop_due(deadline)
            assert owner is self.cache
            owner.handle_timer(deadline)
            self.schedule.update(owner)


def test_the_same_question_is_asked_once_however_many_wait() -> None:
    asking = Asking()
    asking.look_up(0.0)
    asking.look_up(0.1, "PBX.example.com.")
    assert asking.asked == [DnsNeeded(NAME, "A")]
    assert asking.cache.waiting == 2
    asking.answer(0.2, "192.0.2.2")
    assert asking.told == [(0.2, ("192.0.2.2",))] * 2
    assert asking.cache.waiting == 0
    assert asking.schedule.next_deadline() is None


@pytest.mark.parametrize(
    ("records", "ttl", "believed"),
    [
        (("192.0.2.2",), 60.0, 60.0),
        (("192.0.2.2",), 1e9, 86_400.0),
        ((), 60.0, 60.0),
        ((), 0.0, 5.0),
        ((), 86_400.0, 300.0),
    ],
)
def test_an_answer_is_believed_for_its_ttl(records: tuple[str, ...], ttl: float, believed: float) -> None:
    asking = Asking()
    asking.look_up(0.0)
    asking.answer(0.0, *records, ttl=ttl)
    asking.look_up(believed - 0.1)
    assert len(asking.asked) == 1
    assert asking.told[-1] == (believed - 0.1, records)
    asking.look_up(believed)
    assert len(asking.asked) == 2


def test_a_ttl_of_nothing_serves_those_who_wait_and_nobody_else() -> None:
    asking = Asking()
    asking.look_up(0.0)
    asking.answer(0.1, "192.0.2.2", ttl=0.0)
    asking.look_up(0.1)
    assert len(asking.asked) == 2


def test_a_changed_answer_takes_the_place_of_the_old_one_and_so_does_that_there_is_none_any_more() -> None:
    asking = Asking()
    asking.look_up(0.0)
    asking.answer(0.0, "192.0.2.2")
    asking.look_up(61.0)
    asking.answer(61.0, "192.0.2.3")
    asking.look_up(62.0)
    asking.look_up(122.0)
    asking.answer(122.0)
    assert [records for _, records in asking.told] == [
        ("192.0.2.2",),
        ("192.0.2.3",),
        ("192.0.2.3",),
        (),
    ]


def test_when_the_servers_fail_the_last_good_answer_is_used_and_they_are_asked_again_after_a_while() -> None:
    asking = Asking()
    asking.look_up(0.0)
    asking.answer(0.0, "192.0.2.2")
    asking.look_up(100.0)
    asking.answer(101.0, error="timed out")
    asking.look_up(120.0)
    assert asking.told[1:] == [(101.0, ("192.0.2.2",)), (120.0, ("192.0.2.2",))]
    assert len(asking.asked) == 2
    asking.look_up(131.0)
    assert len(asking.asked) == 3


def test_a_new_answer_is_not_waited_for_long_where_there_is_an_old_one() -> None:
    asking = Asking()
    asking.look_up(0.0)
    asking.answer(0.0, "192.0.2.2")
    asking.look_up(100.0)
    asking.advance(110.0)
    assert asking.told[1:] == [(101.8, ("192.0.2.2",))]
    assert asking.cache.waiting == 0
    asking.answer(112.0, "192.0.2.3")  # it comes all the same
    asking.look_up(113.0)
    assert asking.told[-1] == (113.0, ("192.0.2.3",))


def test_the_last_good_answer_does_not_last_for_ever() -> None:
    asking = Asking()
    asking.look_up(0.0)
    asking.answer(0.0, "192.0.2.2")
    late = 60.0 + 86_400.0
    asking.look_up(late)
    asking.answer(late + 3.0, error="timed out")
    assert asking.told[-1] == (late + 3.0, ())


def test_a_failure_without_an_older_answer_is_no_answer_and_soon_forgotten() -> None:
    asking = Asking()
    asking.look_up(0.0)
    asking.answer(3.0, error="timed out")
    asking.look_up(7.9)
    assert asking.told == [(3.0, ()), (7.9, ())]
    asking.look_up(8.0)
    assert len(asking.asked) == 2
    assert asking.counters["dns_failed"] == 1


def test_a_question_that_nobody_answers_fails() -> None:
    asking = Asking()
    asking.look_up(0.0)
    asking.advance(100.0)
    assert asking.told == [(15.0, ())]
    asking.answer(101.0, "192.0.2.2")  # too late, and not asked again
    asking.look_up(102.0)
    assert len(asking.asked) == 2


def test_an_answer_that_nobody_asked_for_is_not_taken() -> None:
    asking = Asking()
    asking.answer(0.0, "192.0.2.66")
    asking.look_up(1.0)
    assert asking.told == []
    assert len(asking.asked) == 1


def test_all_tables_are_bounded() -> None:
    asking = Asking()
    for number in range(2 * MAX_ENTRIES):
        asking.look_up(0.0, f"host{number}.example.com")
    assert len(asking.asked) == MAX_ENTRIES
    assert len(asking.told) == MAX_ENTRIES  # no
    for needed in asking.asked:
        asking.cache.answered(needed.name, needed.kind, ["192.0.2.2"] * 1000, 60.0, 1.0)
    assert len(asking.cache) == MAX_ENTRIES
    assert len(asking.told[-1][1]) == MAX_RECORDS
    asking.look_up(2.0)
    asking.answer(2.0, "192.0.2.2")
    assert len(asking.cache) == MAX_ENTRIES
