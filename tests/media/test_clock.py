from __future__ import annotations

import pytest

from sipbridge.media.clock import TICK_SECONDS, Rota, TickClock


def test_deadlines_are_absolute() -> None:
    clock = TickClock(100.0)
    for n in range(1, 1001):
        assert clock.deadline == pytest.approx(100.0 + n * TICK_SECONDS)
        late, given_up = clock.step(clock.deadline + 0.002 * (n % 2))  # being late moves no later deadline
        assert late == pytest.approx(0.002 * (n % 2))
        assert given_up == 0
    assert clock.late_max == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("late_by", "given_up"), [(0.0, 0), (0.039, 0), (0.0412, 40), (0.5012, 500), (3600.001, 3600_000)]
)
def test_time_beyond_40_ms_is_given_up_in_whole_ticks(late_by: float, given_up: int) -> None:
    clock = TickClock(0.0)
    clock.step(0.005)
    deadline = clock.deadline
    late, gone = clock.step(deadline + late_by)
    assert gone == clock.stalled_ms == given_up
    assert late == pytest.approx(late_by - given_up / 1000)
    assert clock.late_max == pytest.approx(late_by)
    assert clock.deadline == pytest.approx(deadline + TICK_SECONDS + given_up / 1000)
    assert clock.tick == 2


def test_restart_forgets_the_time_between() -> None:
    clock = TickClock(0.0)
    clock.step(0.005)
    clock.restart(50.0)
    assert clock.deadline == pytest.approx(50.005)
    late, given_up = clock.step(50.005)
    assert late == pytest.approx(0.0)
    assert given_up == 0


def test_members_are_spread_and_a_free_place_is_taken_first() -> None:
    rota: Rota[str] = Rota()
    phases = [rota.enter(name, tick=6) for name in "abcdefgh"]
    due = [rota.take(tick) for tick in range(7, 11)]
    assert sorted(len(names) for names in due) == [2, 2, 2, 2]
    assert sorted(phases) == [0, 0, 1, 1, 2, 2, 3, 3]
    rota.leave(phases[5])
    assert rota.enter("i", tick=10) == phases[5]
    rota.put("a", 99)
    assert rota.take(99) == ["a"]
    assert rota.take(99) == []
