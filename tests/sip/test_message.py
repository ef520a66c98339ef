"""Requests and responses: RFC 3261 §7, §8.2.6, §20."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipbridge.errors import LocalProtocolError, SipParseError
from sipbridge.sip.headers import CSeq, Via
from sipbridge.sip.message import Headers, Request, Response, parse_message
from tests.sip.messages import BODY, INVITE, build, parse_request


def test_typed_accessors() -> None:
    request = parse_request(INVITE)
    assert (request.method, request.uri, request.body) == ("INVITE", "sip:+15550100@gw.example.com", BODY)
    assert request.request_uri.user == "+15550100"
    assert request.via == Via("UDP", "192.0.2.1", 5060, {"branch": "z9hG4bK1", "rport": None})
    assert [via.branch for via in request.vias] == ["z9hG4bK1", "z9hG4bK2"]
    assert (request.from_.display, request.from_.tag) == ("Alice, A.", "a1")
    assert (request.to.uri.user, request.to.tag) == ("+15550100", None)
    assert request.call_id == "abc@192.0.2.2"
    assert request.cseq == CSeq(7, "INVITE")
    assert request.contact == request.contacts[0]
    assert request.routes == ()
    assert [route.uri.host for route in request.record_routes] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert request.max_forwards == 70
    assert request.require == ()
    assert request.supported == ("timer", "100rel")
    assert request.content_type == "application/sdp"
    assert request.headers.get("x-trunk") == "one two"


def test_typed_accessors_follow_the_headers() -> None:
    request = parse_request(INVITE)
    assert request.via is request.via
    request.headers.prepend("Via", "SIP/2.0/TLS proxy.example.com;branch=z9hG4bK0")
    assert request.via.transport == "TLS"
    request.headers.remove("Contact")
    assert request.contact is None
    request.uri = "sip:other@example.com"
    assert request.request_uri.user == "other"


@pytest.mark.parametrize(
    ("name", "value", "accessor"),
    [
        ("Contact", "sip:a@h?b=c", "contact"),
        ("Contact", '"open <sip:a@h>', "contacts"),
        ("Route", "<sip:a@h", "routes"),
        ("Record-Route", "nonsense", "record_routes"),
        ("Max-Forwards", "256", "max_forwards"),
        ("Max-Forwards", "-1", "max_forwards"),
        ("Max-Forwards", "٣", "max_forwards"),
        ("Max-Forwards", "9" * 5000, "max_forwards"),
        ("Require", '"', "require"),
        ("Supported", "<", "supported"),
        ("Content-Type", "application", "content_type"),
        ("Content-Type", "/", "content_type"),
        ("Via", "SIP/2.0/UDP h;;", "vias"),
    ],
)
def test_optional_accessors_refuse_malformed_values(name: str, value: str, accessor: str) -> None:
    request = parse_request(INVITE)
    if name == "Via":
        request.headers.add(name, value)
    else:
        request.headers.set(name, value)
    with pytest.raises(SipParseError) as raised:
        getattr(request, accessor)
    assert raised.value.sip_status == 400


def test_a_serialized_message_parses_to_itself() -> None:
    request = parse_request(INVITE)
    assert parse_message(request.serialize()) == request
    response = request.response(183, "Session “Progress”", to_tag="b1")
    response.body = BODY
    again = parse_message(response.serialize())
    assert isinstance(again, Response)
    assert (again.status, again.reason, again.body) == (183, "Session “Progress”", BODY)


def test_content_length_is_that_of_the_body() -> None:
    request = parse_request(INVITE)
    request.body = b"1234567"
    assert b"\r\nContent-Length: 7\r\n\r\n1234567" in request.serialize()
    request.headers.remove("l")
    assert request.serialize().endswith(b"\r\nContent-Length: 7\r\n\r\n1234567")


def test_octets_that_are_no_utf8_survive() -> None:
    value = bytes(range(0x80, 0x100)) + "ü€\u2028\x85".encode() + b"\x1b\x0b\x0c\x1c"
    request = parse_request(build(b"X-Raw: " + value, X_Trunk=b"\xff\xa0"))
    assert b"\r\nX-Raw: " + value + b"\r\n" in request.serialize()
    display = parse_request(build(From=b'"J\xfcrgen" <sip:a@h>;tag=1')).from_.display
    assert display.encode("utf-8", "surrogateescape") == b"J\xfcrgen"


def test_compact_forms_and_case() -> None:
    request = parse_request(
        b"OPTIONS sip:h SIP/2.0\r\nv: SIP/2.0/UDP h\r\nF:<sip:a@h>;tag=1\r\nT : <sip:b@h>\r\nI\t: 1\r\n"
        b"cseq: 1 OPTIONS\r\nL: 0\r\nM: <sip:c@h>\r\nK: a\r\nX-oWn: kept\r\n\r\n"
    )
    assert [name for name, _ in request.headers] == [
        "Via", "From", "To", "Call-ID", "CSeq", "Content-Length", "Contact", "Supported", "X-oWn",
    ]  # fmt: skip
    assert request.headers.get("m") == request.headers.get("CONTACT") == request.headers.get("contact") == "<sip:c@h>"
    assert request.headers.get("x-own") == "kept"
    assert "k" in request.headers
    assert "Require" not in request.headers


def test_folded_lines() -> None:
    request = parse_request(build(b"Subject:\r\n\tI know\r\n  you are\r\n there"))
    assert request.headers.get("Subject") == "I know you are there"


def test_headers_keep_their_order() -> None:
    headers = Headers([("Route", "<sip:a>"), ("X-A", "1"), ("Route", "<sip:b>"), ("Z", "2")])
    headers.prepend("Route", "<sip:z>")
    headers.add("v", "SIP/2.0/UDP h ")
    assert headers.get_all("ROUTE") == ["<sip:z>", "<sip:a>", "<sip:b>"]
    headers.set("route", "<sip:only>")
    assert list(headers) == [("Route", "<sip:only>"), ("X-A", "1"), ("Z", "2"), ("Via", "SIP/2.0/UDP h")]
    headers.set("New", "n")
    headers.remove("x-a")
    headers.remove("absent")
    assert [name for name, _ in headers] == ["Route", "Z", "Via", "New"]
    twin = headers.copy()
    twin.add("q", "")
    assert (len(headers), len(twin)) == (4, 5)
    assert headers != twin
    assert twin.get_list("q") == []


@pytest.mark.parametrize(("name", "value"), [("X", "a\r\nVia: evil"), ("X", "a\nb"), ("X: y", ""), ("", ""), ("Ä", "")])
def test_our_own_side_cannot_smuggle_either(name: str, value: str) -> None:
    with pytest.raises(LocalProtocolError):
        Headers().add(name, value)
    with pytest.raises(LocalProtocolError):
        Headers([(name, value)])


def test_what_cannot_be_serialized_is_a_local_error() -> None:
    request = parse_request(INVITE)
    with pytest.raises(LocalProtocolError):
        request.response(200, "OK\r\nX: y").serialize()
    with pytest.raises(LocalProtocolError):
        Request("INVITE", "sip:a@h SIP/2.0\nX: y").serialize()
    request.headers.set("Subject", "\ud800")
    with pytest.raises(LocalProtocolError):
        request.serialize()


def test_response_copies_what_the_rfc_says() -> None:
    request = parse_request(INVITE)
    trying = request.response(100, to_tag=None)
    assert trying.reason == "Trying"
    assert [name for name, _ in trying.headers] == ["Via", "Via", "From", "To", "Call-ID", "CSeq", "Timestamp"]
    ok = request.response(200, to_tag="b1")
    assert ok.headers.get_all("Record-Route") == request.headers.get_all("Record-Route")
    assert ok.vias == request.vias
    assert (ok.from_, ok.call_id, ok.cseq) == (request.from_, request.call_id, request.cseq)
    assert ok.to == request.to.with_tag("b1")
    busy = request.response(486, to_tag="b1")
    assert "Record-Route" not in busy.headers
    assert "Timestamp" not in busy.headers
    assert busy.headers.get("To") == "<sip:+15550100@gw.example.com>;tag=b1"


def test_a_to_tag_is_never_replaced() -> None:
    request = parse_request(build(To=b"<sip:b@h>;tag=theirs", CSeq=b"8 BYE", start=b"BYE sip:b@h SIP/2.0"))
    response = request.response(200, to_tag="ours")
    assert response.to.tag == "theirs"
    assert "Record-Route" not in response.headers


@pytest.mark.parametrize(("status", "reason"), [(200, "OK"), (299, "OK"), (499, "Bad Request"), (999, "Unknown")])
def test_reason_phrases(status: int, reason: str) -> None:
    assert parse_request(INVITE).response(status).reason == reason


def test_a_datagram_is_cut_at_content_length() -> None:
    assert parse_request(INVITE + b"junk").body == BODY
    assert parse_request(build(Content_Length=None)).body == BODY
    assert parse_request(build(Content_Length=b"0")).body == b""
    assert parse_request(b"\r\n\r\n" + INVITE).body == BODY


NAMES = st.from_regex(r"X-[A-Za-z0-9!%'~-]{1,12}", fullmatch=True)
VALUES = st.binary(max_size=24).map(lambda value: value.translate(None, b"\r\n\0").decode("utf-8", "surrogateescape"))


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=8), st.binary(max_size=40))
def test_parse_undoes_serialize(fields: list[tuple[str, str]], body: bytes) -> None:
    request = parse_request(INVITE)
    for name, value in fields:
        request.headers.add(name, value)
    request.body = body
    request.headers.set("Content-Length", str(len(body)))
    assert parse_message(request.serialize()) == request
    response = request.response(200, to_tag="t")
    response.headers.add("Content-Length", "0")
    assert parse_message(response.serialize()) == response
