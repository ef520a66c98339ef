"""When another session is opened, in virtual time: the tries after a loss, the change before an end."""

from __future__ import annotations

import pytest

from sipbridge.providers import Lifetime
from sipbridge.providers.recovery import (
    AT_LEAST,
    DELAYS,
    LEAD,
    MOST_HURRIED,
    OUTAGE,
    PUT_OFF,
    STEADY_AFTER,
    TABLE,
    TURNED_AWAY,
    Action,
    Input,
    Phase,
    Recovery,
)

HOUR = Lifetime(rotate_at=3300.0, expires_at=3600.0)


def recovery(*, overlaps: bool = True, connect_timeout: float = 3.0) -> Recovery:
    return Recovery(overlaps=overlaps, connect_timeout=connect_timeout)


def due(it: Recovery, lifetime: Lifetime | None = None, quiet_at: float | None = None) -> float:
    at = it.get_timer(lifetime, quiet_at)
    assert at is not None
    return at


def try_once(it: Recovery) -> tuple[float, Action]:
    """The next try begins when it is due."""
    at = due(it)
    assert it.ring(at - 0.001, None, None) is Action.NONE
    return at, it.ring(at, None, None)


def test_every_phase_is_in_the_table_and_every_way_out_of_it_leads_somewhere() -> None:
    assert set(TABLE) == set(Phase)
    assert {phase for row in TABLE.values() for phase, _ in row.values()} == set(Phase)
    assert {what for row in TABLE.values() for what in row} == set(Input)


# --- after a loss -----------------------------------------------------------------------------------------------------


def test_three_tries_within_five_seconds_and_then_no_more() -> None:
    it = recovery()
    assert it.lost(100.0) is Action.WAIT
    now, began = 100.0, []
    for number in (1, 2, 3):
        at, action = try_once(it)
        assert action is Action.OPEN
        assert it.tries == number
        began.append(at - 100.0)
        now = at + 0.01
        last = it.failed(now, again=True)
    assert began == pytest.approx([0.0, 0.51, 2.52])
    assert last is Action.GIVE_UP
    assert it.get_timer(None, None) is None
    assert it.lost(now) is Action.NONE


def test_servers_that_do_not_answer_take_no_longer_than_an_outage_may() -> None:
    it = recovery()
    it.lost(100.0)
    now, spans = 100.0, []
    while True:
        at, action = try_once(it)
        assert action is Action.OPEN
        spans.append(it.seconds(at))
        now = at + spans[-1]
        if it.failed(now, again=True) is Action.GIVE_UP:
            break
    assert spans == pytest.approx([3.0, 1.5])
    assert now <= 100.0 + OUTAGE


def test_what_is_refused_is_not_tried_again() -> None:
    it = recovery()
    it.lost(100.0)
    try_once(it)
    assert it.failed(100.1, again=False) is Action.GIVE_UP
    assert it.phase is Phase.OVER


def test_an_outage_that_is_over_is_forgotten_after_a_while() -> None:
    it = recovery()
    it.lost(100.0)
    try_once(it)
    assert it.opened(100.3) is Action.SWITCH
    it.lost(100.3 + STEADY_AFTER)
    assert due(it) == 100.3 + STEADY_AFTER
    assert try_once(it)[1] is Action.OPEN
    assert it.tries == 1


def test_an_outage_is_forgotten_though_the_session_after_it_was_changed_since() -> None:
    it = recovery()
    it.lost(100.0)
    for _ in DELAYS:
        at, _ = try_once(it)
        it.failed(at, again=True) if it.tries < len(DELAYS) else it.opened(at)
    rotates = Lifetime(rotate_at=3300.0, expires_at=3600.0)
    assert it.ring(3300.0, rotates, 0.0) is Action.OPEN
    assert it.opened(3300.2) is Action.SWITCH
    assert it.lost(3301.0) is Action.WAIT
    assert due(it) == 3301.0, "the tries of an hour ago do not count"


def test_a_try_that_is_not_let_through_is_none() -> None:
    it = recovery()
    it.lost(100.0)
    turned_away = 0
    while (at := try_once(it)[0]) < 104.0:
        assert it.tries == 1
        assert it.failed(at, again=True, turned_away=True) is Action.WAIT
        turned_away += 1
    assert turned_away == pytest.approx(4 / TURNED_AWAY, abs=1)
    it.failed(at + 0.01, again=True)
    assert try_once(it)[0] == pytest.approx(at + 0.01 + DELAYS[1])


def test_who_is_turned_away_all_the_time_gives_up_when_an_outage_is_over() -> None:
    it = recovery()
    it.lost(100.0)
    for _ in range(100):
        at, _ = try_once(it)
        if it.failed(at, again=True, turned_away=True) is Action.GIVE_UP:
            break
    assert 100.0 + OUTAGE - TURNED_AWAY - 0.01 <= at <= 100.0 + OUTAGE


def test_sessions_that_break_as_soon_as_they_are_open_come_to_an_end() -> None:
    it = recovery()
    now = 100.0
    for delay in DELAYS:
        assert it.lost(now) is Action.WAIT
        at, _ = try_once(it)
        assert at == now + delay
        now = at + 0.2
        assert it.opened(now) is Action.SWITCH
        now += 0.1
    assert it.lost(now) is Action.GIVE_UP


