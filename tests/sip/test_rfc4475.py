"""Every message of RFC 4475, with the outcome that the RFC gives it.

Three outcomes concern the parser: a message is well-formed, is a request to be refused with a status, or is to be
dropped. Well-formed ones may still be refused above (`later` says how, RFC 4475 §3.3): that is for the tests of the UA
core. Where the RFC leaves a choice, the comment says which was taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from sipbridge.errors import SipParseError
from sipbridge.sip.framing import StreamFramer
from sipbridge.sip.headers import Uri, unescape
from sipbridge.sip.message import Message, Request, Response, parse_message, refusal

DATA = Path(__file__).parent.parent / "data" / "rfc4475"


class Case(NamedTuple):
    section: str
    name: str
    title: str
    later: str = ""


class Refused(NamedTuple):
    section: str
    name: str
    title: str
    status: int
    fault: str
    """What our error must say, so that a case is not refused for some other reason."""


WELL_FORMED = [
    Case("3.1.1.1", "wsinv", "a short tortuous INVITE"),
    Case("3.1.1.2", "intmeth", "wide range of valid characters", later="405 or 501: unknown method"),
    Case("3.1.1.3", "esc01", "valid use of % escaping"),
    Case("3.1.1.4", "escnull", "escaped nulls in URIs"),
    Case("3.1.1.5", "esc02", "% where it is no escaping", later="405 or 501: unknown method"),
    Case("3.1.1.6", "lwsdisp", "no LWS between display name and <"),
    Case("3.1.1.7", "longreq", "long values in header fields"),
    Case("3.1.1.8", "dblreq", "extra trailing octets in a datagram"),
    Case("3.1.1.9", "semiuri", "semicolons in the user part"),
    Case("3.1.1.10", "transports", "varied and unknown transports"),
    Case("3.1.1.11", "mpart01", "multipart MIME message"),
    Case("3.1.1.12", "unreason", "unusual reason phrase"),
    Case("3.1.1.13", "noreason", "empty reason phrase"),
    # May be refused, but only by one who needs the Date: we don't.
    Case("3.1.2.12", "baddate", "invalid time zone in Date"),
    # 400 when the Contact is looked at, see test_a_contact_without_brackets; who does not need it may go on.
    Case("3.1.2.13", "regbadct", "name-addr URI not in <>", later="400"),
    Case("3.3.2", "unkscm", "Request-URI with an unknown scheme", later="416"),
    Case("3.3.3", "novelsc", "Request-URI with a known but atypical scheme", later="416"),
    Case("3.3.4", "unksm2", "unknown URI schemes in header fields", later="a registrar refuses the Contact"),
    Case("3.3.5", "bext01", "Proxy-Require and Require", later="420 with Unsupported"),
    Case("3.3.6", "invut", "unknown Content-Type", later="415 with Accept"),
    Case("3.3.7", "regaut01", "unknown Authorization scheme", later="a registrar ignores it: 401"),
    Case("3.3.10", "bcast", "200 with a broadcast Via", later="dropped: not our Via on top"),
    Case("3.3.11", "zeromf", "Max-Forwards of zero", later="a UAS answers it, a proxy gives 483"),
    Case("3.3.12", "cparam01", "REGISTER with a Contact header parameter"),
    Case("3.3.13", "cparam02", "REGISTER with a URI parameter"),
    Case("3.3.14", "regescrt", "REGISTER with an escaped header in the URI"),
    Case("3.3.15", "sdp01", "unacceptable Accept", later="406: no answer can be given in what is accepted"),
    Case("3.4.1", "inv2543", "INVITE with RFC 2543 syntax"),
]

REFUSED = [
    Refused("3.1.2.1", "badinv01", "extraneous separators", 400, "malformed parameters"),
    Refused("3.1.2.2", "clerr", "Content-Length larger than the message", 400, "shorter than Content-Length"),
    Refused("3.1.2.3", "ncl", "negative Content-Length", 400, "malformed Content-Length"),
    Refused("3.1.2.4", "scalar02", "overlarge scalars in a request", 400, "malformed CSeq"),
    Refused("3.1.2.6", "quotbal", "unterminated quoted string", 400, "malformed address"),
    Refused("3.1.2.7", "ltgtruri", "<> around the Request-URI", 400, "malformed URI"),
    Refused("3.1.2.8", "lwsruri", "LWS inside the Request-URI", 400, "malformed request line"),
    # The next three, 3.1.2.14 and 3.1.2.15 may be read liberally; a proxy on the way may have read them differently.
    Refused("3.1.2.9", "lwsstart", "several SP in the request line", 400, "malformed request line"),
    Refused("3.1.2.10", "trws", "SP at the end of the request line", 400, "malformed request line"),
    Refused("3.1.2.11", "escruri", "escaped header fields in the Request-URI", 400, "in the Request-URI"),
    Refused("3.1.2.14", "badaspec", "spaces within addr-spec", 400, "malformed URI"),
    Refused("3.1.2.15", "baddn", "non-token characters in a display name", 400, "malformed URI: 'Bell'"),
    Refused("3.1.2.16", "badvers", "unknown protocol version", 505, "unknown version"),
    Refused("3.1.2.17", "mismatch01", "start line and CSeq differ in the method", 400, "methods"),
    # 501 or 400: a method is not unknown as long as it is uncertain which one it is.
    Refused("3.1.2.18", "mismatch02", "unknown method, and another one in CSeq", 400, "methods"),
    # 400, or to be matched as RFC 2543 does.
    Refused("3.2.1", "badbranch", "a branch without an identifier", 400, "identifies nothing"),
    Refused("3.3.1", "insuf", "required header fields missing", 400, "is missing"),
    Refused("3.3.8", "multi01", "several values in single-value header fields", 400, "more than one"),
    Refused("3.3.9", "mcl01", "several Content-Length values", 400, "more than one Content-Length"),
]

DROPPED = [
    Case("3.1.2.5", "scalarlg", "overlarge scalars in a response"),
    Case("3.1.2.19", "bigcode", "overlarge response code"),
]


def read(name: str) -> bytes:
    data = (DATA / f"{name}.dat").read_bytes()
    # The file of 3.1.2.15 ends before the empty line, which is not what the section is about.
    return data + b"\r\n" if name == "baddn" else data


def parse_request(name: str) -> Request:
    message = parse_message(read(name))
    assert isinstance(message, Request)
    return message


ACCESSORS = (
    "via", "from_", "to", "call_id", "cseq", "vias", "contact", "contacts", "routes", "record_routes", "max_forwards",
    "require", "supported", "content_type",
)  # fmt: skip


def touch_everything(message: Message) -> None:
    """Every typed accessor gives a value or SipParseError."""
    for accessor in ACCESSORS:
        try:
            getattr(message, accessor)
        except SipParseError:
            assert accessor not in ACCESSORS[:5], "checked by parse_message"


def test_the_table_has_every_message() -> None:
    cases = [case.name for case in WELL_FORMED + DROPPED] + [case.name for case in REFUSED]
    assert sorted(cases) == sorted(path.stem for path in DATA.glob("*.dat"))
    assert len(cases) == 49


@pytest.mark.parametrize("case", WELL_FORMED, ids=lambda case: case.name)
def test_well_formed(case: Case) -> None:
    message = parse_message(read(case.name))
    touch_everything(message)
    again = parse_message(message.serialize())
    again.headers.remove("Content-Length")  # which we add where it was missing
    message.headers.remove("Content-Length")
    assert again == message


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_refused(case: Refused) -> None:
    with pytest.raises(SipParseError, match=case.fault) as raised:
        parse_message(read(case.name))
    assert raised.value.sip_status == case.status
    answer = refusal(raised.value, to_tag="ours")
    assert answer is not None
    assert answer.status == case.status
    assert answer.headers.get("CSeq")
    assert answer.headers.get("Via")
    assert answer.serialize().endswith(b"\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("case", DROPPED, ids=lambda case: case.name)
def test_dropped(case: Case) -> None:
    with pytest.raises(SipParseError) as raised:
        parse_message(read(case.name))
    assert refusal(raised.value, to_tag="ours") is None


# On a stream Content-Length is required (§20.14), which leaves out the message of RFC 2543's time.
@pytest.mark.parametrize("case", [case for case in WELL_FORMED if case.name != "inv2543"], ids=lambda case: case.name)
def test_framed_from_a_stream(case: Case) -> None:
    data = read(case.name)
    message = parse_message(data)
    framed = StreamFramer().feed(data)[0]
    assert isinstance(framed, bytes)
    assert len(framed) == data.index(b"\r\n\r\n") + 4 + len(message.body)
    assert parse_message(framed) == message


def test_3_1_1_1_wsinv() -> None:
    request = parse_request("wsinv")
    assert str(request.request_uri) == "sip:vivekg@chair-dnrc.example.com;unknownparam"
    assert request.to.tag == "1918181833n"
    assert (request.from_.display, request.from_.tag) == ('J Rosenberg \\"', "98asjd8")
    assert request.max_forwards == 68
    assert (request.cseq.number, request.cseq.method) == (9, "INVITE")
    assert [(via.transport, via.host, via.branch) for via in request.vias] == [
        ("UDP", "192.0.2.2", "390skdjuw"),
        ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
        ("UDP", "192.168.255.111", "z9hG4bK30239"),
    ]
    assert request.headers.get("Subject") == ""
    assert request.headers.get("newfangledheader") == "newfangled value continued newfangled value"
    assert request.headers.get("UnknownHeaderWithUnusualValue") == ";;,,;;,;"
    assert request.routes[0].uri.params == {"lr": None, "unknownwith": "value", "unknown-no-value": None}
    assert request.contact is not None
    assert request.contact.display == 'Quoted string ""'
    assert request.contact.params == {"newparam": "newvalue", "secondparam": None, "q": "0.33"}
    assert len(request.body) == 150


def test_3_1_1_2_intmeth() -> None:
    request = parse_request("intmeth")
    assert request.method == "!interesting-Method0123456789_*+`.%indeed'~"
    assert request.request_uri.host == "example.com"
    assert request.request_uri.password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
    assert request.to.display == "BEL:\x07 NUL:\x00 DEL:\x7f"
    assert request.from_.display == "token1~` token2'+_ token3*%!.-"
    assert request.from_.params["fromparam''~+*_!.-%"] == '"работающий"'
    assert request.from_.tag == "_token~1'+`*%!-."
    assert request.headers.get("extensionHeader-!.%*+_`'~") == "\ufeff大停電"


def test_3_1_1_3_esc01() -> None:
    request = parse_request("esc01")
    assert request.request_uri.username == "sips:user@example.com"
    assert request.to.uri.matches(Uri.parse("sip:user@example.com"))
    assert request.from_.uri.username == "I have spaces"
    assert request.contact is not None
    assert "lr" in request.contact.uri.params
    assert unescape(request.contact.uri.params["name"] or "") == "value%41"


def test_3_1_1_4_escnull() -> None:
    request = parse_request("escnull")
    assert request.to.uri.username == "null-\x00-null"
    assert [contact.uri.username for contact in request.contacts] == ["\x00", "\x00\x00"]


def test_3_1_1_5_esc02() -> None:
    request = parse_request("esc02")
    assert request.method == "RE%47IST%45R"  # not REGISTER
    assert request.to.display == "%Z%45"
    assert [contact.uri.user for contact in request.contacts] == ["alias1", "alias3"]
    assert "C%6Fntact" in request.headers


def test_3_1_1_7_longreq() -> None:
    request = parse_request("longreq")
    assert len(request.vias) == 34
    assert request.vias[-1].received == "192.0.2.5"
    assert request.from_.uri.user == "amazinglylongcallername" * 5


def test_3_1_1_8_dblreq() -> None:
    """On a stream, the second message is one; in a datagram, it is not there."""
    request = parse_request("dblreq")
    assert (request.method, request.body) == ("REGISTER", b"")
    frames = [frame for frame in StreamFramer().feed(read("dblreq")) if isinstance(frame, bytes)]
    assert [frame.split()[0] for frame in frames] == [b"REGISTER", b"INVITE"]


def test_3_1_1_9_semiuri() -> None:
    uri = parse_request("semiuri").request_uri
    assert (uri.username, uri.host, uri.params) == ("user;par=u@example.net", "example.com", {})


def test_3_1_1_10_transports() -> None:
    assert [via.transport for via in parse_request("transports").vias] == ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]


def test_3_1_1_11_mpart01() -> None:
    request = parse_request("mpart01")
    assert request.content_type == "multipart/mixed"
    assert len(request.body) == 553
    assert request.serialize().endswith(request.body)


def test_3_1_1_12_and_13_reason_phrases() -> None:
    unusual, none = parse_message(read("unreason")), parse_message(read("noreason"))
    assert isinstance(unusual, Response)
    assert unusual.reason == "= 2**3 * 5**2 но сто девяносто девять - простое"
    assert isinstance(none, Response)
    assert (none.status, none.reason) == (100, "")


def test_3_1_2_13_a_contact_without_brackets() -> None:
    request = parse_request("regbadct")
    with pytest.raises(SipParseError) as raised:
        _ = request.contacts
    assert raised.value.sip_status == 400


def test_3_1_2_16_badvers_is_answered_with_its_own_via() -> None:
    with pytest.raises(SipParseError) as raised:
        parse_message(read("badvers"))
    answer = refusal(raised.value, to_tag="ours")
    assert answer is not None
    assert answer.serialize().startswith(
        b"SIP/2.0 505 Version Not Supported\r\nVia: SIP/7.0/UDP c.example.com;branch=z9hG4bKkdjuw\r\n"
    )


def test_3_3_4_unksm2() -> None:
    request = parse_request("unksm2")
    assert (request.to.uri.scheme, request.from_.uri.scheme) == ("isbn", "http")
    assert request.contact is not None
    assert str(request.contact) == "<name:John_Smith>"


def test_3_3_5_bext01() -> None:
    assert parse_request("bext01").require == ("nothingSupportsThis", "nothingSupportsThisEither")


def test_3_3_12_to_14_where_a_contact_parameter_belongs() -> None:
    outside, inside = parse_request("cparam01").contact, parse_request("cparam02").contact
    assert outside is not None
    assert (outside.uri.params, outside.params) == ({}, {"unknownparam": None})
    assert inside is not None
    assert (inside.uri.params, inside.params) == ({"unknownparam": None}, {})
    with_header = parse_request("regescrt").contact
    assert with_header is not None
    assert with_header.uri.headers == (("Route", "%3Csip:sip.example.com%3E"),)


def test_3_4_1_inv2543() -> None:
    request = parse_request("inv2543")
    assert request.from_.tag is None
    assert request.via.branch is None
    assert request.max_forwards is None
    assert request.body.endswith(b"m=audio 49217 RTP/AVP 0\r\n")
    assert request.record_routes[0].uri.params == {"maddr": "ss1.example.com"}
