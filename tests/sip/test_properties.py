"""Laws that hold for every value of a kind: what is written is read as the same, and equivalence behaves as one."""

from __future__ import annotations

import string

from hypothesis import given, settings
from hypothesis import strategies as st

from sipbridge.sip.headers import CSeq, NameAddr, Uri, Via, quote, split_list, unescape
from sipbridge.sip.message import Headers, Request, Response, parse_message
from tests.sip.messages import FIELDS, build, parse_request

settings.register_profile("laws", derandomize=True, max_examples=60, deadline=None)
LAWS = settings.get_profile("laws")

TOKEN = st.text(string.ascii_letters + string.digits + "-.!%*_+`'~", min_size=1, max_size=12)
LABEL = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
IPV6 = st.ip_addresses(v=6).map(str)
HOST = st.one_of(
    st.lists(LABEL, min_size=1, max_size=3).map(".".join), st.ip_addresses(v=4).map(str), IPV6, st.just("h.example.")
)
PORT = st.none() | st.integers(1, 65535)
USER = st.text(string.ascii_letters + string.digits + "-_.!~*'()&=+$,;?/%", min_size=1, max_size=10)
PARAM_VALUE = st.none() | st.text(string.ascii_letters + string.digits + "-_.!~*'()[]/:&+$", min_size=1, max_size=8)
URI_PARAMS = st.dictionaries(st.text(string.ascii_lowercase, min_size=1, max_size=6), PARAM_VALUE, max_size=3)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=20)
HEADER_PARAMS = st.dictionaries(
    TOKEN.map(str.lower), st.none() | TOKEN | TEXT.map(quote), max_size=3
)  # a quoted value may hold anything

URIS = st.builds(
    Uri,
    scheme=st.sampled_from(("sip", "sips")),
    user=st.none() | USER,
    host=HOST,
    port=PORT,
    params=URI_PARAMS,
)
ADDRESSES = st.builds(NameAddr, display=TEXT, uri=URIS, params=HEADER_PARAMS)
VIAS = st.builds(
    Via, transport=st.sampled_from(("UDP", "TCP", "TLS", "WS", "X-1")), host=HOST, port=PORT, params=URI_PARAMS
)


@LAWS
@given(URIS)
def test_a_uri_is_read_as_it_is_written(uri: Uri) -> None:
    assert Uri.parse(str(uri)) == uri


@LAWS
@given(ADDRESSES)
def test_an_address_is_read_as_it_is_written(address: NameAddr) -> None:
    assert NameAddr.parse(str(address)) == address


@LAWS
@given(VIAS.filter(lambda via: not via.params.get("rport")))
def test_a_via_is_read_as_it_is_written(via: Via) -> None:
    assert Via.parse(str(via)) == via


@LAWS
@given(st.integers(0, 2**31 - 1), TOKEN)
def test_a_cseq_is_read_as_it_is_written(number: int, method: str) -> None:
    assert CSeq.parse(str(CSeq(number, method))) == CSeq(number, method)


@LAWS
@given(URIS, URIS)
def test_equivalence_of_uris_is_reflexive_and_symmetric(one: Uri, other: Uri) -> None:
    """§19.1.4. It is not transitive: two that say nothing of a parameter each match one that does."""
    assert one.matches(one)
    assert one.matches(other) == other.matches(one)
    if one == other:
        assert one.matches(other)


@LAWS
@given(URIS, st.data())
def test_equivalence_does_not_see_case_escapes_and_order(uri: Uri, data: st.DataObject) -> None:
    params = dict(data.draw(st.permutations(list(uri.params.items()))))
    user = uri.user
    if user is not None and (letters := [at for at, letter in enumerate(user) if letter.isalpha()]) and "%" not in user:
        at = data.draw(st.sampled_from(letters))
        user = f"{user[:at]}%{ord(user[at]):02X}{user[at + 1 :]}"
    other = Uri(uri.scheme, user, uri.host.upper(), uri.port, params)
    assert uri.matches(other)
    assert unescape(user or "") == uri.username or "%" in (uri.user or "")


@LAWS
@given(URIS, st.integers(1, 65535))
def test_another_port_scheme_or_user_is_another_uri(uri: Uri, port: int) -> None:
    """§19.1.4: the port that is understood is not equal to the same port said."""
    assert uri.port == port or not uri.matches(Uri(uri.scheme, uri.user, uri.host, port, uri.params))
    assert not uri.matches(Uri("sips" if uri.scheme == "sip" else "sip", uri.user, uri.host, uri.port, uri.params))
    assert not uri.matches(Uri(uri.scheme, f"{uri.user}x", uri.host, uri.port, uri.params))