def test_a_session_that_opens_when_nobody_wants_it_any_more_changes_nothing() -> None:
    it = recovery()
    it.lost(100.0)
    try_once(it)
    it.over()
    assert it.opened(101.0) is Action.NONE
    assert it.failed(101.0, again=True) is Action.NONE
    assert it.phase is Phase.OVER


# --- before an end ----------------------------------------------------------------------------------------------------


def test_without_an_end_nothing_is_planned() -> None:
    assert recovery().get_timer(None, 5.0) is None


@pytest.mark.parametrize(
    ("quiet_at", "at"),
    [
        (10.0, 3300.0),  # quiet long before: as soon as it should
        (3302.5, 3302.5),
        (None, 3600.0 - LEAD),  # never quiet: at the last moment
        (4000.0, 3600.0 - LEAD),
    ],
)
def test_a_change_waits_for_a_quiet_moment_but_not_for_ever(quiet_at: float | None, at: float) -> None:
    it = recovery()
    assert due(it, HOUR, quiet_at) == at
    assert it.ring(at - 0.01, HOUR, quiet_at) is Action.NONE
    assert it.ring(at, HOUR, quiet_at) is Action.OPEN
    assert it.phase is Phase.BESIDE
    assert it.get_timer(HOUR, quiet_at) is None
    assert it.seconds(at) == 3.0
    assert it.opened(at + 0.4) is Action.SWITCH


def test_an_end_that_is_near_when_it_is_learned_of() -> None:
    soon = Lifetime(rotate_at=100.0, expires_at=101.0)
    assert due(recovery(), soon, None) == 100.0


@pytest.mark.parametrize(("left", "wait"), [(600.0, STEADY_AFTER), (8.0, 8.0 - LEAD), (0.5, AT_LEAST)])
def test_servers_that_want_to_end_every_session_at_once_are_not_given_new_ones_in_a_row(
    left: float, wait: float
) -> None:
    it = recovery()
    now = 100.0
    for number in range(5):
        lifetime = Lifetime(rotate_at=now, expires_at=now + left)
        at = due(it, lifetime, 0.0)
        assert at == pytest.approx(now + wait if number else now)
        it.ring(at, lifetime, 0.0)
        now = at
        assert it.opened(now) is Action.SWITCH


def test_what_the_new_one_does_not_know_of_makes_it_useless() -> None:
    it = recovery()
    it.ring(3300.0, HOUR, 0.0)
    assert it.opened(3300.4, stale=True) is Action.DISCARD
    assert due(it, HOUR, 3300.4) == 3301.4
    assert due(it, HOUR, 3310.0) == 3310.0


def test_a_change_that_fails_leaves_the_old_one_in_use_and_is_tried_again() -> None:
    it = recovery()
    for number in range(10):
        at = due(it, HOUR, 0.0)
        assert at == pytest.approx(3300.0 + number * (PUT_OFF + 0.2))
        assert it.ring(at, HOUR, 0.0) is Action.OPEN
        assert it.failed(at + 0.2, again=True) is Action.WAIT
        assert it.phase is Phase.STEADY


def test_a_loss_while_the_next_one_is_being_opened_has_one_try_under_way() -> None:
    it = recovery()
    it.ring(3300.0, HOUR, 0.0)
    assert it.lost(3300.2) is Action.NONE
    assert it.phase is Phase.OPENING
    assert it.tries == 1
    assert it.opened(3300.4, stale=True) is Action.SWITCH, "there is no other"

    it = recovery()
    it.ring(3300.0, HOUR, 0.0)
    it.lost(3300.2)
    assert it.failed(3300.4, again=True) is Action.WAIT
    assert due(it) == 3300.4 + DELAYS[1]


def test_where_only_one_may_be_up_it_is_closed_first() -> None:
    it = recovery(overlaps=False)
    assert it.ring(3300.0, HOUR, 0.0) is Action.REPLACE
    assert it.phase is Phase.INSTEAD
    assert it.opened(3300.5) is Action.SWITCH

    it = recovery(overlaps=False)
    it.ring(3300.0, HOUR, 0.0)
    assert it.failed(3300.5, again=True) is Action.WAIT, "now it is an outage"
    assert due(it) == 3300.5
    assert try_once(it)[1] is Action.OPEN

    it = recovery(overlaps=False)
    it.ring(3300.0, HOUR, 0.0)
    assert it.failed(3300.5, again=False) is Action.GIVE_UP


def test_a_server_that_says_of_every_session_that_it_has_to_end_is_not_believed_for_ever() -> None:
    it = recovery()
    now, changes = 0.0, 0
    while now < 600.0:
        at_once = Lifetime(now, now)
        now = due(it, at_once, 0.0)
        assert it.ring(now, at_once, 0.0) is Action.OPEN
        assert it.opened(now) is Action.SWITCH
        changes += 1
    assert changes < MOST_HURRIED + 5 + 600 * 2 / (STEADY_AFTER + AT_LEAST)
