"""The schedule that finds the next of many timers."""

from __future__ import annotations

import random

from sipbridge.sip.timers import Schedule


class Alarm:
    def __init__(self, deadline: float | None) -> None:
        self.deadline = deadline

    def get_timer(self) -> float | None:
        return self.deadline

    def handle_timer(self, now: float) -> None:
        self.deadline = None


def drain(schedule: Schedule, now: float) -> list[Alarm]:
    due = []
    while (owner := schedule.pop_due(now)) is not None:
        assert isinstance(owner, Alarm)
        due.append(owner)
    return due


def test_owners_come_in_the_order_of_their_deadlines() -> None:
    schedule = Schedule()
    alarms = [Alarm(deadline) for deadline in (3.0, 1.0, 2.0)]
    for alarm in alarms:
        schedule.update(alarm)
    assert schedule.next_deadline() == 1.0
    assert [alarm.deadline for alarm in drain(schedule, 2.0)] == [1.0, 2.0]
    assert schedule.next_deadline() == 3.0


def test_a_deadline_that_moved_or_went_does_not_fire() -> None:
    schedule = Schedule()
    moved, gone = Alarm(1.0), Alarm(1.0)
    schedule.update(moved)
    schedule.update(gone)
    moved.deadline = 5.0
    schedule.update(moved)
    schedule.cancel(gone)
    assert drain(schedule, 4.9) == []
    assert drain(schedule, 5.0) == [moved]
    assert len(schedule) == 0
    assert schedule.next_deadline() is None


def test_a_deadline_that_came_back_fires_once() -> None:
    schedule = Schedule()
    alarm = Alarm(1.0)
    for deadline in (1.0, 2.0, 1.0):
        alarm.deadline = deadline
        schedule.update(alarm)
    assert drain(schedule, 9.0) == [alarm]


def test_changes_are_reported() -> None:
    reports = []
    schedule = Schedule(lambda: reports.append(1))
    alarm = Alarm(1.0)
    schedule.update(alarm)
    schedule.update(alarm)
    assert len(reports) == 1


def test_it_does_not_grow_with_the_number_of_changes() -> None:
    schedule = Schedule()
    source = random.Random(1)
    alarms = [Alarm(None) for _ in range(100)]
    for _ in range(20_000):
        alarm = source.choice(alarms)
        alarm.deadline = source.choice([None, source.uniform(0, 100)])
        schedule.update(alarm)
    assert len(schedule._heap) <= 2 * len(schedule) + 65
    assert len(drain(schedule, 100.0)) == sum(alarm.deadline is not None for alarm in alarms)