@LAWS
@given(st.lists(ADDRESSES, max_size=5))
def test_a_list_of_addresses_is_split_where_it_was_joined(addresses: list[NameAddr]) -> None:
    assert split_list(", ".join(map(str, addresses))) == [str(address) for address in addresses]


REQUESTS = st.builds(
    lambda method, uri, to, extra, body: Request(
        method,
        str(uri),
        Headers(
            [
                ("Via", "SIP/2.0/UDP h;branch=z9hG4bK1"),
                ("From", "<sip:a@h>;tag=1"),
                ("To", str(to)),
                ("Call-ID", "1"),
                ("CSeq", f"1 {method}"),
                *(("X-Extra", text) for text in extra),
                ("Content-Length", str(len(body))),
            ]
        ),
        body,
    ),
    TOKEN.filter(lambda method: method.upper()[:4] != "SIP/"),
    URIS.filter(lambda uri: "method" not in uri.params),
    ADDRESSES,
    st.lists(TEXT, max_size=3),
    st.binary(max_size=30),
)


@LAWS
@given(REQUESTS)
def test_a_request_is_read_as_it_is_written(request: Request) -> None:
    assert parse_message(request.serialize()) == request


@LAWS
@given(REQUESTS, st.integers(100, 699), TEXT, st.none() | TOKEN)
def test_a_response_is_read_as_it_is_written_and_answers_its_request(
    request: Request, status: int, reason: str, tag: str | None
) -> None:
    response = request.response(status, reason.strip(" \t"), to_tag=tag)
    response.headers.set("Content-Length", "0")
    again = parse_message(response.serialize())
    assert again == response
    assert isinstance(again, Response)
    assert (again.via, again.from_, again.call_id, again.cseq) == (
        request.via,
        request.from_,
        request.call_id,
        request.cseq,
    )
    assert again.to.tag == (request.to.tag or tag)


@LAWS
@given(st.data())
def test_a_folded_header_says_the_same(data: st.DataObject) -> None:
    """§7.3.1: where there is white space there may be a line break before it."""
    lines = []
    for name, value in FIELDS:
        words = value.split(b" ")
        folds = data.draw(st.lists(st.sampled_from([b" ", b"\r\n ", b"\r\n\t", b" \r\n  "]), min_size=len(words)))
        lines.append(name + b":" + b"".join(fold + word for fold, word in zip(folds, words, strict=False)))
    folded = parse_request(b"\r\n".join([b"INVITE sip:+15550100@gw.example.com SIP/2.0", *lines]) + b"\r\n\r\nv=0\r\n")
    plain = parse_request(build())
    assert folded.vias == plain.vias
    assert (folded.from_, folded.to, folded.cseq, folded.contacts) == (
        plain.from_,
        plain.to,
        plain.cseq,
        plain.contacts,
    )
    assert (folded.record_routes, folded.supported, folded.body) == (plain.record_routes, plain.supported, plain.body)
    assert folded.content_type == plain.content_type


@LAWS
@given(st.permutations(FIELDS))
def test_the_order_of_different_headers_does_not_matter(fields: list[tuple[bytes, bytes]]) -> None:
    """§7.3.1; that of the same ones does, and is kept."""
    kept = [next(field for field in FIELDS if field[0] == name and field not in done) for done, name in _names(fields)]
    text = b"".join(name + b": " + value + b"\r\n" for name, value in kept)
    shuffled = parse_request(b"INVITE sip:+15550100@gw.example.com SIP/2.0\r\n" + text + b"\r\nv=0\r\n")
    assert sorted(shuffled.headers) == sorted(parse_request(build()).headers)
    assert shuffled.vias == parse_request(build()).vias


def _names(fields: list[tuple[bytes, bytes]]) -> list[tuple[list[tuple[bytes, bytes]], bytes]]:
    """Each name, with what has been said under it before: the fields of one name keep their order."""
    said: list[tuple[bytes, bytes]] = []
    found = []
    for name, _ in fields:
        found.append((list(said), name))
        said.append(next(field for field in FIELDS if field[0] == name and field not in said))
    return found
