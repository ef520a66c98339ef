"""Who has to prove who they are, and whose call it is then: the rule, case by case."""

from __future__ import annotations

import pytest

from sipbridge.config import Config
from sipbridge.configfile import parse
from sipbridge.logins import RegisterAt
from sipbridge.registrations import Registrations, account_of
from sipbridge.sip.events import CredentialsNeeded, InviteReceived
from sipbridge.sip.flow import Flow
from sipbridge.sip.uas import IncomingInvite
from sipbridge.sip.user_agent import UserAgent
from tests.sip import wire
from tests.sip.messages import parse_request

ACCOUNTS = "sip: {accounts: [{username: phone, password: p1}]}\n"
BY_SOURCE = "trunks:\n  - {name: pbx, sources: [192.0.2.0/24]}\n"
BOTH = "trunks:\n  - {name: pbx, sources: [192.0.2.0/24], auth: {username: pbx, password: p2}}\n"
BY_DIGEST = "trunks:\n  - {name: pbx, auth: {username: pbx, password: p2}}\n"


def office(text: str) -> Registrations:
    agent = UserAgent(new_token=wire.counting_tokens())
    return Registrations(parse(text or "{}", Config, "f.yaml"), agent, clock=lambda: 0.0)


def flow(host: str) -> Flow:
    return Flow("udp", ("192.0.2.1", 5060), (host, 5060))


@pytest.mark.parametrize(
    ("config", "source", "method", "caller", "proof"),
    [
        (ACCOUNTS, "127.0.0.1", "REGISTER", "phone", True),
        (ACCOUNTS, "127.0.0.1", "INVITE", "anybody", False),
        (ACCOUNTS, "127.0.0.1", "INVITE", "phone", True),
        (ACCOUNTS, "127.0.0.1", "OPTIONS", "phone", False),
        (ACCOUNTS, "203.0.113.9", "INVITE", "anybody", True),
        (ACCOUNTS, "203.0.113.9", "OPTIONS", "anybody", True),
        (ACCOUNTS + BY_SOURCE, "192.0.2.9", "INVITE", "phone", False),
        (ACCOUNTS + BY_SOURCE, "192.0.2.9", "REGISTER", "phone", True),
        (ACCOUNTS + BY_SOURCE, "127.0.0.1", "INVITE", "anybody", True),
        (BY_SOURCE, "203.0.113.9", "INVITE", "anybody", False),  # 403: there is nothing that he could prove
        (BOTH, "192.0.2.9", "INVITE", "anybody", True),
        (BOTH, "192.0.2.9", "OPTIONS", "anybody", False),
        (BOTH, "203.0.113.9", "INVITE", "anybody", False),
        (BY_DIGEST, "203.0.113.9", "INVITE", "anybody", True),
        (BY_DIGEST, "127.0.0.1", "INVITE", "anybody", True),
    ],
)
def test_who_is_challenged(config: str, source: str, method: str, caller: str, proof: bool) -> None:
    asked = parse_request(wire.request(method, from_=f"<sip:{caller}@example.com>;tag=1"))
    assert office(config).needs_proof(asked, flow(source)) is proof


@pytest.mark.parametrize(
    ("config", "source", "username", "trunk"),
    [
        ("", "127.0.0.1", None, ""),
        ("", "203.0.113.9", None, None),
        (ACCOUNTS, "203.0.113.9", "phone", ""),
        (BY_SOURCE, "192.0.2.9", None, "pbx"),
        (BY_SOURCE, "203.0.113.9", None, None),
        (BY_SOURCE, "127.0.0.1", None, None),
        (BY_DIGEST, "203.0.113.9", "pbx", "pbx"),
        (ACCOUNTS + BOTH, "192.0.2.9", "phone", ""),
        (ACCOUNTS + BOTH, "192.0.2.9", "pbx", "pbx"),
    ],
)
def test_by_which_trunk_a_call_comes(config: str, source: str, username: str | None, trunk: str | None) -> None:
    peer = wire.Wire()
    request = parse_request(wire.request())
    call = IncomingInvite(peer.user_agent._core, request, flow(source))
    event = InviteReceived(call, request, None, flow(source), username)
    assert office(config).trunk_of(event) == trunk
    assert office(config).account_of(event) == (username if username == "phone" else None)


