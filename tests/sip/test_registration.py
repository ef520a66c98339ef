"""Being registered: against a registrar played by the test, then two user agents registered at each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipbridge.sip.digest import Credentials
from sipbridge.sip.digest_server import DigestServer
from sipbridge.sip.dns_cache import Srv
from sipbridge.sip.events import (
    BindingsChanged,
    CredentialsNeeded,
    Registered,
    RegistrationFailed,
    SipEvent,
    Unregistered,
)
from sipbridge.sip.flow import Flow, FlowNeeded
from sipbridge.sip.headers import NameAddr, Uri
from sipbridge.sip.message import Request
from sipbridge.sip.own_addresses import Identity
from sipbridge.sip.registration import TABLE, Account, Input, Registration, RegistrationState
from tests.sip.messages import parse_request
from tests.sip.network import Endpoint, Network, Weather
from tests.sip.wire import TCP, UDP, US, Wire, answer_to, counting_tokens, request

SERVER = Uri.parse("sip:192.0.2.2")
ACCOUNT = Account(
    server=SERVER,
    credentials=Credentials("7000", "secret"),
    aor=NameAddr("", Uri.parse("sip:7000@192.0.2.2")),
    contact_user="7000",
)
OUR_CONTACT = "<sip:7000@192.0.2.1:5060>"


class Client(Wire):
    """A user agent with one registration; `ask` plays the registrar's part."""

    def __init__(self, account: Account = ACCOUNT, identity: Identity | None = None) -> None:
        super().__init__(identity)
        self.server = DigestServer("pbx", b"s", counting_tokens("n"))
        self.registration = self.user_agent.register(account, self.now)

    def answer(self, sent: Request, status: int = 200, *headers: tuple[str, str], flow: Flow = UDP) -> None:
        self.user_agent.receive(answer_to(sent, status, headers=headers), flow, self.now)

    def grant(self, seconds: int = 300, *, contact: str = OUR_CONTACT, flow: Flow = UDP) -> Registered:
        """Accept the REGISTER that was sent."""
        self.answer(self.sent_request("REGISTER"), 200, ("Contact", f"{contact};expires={seconds}"), flow=flow)
        return self.event(Registered)

    def next_register(self, until: float) -> tuple[float, Request]:
        """The next REGISTER, and when it was sent."""
        while (deadline := self.user_agent.get_timer()) is not None and deadline <= until:
            self.now = deadline
            self.user_agent.handle_timer(deadline)
            for _, data in self.user_agent.messages_to_send():
                if data.startswith(b"REGISTER "):  # and no ping
                    return deadline, parse_request(data)
        raise AssertionError("nothing was sent")


def test_the_request() -> None:
    sent = Client().sent_request("REGISTER")
    assert sent.uri == "sip:192.0.2.2"
    assert str(sent.to) == "<sip:7000@192.0.2.2>"
    assert sent.to.tag is None
    assert sent.from_.uri == sent.to.uri
    assert sent.headers.get("Contact") == f"{OUR_CONTACT};expires=300"
    assert sent.headers.get("Expires") == "300"
    assert sent.supported == ("path",)


def test_a_table_that_knows_every_state() -> None:
    assert set(TABLE) | {RegistrationState.ENDED} == set(RegistrationState)
    assert {received for row in TABLE.values() for received in row} == set(Input)


def test_registered_and_refreshed_in_the_same_way() -> None:
    client = Client()
    registered = client.grant(300)
    assert (registered.expires_s, registered.changed) == (300, True)
    assert client.registration.is_registered(299.0)
    first = client.registration
    call_ids = {first._call_id}
    for number in range(2, 5):
        began = client.now
        when, sent = client.next_register(began + 300)
        assert 0.66 * 300 <= when - began <= 0.75 * 300
        assert sent.cseq.number == number
        call_ids.add(sent.call_id)
        client.answer(sent, 200, ("Contact", f"{OUR_CONTACT};expires=300"))
        assert client.event(Registered).changed is False
    assert len(call_ids) == 1


