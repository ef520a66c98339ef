"""Where messages go, and who waits for a way there (RFC 3261 §18, RFC 3263 without DNS)."""

from __future__ import annotations

import pytest

from sipbridge.sip.flow import Flow, FlowNeeded, FlowTable, ResolveNeeded, Target, response_target, target_of
from sipbridge.sip.headers import Uri, Via
from tests.sip.wire import PEER, TCP, US


class Asking:
    """A table, what it asked for, and what it told."""

    def __init__(self) -> None:
        self.asked: list[FlowNeeded | ResolveNeeded] = []
        self.table = FlowTable(self.asked.append)
        self.found: list[Flow | None] = []
        self.table.listen("udp", US)

    def find(self, target: Target, beside: Flow | None = None) -> None:
        self.table.find(target, lambda flow, now: self.found.append(flow), 0.0, beside=beside)


@pytest.mark.parametrize(
    ("uri", "transport", "target"),
    [
        ("sip:a@192.0.2.2", None, Target("udp", "192.0.2.2", 5060)),
        ("sip:a@192.0.2.2:5070", "tcp", Target("tcp", "192.0.2.2", 5070)),
        ("sip:a@192.0.2.2;transport=TCP", "udp", Target("tcp", "192.0.2.2", 5060)),
        ("sip:a@example.com;maddr=192.0.2.9", None, Target("udp", "192.0.2.9", 5060)),
        ("sips:a@example.com", "tcp", Target("tls", "example.com", 5061, "example.com")),
        ("sip:[2001:db8::1]:5062", None, Target("udp", "2001:db8::1", 5062)),
    ],
)
def test_the_target_of_a_uri(uri: str, transport: str | None, target: Target) -> None:
    assert target_of(Uri.parse(uri), transport) == target


@pytest.mark.parametrize(
    ("via", "target"),
    [
        ("SIP/2.0/TCP 198.51.100.7:5070;received=192.0.2.2;rport=4711", Target("tcp", "192.0.2.2", 5070)),
        ("SIP/2.0/TCP 198.51.100.7", Target("tcp", "198.51.100.7", 5060)),
    ],
)
def test_a_response_whose_connection_is_gone_goes_to_the_listening_port(via: str, target: Target) -> None:
    assert response_target(Via.parse(via), "tcp") == target


def test_udp_is_there_at_once_and_keeps_the_local_address_of_the_dialog() -> None:
    asking = Asking()
    asking.table.listen("udp", ("192.0.2.1", 5070))
    asking.find(Target("udp", *PEER))
    asking.find(Target("udp", *PEER), Flow("udp", ("192.0.2.1", 5070), ("198.51.100.1", 1)))
    assert asking.found == [Flow("udp", US, PEER), Flow("udp", ("192.0.2.1", 5070), PEER)]
    assert asking.asked == []


def test_nobody_is_asked_for_a_target_without_a_host() -> None:
    asking = Asking()
    asking.find(target_of(Uri.parse("tel:+15550100")))
    assert asking.found == [None]
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


def test_a_name_is_resolved_first() -> None:
    asking = Asking()
    target = Target("udp", "pbx.example.com", 5060)
    asking.find(target)
    assert asking.asked == [ResolveNeeded(target)]
    asking.table.resolved(target, ["192.0.2.2"], 1.0)
    assert asking.found == [Flow("udp", US, PEER)]


def test_a_name_without_addresses_and_transports_that_do_not_exist() -> None:
    asking = Asking()
    name = Target("udp", "nowhere.example.com", 5060)
    asking.find(name)
    asking.table.resolved(name, [], 1.0)
    asking.find(Target("wss", *PEER))
    asking.find(Target("udp", "2001:db8::1", 5060))  # no listener of that family
    assert asking.found == [None, None, None]
