"""The server side of digest in the user agent: who is challenged, with what, and what comes of it."""

from __future__ import annotations

import pytest

from sipbridge.sip.digest import Credentials, DigestClient
from sipbridge.sip.digest_server import DigestServer
from sipbridge.sip.events import (
    Acknowledged,
    Authenticated,
    AuthenticationFailed,
    CallEnded,
    CredentialsNeeded,
    InviteReceived,
)
from sipbridge.sip.flow import Flow
from sipbridge.sip.message import Request, Response, parse_message
from tests.sip.wire import ANSWER, TCP, UDP, US, Wire, counting_tokens, in_dialog, request

PASSWORDS = {"alice": "correct horse"}
INVITE = {"uri": "sip:agent@192.0.2.1"}


class Guarded(Wire):
    """A user agent that challenges everybody but one trusted source."""

    TRUSTED = "192.0.2.99"

    def __init__(self, *, in_dialog: bool = False) -> None:
        super().__init__()
        self.user_agent.require_authentication(
            DigestServer("pbx", b"secret", counting_tokens("n"), nonce_seconds=60.0),
            lambda request, flow: flow.remote[0] != self.TRUSTED,
            in_dialog=in_dialog,
        )

    def look_up(self, passwords: dict[str, str] = PASSWORDS) -> list[Request | Response]:
        """Answer the one question there is; what is sent because of it."""
        needed = self.event(CredentialsNeeded)
        self.user_agent.credentials_found(needed, passwords.get(needed.username), self.now)
        return self.sent()


class Phone:
    """Answers challenges as a phone does: CSeq goes up, the branch changes unless it is an odd one."""

    def __init__(self, username: str = "alice", password: str = "correct horse", *, same_branch: bool = False) -> None:
        self.client = DigestClient(Credentials(username, password))
        self.same_branch = same_branch
        self.branch = 0

    def retry(self, sent: bytes, challenge: Response) -> bytes:
        message = parse_message(sent)
        assert isinstance(message, Request)
        assert self.client.authorize(message, challenge, counting_tokens("c"))
        message.headers.set("CSeq", f"{message.cseq.number + 1} {message.method}")
        if not self.same_branch:
            self.branch += 1
            message.headers.set("Via", f"SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKretry{self.branch}")
        return message.serialize()


def one(messages: list[Request | Response]) -> Response:
    (message,) = messages
    assert isinstance(message, Response)
    return message


def challenge_of(wire: Guarded, data: bytes, flow: Flow = UDP) -> Response:
    response = wire.reply(data, flow)
    assert response.status == 401
    return response


def test_an_invite_is_challenged_and_then_served() -> None:
    wire, phone, invite = Guarded(), Phone(), request()
    challenge = challenge_of(wire, invite)
    offers = challenge.headers.get_all("WWW-Authenticate")
    assert ["SHA-256" in offers[0], "MD5" in offers[1]] == [True, True]
    assert challenge.to.tag
    assert wire.events() == []
    assert wire.receive(phone.retry(invite, challenge)) == []
    assert one(wire.look_up()).status == 100
    authenticated, invited = wire.events()
    assert isinstance(authenticated, Authenticated)
    assert isinstance(invited, InviteReceived)
    assert (authenticated.username, invited.username) == ("alice", "alice")


def test_a_trusted_source_is_not_asked() -> None:
    wire = Guarded()
    assert wire.reply(request(), Flow("udp", US, (Guarded.TRUSTED, 5060))).status == 100
    assert wire.event(InviteReceived).username is None


def test_a_challenge_leaves_nothing_behind() -> None:
    wire = Guarded()
    for number in range(50):
        challenge_of(wire, request(branch=f"z9hG4bK{number}", call_id=f"call{number}"))
    assert wire.user_agent.idle


def test_unknown_user_and_wrong_password_get_the_same_answer() -> None:
    answers = []
    for phone in (Phone(password="wrong"), Phone("nobody")):
        wire, invite = Guarded(), request()
        wire.receive(phone.retry(invite, challenge_of(wire, invite)))
        answer = one(wire.look_up())
        answers.append((answer.status, answer.reason, [name for name, _ in answer.headers]))
        assert wire.event(AuthenticationFailed).flow == UDP
        assert wire.user_agent.idle
    assert answers[0] == answers[1]
    assert answers[0][0] == 401


def test_the_retry_with_the_old_branch_is_a_new_request() -> None:
    """esphome-intercom #69: it was taken for a repetition of the request that had been refused."""
    wire, phone, invite = Guarded(), Phone(same_branch=True), request()
    again = phone.retry(invite, challenge_of(wire, invite))
    assert b"branch=z9hG4bKpeer1" in again
    wire.receive(again)
    assert one(wire.look_up()).status == 100


def test_a_branch_used_again_for_the_next_request_is_no_repetition() -> None:
    """The same fault where the first request had a transaction: refused for another reason, and tried again."""
    wire = Wire()
    call = wire.incoming()
    call.reject(488, now=wire.now)
    assert wire.statuses() == [488]
    assert isinstance(wire.events()[0], CallEnded)
    assert wire.reply(request(cseq=2)).status == 100
    wire.event(InviteReceived)
    assert [one(wire.receive(request(cseq=2))).status] == [100], "a repetition is one"


def test_a_register_is_answered_where_it_came_from() -> None:
    """esphome-intercom #104: the answer went to the port in the Via."""
    wire = Guarded()
    flow = Flow("udp", US, ("192.0.2.2", 40123))
    data = request("REGISTER", uri="sip:pbx", via="SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKr;rport")
    challenge = challenge_of(wire, data, flow)
    assert wire.flows == [flow]
    assert challenge.via.rport == 40123


