"""The registrar: alone, request by request; then behind the user agent's challenge."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from sipbridge.sip.digest import Credentials, DigestClient
from sipbridge.sip.digest_server import DigestServer
from sipbridge.sip.events import Authenticated, BindingsChanged, CredentialsNeeded
from sipbridge.sip.flow import Flow
from sipbridge.sip.message import Request, Response
from sipbridge.sip.registrar import Binding, Registrar, RegistrarSettings
from sipbridge.sip.replies import Reply
from tests.sip import wire
from tests.sip.messages import parse_request
from tests.sip.wire import TCP, UDP, Wire, counting_tokens

PHONE = (
    '"Alice" <sip:alice@192.0.2.2:5060;transport=udp;ob>;+sip.instance="<urn:uuid:1-2>";q=0.7;X=y;methods="INVITE,BYE"'
)


def register(
    *contacts: str,
    cseq: int = 1,
    call_id: str = "reg1",
    to: str = "<sip:alice@pbx.example.com>",
    uri: str = "sip:pbx.example.com",
    headers: Iterable[str] = (),
) -> Request:
    lines = [f"Contact: {contact}" for contact in contacts]
    data = wire.request("REGISTER", cseq=cseq, call_id=call_id, to=to, uri=uri, headers=[*headers, *lines])
    return parse_request(data)


class Desk:
    """A registrar, what it answered last, and the changes that it told of."""

    def __init__(self, settings: RegistrarSettings | None = None) -> None:
        self.changes: list[tuple[str, int]] = []
        self.registrar = Registrar(settings, lambda user, bindings: self.changes.append((user, len(bindings))))

    def __call__(self, request: Request, now: float = 0.0, *, user: str | None = "alice") -> Reply:
        return self.registrar.register(request, user, UDP, now)

    def found(self, now: float = 0.0, user: str = "alice") -> list[str]:
        return [str(binding.contact.uri) for binding in self.registrar.find(user, now)]


def contacts_of(answer: Reply) -> list[str]:
    return [value for name, value in answer.headers if name == "Contact"]


def test_a_phone_registers_and_its_contact_comes_back_as_it_was() -> None:
    desk = Desk()
    answer = desk(register(PHONE, headers=["Expires: 600"]), now=100.0)
    assert answer.status == 200
    assert contacts_of(answer) == [PHONE.replace(";X=y", ";x=y") + ";expires=600"]
    (binding,) = desk.registrar.find("alice", 100.0)
    assert (binding.expires_at, binding.q, binding.flow) == (700.0, 0.7, UDP)
    assert desk.changes == [("alice", 1)]


def test_a_fetch_changes_nothing() -> None:
    desk = Desk()
    assert contacts_of(desk(register())) == []
    desk(register("<sip:alice@192.0.2.2>;expires=100", cseq=2))
    assert contacts_of(desk(register(cseq=3), now=30.5)) == ["<sip:alice@192.0.2.2>;expires=70"]
    assert desk.changes == [("alice", 1)]


@pytest.mark.parametrize(
    ("contact", "expires", "granted"),
    [
        ("<sip:alice@192.0.2.2>", None, 3600),
        ("<sip:alice@192.0.2.2>", "120", 120),
        ("<sip:alice@192.0.2.2>;expires=90", "120", 90),
        ("<sip:alice@192.0.2.2>", "99999", 3600),
        ("<sip:alice@192.0.2.2>;expires=soon", None, 3600),
        ("<sip:alice@192.0.2.2>;expires", "70", 3600),
        ("<sip:alice@192.0.2.2>", "-1", 3600),
        ("<sip:alice@192.0.2.2>", "9" * 30, 3600),
    ],
)
def test_what_is_granted(contact: str, expires: str | None, granted: int) -> None:
    answer = Desk()(register(contact, headers=[f"Expires: {expires}"] if expires else []))
    assert contacts_of(answer) == [f"<sip:alice@192.0.2.2>;expires={granted}"]


def test_too_short_is_refused_with_what_would_do() -> None:
    desk = Desk()
    answer = desk(register("<sip:alice@192.0.2.2>;expires=59"))
    assert (answer.status, answer.headers) == (423, (("Min-Expires", "60"),))
    assert desk.changes == []


def test_a_binding_expires_by_itself() -> None:
    desk = Desk()
    desk(register("<sip:alice@192.0.2.2>;expires=100", "<sip:alice@192.0.2.3>;expires=200"))
    assert desk.registrar.get_timer() == 100.0
    assert desk.found(100.0) == ["sip:alice@192.0.2.3"], "even before its timer has fired"
    desk.registrar.handle_timer(100.0)
    assert desk.registrar.get_timer() == 200.0
    desk.registrar.handle_timer(250.0)
    assert desk.registrar.get_timer() is None
    assert (len(desk.registrar), desk.changes) == (0, [("alice", 2), ("alice", 1), ("alice", 0)])


def test_a_refresh_moves_the_timer() -> None:
    desk = Desk()
    for cseq in range(1, 300):
        desk(register("<sip:alice@192.0.2.2>;expires=100", cseq=cseq), now=cseq * 50.0)
        assert desk.registrar.get_timer() == cseq * 50.0 + 100.0
    assert len(desk.registrar._expiries) < 100


def test_removal_of_one_and_of_all() -> None:
    desk = Desk()
    desk(register("<sip:alice@192.0.2.2>", "<sip:alice@192.0.2.3>"))
    assert contacts_of(desk(register("<sip:alice@192.0.2.2>;expires=0", cseq=2))) == [
        "<sip:alice@192.0.2.3>;expires=3600"
    ]
    assert desk(register("*", cseq=3)).status == 400, "without Expires: 0"
    assert desk(register("*", cseq=3, headers=["Expires: 10"])).status == 400
    assert desk(register("*", "<sip:alice@192.0.2.4>", cseq=3, headers=["Expires: 0"])).status == 400
    assert desk.found() == ["sip:alice@192.0.2.3"]
    assert desk(register("*", cseq=4, headers=["Expires: 0"])).status == 200
    assert desk.found() == []


def test_a_request_that_was_overtaken_changes_nothing() -> None:
    desk = Desk()
    desk(register("<sip:alice@192.0.2.2>", cseq=5))
    assert desk(register("<sip:alice@192.0.2.2>;expires=0", cseq=4)).status == 500
    assert desk(register("*", cseq=4, headers=["Expires: 0"])).status == 500
    mixed = register("<sip:alice@192.0.2.9>", "<sip:alice@192.0.2.2>;expires=0", cseq=4)
    assert desk(mixed).status == 500
    assert desk.found() == ["sip:alice@192.0.2.2"], "all or nothing"
    assert desk(register("<sip:alice@192.0.2.2>;expires=0", cseq=1, call_id="restarted")).status == 200
    assert desk.found() == []


def test_addresses_are_compared_as_uris() -> None:
    desk = Desk()
    desk(register("<sip:alice@Phone.Example.com;transport=tcp>"))
    desk(register("<sip:%61lice@phone.example.com;transport=TCP>;expires=300", cseq=2))
    assert len(desk.found()) == 1
    desk(register("<sip:alice@phone.example.com>", cseq=3))
    assert len(desk.found()) == 2


def test_a_device_that_moves_replaces_its_old_address() -> None:
    desk = Desk()
    device = ';+sip.instance="<urn:uuid:1>";reg-id=1'
    desk(register(f"<sip:alice@192.0.2.2:5060>{device}"))
    desk(register(f"<sip:alice@198.51.100.7:61234>{device}", cseq=1, call_id="after-reboot"))
    assert desk.found() == ["sip:alice@198.51.100.7:61234"]
    desk(register('<sip:alice@192.0.2.8>;+sip.instance="<urn:uuid:1>";reg-id=2', cseq=1, call_id="other"))
    assert len(desk.found()) == 2


def test_the_best_first() -> None:
    desk = Desk()
    desk(register("<sip:alice@192.0.2.2>;q=0.5", "<sip:alice@192.0.2.3>;q=0.9", "<sip:alice@192.0.2.4>;q=nan"))
    desk(register("<sip:alice@192.0.2.5>", cseq=2), now=1.0)
    assert desk.found(1.0) == [f"sip:alice@192.0.2.{n}" for n in (5, 4, 3, 2)]


def test_how_many_bindings_a_user_has_is_bounded() -> None:
    desk = Desk(RegistrarSettings(max_bindings=3))
    for number in range(10):
        desk(register(f"<sip:alice@192.0.2.2:{6000 + number}>", cseq=number + 1), now=float(number))
    assert desk.found(10.0) == [f"sip:alice@192.0.2.2:{port}" for port in (6009, 6008, 6007)]
    assert desk(register(*(f"<sip:alice@192.0.2.{n}>" for n in range(4)), cseq=99)).status == 400
    assert desk(register(f"<sip:{'a' * 3000}@192.0.2.2>", cseq=99)).status == 400


@pytest.mark.parametrize(
    ("user", "to"),
    [
        ("alice", "<sip:bob@pbx.example.com>"),
        ("alice", "<tel:alice>"),
        ("alice", "<sip:pbx.example.com>"),
        ("alice", "<sip:ALICE@pbx.example.com>"),
        (None, "<sip:alice@pbx.example.com>"),
    ],
)
def test_nobody_registers_somebody_else(user: str | None, to: str) -> None:
    desk = Desk()
    to = to.replace("<tel:alice>", "<tel:+15550100>")
    assert desk(register("<sip:alice@192.0.2.2>", to=to), user=user).status == 403
    assert desk.changes == []


def test_path() -> None:
    desk = Desk()
    path = ["Path: <sip:edge.example.com;lr>, <sip:10.0.0.1;lr>"]
    answer = desk(register("<sip:alice@192.0.2.2>", headers=[*path, "Supported: PATH"]))
    assert [value for name, value in answer.headers if name == "Path"] == [
        "<sip:edge.example.com;lr>",
        "<sip:10.0.0.1;lr>",
    ]
    (binding,) = desk.registrar.find("alice", 0.0)
    assert binding.path == ("<sip:edge.example.com;lr>", "<sip:10.0.0.1;lr>")
    assert desk(register("<sip:alice@192.0.2.2>", cseq=2, headers=["Require: path"])).status == 200
    assert desk(register("<sip:alice@192.0.2.2>", cseq=3, headers=["Path: nonsense<"])).status == 400
    assert desk(register("<sip:alice@192.0.2.2>", cseq=3, headers=["Path: <sip:a;lr>"] * 9)).status == 400


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (register("<sip:alice@192.0.2.2>", headers=["Require: gruu, path"]), 420),
        (register("<sip:alice@192.0.2.2>", uri="tel:+15550100"), 416),
        (register("<tel:+15550100>"), 400),
        (register("<sip:alice@192.0.2.2"), 400),
    ],
)
def test_what_is_refused(request_: Request, status: int) -> None:
    assert Desk()(request_).status == status


# --- in the user agent ------------------------------------------------------------------------------------------------


class Office(Wire):
    """A registrar with one account, as the user agent runs it."""

    def __init__(self) -> None:
        super().__init__()
        server = DigestServer("pbx.example.com", b"secret", counting_tokens("n"))
        self.user_agent.require_authentication(server, lambda request, flow: request.method == "REGISTER")
        self.registrar = self.user_agent.serve_registrations()
        self.client = DigestClient(Credentials("alice", "correct horse"))

    def ask(self, request: Request, flow: Flow = UDP) -> Response:
        """With credentials, and a look-up in between."""
        challenge = self.reply(request.serialize(), flow)
        assert challenge.status == 401
        assert self.client.authorize(request, challenge, counting_tokens("c"))
        request.headers.set("CSeq", f"{request.cseq.number + 1} REGISTER")
        assert self.receive(request.serialize(), flow) == []
        self.user_agent.credentials_found(self.event(CredentialsNeeded), "correct horse", self.now)
        (answer,) = self.sent()
        assert isinstance(answer, Response)
        return answer


def test_a_phone_registers_at_the_user_agent() -> None:
    office = Office()
    asked = register("<sip:alice@192.0.2.2>;expires=300")
    answer = office.ask(asked, TCP)
    assert answer.status == 200
    assert answer.to.tag
    authenticated, changed = office.events()
    assert isinstance(authenticated, Authenticated)
    assert isinstance(changed, BindingsChanged)
    assert isinstance(changed.bindings[0], Binding)
    assert (changed.username, changed.bindings[0].flow) == ("alice", TCP)


def test_a_lost_answer_is_given_again() -> None:
    """Its credentials have been used: without a transaction the repetition would be a replay."""
    office = Office()
    asked = register("<sip:alice@192.0.2.2>;expires=300")
    first = office.ask(asked)
    again = office.reply(asked.serialize())
    assert (again.status, again.headers) == (200, first.headers)
    assert office.events()[2:] == []


def test_bindings_expire_in_the_user_agent() -> None:
    office = Office()
    office.ask(register("<sip:alice@192.0.2.2>;expires=300"))
    office.events()
    office.advance(400.0)
    assert office.event(BindingsChanged).bindings == ()
    assert office.user_agent.idle


def test_without_a_registrar_the_method_is_not_allowed() -> None:
    assert Wire().reply(register("<sip:alice@192.0.2.2>").serialize()).status == 405


def test_without_authentication_nobody_registers() -> None:
    plain = Wire()
    plain.user_agent.serve_registrations()
    assert plain.reply(register("<sip:alice@192.0.2.2>").serialize()).status == 403
