"""Typed header values: RFC 3261 §19.1, §20, §25, RFC 3966, RFC 5118."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from sipbridge.errors import SipParseError
from sipbridge.sip.headers import CSeq, NameAddr, Uri, Via, parse_addresses, quote, readable, split_list, unescape


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sip:alice@example.com", Uri("sip", "alice", "example.com")),
        ("SIPS:bob@Example.com:5061", Uri("sips", "bob", "Example.com", 5061)),
        ("sip:example.com", Uri("sip", None, "example.com")),
        ("sip:alice:secret@192.0.2.4", Uri("sip", "alice", "192.0.2.4", password="secret")),
        ("sip:[2001:db8::10]:5070", Uri("sip", None, "2001:db8::10", 5070)),
        ("sip:a@h;transport=tcp;lr", Uri("sip", "a", "h", params={"transport": "tcp", "lr": None})),
        ("sip:1;phone-context=x@h;user=phone", Uri("sip", "1;phone-context=x", "h", None, {"user": "phone"})),
        ("sip:a@h?Replaces=1%402&Subject=", Uri("sip", "a", "h", headers=(("Replaces", "1%402"), ("Subject", "")))),
        ("sip:*97#@h", Uri("sip", "*97#", "h")),
        ("tel:+1-555-0100;ext=12", Uri("tel", "+1-555-0100", params={"ext": "12"})),
        ("urn:service:sos", Uri("urn", "service:sos")),
    ],
)
def test_uri(text: str, expected: Uri) -> None:
    uri = Uri.parse(text)
    assert uri == expected
    assert Uri.parse(str(uri)) == uri


@pytest.mark.parametrize(
    "text",
    [
        "sip:alice%40home@example.com;x=%3b",
        "sip:a@h;lr",
        "sip:[::1]:5060;transport=tls?a=b&c=d",
        "tel:112;phone-context=+1",
    ],
)
def test_a_uri_goes_back_as_it_came(text: str) -> None:
    assert str(Uri.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice@example.com",
        "sip:",
        "sip:@example.com",
        "sip:alice@",
        "sip:alice@exa mple.com",
        "sip:a@b@c",
        "sip:alice@example.com:0",
        "sip:alice@example.com:65536",
        "sip:alice@example.com:٣٠",
        "sip:alice@example.com:",
        "sip:alice@[2001:db8::10",
        "sip:alice@[1:2]",
        "sip:2001:db8::10",  # RFC 5118 §4.2: no brackets
        "sip:alice@a..b",
        "sip:alice@" + "a" * 64,
        "sip:alice@" + ".".join(["a" * 60] * 5),
        "sip:alice@h;;lr",
        "sip:alice@h;lr;",
        "sip:alice@h;transport=udp;transport=tcp",
        "sip:alice@h\x00",
        "<sip:alice@h>",
        "tel:",
        "tel:alice",
    ],
)
def test_malformed_uri(text: str) -> None:
    with pytest.raises(SipParseError) as raised:
        Uri.parse(text)
    assert raised.value.sip_status == 400


def test_escapes_are_undone_once_and_on_request_only() -> None:
    """RFC 4475 §3.1.1.3 and §3.1.1.9."""
    uri = Uri.parse("sip:sips%3Auser%40example.com@example.net;%6C%72;n%61me=v%61lue%25%34%31")
    assert uri.user == "sips%3Auser%40example.com"
    assert uri.username == "sips:user@example.com"
    assert uri.params == {"lr": None, "name": "v%61lue%25%34%31"}
    assert unescape(uri.params["name"] or "") == "value%41"


def test_text_that_is_no_utf_8_is_readable_as_latin_1() -> None:
    assert readable("J\u00fcrgen") == "J\u00fcrgen"
    assert readable("J\udcfcrgen") == "J\u00fcrgen"
    assert readable(Uri.parse("sip:J%FCrgen@example.com").username) == "J\u00fcrgen"


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("sip:%61lice@atlanta.example.com;transport=TCP", "sip:alice@AtLanTa.example.COM;Transport=tcp"),
        ("sip:carol@example.com", "sip:carol@example.com;newparam=5"),
        ("sip:carol@example.com;security=on", "sip:carol@example.com;newparam=5"),
        (
            "sip:biloxi.example.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.example.com",
            "sip:biloxi.example.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.example.com",
        ),
        ("sip:a@h?subject=x&priority=urgent", "sip:a@h?priority=urgent&subject=x"),
        ("tel:+1-555-0100", "tel:+1(555)0100"),
    ],
)
def test_equivalent_uris(a: str, b: str) -> None:
    assert Uri.parse(a).matches(Uri.parse(b))
    assert Uri.parse(b).matches(Uri.parse(a))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("SIP:ALICE@example.com;Transport=udp", "sip:alice@example.com;Transport=UDP"),
        ("sip:bob@example.com", "sip:bob@example.com:5060"),
        ("sip:bob@example.com", "sip:bob@example.com;transport=udp"),
        ("sip:bob@example.com", "sip:bob@example.com;user=phone"),
        ("sip:bob@example.com", "sip:bob@example.com;maddr=192.0.2.1"),
        ("sip:bob@example.com", "sips:bob@example.com"),
        ("sip:bob@example.com", "sip:bob:pw@example.com"),
        ("sip:carol@example.com", "sip:carol@example.com?Subject=next"),
        ("sip:carol@example.com;security=on", "sip:carol@example.com;security=off"),
        ("sip:a%3Bb@example.com", "sip:a;b@example.com"),  # reserved: its escape means something else
        ("tel:+15550100", "tel:15550100"),
        ("tel:112", "tel:112;phone-context=+1"),
    ],
)
def test_different_uris(a: str, b: str) -> None:
    assert not Uri.parse(a).matches(Uri.parse(b))
    assert not Uri.parse(b).matches(Uri.parse(a))


@pytest.mark.parametrize(
    ("text", "display", "uri", "params"),
    [
        ("<sip:a@h>", "", "sip:a@h", {}),
        ("sip:a@h;tag=1", "", "sip:a@h", {"tag": "1"}),
        ('"Bell, Alexander" <sip:a@h;lr>;tag=1;x', "Bell, Alexander", "sip:a@h;lr", {"tag": "1", "x": None}),
        ("A. G. Bell   <sip:a@h> ; tag = 98 ", "A. G. Bell", "sip:a@h", {"tag": "98"}),
        ("caller<sip:a@h>", "caller", "sip:a@h", {}),
        (r'"J \"R\" \\" <sip:a@h>', r'J "R" ' + "\\", "sip:a@h", {}),
        ('"<sip:no@h>;tag=0" <sip:a@h>;tag=1', "<sip:no@h>;tag=0", "sip:a@h", {"tag": "1"}),
        ('<sip:a@h>;p="a;b=\\"c\\"";tag=1', "", "sip:a@h", {"p": '"a;b=\\"c\\""', "tag": "1"}),
        ("Jürgen <sip:a@h>", "Jürgen", "sip:a@h", {}),
        ('"" <tel:+15550100>', "", "tel:+15550100", {}),
        ("<http://www.example.com>;tag=1", "", "http://www.example.com", {"tag": "1"}),
    ],
)
def test_name_addr(text: str, display: str, uri: str, params: dict[str, str | None]) -> None:
    address = NameAddr.parse(text)
    assert (address.display, str(address.uri), address.params) == (display, uri, params)
    assert NameAddr.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<>",
        "< sip:a@h >",
        '"Mr. J. User <sip:a@h>',
        "Bell, Alexander <sip:a@h>",
        "sip:a@h?Route=%3Csip:b%3E",
        "sip:a@h, sip:b@h",
        "sip:+15550100;phone-context=x@h",  # §20.10: needs brackets, or it names the host +15550100
        "<sip:a@h",
        "<sip:a@h>>",
        "<sip:a@h>tag=1",
        "<sip:a@h>;;tag=1",
        "<sip:a@h>;tag=1;tag=2",
        "<sip:a@h>;tag=a b",
        '<sip:a@h>;p="open',
    ],
)
def test_malformed_name_addr(text: str) -> None:
    with pytest.raises(SipParseError):
        NameAddr.parse(text)


def test_tag() -> None:
    address = NameAddr.parse("Bob <sip:bob@example.com>;x=1")
    assert address.tag is None
    assert str(address.with_tag("abc")) == '"Bob" <sip:bob@example.com>;x=1;tag=abc'


def test_address_lists() -> None:
    addresses = parse_addresses('"Doe, Jane" <sip:j@h;a=1,2>;q=0.7 ,, <sip:k@h>,sip:l@h;q=1')
    assert [str(address.uri) for address in addresses] == ["sip:j@h;a=1,2", "sip:k@h", "sip:l@h"]
    assert parse_addresses("") == ()
    (wildcard,) = parse_addresses(" * ")
    assert wildcard.is_wildcard
    assert str(wildcard) == "*"
    for text in ("*, <sip:a@h>", '<sip:a@h>, "open', "<sip:a@h>, <sip:b@h"):
        with pytest.raises(SipParseError):
            parse_addresses(text)


def test_split_list() -> None:
    assert split_list("a, b ,,c") == ["a", "b", "c"]
    assert split_list(' "a, \\", b" , <c,d>') == ['"a, \\", b"', "<c,d>"]
    assert split_list("") == []


def test_quote_is_undone_by_parse() -> None:
    display = 'quo"te \\ back'
    assert NameAddr.parse(f"{quote(display)} <sip:a@h>").display == display


def test_via() -> None:
    via = Via.parse("SIP/2.0/udp 192.0.2.1:5062;branch=z9hG4bKabc;rport;received=203.0.113.9")
    assert via == Via("UDP", "192.0.2.1", 5062, {"branch": "z9hG4bKabc", "rport": None, "received": "203.0.113.9"})
    assert (via.branch, via.received, via.rport, via.wants_rport) == ("z9hG4bKabc", "203.0.113.9", None, True)
    assert str(via) == "SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bKabc;rport;received=203.0.113.9"
    answered = Via.parse("SIP  / 2.0 /TCP  [2001:db8::1] : 5060 ; rport = 40000 ; received=[2001:db8::2]")
    assert (answered.host, answered.port, answered.rport, answered.received) == (
        "2001:db8::1",
        5060,
        40000,
        "2001:db8::2",
    )
    assert str(answered) == "SIP/2.0/TCP [2001:db8::1]:5060;rport=40000;received=[2001:db8::2]"
    assert not Via.parse("SIP/2.0/TLS h").wants_rport


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SIP/2.0/UDP",
        "SIP/7.0/UDP h",
        "HTTP/2.0/UDP h",
        "SIP/2.0/UDP h:99999",
        "SIP/2.0/UDP h;;branch=1",
        "SIP/2.0/UDP h;branch=1;branch=2",
        "SIP/2.0/UDP h;rport=x",
        "SIP/2.0/UDP h;rport=٣",
        "SIP/2.0/UDP h;rport=70000",
        "SIP/2.0/UDP h h",
        "SIP/2.0/UDP ::1",
    ],
)
def test_malformed_via(text: str) -> None:
    with pytest.raises(SipParseError):
        Via.parse(text)


def test_cseq() -> None:
    assert CSeq.parse("0009   INVITE") == CSeq(9, "INVITE")
    assert CSeq.parse(f"{2**31 - 1} ACK") == CSeq(2**31 - 1, "ACK")
    assert str(CSeq(1, "BYE")) == "1 BYE"


@pytest.mark.parametrize(
    "text",
    ["", "1", "INVITE", "-1 INVITE", f"{2**31} A", f"{2**65} A", "1 A B", "1 Ä", "٣ A", "1" * 5000 + " A"],
    ids=range(10),
)
def test_malformed_cseq(text: str) -> None:
    with pytest.raises(SipParseError):
        CSeq.parse(text)


@pytest.mark.parametrize(
    "hostile",
    [
        " " * 65_000,
        '"' * 65_000,
        '"' + "\\" * 65_000,
        ";" * 65_000,
        "<" * 65_000,
        "a " * 32_000,
        "sip:" + "a" * 65_000,
        "sip:" + "a:" * 32_000,
        "sip:a@" + "a." * 32_000,
        "sip:a@h" + ";a=b" * 16_000 + "\x00",
        "<sip:a@h>" + ";a=b" * 16_000 + "\x00",
        "<sip:a@h>" + ' ; a = "' * 8_000,
        "<sip:a@h>;a" + " " * 65_000 + "\x00",
        "SIP" + " " * 65_000 + "/2.0",
        "SIP/2.0/UDP h" + " " * 65_000 + "x",
        "0" * 65_000 + " ",
        '"a",<' * 13_000,
    ],
    ids=lambda text: ascii(text[:16]),
)
def test_no_input_takes_more_than_linear_time(hostile: str) -> None:
    parsers: tuple[Callable[[str], object], ...] = (Uri.parse, NameAddr.parse, Via.parse, CSeq.parse, parse_addresses)
    messages = []
    started = time.process_time()
    for parse in parsers:
        try:
            parse(hostile)
        except SipParseError as error:
            messages.append(str(error))
    # About a millisecond; a pattern that backtracks takes seconds at this length.
    assert time.process_time() - started < 0.5
    assert max(map(len, messages)) < 800  # what goes to the log is bounded, too