def test_the_challenge_is_answered_and_the_refresh_authorized_at_once() -> None:
    client = Client()
    sent = client.sent_request("REGISTER")
    client.answer(sent, 401, *(("WWW-Authenticate", value) for value in client.server.challenge(0.0)))
    again = client.sent_request("REGISTER")
    assert client.server.check(again, "secret", 0.0).value == "ok"
    assert again.cseq.number == 2
    client.answer(again, 200, ("Contact", f"{OUR_CONTACT};expires=100"))
    client.event(Registered)
    _, refresh = client.next_register(100.0)
    assert "nc=00000002" in (refresh.headers.get("Authorization") or "")
    assert refresh.cseq.number == 3


def test_a_wrong_password_is_tried_again_rarely_and_from_the_beginning() -> None:
    client = Client()
    sent = client.sent_request("REGISTER")
    for _ in range(2):
        client.answer(sent, 401, *(("WWW-Authenticate", value) for value in client.server.challenge(client.now)))
        messages = client.sent()
        if messages:
            (message,) = messages
            assert isinstance(message, Request)
            sent = message
    failed = client.event(RegistrationFailed)
    assert failed.status == 401
    assert 60.0 <= failed.retry_in <= 120.0
    when, sent = client.next_register(500.0)
    assert when == failed.retry_in
    assert "Authorization" not in sent.headers


def test_too_brief() -> None:
    client = Client()
    client.answer(client.sent_request("REGISTER"), 423, ("Min-Expires", "1800"))
    sent = client.sent_request("REGISTER")
    assert (sent.headers.get("Expires"), sent.cseq.number) == ("1800", 2)
    client.answer(sent, 200, ("Contact", f"{OUR_CONTACT};expires=1800"))
    assert client.event(Registered).expires_s == 1800
    assert client.next_register(1800.0)[1].headers.get("Expires") == "1800"


@pytest.mark.parametrize("hint", ["soon", None, "1", "9999999999"])
def test_a_registrar_that_finds_everything_too_brief_is_left(hint: str | None) -> None:
    client = Client()
    sent = client.sent_request("REGISTER")
    for _ in range(4):
        client.answer(sent, 423, *([("Min-Expires", hint)] if hint else []))
        messages = client.sent()
        if messages:
            (message,) = messages
            assert isinstance(message, Request)
            sent = message
            assert int(sent.headers.get("Expires") or 0) <= 7 * 86_400
    assert client.event(RegistrationFailed).status == 423


@pytest.mark.parametrize(("status", "slow"), [(403, True), (404, True), (302, True), (600, True), (500, False)])
def test_what_waits_for_a_person_is_tried_rarely(status: int, slow: bool) -> None:
    client = Client()
    waits = []
    _, sent = 0.0, client.sent_request("REGISTER")
    for _ in range(12):
        client.answer(sent, status)
        failed = client.event(RegistrationFailed)
        assert failed.status == status
        waits.append(failed.retry_in)
        _, sent = client.next_register(client.now + 4000.0)
    first, longest = (120.0, 3600.0) if slow else (4.0, 300.0)
    assert first / 2 <= waits[0] <= first
    assert longest / 2 <= waits[-1] <= longest
    assert len(set(waits)) == len(waits), "there is chance in it"
    client.answer(sent, 200, ("Contact", f"{OUR_CONTACT};expires=300"))
    client.event(Registered)
    _, sent = client.next_register(client.now + 300.0)
    client.answer(sent, status)
    assert client.event(RegistrationFailed).retry_in <= first, "it begins anew"


def test_retry_after_is_heeded_within_reason() -> None:
    client = Client()
    client.answer(client.sent_request("REGISTER"), 503, ("Retry-After", "100 (maintenance)"))
    assert client.event(RegistrationFailed).retry_in == 100.0
    _, sent = client.next_register(200.0)
    client.answer(sent, 503, ("Retry-After", "99999999"))
    assert client.event(RegistrationFailed).retry_in == 3600.0


def test_nobody_answers() -> None:
    client = Client()
    sent = [message for _, message in client.advance(32.0)]
    assert len(sent) == 11, "Timer E"
    assert client.event(RegistrationFailed).status == 408
    when, _ = client.next_register(100.0)
    assert 34.0 <= when <= 36.0


def test_a_refresh_that_fails_leaves_the_registration_until_it_runs_out() -> None:
    client = Client()
    client.grant(300)
    _, sent = client.next_register(300.0)
    client.answer(sent, 503)
    client.event(RegistrationFailed)
    assert client.registration.is_registered(299.0)
    assert client.registration.state is RegistrationState.WAITING
    assert not client.registration.is_registered(300.0)


