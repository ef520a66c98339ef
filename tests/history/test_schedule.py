"""When a sink is asked, and for which call: numbers for times, no sink."""

from __future__ import annotations

from sipbridge.gateway_file.history import Retry
from sipbridge.history.delivery import Schedule

RETRY = Retry(attempts=3, backoff_seconds=1)


def attempts(schedule: Schedule, until: float) -> list[tuple[float, str]]:
    """Whatever is tried, fails: when, and for which call."""
    now, tried = 0.0, []
    while now <= until:
        while (call := schedule.next(now)) is not None:
            tried.append((now, call))
            schedule.failed(call, now)
        wakes = schedule.wakes()
        assert wakes is not None
        assert wakes > now
        now = wakes
    return tried


def test_a_sink_that_fails_is_asked_after_twice_as_long_each_time_and_then_once_a_while() -> None:
    schedule = Schedule(RETRY)
    schedule.added("a")
    assert [time for time, _ in attempts(schedule, 40)] == [0, 1, 3, 7, 15, 23, 31, 39]
    assert schedule.resting


def test_a_long_backoff_is_no_longer_than_itself() -> None:
    schedule = Schedule(Retry(attempts=50, backoff_seconds=1))
    schedule.added("a")
    times = [time for time, _ in attempts(schedule, 2000)]
    assert max(later - earlier for earlier, later in zip(times, times[1:], strict=False)) == 60
    schedule = Schedule(Retry(attempts=3, backoff_seconds=600))
    schedule.added("a")
    assert [time for time, _ in attempts(schedule, 2000)] == [0, 600, 1200, 1800]


def test_a_thousand_calls_that_wait_are_no_storm() -> None:
    schedule = Schedule(RETRY, calls=8)
    for number in range(1000):
        schedule.added(f"call {number}")
    tried = attempts(schedule, 600)
    assert len(tried) < 90
    assert len({call for _, call in tried}) == len(tried)  # each time another one: none is in the others' way


def test_when_it_is_back_all_calls_go_at_once_and_in_parallel() -> None:
    schedule = Schedule(RETRY, calls=3)
    for call in "abcdefgh":
        schedule.added(call)
    attempts(schedule, 30)
    now = schedule.wakes()
    assert now is not None
    first = schedule.next(now)
    assert first is not None
    assert schedule.next(now) is None  # one call tries
    schedule.delivered(first, more=False)
    assert [schedule.next(now) is not None for _ in range(4)] == [True, True, True, False]
    assert schedule.wakes() is None


def test_a_call_is_never_under_way_twice_and_what_came_meanwhile_goes_afterwards() -> None:
    schedule = Schedule(RETRY, calls=5)
    schedule.added("a")
    assert schedule.next(0) == "a"
    schedule.added("a")
    schedule.added("a")
    assert schedule.next(0) is None
    schedule.delivered("a", more=False)
    assert schedule.next(0) == "a"
    schedule.delivered("a", more=True)
    assert schedule.next(0) == "a"
    schedule.delivered("a", more=False)
    assert schedule.idle


def test_what_comes_while_it_is_put_off_waits_with_it() -> None:
    schedule = Schedule(RETRY)
    schedule.added("a")
    assert schedule.next(0) == "a"
    schedule.added("a")
    schedule.failed("a", 0)
    schedule.added("a")
    assert schedule.next(0.9) is None
    assert schedule.next(1) == "a"
    schedule.delivered("a", more=False)
    assert schedule.idle


def test_one_call_that_nobody_can_take_does_not_keep_the_others() -> None:
    schedule = Schedule(RETRY)
    taken: list[tuple[float, str]] = []
    now = 0.0
    schedule.added("poison")
    for number in range(60):
        now = float(number)
        schedule.added(f"call {number}")
        while (call := schedule.next(now)) is not None:
            if call == "poison":
                schedule.failed(call, now)
            else:
                taken.append((now, call))
                schedule.delivered(call, more=False)
    assert len(taken) == 60
    assert not schedule.resting
    assert max(time - int(call.split()[1]) for time, call in taken) <= 1


def test_a_failure_of_one_call_alone_is_not_the_sinks() -> None:
    schedule = Schedule(RETRY, calls=2)
    schedule.added("a")
    schedule.added("b")
    assert (schedule.next(0), schedule.next(0)) == ("a", "b")
    assert schedule.failed("a", 0, only_this_call=True) == 1
    assert schedule.failures == 0
    schedule.delivered("b", more=True)
    assert schedule.next(0) == "b"
    assert schedule.next(0.9) is None
    assert schedule.next(1) == "a"


def test_who_says_how_long_he_wants_to_be_left_alone_is() -> None:
    schedule = Schedule(RETRY)
    schedule.added("a")
    assert schedule.next(0) == "a"
    assert schedule.failed("a", 0, retry_after=30) == 30
    assert schedule.next(29.9) is None
    assert schedule.next(30) == "a"
    assert schedule.failed("a", 30, retry_after=1e9) == 3600
