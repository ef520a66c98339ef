"""Source filter, budgets, blocks and connection caps, in virtual time."""

from __future__ import annotations

import pytest

from sipbridge.sip.admission import Admission, AdmissionLimits, Budget, source_address

LIMITS = AdmissionLimits(
    listed=Budget(100, 200),
    stranger=Budget(5, 20),
    strangers=Budget(50, 60),
    connections=8,
    stranger_connections=3,
    strangers_connections=5,
    connection_cost=5,
    sources=64,
)
TRUNK, STRANGER = "192.0.2.10", "203.0.113.7"


def admission(*listed: str, strangers: bool = False) -> Admission:
    return Admission(listed or ("192.0.2.0/24", "2001:db8:1::5/128"), strangers=strangers, limits=LIMITS)


def admitted(gate: Admission, host: str, count: int, now: float) -> int:
    return sum(gate.admit(host, now) for _ in range(count))


# --- who may speak ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "may"),
    [
        ("192.0.2.0", True),
        ("192.0.2.255", True),
        ("192.0.3.0", False),
        ("192.0.1.255", False),
        ("::ffff:192.0.2.10", True),
        ("::ffff:203.0.113.7", False),
        ("2001:db8:1::5", True),
        ("2001:db8:1::6", False),
        ("2001:db8:1::5%eth0", True),
        ("::c000:20a", False),  # the number of 192.0.2.10, in the other family
        ("127.0.0.1", False),
    ],
)
def test_only_listed_networks_may_speak(host: str, may: bool) -> None:
    gate = admission()
    assert gate.admit(host, 0.0) is may
    assert gate.connect(host, 0.0) is may
    assert gate.counters["not_admitted_unknown_source"] == (0 if may else 2)