def test_several_servers_by_dns_and_failover() -> None:
    """`client_request` does it: here only that a registration makes use of it."""
    network = Network(Weather(), 1)
    us = network.add("us", US)
    second = office(network, "second", ("192.0.2.12", 5060))
    network.zone["_sip._udp.pbx.example.com", "SRV"] = [
        Srv(10, 0, 5060, "one.example.com"),
        Srv(20, 0, 5060, "two.example.com"),
    ]
    network.zone["one.example.com", "A"] = ["192.0.2.11"]
    network.zone["two.example.com", "A"] = ["192.0.2.12"]
    events = told(us)
    account = replace(
        ACCOUNT, server=Uri.parse("sip:pbx.example.com"), aor=NameAddr.parse("<sip:7000@pbx.example.com>")
    )
    us.user_agent.register(account, 0.0)
    network.run(until=20.0)
    assert [type(event) for event in events] == [Registered]
    assert second.user_agent.registrar is not None
    assert len(second.user_agent.registrar) == 1


@pytest.mark.parametrize(
    ("contacts", "granted"),
    [
        ([f"{OUR_CONTACT};expires=77"], 77),
        (["<sip:7000@192.0.2.77>;expires=3600, <sip:7000@192.0.2.1>;expires=3000", f"{OUR_CONTACT};expires=77"], 77),
        (["<sip:7000@192.0.2.1:5060;transport=UDP;line=abc>;expires=77"], 77),
        (["<sip:7000@198.51.100.1:1234>;expires=77"], 77),
        ([], 60),
        ([OUR_CONTACT], 60),
        ([f"{OUR_CONTACT};expires=never", "<sip:other@192.0.2.9>"], None),
        (["<sip:a@192.0.2.9>;expires=300", "<sip:b@192.0.2.9>;expires=300"], None),
        ([f"{OUR_CONTACT};expires=0"], None),
        (["<<"], 60),
    ],
)
def test_what_is_granted_is_said_by_our_own_contact(contacts: list[str], granted: int | None) -> None:
    client = Client()
    fields = [("Contact", contact) for contact in contacts]
    client.answer(client.sent_request("REGISTER"), 200, ("Expires", "60"), *fields)
    event = next(iter(client.events()), None)
    if granted is None:
        assert isinstance(event, RegistrationFailed)
        assert event.reason == "the answer has no binding of ours"
    elif contacts == ["<<"]:
        assert event is None, "a malformed response is dropped, and the request repeated"
    else:
        assert isinstance(event, Registered)
        assert event.expires_s == granted


def test_service_route_and_path_are_kept() -> None:
    client = Client()
    client.answer(
        client.sent_request("REGISTER"),
        200,
        ("Contact", f"{OUR_CONTACT};expires=300"),
        ("Service-Route", "<sip:a.example.com;lr>, <sip:b.example.com;lr>"),
        ("Path", "<sip:edge.example.com;lr>"),
    )
    client.event(Registered)
    assert client.registration.service_route == ("<sip:a.example.com;lr>", "<sip:b.example.com;lr>")
    assert client.registration.path == ("<sip:edge.example.com;lr>",)


def seen_as(sent: Request, host: str, port: int, *headers: tuple[str, str]) -> bytes:
    """A 200 of a registrar that sees us at that address."""
    via = replace(sent.via, params={**sent.via.params, "received": host, "rport": str(port)})
    return answer_to(sent, 200, headers=headers).replace(str(sent.via).encode(), str(via).encode())


def test_the_address_that_a_nat_gave_us_is_registered_in_place_of_our_own() -> None:
    client = Client()
    sent = client.sent_request("REGISTER")
    client.receive(seen_as(sent, "198.51.100.9", 40001, ("Contact", f"{OUR_CONTACT};expires=300")))
    assert client.event(Registered).changed
    when, again = client.next_register(1.0)
    assert when == 0.0
    new = "<sip:7000@198.51.100.9:40001>"
    assert again.headers.get("Contact") == f"{new};expires=300, {OUR_CONTACT};expires=0"
    client.receive(seen_as(again, "198.51.100.9", 40001, ("Contact", f"{new};expires=300")))
    assert client.event(Registered).changed
    # The mapping is kept open, and nothing is registered again before its time.
    pings = []
    while (deadline := client.user_agent.get_timer()) is not None and deadline <= 190.0:
        client.user_agent.handle_timer(deadline)
        pings += [(flow, data) for flow, data in client.user_agent.messages_to_send()]
    assert pings == [(UDP, b"\r\n\r\n")] * 7