def test_a_repetition_during_the_look_up_asks_no_second_time() -> None:
    wire, phone, invite = Guarded(), Phone(), request()
    again = phone.retry(invite, challenge_of(wire, invite))
    wire.receive(again)
    assert wire.receive(again) == []
    assert one(wire.look_up()).status == 100
    assert one(wire.receive(again)).status == 100, "now the transaction repeats it"


def test_credentials_are_good_once() -> None:
    wire, phone, invite = Guarded(), Phone(), request()
    again = phone.retry(invite, challenge_of(wire, invite))
    wire.receive(again)
    wire.look_up()
    wire.events()
    replayed = again.replace(b"z9hG4bKretry1", b"z9hG4bKreplay").replace(b"call1", b"call2")
    wire.receive(replayed)
    refused = one(wire.look_up())
    assert refused.status == 401
    assert all("stale=true" in value for value in refused.headers.get_all("WWW-Authenticate"))
    assert wire.events() == [], "a phone that is late is no attacker"


def test_an_old_nonce_is_stale_and_asks_nobody() -> None:
    wire, phone, invite = Guarded(), Phone(), request()
    again = phone.retry(invite, challenge_of(wire, invite))
    wire.now = 61.0
    stale = challenge_of(wire, again)
    assert "stale=true" in (stale.headers.get("WWW-Authenticate") or "")
    assert wire.events() == []
    wire.receive(phone.retry(again, stale))
    assert one(wire.look_up()).status == 100


def test_malformed_credentials_are_a_bad_request() -> None:
    wire = Guarded()
    answer = wire.reply(request(headers=['Authorization: Digest username="alice", realm="pbx"']))
    assert answer.status == 400


def test_credentials_for_one_number_do_not_pay_for_another() -> None:
    wire, phone, invite = Guarded(), Phone(), request()
    again = phone.retry(invite, challenge_of(wire, invite))
    moved = again.replace(b"INVITE sip:agent@", b"INVITE sip:+15550100@")
    assert wire.reply(moved).status == 400


def authenticated_call(wire: Guarded) -> str:
    """Up and acknowledged; our tag."""
    phone, invite = Phone(), request()
    wire.receive(phone.retry(invite, challenge_of(wire, invite)))
    wire.look_up()
    _, invited = wire.events()
    assert isinstance(invited, InviteReceived)
    invited.call.answer(ANSWER, wire.now)
    tag = one(wire.sent()).to.tag
    assert tag
    assert wire.receive(request("ACK", cseq=2, branch="z9hG4bKack", to=f"<sip:agent@192.0.2.1>;tag={tag}")) == []
    wire.event(Acknowledged)
    return tag


def test_ack_and_what_is_inside_a_dialog_are_not_challenged() -> None:
    wire = Guarded()
    tag = authenticated_call(wire)
    assert wire.reply(in_dialog("BYE", tag, cseq=3)).status == 200
    assert isinstance(wire.events()[0], CallEnded)


def test_unless_the_policy_wants_it() -> None:
    wire = Guarded(in_dialog=True)
    tag = authenticated_call(wire)
    assert wire.reply(in_dialog("BYE", tag, cseq=3)).status == 401


def test_cancel_is_not_challenged() -> None:
    wire, phone, invite = Guarded(), Phone(), request()
    wire.receive(phone.retry(invite, challenge_of(wire, invite)))
    wire.look_up()
    wire.events()
    cancel = request("CANCEL", cseq=2, branch="z9hG4bKretry1")
    assert sorted(one([message]).status for message in wire.receive(cancel)) == [200, 487]
    assert isinstance(wire.events()[0], CallEnded)


def test_a_call_that_is_cancelled_during_the_look_up_is_none() -> None:
    wire, phone, invite = Guarded(), Phone(), request()
    wire.receive(phone.retry(invite, challenge_of(wire, invite)))
    answers = wire.receive(request("CANCEL", cseq=2, branch="z9hG4bKretry1"))
    assert sorted((one([m]).status, one([m]).cseq.method) for m in answers) == [(200, "CANCEL"), (487, "INVITE")]
    assert wire.look_up() == [], "too late"
    assert wire.user_agent.idle


def test_a_look_up_that_nobody_answers_ends() -> None:
    wire, phone, invite = Guarded(), Phone(), request()
    wire.receive(phone.retry(invite, challenge_of(wire, invite)))
    ((when, answer),) = wire.advance(30.0)
    assert isinstance(answer, Response)
    assert (when, answer.status, answer.headers.get("Retry-After")) == (5.0, 500, "5")
    assert wire.look_up() == []
    assert wire.user_agent.idle


def test_how_many_wait_for_a_look_up_is_bounded() -> None:
    wire, phone, invite = Guarded(), Phone(), request()
    challenge = challenge_of(wire, invite)
    statuses = []
    for number in range(300):
        data = phone.retry(request(call_id=f"call{number}"), challenge)
        statuses += [one([message]).status for message in wire.receive(data)]
        phone.client.forget()
    assert statuses == [500] * 44
    assert len(wire.events()) == 256


def test_over_tcp_too() -> None:
    wire, phone = Guarded(), Phone()
    invite = request(via="SIP/2.0/TCP 192.0.2.2:5060;branch=z9hG4bKtcp")
    wire.receive(phone.retry(invite, challenge_of(wire, invite, TCP)), TCP)
    assert one(wire.look_up()).status == 100
    assert wire.flows == [TCP]


@pytest.mark.parametrize("method", ["OPTIONS", "REGISTER", "BYE", "SUBSCRIBE", "FOO"])
def test_whatever_the_method(method: str) -> None:
    """§8.2: authentication comes first, so that a stranger does not even learn what is supported."""
    assert Guarded().reply(request(method)).status == 401
