"""From a URI to what is tried, in which order (RFC 3263, RFC 2782)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import pytest

from sipbridge.sip.dns_cache import DnsCache, DnsNeeded, Naptr, Record, Srv
from sipbridge.sip.flow import FlowTable, Target, Transport
from sipbridge.sip.headers import Uri
from sipbridge.sip.hops import Hop, Hops
from sipbridge.sip.resolution import MAX_HOPS, Resolver, in_order
from sipbridge.sip.timers import Schedule
from tests.sip.wire import counting_tokens

Zone = Mapping[tuple[str, str], Sequence[Record]]

NAPTRS = [
    Naptr(50, 50, "s", "SIPS+D2T", "_sips._tcp.example.com."),
    Naptr(90, 50, "S", "SIP+D2T", "_sip._tcp.example.com."),
    Naptr(100, 50, "s", "SIP+D2U", "_sip._udp.example.com."),
    Naptr(10, 10, "s", "SIP+D2S", "_sip._sctp.example.com."),
    Naptr(10, 10, "u", "E2U+sip", "."),
]
SERVERS: Zone = {
    ("example.com", "NAPTR"): NAPTRS,
    ("_sips._tcp.example.com", "SRV"): [Srv(0, 0, 5061, "tls.example.com.")],
    ("_sip._tcp.example.com", "SRV"): [Srv(0, 0, 5062, "tcp.example.com.")],
    ("_sip._udp.example.com", "SRV"): [Srv(0, 0, 5063, "udp.example.com.")],
    ("tls.example.com", "A"): ["192.0.2.11"],
    ("tcp.example.com", "A"): ["192.0.2.12"],
    ("udp.example.com", "A"): ["192.0.2.13"],
    ("example.com", "A"): ["192.0.2.9", "192.0.2.10"],
    ("example.com", "AAAA"): ["2001:db8::9"],
}
TLS = Target("tls", "192.0.2.11", 5061, "example.com")
TCP = Target("tcp", "192.0.2.12", 5062)
UDP = Target("udp", "192.0.2.13", 5063)


def without(zone: Zone, *kinds: str) -> Zone:
    return {key: records for key, records in zone.items() if key[1] not in kinds}


class Asking:
    """A resolver with its tables; `zone` answers."""

    def __init__(
        self,
        zone: Zone,
        transports: Sequence[Transport] = ("udp", "tcp", "tls"),
        locals_: Sequence[str] = ("192.0.2.1",),
    ) -> None:
        self.zone = zone
        self.asked: list[DnsNeeded] = []
        self.flows = FlowTable(lambda needed: None)
        for transport in transports:
            for local in locals_:
                self.flows.listen(transport, (local, 5060))
        self.cache = DnsCache(self.asked.append, Schedule(), Counter())
        self.resolver = Resolver(self.cache, self.flows, counting_tokens())
        self.answered = 0

    def answer(self, now: float = 0.0) -> None:
        while self.answered < len(self.asked):
            needed = self.asked[self.answered]
            self.answered += 1
            records = self.zone.get((needed.name, needed.kind), [])
            self.cache.answered(needed.name, needed.kind, records, 60.0, now)

    def next(self, hops: Hops, now: float = 0.0) -> Hop | None:
        found: list[Hop | None] = []
        hops.next(lambda hop, now: found.append(hop), now)
        self.answer(now)
        (hop,) = found
        return hop

    def all(self, uri: str, transport: str | None = None, now: float = 0.0) -> list[Hop]:
        hops = self.resolver.hops(Uri.parse(uri), transport)
        found = []
        while (hop := self.next(hops, now)) is not None:
            found.append(hop)
        assert hops.exhausted
        return found


@pytest.mark.parametrize(
    ("uri", "transport", "target"),
    [
        ("sip:a@192.0.2.2", None, Target("udp", "192.0.2.2", 5060)),
        ("sip:a@192.0.2.2:5070", "tcp", Target("tcp", "192.0.2.2", 5070)),
        ("sip:a@192.0.2.2;transport=TCP", "udp", Target("tcp", "192.0.2.2", 5060)),
        ("sip:a@192.0.2.2;transport=tls", None, Target("tls", "192.0.2.2", 5061, "192.0.2.2")),
        ("sip:a@example.com;maddr=192.0.2.9", None, Target("udp", "192.0.2.9", 5060)),
        ("sips:a@example.com;maddr=192.0.2.9", None, Target("tls", "192.0.2.9", 5061, "example.com")),
        ("sip:a@example.com;maddr=[2001:db8::9]", None, Target("udp", "2001:db8::9", 5060)),
        ("sips:a@192.0.2.2", "udp", Target("tls", "192.0.2.2", 5061, "192.0.2.2")),
        ("sips:a@192.0.2.2;transport=tcp", None, Target("tls", "192.0.2.2", 5061, "192.0.2.2")),
        ("sips:a@192.0.2.2;transport=ws", None, Target("wss", "192.0.2.2", 443, "192.0.2.2")),
        ("sip:a@192.0.2.2;transport=ws", None, Target("ws", "192.0.2.2", 80)),
        ("sip:[2001:db8::1]:5062", None, Target("udp", "2001:db8::1", 5062)),
        ("sip:[::ffff:192.0.2.2]", None, Target("udp", "192.0.2.2", 5060)),
    ],
)
def test_an_address_needs_no_question(uri: str, transport: str | None, target: Target) -> None:
    asking = Asking({})
    assert asking.all(uri, transport) == [target]
    assert asking.asked == []


def test_a_tel_uri_leads_nowhere() -> None:
    assert Asking(SERVERS).all("tel:+15550100") == []


@pytest.mark.parametrize(
    ("transports", "targets"),
    [
        (["udp", "tcp", "tls"], [TLS, TCP, UDP]),
        (["udp", "tcp"], [TCP, UDP]),
        (["udp"], [UDP]),
        (["tls"], [TLS]),
    ],
)
def test_naptr_names_the_transports_and_only_ours_count(transports: list[Transport], targets: list[Target]) -> None:
    assert Asking(SERVERS, transports).all("sip:example.com") == targets


def test_of_naptrs_the_order_counts_before_the_preference() -> None:
    naptrs = [
        Naptr(2, 1, "s", "SIP+D2U", "_sip._udp.example.com"),
        Naptr(1, 9, "s", "SIP+D2T", "_sip._tcp.example.com"),
        Naptr(1, 5, "s", "SIPS+D2T", "_sips._tcp.example.com"),
    ]
    assert Asking({**SERVERS, ("example.com", "NAPTR"): naptrs}).all("sip:example.com") == [TLS, TCP, UDP]


def test_a_sips_uri_takes_sips_services_only() -> None:
    assert Asking(SERVERS).all("sips:example.com") == [TLS]
    assert Asking(without(SERVERS, "NAPTR")).all("sips:example.com") == [TLS]


def test_a_certificate_has_to_prove_the_name_asked_for_not_that_of_the_server() -> None:
    elsewhere: Zone = {
        ("_sips._tcp.example.com", "SRV"): [Srv(0, 0, 5061, "node1.hosting.example.")],
        ("node1.hosting.example", "A"): ["192.0.2.11"],
    }
    assert Asking(elsewhere).all("sips:example.com") == [TLS]


def test_without_naptr_the_services_of_our_transports_are_asked_for() -> None:
    asking = Asking(without(SERVERS, "NAPTR"))
    assert asking.all("sip:example.com") == [UDP, TCP]
    assert DnsNeeded("_sips._tcp.example.com", "SRV") not in asking.asked


def test_without_srv_the_name_itself_is_the_server() -> None:
    targets = [Target("udp", "192.0.2.9", 5060), Target("udp", "192.0.2.10", 5060)]
    assert Asking(without(SERVERS, "NAPTR", "SRV")).all("sip:example.com") == targets
    secure = Asking(without(SERVERS, "NAPTR", "SRV")).all("sips:example.com")
    assert secure[0] == Target("tls", "192.0.2.9", 5061, "example.com")


def test_with_a_port_there_is_neither_naptr_nor_srv() -> None:
    asking = Asking(SERVERS)
    assert asking.all("sip:example.com:5080")[0] == Target("udp", "192.0.2.9", 5080)
    assert asking.all("sips:example.com:5080")[0] == Target("tls", "192.0.2.9", 5080, "example.com")
    assert {needed.kind for needed in asking.asked} == {"A"}


def test_with_a_transport_there_is_no_naptr() -> None:
    asking = Asking(SERVERS)
    assert asking.all("sip:example.com;transport=udp") == [UDP]
    assert asking.all("sip:example.com", "tcp") == [TCP]
    assert asking.all("sip:example.com;transport=tls") == [TLS]
    assert asking.all("sips:example.com;transport=tcp") == [TLS]
    assert "NAPTR" not in {needed.kind for needed in asking.asked}


def test_where_we_have_no_udp_it_is_not_the_default() -> None:
    zone = without(SERVERS, "NAPTR", "SRV")
    assert Asking(zone, ["tcp"]).all("sip:example.com:5080")[0] == Target("tcp", "192.0.2.9", 5080)
    assert Asking(zone, ["tls"]).all("sip:192.0.2.2") == [Target("tls", "192.0.2.2", 5061, "192.0.2.2")]


@pytest.mark.parametrize(
    ("locals_", "hosts"),
    [
        (["192.0.2.1"], ["192.0.2.9", "192.0.2.10"]),
        (["2001:db8::1"], ["2001:db8::9"]),
        (["2001:db8::1", "192.0.2.1"], ["2001:db8::9", "192.0.2.9", "192.0.2.10"]),
    ],
)
def test_addresses_are_of_the_families_that_we_have_in_our_order(locals_: list[str], hosts: list[str]) -> None:
    found = Asking(SERVERS, locals_=locals_).all("sip:example.com:5060")
    assert [hop.host for hop in found if isinstance(hop, Target)] == hosts


def test_a_service_that_is_said_not_to_exist_is_not_looked_for_elsewhere() -> None:
    zone = {**without(SERVERS, "NAPTR"), ("_sip._udp.example.com", "SRV"): [Srv(0, 0, 0, ".")]}
    assert Asking(zone).all("sip:example.com;transport=udp") == []
    assert Asking(zone).all("sip:example.com") == [TCP]


def test_servers_that_are_not_needed_are_not_asked_for() -> None:
    zone: Zone = {
        ("_sip._udp.example.com", "SRV"): [Srv(1, 0, 5060, "first.example.com"), Srv(2, 0, 5060, "second.example.com")],
        ("first.example.com", "A"): ["192.0.2.21"],
        ("second.example.com", "A"): ["192.0.2.22"],
    }
    asking = Asking(zone)
    hops = asking.resolver.hops(Uri.parse("sip:example.com;transport=udp"))
    assert asking.next(hops) == Target("udp", "192.0.2.21", 5060)
    assert DnsNeeded("second.example.com", "A") not in asking.asked
    assert asking.next(hops) == Target("udp", "192.0.2.22", 5060)
    assert asking.next(hops) is None


def test_answers_in_any_order_and_from_the_cache() -> None:
    asking = Asking(SERVERS, locals_=["2001:db8::1", "192.0.2.1"])
    hops = asking.resolver.hops(Uri.parse("sip:example.com:5060"))
    found: list[Hop | None] = []
    hops.next(lambda hop, now: found.append(hop), 0.0)
    asking.cache.answered("example.com", "A", ["192.0.2.9"], 60.0, 0.1)
    assert found == []
    asking.cache.answered("example.com", "AAAA", ["2001:db8::9"], 60.0, 0.2)
    assert found == [Target("udp", "2001:db8::9", 5060)]
    asked = len(asking.asked)
    assert len(asking.all("sip:example.com:5060", now=1.0)) == 2
    assert len(asking.asked) == asked


def test_the_same_place_is_tried_once_and_not_for_ever() -> None:
    many: Zone = {
        ("_sip._udp.example.com", "SRV"): [Srv(n, 0, 5060, "farm.example.com") for n in range(3)],
        ("farm.example.com", "A"): [f"198.51.100.{n}" for n in range(60)],
    }
    assert len(Asking(many).all("sip:example.com;transport=udp")) == MAX_HOPS
    assert len(set(Asking(many).all("sip:example.com;transport=udp"))) == MAX_HOPS


def test_who_did_not_answer_lately_comes_last() -> None:
    asking = Asking(SERVERS)
    asking.flows.unreachable.add(TLS, 0.0)
    assert asking.all("sip:example.com") == [TCP, UDP, TLS]
    assert asking.all("sip:example.com", now=60.0) == [TLS, TCP, UDP]


def test_servers_that_lie_do_no_harm() -> None:
    odd: Zone = {
        ("example.com", "NAPTR"): [Naptr(0, 0, "s", "SIP+D2U", "."), "192.0.2.66"],
        ("", "SRV"): [Srv(0, 0, 0, "x.example.com"), Srv(0, 0, 5060, "192.0.2.7"), "text"],
        ("x.example.com", "A"): ["192.0.2.7"],
    }
    assert Asking(odd).all("sip:example.com") == [Target("udp", "192.0.2.7", 5060)]


# --- RFC 2782 ---------------------------------------------------------------------------------------------------------


def from_tokens(prefix: str) -> Callable[[int], int]:
    return Resolver(
        DnsCache(lambda needed: None, Schedule(), Counter()), FlowTable(print), counting_tokens(prefix)
    )._below


def test_priority_comes_before_weight() -> None:
    records = [Srv(2, 100, 5060, "c"), Srv(1, 0, 5060, "b"), Srv(0, 1, 5060, "a")]
    for number in range(50):
        assert [srv.target for srv in in_order(records, from_tokens(f"x{number}"))] == ["a", "b", "c"]


def test_the_first_is_chosen_by_its_weight() -> None:
    records = [
        Srv(0, 0, 5060, "never"),
        Srv(0, 10, 5060, "seldom"),
        Srv(0, 30, 5060, "often"),
        Srv(0, 60, 5060, "most"),
    ]
    below = from_tokens("w")
    first = Counter(next(in_order(records, below)).target for _ in range(4000))
    assert first["never"] < 100
    assert first["seldom"] == pytest.approx(400, rel=0.2)
    assert first["often"] == pytest.approx(1200, rel=0.1)
    assert first["most"] == pytest.approx(2400, rel=0.1)


def test_all_are_given_each_once_whatever_their_weights() -> None:
    for weights in ([0, 0, 0], [1, 0, 65_535], [7], []):
        records = [Srv(0, weight, 5060, f"h{n}") for n, weight in enumerate(weights)]
        assert sorted(srv.target for srv in in_order(records, from_tokens("z"))) == [srv.target for srv in records]