def test_a_nat_with_a_new_port_for_every_packet_does_not_keep_us_busy() -> None:
    client = Client()
    sent = client.sent_request("REGISTER")
    requests = 1
    for number in range(40_000, 40_010):
        client.receive(seen_as(sent, "198.51.100.9", number, ("Contact", f"{OUR_CONTACT};expires=300")))
        client.events()
        when, sent = client.next_register(client.now + 300.0)
        requests += 1
    assert requests == 11
    assert client.now >= 4 * 198, "every second one waited for its refresh"


def test_with_a_public_address_that_is_registered() -> None:
    client = Client(identity=Identity(public_address="203.0.113.5"))
    sent = client.sent_request("REGISTER")
    assert sent.headers.get("Contact") == "<sip:7000@203.0.113.5:5060>;expires=300"
    client.receive(seen_as(sent, "198.51.100.9", 40001, ("Contact", "<sip:7000@203.0.113.5:5060>;expires=300")))
    client.event(Registered)
    assert client.registration.next_at is not None
    assert client.registration.next_at > 100.0


def test_a_device_that_says_which_it_is() -> None:
    sent = Client(replace(ACCOUNT, instance="urn:uuid:00000000-0000-1000-8000-000000000001")).sent_request("REGISTER")
    (contact,) = sent.contacts
    assert contact.params["+sip.instance"] == '"<urn:uuid:00000000-0000-1000-8000-000000000001>"'
    assert contact.params["reg-id"] == "1"
    assert "outbound" in sent.supported


def connected(client: Client) -> None:
    needed = client.event(FlowNeeded)
    flow = Flow("tcp", (US[0], 49152 + int(client.now)), ("192.0.2.2", 5060))
    client.user_agent.flow_opened(needed.target, flow, client.now)


def test_a_lost_connection_is_replaced() -> None:
    client = Client(replace(ACCOUNT, transport="tcp"))
    connected(client)
    flow = Flow("tcp", (US[0], 49152), ("192.0.2.2", 5060))
    client.grant(3600, contact="<sip:7000@192.0.2.1:5060;transport=tcp>", flow=flow)
    assert client.registration.flow == flow
    assert client.user_agent.needs(flow)
    assert not client.user_agent.needs(TCP)
    client.now = 10.0
    client.user_agent.flow_closed(flow, 10.0)
    client.advance(11.0)
    assert isinstance(client.events()[0], FlowNeeded)
    assert client.registration.state is RegistrationState.REGISTERING


def test_de_registration() -> None:
    client = Client()
    client.grant(300)
    client.registration.stop(client.now)
    sent = client.sent_request("REGISTER")
    assert (sent.headers.get("Contact"), sent.headers.get("Expires")) == (f"{OUR_CONTACT};expires=0", "0")
    client.answer(sent, 200)
    assert client.event(Unregistered).status == 200
    client.registration.stop(client.now)
    client.advance(1000.0)
    assert client.events() == []
    assert client.user_agent.idle


def test_de_registration_while_the_registration_is_under_way() -> None:
    client = Client()
    late = client.sent_request("REGISTER")
    client.registration.stop(client.now)
    sent = client.sent_request("REGISTER")
    assert (sent.cseq.number, sent.headers.get("Expires")) == (2, "0")
    client.answer(late, 200, ("Contact", f"{OUR_CONTACT};expires=300"))
    assert client.events() == []
    client.advance(33.0)
    assert client.event(Unregistered).status == 408, "nobody answered: that is an end, too"


def test_de_registration_of_what_never_was() -> None:
    client = Client()
    client.answer(client.sent_request("REGISTER"), 403)
    client.event(RegistrationFailed)
    client.registration.stop(client.now)
    assert client.sent() == []
    assert client.event(Unregistered).status == 403
    client.advance(200.0)
    assert client.user_agent.idle


def test_where_there_is_no_way_at_all() -> None:
    client = Client(replace(ACCOUNT, server=Uri.parse("sip:192.0.2.2;transport=sctp")))
    assert client.event(RegistrationFailed).status == 503
    client.advance(4.0)
    assert client.event(RegistrationFailed).registration.failures == 2


