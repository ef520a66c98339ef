from __future__ import annotations

import random

import pytest

from sipbridge.media.clock import TICK_SECONDS, Place, Rota, TickClock


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


def entered(rota: Rota[Place], tick: int, period: int) -> Place:
    place = Place(period)
    rota.enter(place, tick)
    return place


def test_members_are_spread_and_a_free_place_is_taken_first() -> None:
    rota: Rota[Place] = Rota()
    places = [entered(rota, 6, 4) for _ in range(8)]
    due = [rota.take(tick) for tick in range(7, 11)]
    assert sorted(len(names) for names in due) == [2, 2, 2, 2]
    assert sorted(place.phase for place in places) == [0, 0, 1, 1, 2, 2, 3, 3]
    rota.leave(places[5])
    late = entered(rota, 10, 4)
    assert late.phase == places[5].phase
    assert all(rota.take(tick) in ([], [late]) for tick in range(11, 30))  # nobody stays who does not say so


class TestHasten:
    def sent(self, period: int, speech: dict[int, int], until: int = 2000) -> list[int]:
        """The ticks at which packets leave; speech that comes just after such a tick lasts so many packets."""
        rota: Rota[Place] = Rota()
        place = entered(rota, 0, period)
        ticks, left = [], 0
        for tick in range(1, until):
            for member in rota.take(tick):
                assert member is place
                ticks.append(tick)
                left -= 1
                rota.again(place, silent=left <= 0)
            if tick in speech:
                if left <= 0:
                    rota.hasten(place, tick)
                left = speech[tick]
        return ticks

    def test_speech_is_due_at_the_next_tick_and_goes_on_from_there(self) -> None:
        assert self.sent(4, {9: 3}, 40) == [4, 8, 10, 14, 18, 24, 28, 32, 36]
        # 10, 14 and 18 are speech, two ticks early; the silence of 24 is where it would have been

    def test_not_where_it_is_due_anyway(self) -> None:
        assert self.sent(4, {11: 3}, 30) == [4, 8, 12, 16, 20, 24, 28]

    @pytest.mark.parametrize("period", [2, 3, 4, 6, 8, 12])
    @pytest.mark.parametrize("seed", range(5))
    def test_however_often_speech_begins_no_time_is_gained_or_lost(self, period: int, seed: int) -> None:
        chance = random.Random(seed)
        ticks = self.sent(period, {tick: chance.randrange(1, 9) for tick in range(4, 2000) if not chance.randrange(15)})
        first = ticks[0]
        ahead = [first + n * period - tick for n, tick in enumerate(ticks)]
        assert min(ahead) == 0
        assert 0 < max(ahead) < period
        assert len(set(ticks)) == len(ticks)

    @pytest.mark.parametrize("members", [4, 20, 100, 300])
    def test_many_that_begin_at_once_do_not_stay_together(self, members: int) -> None:
        rota: Rota[Place] = Rota()
        places = [entered(rota, 0, 4) for _ in range(members)]
        for tick in range(1, 9):
            for place in rota.take(tick):
                rota.again(place, silent=True)
        hastened = sum(rota.hasten(place, 8) for place in places)
        assert hastened >= members // 5
        due = []
        for tick in range(9, 29):
            taken = rota.take(tick)
            due.append(len(taken))
            for place in taken:
                rota.again(place, silent=False)
        assert sum(due) == 5 * members
        assert max(due) <= max(8, members * 3 // 8)

    def test_who_has_left_is_not_due(self) -> None:
        rota: Rota[Place] = Rota()
        place = entered(rota, 0, 4)
        assert rota.hasten(place, 1)
        rota.leave(place)
        assert not rota.hasten(place, 1)
        assert not any(rota.take(tick) for tick in range(20))
