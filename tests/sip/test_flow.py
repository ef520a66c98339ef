"""Where messages go, and who waits for a way there (RFC 3261 §18). Names are the business of `test_resolution.py`."""

from __future__ import annotations

import pytest

from sipbridge.sip.flow import (
    Flow,
    FlowNeeded,
    FlowTable,
    Target,
    Unreachable,
    is_address,
    plain_address,
    response_target,
)
from sipbridge.sip.headers import Via
from tests.sip.wire import PEER, TCP, US


class Asking:
    """A table, what it asked for, and what it told."""

    def __init__(self) -> None:
        self.asked: list[FlowNeeded] = []
        self.table = FlowTable(self.asked.append)
        self.found: list[Flow | None] = []
        self.table.listen("udp", US)

    def find(self, target: Target, beside: Flow | None = None) -> None:
        self.table.find(target, lambda flow, now: self.found.append(flow), 0.0, beside=beside)


@pytest.mark.parametrize(
    ("via", "target"),
    [
        ("SIP/2.0/TCP 198.51.100.7:5070;received=192.0.2.2;rport=4711", Target("tcp", "192.0.2.2", 5070)),
        ("SIP/2.0/TCP 198.51.100.7", Target("tcp", "198.51.100.7", 5060)),
    ],
)
def test_a_response_whose_connection_is_gone_goes_to_the_listening_port(via: str, target: Target) -> None:
    assert response_target(Via.parse(via), "tcp") == target


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "fe80::1%eth0.100", "fe80::1%br-0"])
def test_an_address_may_have_a_scope(host: str) -> None:
    assert is_address(host)


@pytest.mark.parametrize(
    "host", ["fe80::1%\udcff", "fe80::1%\u00e9", "fe80::1%a..b", "fe80::1%", f"fe80::1%{'a' * 70}", "a"]
)
def test_what_would_make_a_socket_raise_is_no_address(host: str) -> None:
    assert not is_address(host)


def test_udp_is_there_at_once_and_keeps_the_local_address_of_the_dialog() -> None:
    asking = Asking()
    asking.table.listen("udp", ("192.0.2.1", 5070))
    asking.find(Target("udp", *PEER))
    asking.find(Target("udp", *PEER), Flow("udp", ("192.0.2.1", 5070), ("198.51.100.1", 1)))
    assert asking.found == [Flow("udp", US, PEER), Flow("udp", ("192.0.2.1", 5070), PEER)]
    assert asking.asked == []


def test_nobody_is_asked_for_a_target_without_a_host() -> None:
    asking = Asking()
    asking.find(Target("udp", "", 5060))
    asking.find(Target("udp", "pbx.example.com", 5060))
    assert asking.found == [None, None]
    assert asking.asked == []


def test_a_connection_is_asked_for_once_and_all_who_wait_are_told() -> None:
    asking = Asking()
    target = Target("tcp", "192.0.2.2", 49152)
    asking.find(target)
    asking.find(target)
    assert asking.asked == [FlowNeeded(target)]
    assert asking.table.waiting == 2
    asking.table.opened(target, TCP, 1.0)
    asking.find(target)
    assert asking.found == [TCP, TCP, TCP]
    asking.table.closed(TCP)
    assert not asking.table.is_open(TCP)
    assert len(asking.table) == 0


def test_a_connection_that_fails() -> None:
    asking = Asking()
    target = Target("tcp", *PEER)
    asking.find(target)
    asking.table.failed(target, 1.0)
    assert asking.found == [None]
    assert asking.table.waiting == 0


def test_a_listener_of_the_right_family_is_taken() -> None:
    asking = Asking()
    asking.find(Target("udp", "2001:db8::2", 5060))
    asking.table.listen("udp", ("2001:db8::1", 5060))
    asking.find(Target("udp", "2001:db8::2", 5060))
    asking.find(Target("udp", "2001:db8::2", 5060), beside=Flow("udp", US, PEER))  # the dialog moved to IPv6
    six = Flow("udp", ("2001:db8::1", 5060), ("2001:db8::2", 5060))
    assert asking.found == [None, six, six]


@pytest.mark.parametrize("transport", ["ws", "wss", "sctp"])
def test_what_we_never_open(transport: str) -> None:
    asking = Asking()
    asking.find(Target(transport, *PEER))
    assert asking.found == [None]
    assert asking.asked == []


def test_a_connection_over_tls_serves_only_the_name_that_it_has_proven() -> None:
    asking = Asking()
    first, other = (Target("tls", "192.0.2.2", 5061, name) for name in ("pbx.example.com", "other.example.com"))
    asking.table.seen(Flow("tls", US, ("192.0.2.2", 5061)))  # came to us, from that very port: it has proven nothing
    asking.find(first)
    assert asking.asked == [FlowNeeded(first)]
    flow = Flow("tls", ("192.0.2.1", 50001), ("192.0.2.2", 5061))
    asking.table.opened(first, flow, 0.1)
    asking.find(first)
    assert asking.found == [flow, flow]
    asking.find(other)
    assert asking.asked == [FlowNeeded(first), FlowNeeded(other)]
    asking.table.closed(flow)
    asking.find(first)
    assert asking.asked[-1] == FlowNeeded(first)


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("::ffff:192.0.2.2", "192.0.2.2"),
        ("::FFFF:c000:0202", "192.0.2.2"),
        ("2001:db8::1", "2001:db8::1"),
        ("192.0.2.2", "192.0.2.2"),
        ("::ffff:nonsense", "::ffff:nonsense"),
        ("pbx.example.com", "pbx.example.com"),
    ],
)
def test_an_ipv4_address_has_one_spelling(host: str, plain: str) -> None:
    assert plain_address(host) == plain


def test_what_did_not_answer_is_remembered_for_a_while_and_longer_if_it_happens_again() -> None:
    away, target = Unreachable(), Target("udp", *PEER)
    assert not away.holds(target, 0.0)
    away.add(target, 0.0)
    assert away.holds(target, 59.0)
    assert not away.holds(target, 60.0)
    away.add(target, 70.0)
    assert away.holds(target, 189.0)
    assert not away.holds(target, 190.0)
    away.remove(target)
    away.add(target, 200.0, 10.0)  # it said how long
    assert not away.holds(target, 210.0)
    away.add(target, 1000.0, 1e9)
    assert not away.holds(target, 2000.0)


def test_why_nothing_was_to_be_had_there_is_known_until_it_is() -> None:
    away, target = Unreachable(), Target("tls", *PEER)
    away.add(target, 0.0, why="certificate has expired")
    assert (away.why(target), away.why(Target("tcp", *PEER))) == ("certificate has expired", "")
    away.remove(target)
    assert away.why(target) == ""


def test_what_is_remembered_of_unreachable_targets_is_bounded() -> None:
    away = Unreachable()
    for port in range(1, 3000):
        away.add(Target("udp", "192.0.2.2", port), 0.0)
    assert len(away) == Unreachable.MAX_TARGETS
    assert away.holds(Target("udp", "192.0.2.2", 2999), 1.0)