def test_a_call_to_our_contact_is_a_call() -> None:
    client = Client()
    client.grant(300)
    assert client.reply(request(uri="sip:7000@192.0.2.1:5060")).status == 100


# --- two of them ------------------------------------------------------------------------------------------------------


def told(endpoint: Endpoint) -> list[SipEvent]:
    events: list[SipEvent] = []
    endpoint.on_event = events.append
    return events


def office(network: Network, name: str, address: tuple[str, int]) -> Endpoint:
    """A registrar for 7000 that looks its password up."""
    endpoint = network.add(name, address)
    agent = endpoint.user_agent
    agent.require_authentication(
        DigestServer(name, b"s", counting_tokens("n")), lambda request, flow: request.method == "REGISTER"
    )
    agent.serve_registrations()

    def answer(event: SipEvent) -> None:
        if isinstance(event, CredentialsNeeded):
            agent.credentials_found(event, "secret" if event.username == "7000" else None, network.now)

    endpoint.on_event = answer
    return endpoint


@pytest.mark.parametrize("seed", range(12))
def test_two_that_register_at_each_other_through_a_bad_network(seed: int) -> None:
    network = Network(Weather(loss=0.25, duplication=0.1, delay=(0.005, 0.4)), seed)
    addresses = (("192.0.2.1", 5060), ("192.0.2.2", 5060))
    sides = [office(network, name, address) for name, address in zip(("west", "east"), addresses, strict=True)]
    registrations: list[Registration] = []
    failures: list[SipEvent] = []
    bindings: list[int] = []
    for side, other in zip(sides, reversed(addresses), strict=True):
        look_up = side.on_event

        def heard(event: SipEvent, look_up: object = look_up) -> None:
            look_up(event)  # type: ignore[operator]
            if isinstance(event, RegistrationFailed):
                failures.append(event)
            elif isinstance(event, BindingsChanged):
                bindings.append(len(event.bindings))

        side.on_event = heard
        server = Uri.parse(f"sip:{other[0]}")
        aor = NameAddr("", Uri.parse(f"sip:7000@{other[0]}"))
        account = replace(ACCOUNT, server=server, aor=aor, expires_s=120)
        registrations.append(side.user_agent.register(account, network.now))
    for minute in range(1, 31):
        network.run(until=minute * 60.0)
        if minute > 2 and not any(isinstance(failure, RegistrationFailed) for failure in failures):
            assert all(registration.is_registered(network.now) for registration in registrations)
    registrars = [side.user_agent.registrar for side in sides]
    for registration, registrar in zip(registrations, reversed(registrars), strict=True):
        assert registrar is not None
        found = registrar.find("7000", network.now)
        assert [str(binding.contact.uri) for binding in found] == [str(registration.contact)]
    assert all(event.status == 408 for event in failures if isinstance(event, RegistrationFailed))
    for registration in registrations:
        registration.stop(network.now)
    network.run(until=network.now + 300.0)
    assert [len(registrar) for registrar in registrars if registrar is not None] == [0, 0]
    assert all(registration.state is RegistrationState.ENDED for registration in registrations)
    assert all(side.user_agent.idle for side in sides)
    assert max(bindings) == 1


def test_a_registrar_that_was_away_is_found_again() -> None:
    network = Network(Weather(), 3)
    us = network.add("us", US)
    events = told(us)
    us.user_agent.register(ACCOUNT, 0.0)
    network.run(until=100.0)
    assert {event.status for event in events if isinstance(event, RegistrationFailed)} == {408}
    office(network, "pbx", ("192.0.2.2", 5060))
    network.run(until=500.0)
    assert isinstance(events[-1], Registered)


def test_a_response_is_read_without_harm() -> None:
    """Header fields of a 200 that are nonsense."""
    client = Client()
    sent = client.sent_request("REGISTER")
    client.answer(
        sent,
        200,
        ("Contact", f"{OUR_CONTACT};expires=300"),
        ("Service-Route", "<nonsense"),
        ("Path", ", ".join(["<sip:a;lr>"] * 50)),
        ("Flow-Timer", "-5"),
        ("Expires", "x"),
    )
    assert client.event(Registered).expires_s == 300
    assert client.registration.service_route == ()
    assert client.registration.path == ()
