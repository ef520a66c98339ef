"""Every message of RFC 5118 (IPv6), with the outcome that the RFC gives it.

Eleven of the twelve are well-formed for the parser; what a user agent does with those (`later`) is checked over sockets
in `tests/loopback/test_torture.py`.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path

import pytest

from sipbridge.errors import SipParseError
from sipbridge.media.session_description import SessionDescription
from sipbridge.sip.framing import StreamFramer
from sipbridge.sip.headers import Uri
from sipbridge.sip.message import Request, parse_message, refusal
from tests.sip.test_rfc4475 import Case, Refused, touch_everything

DATA = Path(__file__).parent.parent / "data" / "rfc5118"

WELL_FORMED = [
    Case("4.1", "ipv6-good", "an IPv6 reference"),
    # A decision that the RFC leaves open: all that is in the brackets is the address, so there is no port.
    Case("4.3", "port-ambiguous", "a port inside the brackets"),
    Case("4.4", "port-unambiguous", "a port after the brackets"),
    Case("4.5", "via-received-param-with-delim", "received with brackets"),
    Case("4.5", "via-received-param-no-delim", "received without brackets, as §25.1 of RFC 3261 has it"),
    Case("4.6", "ipv6-in-sdp", "IPv6 addresses in the SDP"),
    Case("4.7", "mult-ip-in-header", "both address families in Via"),
    Case("4.8", "mult-ip-in-sdp", "both address families in the SDP"),
    Case("4.9", "ipv4-mapped-ipv6", "IPv4-mapped addresses"),
    Case("4.10", "ipv6-bug-abnf-3-colons", "what RFC 3261's ABNF makes of an embedded IPv4 address: to be tolerated"),
    Case("4.10", "ipv6-correct-abnf-2-colons", "what it should be"),
]

REFUSED = [Refused("4.2", "ipv6-bad", "an IPv6 address without brackets", 400, "malformed URI")]


def read(name: str) -> bytes:
    return (DATA / f"{name}.dat").read_bytes()


def parse_request(name: str) -> Request:
    message = parse_message(read(name))
    assert isinstance(message, Request)
    return message


def test_the_table_has_every_message() -> None:
    cases = [case.name for case in WELL_FORMED] + [case.name for case in REFUSED]
    assert sorted(cases) == sorted(path.stem for path in DATA.glob("*.dat"))
    assert len(cases) == 12


@pytest.mark.parametrize("case", WELL_FORMED, ids=lambda case: case.name)
def test_well_formed(case: Case) -> None:
    message = parse_request(case.name)
    touch_everything(message)
    assert parse_message(message.serialize()) == message
    assert StreamFramer().feed(read(case.name)) == [read(case.name)]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_refused(case: Refused) -> None:
    with pytest.raises(SipParseError, match=case.fault) as raised:
        parse_message(read(case.name))
    answer = refusal(raised.value, to_tag="ours")
    assert answer is not None
    assert (answer.status, answer.via.host) == (case.status, "2001:db8::9:1")


def test_4_1_an_address_comes_without_its_brackets_and_goes_back_with_them() -> None:
    request = parse_request("ipv6-good")
    assert (request.request_uri.host, request.request_uri.port) == ("2001:db8::10", None)
    assert str(request.request_uri) == "sip:[2001:db8::10]"
    assert request.via.host == "2001:db8::9:1"
    assert request.contact is not None
    assert request.contact.uri.host == "2001:db8::1"


def test_4_3_and_4_4_where_the_port_stands() -> None:
    ambiguous, unambiguous = parse_request("port-ambiguous"), parse_request("port-unambiguous")
    assert (ambiguous.request_uri.host, ambiguous.request_uri.port) == ("2001:db8::10:5070", None)
    assert (unambiguous.request_uri.host, unambiguous.request_uri.port) == ("2001:db8::10", 5070)


def test_4_5_received_is_read_with_and_without_brackets() -> None:
    for name in ("via-received-param-with-delim", "via-received-param-no-delim"):
        assert parse_request(name).via.received == "2001:db8::9:255"


def test_4_6_and_4_8_addresses_in_the_session_description() -> None:
    alone = SessionDescription.parse(parse_request("ipv6-in-sdp").body)
    assert alone.origin is not None
    assert (alone.connection, alone.origin.address) == ("2001:db8::20", "2001:db8::20")
    mixed = SessionDescription.parse(parse_request("mult-ip-in-sdp").body)
    assert mixed.connection is None
    assert [line.connection for line in mixed.media] == ["192.0.2.1", "2001:db8::1"]


def test_4_7_both_families_in_via() -> None:
    vias = parse_request("mult-ip-in-header").vias
    assert [(via.transport, via.host, via.port, via.received) for via in vias] == [
        ("UDP", "2001:db8::9:1", 6050, None),
        ("UDP", "192.0.2.1", None, None),
        ("TCP", "2001:db8::9:255", None, "192.0.2.200"),
    ]


def test_4_9_mapped_addresses_are_addresses() -> None:
    request = parse_request("ipv4-mapped-ipv6")
    assert [via.host for via in request.vias] == ["::ffff:192.0.2.10", "::ffff:192.0.2.2"]
    assert request.contact is not None
    assert IPv6Address(request.contact.uri.host).ipv4_mapped is not None


def test_4_10_the_third_colon_is_read_over_and_not_written() -> None:
    wrong, right = parse_request("ipv6-bug-abnf-3-colons"), parse_request("ipv6-correct-abnf-2-colons")
    assert wrong.uri == "sip:user@[2001:db8:::192.0.2.1]"
    assert wrong.request_uri == right.request_uri
    assert str(wrong.to.uri) == "sip:user@[2001:db8::192.0.2.1]"


@pytest.mark.parametrize(
    "host", ["2001:db8:::1", "2001:db8::::192.0.2.1", "1:::2:::192.0.2.1", "2001::db8:::192.0.2.1", ":::", "::1%eth0"]
)
def test_4_10_and_nothing_else_with_three_colons(host: str) -> None:
    with pytest.raises(SipParseError, match="malformed"):
        Uri.parse(f"sip:user@[{host}]")
