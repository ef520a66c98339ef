"""What the user agent answers by itself, and what it drops (RFC 3261 §8.2), the messages of RFC 4475 among it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sipbridge.sip.dns_cache import DnsNeeded
from sipbridge.sip.events import InviteReceived
from sipbridge.sip.flow import Flow, FlowNeeded
from sipbridge.sip.own_addresses import Identity
from sipbridge.sip.screening import ALLOW
from tests.sip.wire import ANSWER, OFFER, UDP, Wire, answer_to, in_dialog, request

RFC4475 = Path(__file__).parent.parent / "data" / "rfc4475"


# --- requests outside any call ----------------------------------------------------------------------------------------


def test_what_would_have_to_be_remembered_is_refused_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sipbridge.sip.transaction_layer.MAX_SERVED", 2)
    wire = Wire()
    _, tag = wire.answered()
    assert wire.reply(in_dialog("INFO", tag, cseq=2)).status == 200
    refused = wire.reply(request(call_id="other", branch="z9hG4bKother"))
    assert (refused.status, refused.headers.get("Retry-After")) == (503, "32")
    assert wire.reply(in_dialog("OPTIONS", tag, cseq=3)).status == 503
    assert wire.user_agent.transactions == 2
    assert wire.user_agent.counters["transactions_full"] == 2
    assert wire.reply(in_dialog("BYE", tag, cseq=4)).status == 200, "who hangs up makes room"
    wire.advance(wire.now + 40)
    assert wire.reply(request(call_id="other", branch="z9hG4bKagain")).status == 100


def test_who_may_not_call_leaves_nothing_behind() -> None:
    wire = Wire()
    asked: list[tuple[Flow, str | None]] = []

    def nobody(flow: Flow, username: str | None) -> bool:
        asked.append((flow, username))
        return False

    wire.user_agent.may_call = nobody
    assert [wire.reply(request()).status for _ in range(2)] == [403, 403]
    assert asked == [(UDP, None)] * 2
    assert wire.events() == []
    assert wire.user_agent.idle
    assert wire.reply(request("OPTIONS")).status == 200


def test_options_tells_what_we_can() -> None:
    wire = Wire()
    ok = wire.reply(request("OPTIONS"))
    assert ok.status == 200
    allowed = set(ok.headers.get_list("Allow"))
    assert allowed >= {"INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "PRACK", "UPDATE", "INFO", "NOTIFY", "REFER"}
    assert ok.headers.get("Accept") == "application/sdp"
    assert set(ok.supported) >= {"100rel", "timer", "199"}
    assert ok.headers.get("Server") == "sipbridge/0.1"
    assert ok.to.tag


@pytest.mark.parametrize(
    ("data", "status", "header"),
    [
        (request("MESSAGE"), 405, ("Allow", ALLOW)),
        (request("FROBNICATE"), 405, ("Allow", ALLOW)),
        (request(headers=["Require: 100rel, foo, timer, bar"]), 420, ("Unsupported", "foo, bar")),
        (request(headers=["Supported: timer", "Session-Expires: 60"]), 422, ("Min-SE", "90")),
        (request(headers=["Session-Expires: soon"]), 400, None),
        (request(headers=["Min-SE: -1"]), 400, None),
        (request("PRACK", headers=["RAck: 1 1 INVITE"]), 481, None),
        (request("UPDATE"), 481, None),
        (request("OPTIONS", headers=["Require: foo"]), 420, ("Unsupported", "foo")),
        (request(body=b"<x/>", content_type="application/xml"), 415, ("Accept", "application/sdp")),
        (request(headers=["Content-Encoding: gzip"]), 415, ("Accept-Encoding", "identity")),
        (request("OPTIONS", uri="http://example.com"), 416, None),
        (request(uri="mailto:a@example.com"), 416, None),
        (request(contact=None), 400, None),
        (request(contact="<tel:+15550100>"), 400, None),
        (request(headers=["Record-Route: <<>>"]), 400, None),
        (request(to="<sip:agent@192.0.2.1>;tag=x"), 481, None),
        (request("BYE"), 481, None),
        (request("INFO"), 481, None),
        (request("NOTIFY", headers=["Event: presence", "Subscription-State: active"]), 481, None),
        (request("REFER", headers=["Refer-To: <sip:+19005550100@example.com>"]), 403, None),
        (request("OPTIONS").replace(b"SIP/2.0\r\nVia", b"SIP/7.0\r\nVia"), 505, None),
        (request("OPTIONS", cseq_method="INVITE"), 400, None),
    ],
)
def test_refusals(data: bytes, status: int, header: tuple[str, str] | None) -> None:
    """Each is answered to its source, has a To tag that stays the same for a repetition, and leaves nothing behind."""
    wire = Wire()
    response = wire.reply(data)
    assert response.status == status
    assert wire.flows == [UDP]
    assert response.to.tag
    assert response.via.received == "192.0.2.2"
    if header is not None:
        assert response.headers.get(header[0]) == header[1]
    assert wire.reply(data).to.tag == response.to.tag
    assert wire.events() == []
    assert wire.user_agent.idle


def test_tags_of_different_requests_differ_and_cannot_be_foreseen() -> None:
    one = Wire().reply(request("BYE"))
    other = Wire().reply(request("BYE", call_id="call2"))
    stranger = Wire()
    stranger.user_agent._core._secret = b"another"
    assert len({one.to.tag, other.to.tag, stranger.reply(request("BYE")).to.tag}) == 3


def test_an_endpoint_serves_a_request_that_may_go_no_further() -> None:
    """RFC 4475 §3.3.11: Max-Forwards 0 concerns proxies."""
    assert Wire().reply(request("OPTIONS").replace(b"Max-Forwards: 70", b"Max-Forwards: 0")).status == 200


def test_proxy_require_is_none_of_our_business() -> None:
    assert Wire().reply(request("OPTIONS", headers=["Proxy-Require: foo"])).status == 200


@pytest.mark.parametrize("uri", ["sips:agent@192.0.2.1", "tel:+15550100", "SIP:agent@192.0.2.1"])
def test_request_uris_that_are_served(uri: str) -> None:
    assert Wire().reply(request(uri=uri)).status == 100


def test_the_offer_is_found_in_a_multipart_body() -> None:
    body = (
        b"preamble\r\n--b1\r\nContent-Type: application/isup\r\nContent-Disposition: signal;handling=optional\r\n"
        b"\r\n\x01\x02\r\n--b1\r\nContent-Type: application/sdp\r\n\r\n" + OFFER + b"\r\n--b1--\r\n"
    )
    wire = Wire()
    wire.receive(request(body=body, content_type='multipart/mixed;boundary="b1"'))
    assert wire.event(InviteReceived).offer == OFFER


@pytest.mark.parametrize(
    ("headers", "content_type", "body", "status"),
    [
        ((), "multipart/mixed;boundary=b1", b"--b1\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b1--", 415),
        ((), "multipart/mixed", b"--b1\r\n\r\n--b1--", 415),
        (("Content-Disposition: render;handling=optional",), "text/plain", b"hi", 100),
    ],
)
def test_bodies_without_an_offer(headers: tuple[str, ...], content_type: str, body: bytes, status: int) -> None:
    wire = Wire()
    assert wire.reply(request(body=body, content_type=content_type, headers=headers)).status == status
    assert all(isinstance(event, InviteReceived) and event.offer is None for event in wire.events())


def test_a_node_that_drains_says_503_and_keeps_its_calls() -> None:
    wire = Wire()
    _, tag = wire.answered()
    wire.user_agent.unavailable = 120
    for method in ("INVITE", "OPTIONS"):
        response = wire.reply(request(method, call_id="new", branch=f"z9hG4bKnew{method}"))
        assert (response.status, response.headers.get("Retry-After")) == (503, "120")
    assert wire.reply(in_dialog("BYE", tag)).status == 200


# --- our own addresses ------------------------------------------------------------------------------------------------


def contact_of(identity: Identity | None, flow: Flow, local: tuple[str, int]) -> str:
    wire = Wire(identity)
    wire.user_agent._core.flows._listeners.clear()
    wire.user_agent.listen("udp", local)
    wire.incoming(flow).answer(ANSWER, 0.0)
    (ok,) = wire.sent()
    return str(ok.contact)


@pytest.mark.parametrize(
    ("identity", "local", "remote", "contact"),
    [
        (None, "192.0.2.1", "192.0.2.2", "<sip:sipbridge@192.0.2.1:5060>"),
        (Identity(user=None), "192.0.2.1", "192.0.2.2", "<sip:192.0.2.1:5060>"),
        (Identity(public_address="gw.example.com"), "10.0.0.1", "192.0.2.2", "<sip:sipbridge@gw.example.com:5060>"),
        (Identity(public_address="gw.example.com"), "127.0.0.1", "127.0.0.1", "<sip:sipbridge@127.0.0.1:5060>"),
        (Identity(public_address="198.51.100.1"), "10.0.0.1", "192.0.2.2", "<sip:sipbridge@198.51.100.1:5060>"),
        (Identity(public_address="198.51.100.1"), "fd00::1", "2001:db8::2", "<sip:sipbridge@[fd00::1]:5060>"),
        (Identity(wildcard_address=lambda flow: "10.0.0.7"), "0.0.0.0", "10.0.0.9", "<sip:sipbridge@10.0.0.7:5060>"),
        (None, "0.0.0.0", "127.0.0.1", "<sip:sipbridge@127.0.0.1:5060>"),
        (None, "2001:db8::1", "2001:db8::2", "<sip:sipbridge@[2001:db8::1]:5060>"),
    ],
)
def test_the_contact_names_an_address_that_the_peer_can_reach(
    identity: Identity | None, local: str, remote: str, contact: str
) -> None:
    assert contact_of(identity, Flow("udp", (local, 5060), (remote, 5060)), (local, 5060)) == contact


# --- what is dropped --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n", b"\0\0\0\0", b"\r\n"])
def test_keepalives_are_dropped(data: bytes) -> None:
    wire = Wire()
    assert wire.receive(data) == []
    assert wire.user_agent.counters == {"keepalive": 1}


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "not_sip"),
        (b"\x80\x00" * 86, "not_sip"),
        (b"\xff" * 2000, "not_sip"),
        (b"SIP/2.0 200\r\n\r\n", "field"),
        (request()[:80], "no_end_of_header"),
    ],
)
def test_what_is_no_sip_is_dropped_and_counted(data: bytes, fault: str) -> None:
    wire = Wire()
    assert wire.receive(data) == []
    assert wire.user_agent.counters == {"dropped_malformed": 1, f"malformed_{fault}": 1}
    assert wire.user_agent.idle


def test_a_malformed_ack_is_never_answered() -> None:
    wire = Wire()
    assert wire.receive(request("ACK", cseq=2**33)) == []


def test_wake_is_called_for_output_events_and_timers() -> None:
    wire = Wire()
    calls = []
    wire.user_agent.wake = lambda: calls.append(1)
    call = wire.incoming()
    calls.clear()
    call.answer(ANSWER, 0.0)
    assert calls


def spoiled(data: bytes, source: random.Random) -> bytes:
    """A few octets changed, a part cut out or doubled."""
    changed = bytearray(data)
    for _ in range(source.randint(0, 4)):
        at = source.randrange(len(changed))
        match source.randrange(4):
            case 0:
                changed[at] = source.randrange(256)
            case 1:
                del changed[at : at + source.randrange(20)]
            case 2:
                changed[at:at] = changed[at : at + source.randrange(40)]
            case _:
                changed[at:at] = source.choice([b"\r\n", b"\0", b"\n", b";tag=", b",", b"<", b'"', b"%00", b"\xff"])
        changed = changed or bytearray(b"x")
    return bytes(changed)


def test_nothing_raises_whatever_is_changed_in_a_request() -> None:
    """Anything sent in is answered or dropped, and nothing leaks."""
    source = random.Random(4475)
    wire = Wire()
    _, tag = wire.answered()
    seeds = [request(), request("OPTIONS"), in_dialog("INVITE", tag), in_dialog("BYE", tag), in_dialog("NOTIFY", tag)]
    seeds += [request("CANCEL"), in_dialog("ACK", tag), Wire().reply(request("BYE")).serialize()]
    seeds += [path.read_bytes() for path in sorted(RFC4475.glob("*.dat"))]
    for number in range(3000):
        flow = Flow("udp", UDP.local, ("192.0.2.2", 5060 + number % 50))
        wire.user_agent.receive(spoiled(source.choice(seeds), source), flow, wire.now)
        wire.user_agent.messages_to_send()
        for event in wire.events():
            if isinstance(event, InviteReceived):
                event.call.reject(486, now=wire.now)
    wire.advance(400.0)
    assert wire.user_agent.calls <= 1


def test_nothing_raises_whatever_is_changed_in_a_response() -> None:
    source = random.Random(3261)
    routes = [("Record-Route", "<sip:192.0.2.11;lr>, <sip:192.0.2.12>")]
    for _ in range(400):
        wire = Wire()
        call = wire.user_agent.invite("sip:bob@192.0.2.2", from_="<sip:a@b.example>", offer=OFFER, now=0.0)
        invite = wire.sent_request("INVITE")
        answers = [
            answer_to(invite, status, tag=tag, headers=routes) for status in (100, 183, 200, 302, 486) for tag in "bc"
        ]
        for _ in range(5):
            wire.user_agent.receive(spoiled(source.choice(answers), source), UDP, wire.now)
            wire.user_agent.messages_to_send()
        call.hang_up(0.0)
        wire.user_agent.messages_to_send()
        for _ in range(60):
            for event in wire.events():
                if isinstance(event, DnsNeeded):
                    wire.user_agent.dns_answered(event.name, event.kind, [], 60.0, wire.now)
                elif isinstance(event, FlowNeeded):
                    wire.user_agent.flow_failed(event.target, "refused", wire.now)
            deadline = wire.user_agent.get_timer()
            if deadline is not None:
                wire.now = deadline
                wire.user_agent.handle_timer(deadline)
                wire.user_agent.messages_to_send()
        assert wire.user_agent.idle


# --- RFC 4475 at the user agent ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("wsinv", 481),  # 3.1.1.1: it has a To tag
        ("intmeth", 405),  # 3.1.1.2
        ("esc01", 100),  # 3.1.1.3
        ("escnull", 405),  # 3.1.1.4 is a REGISTER, which we don't serve yet
        ("esc02", 405),  # 3.1.1.5
        ("lwsdisp", 200),  # 3.1.1.6
        ("longreq", 100),  # 3.1.1.7
        ("dblreq", 405),  # 3.1.1.8
        ("semiuri", 200),  # 3.1.1.9
        ("transports", 200),  # 3.1.1.10
        ("mpart01", 405),  # 3.1.1.11 is a MESSAGE
        ("unksm2", 405),  # 3.3.4 is a REGISTER
        ("unkscm", 416),  # 3.3.2
        ("novelsc", 416),  # 3.3.3
        ("bext01", 420),  # 3.3.5
        ("invut", 415),  # 3.3.6
        ("regaut01", 405),  # 3.3.7
        ("multi01", 400),  # 3.3.8
        ("mcl01", 400),  # 3.3.9
        ("zeromf", 200),  # 3.3.11
        ("cparam01", 405),  # 3.3.12
        ("cparam02", 405),  # 3.3.13
        ("regescrt", 405),  # 3.3.14
        ("sdp01", 406),  # 3.3.15
        ("inv2543", 100),  # 3.4.1
        ("badvers", 505),  # 3.1.2.16
        ("mismatch01", 400),  # 3.1.2.17
        ("mismatch02", 400),  # 3.1.2.18: 501 would do as well
        ("scalar02", 400),  # 3.1.2.4
        ("clerr", 400),  # 3.1.2.2
        ("ncl", 400),  # 3.1.2.3
        ("badinv01", 400),  # 3.1.2.1
        ("ltgtruri", 400),  # 3.1.2.7
        ("lwsruri", 400),  # 3.1.2.8
        ("lwsstart", 400),  # 3.1.2.9
        ("trws", 400),  # 3.1.2.10
        ("escruri", 400),  # 3.1.2.11
        ("baddn", 400),  # 3.1.2.15
        ("insuf", 400),  # 3.3.1
    ],
)
def test_torture(name: str, status: int) -> None:
    wire = Wire()
    wire.user_agent.receive((RFC4475 / f"{name}.dat").read_bytes(), UDP, 0.0)
    # What is copied into the answer may be as malformed as it came: no parser of ours would take it.
    ((flow, data),) = wire.user_agent.messages_to_send()
    assert flow == UDP
    assert data.startswith(b"SIP/2.0 %d " % status)
    if status == 420:
        assert b"\r\nUnsupported: nothingSupportsThis, nothingSupportsThisEither\r\n" in data


@pytest.mark.parametrize("name", ["bcast", "scalarlg", "bigcode", "noreason", "unreason"])
def test_torturing_responses_are_dropped(name: str) -> None:
    """3.3.10, 3.1.2.5, 3.1.2.19: what is no answer to a request of ours has no effect."""
    wire = Wire()
    assert wire.receive((RFC4475 / f"{name}.dat").read_bytes()) == []
    assert wire.user_agent.counters.total() == (1 if name in ("bcast", "noreason", "unreason") else 2)
    assert wire.user_agent.idle
