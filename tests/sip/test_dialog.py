"""Dialogs: route sets, targets and sequence numbers (RFC 3261 §12)."""

from __future__ import annotations

import pytest

from sipbridge.sip.dialog import Dialog, DialogId, Order, request_uri
from sipbridge.sip.headers import Uri
from sipbridge.sip.message import Request, Response, parse_message
from tests.sip.wire import request

ROUTES = ("Record-Route: <sip:p2.example.com;lr>, <sip:p1.example.com;lr>", "Record-Route: <sip:p0.example.com;lr>")


def invite(*headers: str, contact: str = "<sip:alice@192.0.2.2>") -> Request:
    parsed = parse_message(request(headers=headers, contact=contact))
    assert isinstance(parsed, Request)
    return parsed


def answered(sent: Request, *, contact: str | None = "<sip:bob@192.0.2.9;x=1>") -> Response:
    response = sent.response(200, to_tag="b1")
    if contact is not None:
        response.headers.add("Contact", contact)
    return response


def uac(*headers: str, contact: str | None = "<sip:bob@192.0.2.9;x=1>") -> Dialog:
    """The caller's dialog, its INVITE having passed proxies that recorded themselves."""
    return Dialog.as_uac(invite(*headers), answered(invite(*headers), contact=contact))


def test_the_callee_takes_the_record_route_as_it_is() -> None:
    dialog = Dialog.as_uas(invite(*ROUTES), "b1")
    hosts = ["p2", "p1", "p0"]
    assert dialog.route_set == tuple(f"<sip:{host}.example.com;lr>" for host in hosts)
    assert dialog.remote_target == "sip:alice@192.0.2.2"
    assert dialog.id == DialogId("call1", "b1", "a1")


def test_the_caller_takes_the_record_route_reversed() -> None:
    dialog = uac(*ROUTES)
    assert dialog.route_set == tuple(f"<sip:{host}.example.com;lr>" for host in ("p0", "p1", "p2"))
    assert dialog.remote_target == "sip:bob@192.0.2.9;x=1"
    assert dialog.id == DialogId("call1", "a1", "b1")


def test_requests_go_by_loose_routes_and_keep_the_target_in_the_request_uri() -> None:
    dialog = uac(*ROUTES)
    bye = dialog.request("BYE")
    assert bye.uri == "sip:bob@192.0.2.9;x=1"
    assert bye.headers.get_all("Route") == list(dialog.route_set)
    assert dialog.next_hop().host == "p0.example.com"


def test_a_strict_router_becomes_the_request_uri_and_the_target_the_last_route() -> None:
    dialog = uac("Record-Route: <sip:p2.example.com;lr>, <sip:old.example.com;method=INVITE?x=y>")
    bye = dialog.request("BYE")
    assert bye.uri == "sip:old.example.com"
    assert bye.headers.get_all("Route") == ["<sip:p2.example.com;lr>", "<sip:bob@192.0.2.9;x=1>"]
    assert dialog.next_hop().host == "old.example.com"


def test_without_routes_the_remote_target_is_the_next_hop() -> None:
    dialog = uac()
    assert dialog.request("BYE").headers.get_all("Route") == []
    assert dialog.next_hop().host == "192.0.2.9"


def test_a_response_without_contact_leaves_the_request_uri_as_target() -> None:
    assert uac(contact=None).remote_target == "sip:agent@192.0.2.1"


def test_from_and_to_are_sent_as_they_came() -> None:
    raw = '"Al \\"x\\"" <sip:alice@example.com;y=z>;tag=a1;foo=bar'
    parsed = parse_message(request(from_=raw))
    assert isinstance(parsed, Request)
    bye = Dialog.as_uas(parsed, "b1").request("BYE")
    assert bye.headers.get("To") == raw
    assert bye.headers.get("From") == "<sip:agent@192.0.2.1>;tag=b1"


def test_the_callee_starts_its_own_sequence_and_the_caller_goes_on_with_his() -> None:
    callee, caller = Dialog.as_uas(invite(), "b1"), uac()
    assert [callee.request("BYE").cseq.number for _ in range(2)] == [1, 2]
    assert caller.request("ACK", sequence=1).cseq.number == 1
    assert caller.request("BYE").cseq.number == 2


@pytest.mark.parametrize(
    ("numbers", "orders"),
    [((2, 3), "NN"), ((2, 9), "NN"), ((2, 2), "NO"), ((5, 4), "NO"), ((1,), "O")],
    ids=["next", "gap", "same", "lower", "that of the INVITE"],
)
def test_the_order_of_sequence_numbers(numbers: tuple[int, ...], orders: str) -> None:
    dialog = Dialog.as_uas(invite(), "b1")
    found = []
    for number in numbers:
        parsed = parse_message(request("BYE", cseq=number))
        assert isinstance(parsed, Request)
        found.append(dialog.receive_sequence(parsed))
    assert found == [Order.NEXT if letter == "N" else Order.OLD for letter in orders]


def test_target_refresh() -> None:
    dialog = uac()
    dialog.refresh_target(invite(contact="<sip:bob@192.0.2.77>"))
    assert dialog.remote_target == "sip:bob@192.0.2.77"


def test_a_2xx_computes_the_route_set_again() -> None:
    dialog = uac(*ROUTES)
    dialog.confirm(answered(invite(), contact="<sip:bob@192.0.2.10>"))
    assert dialog.route_set == ()
    assert dialog.remote_target == "sip:bob@192.0.2.10"
    assert dialog.confirmed


def test_a_request_uri_has_neither_method_nor_headers() -> None:
    assert str(request_uri(Uri.parse("sip:a@b.example;method=BYE;x=1?Subject=s"))) == "sip:a@b.example;x=1"