def test_without_a_list_loopback_may_speak_and_nobody_else() -> None:
    gate = Admission()
    hosts = ("127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "192.0.2.1", "::2")
    assert [gate.admit(host, 0.0) for host in hosts] == [True, True, True, True, False, False]


def test_a_network_that_is_written_as_mapped_means_ipv4() -> None:
    gate = admission("::ffff:192.0.2.0/120")
    assert gate.admit("192.0.2.255", 0.0)
    assert not gate.admit("192.0.3.0", 0.0)


def test_a_mapped_source_is_ipv4() -> None:
    assert str(source_address("::ffff:192.0.2.1")) == "192.0.2.1"
    assert str(source_address("fe80::1%eth0")) == "fe80::1"


def test_whom_we_have_spoken_to_may_answer() -> None:
    gate = admission()
    gate.spoken_to(STRANGER, 0.0)
    gate.spoken_to(TRUNK, 0.0)
    assert gate.admit(STRANGER, 1.0)
    assert not gate.admit("203.0.113.8", 1.0)
    assert not gate.admit(STRANGER, 3601.0), "not for ever"
    for number in range(200):
        gate.spoken_to(f"198.51.100.{number}", 1.0)
    assert len(gate._spoken_to) == LIMITS.sources


# --- budgets ----------------------------------------------------------------------------------------------------------


def test_a_listed_source_has_a_large_budget_that_comes_back() -> None:
    gate = admission()
    assert admitted(gate, TRUNK, 300, 0.0) == 200
    assert admitted(gate, TRUNK, 300, 1.0) == 100
    assert admitted(gate, TRUNK, 300, 60.0) == 200
    assert gate.counters["not_admitted_over_budget"] == 400
    assert admitted(gate, "192.0.2.11", 10, 0.0) == 10, "each source has its own"


def test_a_stranger_who_may_speak_has_a_small_one() -> None:
    gate = admission(strangers=True)
    assert admitted(gate, STRANGER, 100, 0.0) == 20
    assert admitted(gate, STRANGER, 100, 1.0) == 5
    assert admitted(gate, TRUNK, 100, 1.0) == 100


def test_strangers_together_have_no_more_than_theirs_however_many_addresses_they_forge() -> None:
    gate = admission(strangers=True)
    assert sum(gate.admit(f"203.0.{n // 250}.{n % 250}", 0.0) for n in range(5000)) == 60
    assert gate.counters["not_admitted_strangers_over_budget"] == 5000 - 60
    assert admitted(gate, TRUNK, 100, 0.0) == 100
    assert gate.remembered <= 2 * LIMITS.sources


def test_an_ipv6_stranger_is_its_64() -> None:
    gate = admission(strangers=True)
    assert sum(gate.admit(f"2001:db8:2::{n:x}", 0.0) for n in range(100)) == 20
    assert gate.admit("2001:db8:3::1", 0.0)


def test_the_neighbours_of_a_listed_address_cannot_spend_its_budget() -> None:
    gate = admission(strangers=True)
    for _ in range(5):
        gate.failed("2001:db8:1::6", 0.0)
    assert gate.blocked("2001:db8:1::7", 0.0)
    assert gate.admit("2001:db8:1::5", 0.0)


def test_on_a_stream_who_is_over_the_budget_waits_instead() -> None:
    gate = admission()
    assert gate.charge(TRUNK, 200, 0.0) == 0
    assert gate.charge(TRUNK, 50, 0.0) == pytest.approx(0.5)
    assert not gate.admit(TRUNK, 0.4), "it is the same budget"
    assert gate.charge(TRUNK, 1, 0.6) == 0
    assert gate.counters["stream_held_back"] == 1


def test_tables_do_not_grow() -> None:
    gate = admission("0.0.0.0/0", "::/0", strangers=True)
    for n in range(1000):
        host = f"10.0.{n // 250}.{n % 250}"
        gate.admit(host, 0.0)
        gate.authenticated(host, 0.0)
        for _ in range(5 if n % 2 else 4):
            gate.failed(host, 0.0)
    assert gate.remembered <= 5 * LIMITS.sources


# --- blocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [TRUNK, STRANGER])
def test_five_failures_in_a_minute_block_for_a_quarter_of_an_hour(host: str) -> None:
    gate = admission(strangers=True)
    for second in range(5):
        assert gate.admit(host, second)
        gate.failed(host, second)
    assert not gate.admit(host, 4.0)
    assert gate.charge(host, 1, 4.0) is None
    assert not gate.connect(host, 903.9)
    assert gate.admit("203.0.113.8", 4.0)
    assert gate.admit(host, 904.0)
    assert gate.counters["sources_blocked"] == 1
    assert gate.counters["not_admitted_blocked"] == 3


def test_failures_that_are_far_apart_are_forgiven() -> None:
    gate = admission(strangers=True)
    for minute in range(20):
        gate.failed(STRANGER, minute * 15.1)
    assert gate.admit(STRANGER, 400.0)


def test_success_forgives_and_makes_known() -> None:
    gate = admission()
    assert not gate.admit(STRANGER, 0.0)
    for _ in range(4):
        gate.failed(STRANGER, 0.0)
    gate.authenticated(STRANGER, 1.0)
    for _ in range(4):
        gate.failed(STRANGER, 2.0)
    assert admitted(gate, STRANGER, 300, 3.0) == 200
    assert not gate.admit(STRANGER, 3602.0)


def test_success_as_one_user_forgives_no_failure_as_another() -> None:
    gate = admission(strangers=True)
    for guess in range(5):
        assert gate.admit(STRANGER, guess)
        gate.failed(STRANGER, guess, "bob")
        gate.authenticated(STRANGER, guess, "eve")
    assert not gate.admit(STRANGER, 5.0)


def test_a_block_ends_what_authentication_gave() -> None:
    gate = admission()
    gate.authenticated(STRANGER, 0.0)
    for _ in range(5):
        gate.failed(STRANGER, 0.0)
    assert not gate.admit(STRANGER, 901.0)


# --- connections ------------------------------------------------------------------------------------------------------


def test_a_source_holds_so_many_connections_and_no_more() -> None:
    gate = admission()
    assert [gate.connect(TRUNK, 0.0) for _ in range(10)] == [True] * 8 + [False] * 2
    assert gate.counters["not_admitted_source_connections"] == 2
    gate.disconnect(TRUNK)
    assert gate.connect(TRUNK, 0.0)
    for _ in range(8):
        gate.disconnect(TRUNK)
    assert gate.remembered == 0


def test_strangers_hold_only_a_share_of_all() -> None:
    gate = admission(strangers=True)
    assert [gate.connect(STRANGER, 0.0) for _ in range(4)] == [True] * 3 + [False]
    others = [gate.connect(f"203.0.113.{n}", 0.0) for n in range(100, 104)]
    assert others == [True, True, False, False]
    assert gate.counters["not_admitted_strangers_connections"] == 2
    assert gate.connect(TRUNK, 0.0)


def test_connections_of_those_who_have_authenticated_are_not_counted_as_strangers() -> None:
    gate = admission(strangers=True)
    phones = [f"203.0.113.{n}" for n in range(20)]
    for second, phone in enumerate(phones):
        assert gate.connect(phone, second)
        gate.authenticated(phone, second)
    for phone in phones:
        gate.disconnect(phone)
    assert [gate.connect(f"198.51.100.{n}", 99.0) for n in range(6)] == [True] * 5 + [False]


def test_connections_that_come_and_go_cost_a_stranger_its_budget() -> None:
    gate = admission(strangers=True)
    made = 0
    for _ in range(10):
        if gate.connect(STRANGER, 0.0):
            made += 1
            gate.disconnect(STRANGER)
    assert made == 4
    assert gate.counters["not_admitted_over_budget"] == 6