ONE_PBX_TWICE = """trunks:
  - {name: pbx, sources: [192.0.2.0/24]}
  - {name: line, sources: [192.0.2.0/24], register: {server: "sip:192.0.2.9", username: u, user: "7000", password: p}}
  - {name: other, sources: [192.0.2.0/24], register: {server: "sip:192.0.2.9", username: "7001", password: p}}
  - {name: proven, sources: [192.0.2.0/24], auth: {username: a, password: p},
     register: {server: "sip:192.0.2.9", username: "7002", password: p}}
"""


@pytest.mark.parametrize(
    ("dialled", "source", "trunk"),
    [
        ("7000", "192.0.2.9", "line"),
        ("7001", "192.0.2.9", "other"),
        ("agent", "192.0.2.9", "pbx"),
        ("7002", "192.0.2.9", "pbx"),  # nothing has been proven
        ("7000", "203.0.113.9", None),
    ],
)
def test_a_call_comes_by_the_registration_that_it_is_addressed_to(dialled: str, source: str, trunk: str | None) -> None:
    peer = wire.Wire()
    request = parse_request(wire.request(uri=f"sip:{dialled}@192.0.2.1"))
    call = IncomingInvite(peer.user_agent._core, request, flow(source))
    event = InviteReceived(call, request, None, flow(source), None)
    assert office(ONE_PBX_TWICE).trunk_of(event) == trunk


@pytest.mark.parametrize(
    ("config", "source", "username", "password"),
    [
        (ACCOUNTS + BOTH, "192.0.2.9", "phone", "p1"),
        (ACCOUNTS + BOTH, "192.0.2.9", "pbx", "p2"),
        (ACCOUNTS + BOTH, "203.0.113.9", "pbx", None),  # the right password from the wrong address
        (BY_DIGEST, "203.0.113.9", "pbx", "p2"),
        (BY_DIGEST, "203.0.113.9", "nobody", None),
        ("sip: {accounts: [{username: phone, password: '${NO_SUCH_VARIABLE}'}]}", "127.0.0.1", "phone", None),
    ],
)
def test_whose_password_is_it(config: str, source: str, username: str, password: str | None) -> None:
    needed = CredentialsNeeded(username, "sipbridge", parse_request(wire.request()), flow(source))
    assert office(config)._password(needed) == password


@pytest.mark.parametrize(("more", "offered"), [("", ["MD5", "SHA-256"]), (", digest_algorithms: [MD5]", ["MD5"])])
def test_what_is_offered(more: str, offered: list[str]) -> None:
    known = office(ACCOUNTS.replace("}\n", f"{more}}}\n"))
    known.start()
    agent = known._user_agent
    agent.receive(wire.request("REGISTER", uri="sip:example.com"), flow("127.0.0.1"), 0.0)
    ((_, answer),) = agent.messages_to_send()
    challenges = [line for line in answer.decode().splitlines() if line.startswith("WWW-Authenticate")]
    assert [line.partition("algorithm=")[2].partition(",")[0] for line in challenges] == offered


def test_what_a_section_becomes() -> None:
    section = parse(
        "{server: 'sip:pbx.example.com:5070;transport=tcp', username: 7000@x, password: p}", RegisterAt, "f.yaml"
    )
    account = account_of(section)
    assert str(account.aor) == "<sip:7000%40x@pbx.example.com>"
    assert str(account.server) == "sip:pbx.example.com:5070;transport=tcp"
    assert (account.contact_user, account.credentials.username, account.expires_s) == ("7000%40x", "7000@x", 300)
    named = account_of(section.model_copy(update={"user": "7000", "server": "sips:pbx.example.com"}))
    assert str(named.aor) == "<sips:7000@pbx.example.com>"


def test_a_registration_whose_password_is_missing_is_left_out_and_the_others_are_not() -> None:
    text = BY_SOURCE.replace(
        "}\n", ", register: {server: 'sip:192.0.2.7', username: a, password: '${NO_SUCH_VARIABLE}'}}\n"
    )
    other = "  - {name: b, sources: [192.0.2.9], register: {server: 'sip:192.0.2.8', username: b, password: x}}\n"
    known = office(text + other)
    known.start()
    assert list(known.at) == ["b"]
