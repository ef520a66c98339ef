from __future__ import annotations

import pytest

from bench.numbers import Spread, delays, gaps, median_spread, percentile


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(200, 0, -1)]
    assert [percentile(values, percent) for percent in (0, 50, 99, 100)] == [1, 100, 198, 200]
    assert percentile([7.0], 99) == 7


def test_of_nothing_there_is_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_gaps() -> None:
    assert gaps([10, 30, 55]) == [20, 25]
    assert gaps([10]) == []


def test_the_median_run_counts_for_each_figure() -> None:
    spreads = [Spread(10, 1, 9, 9), Spread(9, 2, 8, 30), Spread(11, 3, 7, 10)]
    assert median_spread(spreads) == Spread(9, 2, 8, 10)
    assert Spread.of_ns([1_000_000, 3_000_000, 2_000_000]) == Spread(3, 2, 3, 3)


def test_a_delay_is_against_the_schedule_of_the_earliest() -> None:
    assert delays([100, 120, 145, 160], [7, 8, 9, 10], 20) == [0, 0, 5, 0]
    assert delays([105, 119, 160], [0, 1, 3], 20) == [6, 0, 1]
    assert delays([], [], 20) == []
