from __future__ import annotations

from dataclasses import replace

from bench.numbers import Spread
from bench.scaling import Step, capacity, middle

_GOOD = Step(
    calls=100,
    processor=20.0,
    others=0.0,
    gap_error=Spread(1, 0.1, 1.0, 9.0),
    delay=Spread(1, 0.1, 1.0, 9.0),
    generator=Spread(1, 0.0, 0.1, 1.0),
    memory=100.0,
    packets=50.0,
    heard=1.0,
)


def test_what_a_call_costs() -> None:
    assert _GOOD.microseconds == 40  # 20 % of a core are 4000 us of each 20 ms


def test_a_step_holds_when_nothing_is_late_and_nothing_missing() -> None:
    assert _GOOD.holds
    assert not replace(_GOOD, delay=Spread(1, 0.1, 5.0, 9.0)).holds
    assert not replace(_GOOD, gap_error=Spread(1, 0.1, 5.0, 9.0)).holds
    assert not replace(_GOOD, packets=48.0).holds
    assert not replace(_GOOD, heard=0.9).holds


def test_calls_above_a_step_that_did_not_hold_do_not_count() -> None:
    steps = [_GOOD, replace(_GOOD, calls=200, packets=20.0), replace(_GOOD, calls=300)]
    assert capacity(steps) == 100
    assert capacity(steps[1:]) == 0


def test_the_median_of_the_runs_counts_where_most_of_them_got_to() -> None:
    more = replace(_GOOD, calls=200)
    runs = [[_GOOD, more], [replace(_GOOD, processor=30.0)], [replace(_GOOD, processor=22.0, others=7.0)]]
    [step] = middle(runs, (100, 200))
    assert (step.processor, step.others) == (22.0, 7.0)
