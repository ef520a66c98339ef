"""Digest: vectors of the RFCs, then both sides against each other, then peers as they are."""

from __future__ import annotations

import pytest

from sipbridge.errors import SipParseError
from sipbridge.sip import digest
from sipbridge.sip.digest import Credentials, DigestClient, digest_hash, parse_challenges, response_digest, unquoted
from sipbridge.sip.digest_server import DigestServer, Ha1, Verdict, covers
from sipbridge.sip.message import Request, Response
from tests.sip import wire
from tests.sip.messages import parse_request
from tests.sip.wire import counting_tokens

NOW = 1000.0
ALICE = Credentials("alice", "correct horse")


def request(method: str = "REGISTER", *, cseq: int = 1, uri: str = "sip:pbx.example.com", **changes: str) -> Request:
    return parse_request(wire.request(method, cseq=cseq, uri=uri, **changes))  # type: ignore[arg-type]


def server(**options: object) -> DigestServer:
    return DigestServer("pbx.example.com", b"secret", counting_tokens("n"), **options)  # type: ignore[arg-type]


def challenged(to: Request, challenges: list[str], status: int = 401) -> Response:
    response = to.response(status, to_tag="b1")
    for challenge in challenges:
        response.headers.add("WWW-Authenticate" if status == 401 else "Proxy-Authenticate", challenge)
    return response


def answered(
    challenges: list[str], to: Request | None = None, *, credentials: Credentials = ALICE
) -> tuple[DigestClient, Request]:
    client, asked = DigestClient(credentials), to or request()
    assert client.authorize(asked, challenged(asked, challenges), counting_tokens("c"))
    return client, asked


def params_of(asked: Request, name: str = "Authorization") -> dict[str, str]:
    ((scheme, params),) = parse_challenges(asked.headers.get(name) or "")
    assert scheme == "digest"
    return {key: unquoted(value) for key, value in params.items()}


# --- vectors ----------------------------------------------------------------------------------------------------------

RFC_7616_NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
RFC_7616_CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


@pytest.mark.parametrize(
    ("algorithm", "user", "realm", "password", "nonce", "uri", "qop", "expected"),
    [
        (  # RFC 2617 §3.5
            "MD5",
            "Mufasa",
            "testrealm@host.com",
            "Circle Of Life",
            "dcd98b7102dd2f0e8b11d0f600bfb0c093",
            "/dir/index.html",
            ("00000001", "0a4f113b"),
            "6629fae49393a05397450978507c4ef1",
        ),
        (  # RFC 7616 §3.9.2, with its erratum 4897
            "SHA-512-256",
            "J\u00e4s\u00f8n Doe",
            "api@example.org",
            "Secret, or not?",
            "5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",
            "/doe.json",
            ("00000001", "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v"),
            "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5",
        ),
        (  # RFC 2069 §2.4, with its erratum: no qop
            "MD5",
            "Mufasa",
            "testrealm@host.com",
            "CircleOfLife",
            "dcd98b7102dd2f0e8b11d0f600bfb0c093",
            "/dir/index.html",
            None,
            "1949323746fe6a43ef61f9606e7febea",
        ),
        (  # RFC 7616 §3.9.1
            "MD5",
            "Mufasa",
            "http-auth@example.org",
            "Circle of Life",
            RFC_7616_NONCE,
            "/dir/index.html",
            ("00000001", RFC_7616_CNONCE),
            "8ca523f5e9506fed4657c9700eebdbec",
        ),
        (
            "SHA-256",
            "Mufasa",
            "http-auth@example.org",
            "Circle of Life",
            RFC_7616_NONCE,
            "/dir/index.html",
            ("00000001", RFC_7616_CNONCE),
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        ),
    ],
)
def test_the_vectors_of_the_rfcs(
    algorithm: str,
    user: str,
    realm: str,
    password: str,
    nonce: str,
    uri: str,
    qop: tuple[str, str] | None,
    expected: str,
) -> None:
    ha1 = digest_hash(algorithm, user, realm, password)
    assert response_digest(algorithm, ha1, nonce, "GET", uri, qop=qop) == expected


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "SHA-512-256"])
@pytest.mark.parametrize("session", ["", "-sess"])
@pytest.mark.parametrize("qop", [True, False])
def test_both_sides_agree(algorithm: str, session: str, qop: bool) -> None:
    side = server(algorithms=(algorithm,))
    (challenge,) = side.challenge(NOW)
    challenge = challenge.replace(f"algorithm={algorithm}", f"algorithm={algorithm}{session}")
    if not qop:
        challenge = challenge.replace(', qop="auth"', "")
    _, asked = answered([challenge])
    assert ("nc" in params_of(asked)) is qop
    assert ("cnonce" in params_of(asked)) is (qop or bool(session))
    assert side.check(asked, ALICE.password, NOW + 1) is Verdict.OK
    hashed = digest_hash(algorithm, ALICE.username, side.realm, ALICE.password)
    _, asked = answered([challenge], request("REGISTER", cseq=5))
    assert side.check(asked, Ha1({algorithm: hashed}), NOW + 1) is Verdict.STALE, "the same nonce and count"
    assert side.check(asked, "wrong", NOW + 1) is Verdict.WRONG
    assert side.check(asked, None, NOW + 1) is Verdict.WRONG


def test_a_hash_that_is_not_there_is_no_password() -> None:
    side = server(algorithms=("MD5",))
    _, asked = answered(side.challenge(NOW))
    params = params_of(asked)
    forged = response_digest("MD5", "", params["nonce"], asked.method, asked.uri, qop=(params["nc"], params["cnonce"]))
    value = (asked.headers.get("Authorization") or "").replace(params["response"], forged)
    asked.headers.set("Authorization", value)
    assert side.check(asked, Ha1({"SHA-256": "0" * 64}), NOW) is Verdict.WRONG


def test_unknown_user_and_wrong_password_cost_the_same_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def counting(name: str) -> object:
        real = digest.ALGORITHMS[name]

        def count(data: bytes) -> str:
            hashed.append(f"{name} of {len(data) // 64} blocks")
            return real(data)

        return count

    side = server()
    _, asked = answered(side.challenge(NOW), credentials=Credentials("alice", "not the one"))
    monkeypatch.setattr(digest, "ALGORITHMS", {name: counting(name) for name in digest.ALGORITHMS})
    spent = []
    for password in ("the right one", None):
        assert side.check(asked, password, NOW) is Verdict.WRONG
        spent.append(hashed.copy())
        hashed.clear()
    assert spent[0] == spent[1] != []


# --- the client -------------------------------------------------------------------------------------------------------

BASE = 'realm="pbx.example.com", nonce="n1"'


@pytest.mark.parametrize(
    ("challenges", "algorithm"),
    [
        (["Digest " + BASE], None),
        (["Digest " + BASE + ", algorithm=md5", "Digest " + BASE + ", algorithm=SHA-256"], "SHA-256"),
        (["Digest " + BASE + ", algorithm=SHA-256, Digest " + BASE + ", algorithm=MD5"], "SHA-256"),
        (["Digest " + BASE + ", algorithm=SHA-256", "Digest " + BASE + ", algorithm=SHA-512-256"], "SHA-512-256"),
        (["Digest " + BASE + ", algorithm=AKAv1-MD5", "Digest " + BASE + ', algorithm="MD5-sess"'], "MD5-sess"),
        (['Basic realm="pbx.example.com"', "Negotiate", "dIgEsT  " + BASE.upper() + " ,ALGORITHM=MD5"], "MD5"),
        (["Digest " + BASE + ', algorithm=SHA-256, qop="auth-int"', "Digest " + BASE + ", algorithm=MD5"], "MD5"),
        (['Digest nonce=broken", realm', "Digest " + BASE + ", algorithm=MD5"], "MD5"),
        (["Negotiate, NTLM TlRMTVNTUAAB==, Digest " + BASE + ", algorithm=MD5"], "MD5"),
        (['Digest realm = "pbx.example.com" , nonce = "n1",algorithm = SHA-256,unknown="a,b", stale=FALSE'], "SHA-256"),
    ],
)
def test_the_strongest_challenge_that_can_be_answered_is(challenges: list[str], algorithm: str | None) -> None:
    _, asked = answered(challenges)
    assert params_of(asked).get("algorithm") == algorithm


@pytest.mark.parametrize(
    "challenges",
    [
        [],
        ["Basic realm=x"],
        ["Digest " + BASE + ", algorithm=SHA3"],
        ["Digest " + BASE + ', qop="auth-int"'],
        ['Digest realm="x"'],
        ['Digest nonce="x"'],
        ["Digest " + BASE + ', nonce="n2"'],
        ['Digest realm="x", nonce="' + "n" * 5000 + '"'],
        ["realm=x, nonce=y"],
        ["Digest " + BASE + ', opaque="unfinished'],
    ],
)
def test_what_cannot_be_answered_is_not(challenges: list[str]) -> None:
    asked = request()
    client = DigestClient(ALICE)
    assert client.authorize(asked, challenged(asked, challenges), counting_tokens()) is False
    client.apply(asked)
    assert "Authorization" not in asked.headers


def test_what_the_server_wrote_goes_back_unchanged() -> None:
    realm, opaque = r'"a \"quoted\", realm é"', r'"o,\\p"'
    _, asked = answered([f'Digest realm={realm}, nonce="n,1", opaque={opaque}, qop="auth-int,auth"'])
    ((_, params),) = parse_challenges(asked.headers.get("Authorization") or "")
    assert (params["realm"], params["opaque"], params["nonce"], params["qop"]) == (realm, opaque, '"n,1"', "auth")
    ha1 = digest_hash("MD5", ALICE.username, 'a "quoted", realm é', ALICE.password)
    qop = (params["nc"], unquoted(params["cnonce"]))
    expected = response_digest("MD5", ha1, "n,1", "REGISTER", "sip:pbx.example.com", qop=qop)
    assert unquoted(params["response"]) == expected


def test_a_name_that_needs_quoting_and_is_not_ascii() -> None:
    side = server()
    odd = Credentials('zoë "the\\boss"', "pässword")
    _, asked = answered(side.challenge(NOW), credentials=odd)
    again = parse_request(asked.serialize())
    claim = side.claim(again)
    assert not isinstance(claim, Verdict)
    assert claim.username == odd.username
    assert side.check(again, odd.password, NOW) is Verdict.OK


def test_later_requests_are_authorized_at_once() -> None:
    side = server()
    client, asked = answered(side.challenge(NOW))
    assert side.check(asked, ALICE.password, NOW) is Verdict.OK
    for count in ("00000002", "00000003"):
        following = request("INVITE", uri="sip:bob@pbx.example.com")
        client.apply(following)
        assert params_of(following)["nc"] == count
        assert side.check(following, ALICE.password, NOW) is Verdict.OK


def test_a_refused_answer_is_not_given_again() -> None:
    side, client, asked = server(), DigestClient(ALICE), request()
    assert client.authorize(asked, challenged(asked, side.challenge(NOW)), counting_tokens())
    asked.headers.set("CSeq", "2 REGISTER")
    assert not client.authorize(asked, challenged(asked, side.challenge(NOW + 1)), counting_tokens())
    fresh = request(cseq=3)
    client.apply(fresh)
    assert "Authorization" not in fresh.headers
    assert client.authorize(fresh, challenged(fresh, side.challenge(NOW + 60)), counting_tokens()), "asked anew"


def test_a_wrong_password_is_refused_at_once_whatever_else_its_dialog_has_sent_meanwhile() -> None:
    side, client, asked = server(), DigestClient(ALICE), request()
    assert client.authorize(asked, challenged(asked, side.challenge(NOW)), counting_tokens())
    asked.headers.set("CSeq", "9 REGISTER")
    client.apply(request(cseq=10))
    assert not client.authorize(asked, challenged(asked, side.challenge(NOW + 1)), counting_tokens())


def test_stale_is_answered_but_not_for_ever() -> None:
    side, client, asked = server(), DigestClient(ALICE), request()
    assert client.authorize(asked, challenged(asked, side.challenge(NOW)), counting_tokens())
    outcomes = []
    for number in range(2, 6):
        asked.headers.set("CSeq", f"{number} REGISTER")
        stale = challenged(asked, side.challenge(NOW + number, stale=True))
        outcomes.append(client.authorize(asked, stale, counting_tokens()))
        if not outcomes[-1]:
            break
    assert outcomes == [True, True, False]


def test_an_old_nonce_is_replaced_even_where_the_server_does_not_say_stale() -> None:
    side = server()
    client, asked = answered(side.challenge(NOW))
    for cseq in (5, 9, 13, 17):
        refresh = request(cseq=cseq)
        client.apply(refresh)
        assert client.authorize(refresh, challenged(refresh, side.challenge(NOW + cseq)), counting_tokens())


@pytest.mark.parametrize("bare", [True, False])
def test_another_server_has_refused_nothing_yet(bare: bool) -> None:
    """The first one failed after its challenge had been answered: the second knows nothing of that nonce."""
    client, asked = answered(server().challenge(NOW))
    asked.headers.set("CSeq", "2 REGISTER")
    if bare:
        asked.headers.remove("Authorization")
    else:
        client.apply(asked)
        assert params_of(asked)["nc"] == "00000002"
    assert client.authorize(asked, challenged(asked, server().challenge(NOW + 1)), counting_tokens())


def test_proxy_and_registrar_each_get_their_own() -> None:
    proxy, registrar = DigestServer("proxy", b"p", counting_tokens("p")), server()
    client, asked = DigestClient(ALICE), request()
    assert client.authorize(asked, challenged(asked, proxy.challenge(NOW), 407), counting_tokens())
    asked.headers.set("CSeq", "2 REGISTER")
    assert client.authorize(asked, challenged(asked, registrar.challenge(NOW)), counting_tokens())
    assert proxy.check(asked, ALICE.password, NOW, proxy=True) is Verdict.OK
    assert registrar.check(asked, ALICE.password, NOW) is Verdict.OK


def test_the_next_nonce_is_taken_from_an_answer() -> None:
    client, asked = answered(["Digest " + BASE + ', qop="auth"'])
    ok = asked.response(200)
    ok.headers.add("Authentication-Info", 'nextnonce="n2", qop=auth, rspauth="00"')
    client.receive(ok)
    client.receive(challenged(asked, []))
    broken = asked.response(200)
    broken.headers.add("Authentication-Info", 'nextnonce="n3')
    client.receive(broken)
    two = asked.response(200)
    two.headers.add("Authentication-Info", 'nextnonce="n3", Digest nextnonce="n4"')
    client.receive(two)
    following = request(cseq=3)
    client.apply(following)
    assert (params_of(following)["nonce"], params_of(following)["nc"]) == ("n2", "00000001")


def test_what_a_server_can_make_the_client_keep_has_a_bound() -> None:
    client = DigestClient(ALICE)
    for number in range(1000):
        asked = request(call_id=f"call{number}")
        challenge = f'Digest realm="r{number}", nonce="n"'
        assert client.authorize(asked, challenged(asked, [challenge]), counting_tokens())
    assert len(asked.headers.get_all("Authorization")) <= 8
    many = [f'Digest realm="m{number}", nonce="n"' for number in range(100)]
    asked = request(call_id="another")
    assert client.authorize(asked, challenged(asked, many), counting_tokens())
    assert len(asked.headers.get_all("Authorization")) <= 8


def test_a_password_is_not_shown() -> None:
    assert ALICE.password not in repr(ALICE)
    assert "aaa" not in repr(Ha1({"MD5": "aaa"}))


# --- the server -------------------------------------------------------------------------------------------------------


def test_the_stronger_algorithm_is_offered_first() -> None:
    first, second = server().challenge(NOW)
    assert "algorithm=SHA-256" in first
    assert "algorithm=MD5" in second
    assert 'qop="auth"' in first
    assert "stale" not in first
    assert all("stale=true" in challenge for challenge in server().challenge(NOW, stale=True))


def test_a_nonce_expires_and_then_the_answer_is_stale() -> None:
    side = server(nonce_seconds=60.0)
    _, asked = answered(side.challenge(NOW))
    assert side.check(asked, ALICE.password, NOW + 61) is Verdict.STALE
    assert side.check(asked, ALICE.password, NOW + 59) is Verdict.OK


def test_no_password_is_tried_with_a_nonce_that_is_not_ours() -> None:
    """Else an attacker would make one up, and read from the answer whether he guessed right, without being counted."""
    _, asked = answered(["Digest " + BASE + ', qop="auth"'])
    for password in (ALICE.password, "another", None):
        assert server().check(asked, password, NOW) is Verdict.STALE


def test_a_nonce_is_good_where_it_was_given_to() -> None:
    """Else anybody could have another blocked by forging its address."""
    side = server()
    _, asked = answered(side.challenge(NOW, source="192.0.2.2"))
    assert side.check(asked, "wrong", NOW, source="192.0.2.3") is Verdict.STALE
    assert side.check(asked, "wrong", NOW, source="192.0.2.2") is Verdict.WRONG
    assert side.check(asked, ALICE.password, NOW, source="192.0.2.2") is Verdict.OK


def test_counts_may_overtake_each_other_but_none_is_good_twice() -> None:
    side = server()
    client, _ = answered(side.challenge(NOW))
    requests = []
    for number in range(100):
        requests.append(request(cseq=number + 2))
        client.apply(requests[-1])
    order = [5, 3, 4, 0, 99, 98, 50, 99, 3, 50, 2]
    verdicts = [side.check(requests[index], ALICE.password, NOW) for index in order]
    assert [verdict is Verdict.OK for verdict in verdicts] == [True] * 7 + [False] * 4
    assert set(verdicts) == {Verdict.OK, Verdict.STALE}


def test_without_qop_a_nonce_is_good_once() -> None:
    side = server()
    client, asked = answered([challenge.replace(', qop="auth"', "") for challenge in side.challenge(NOW)])
    assert side.check(asked, ALICE.password, NOW) is Verdict.OK
    following = request("INVITE", uri="sip:bob@pbx.example.com")
    client.apply(following)
    assert side.check(following, ALICE.password, NOW) is Verdict.STALE


def test_another_node_with_the_same_secret_checks_them() -> None:
    here, there = server(epoch=50_000.0), server(epoch=90_000.0)
    _, asked = answered(here.challenge(NOW))
    assert there.check(asked, ALICE.password, NOW - 40_000.0 + 1) is Verdict.OK
    stranger = DigestServer("pbx.example.com", b"other", counting_tokens(), epoch=50_000.0)
    assert stranger.check(asked, ALICE.password, NOW) is Verdict.STALE


def test_what_is_remembered_of_nonces_has_a_bound_and_still_no_replay() -> None:
    side = server(remembered_nonces=10)
    asked = []
    for number in range(30):
        _, one = answered(side.challenge(NOW + number))
        asked.append(one)
        assert side.check(one, ALICE.password, NOW + number) is Verdict.OK
    assert len(side._nonces) <= 10
    assert {side.check(one, ALICE.password, NOW + 31) for one in asked} == {Verdict.STALE}


@pytest.mark.parametrize(
    "value",
    [
        'Digest realm="pbx.example.com", nonce="n", uri="sip:pbx.example.com", response="00"',
        'Digest username="a", realm="pbx.example.com", uri="sip:pbx.example.com", response="00"',
        'Digest username="a", realm="pbx.example.com", nonce="n", response="00"',
        'Digest username="a", realm="pbx.example.com", nonce="n", uri="sip:pbx.example.com"',
        'Digest username="a", realm="pbx.example.com", nonce="n", uri="sip:pbx.example.com", response="0", qop=auth',
        'Digest username="a", realm="pbx.example.com", nonce="n", uri="sip:pbx.example.com", response="0", '
        'qop=auth-int, nc=00000001, cnonce="c"',
        'Digest username="a", realm="pbx.example.com", nonce="n", uri="sip:pbx.example.com", response="0", '
        'qop=auth, nc=00000000, cnonce="c"',
        'Digest username="a", username="b", realm="pbx.example.com", nonce="n", uri="sip:pbx.example.com"',
        'Digest username="a", realm="pbx.example.com", nonce="n", uri="sip:mallory@pbx.example.com", response="0"',
        'Digest username="a',
        "Digest =",
        "\x01",
    ],
)
def test_malformed_credentials(value: str) -> None:
    asked = request()
    asked.headers.add("Authorization", value)
    assert server().check(asked, ALICE.password, NOW) is Verdict.MALFORMED


@pytest.mark.parametrize(
    "value",
    [
        None,
        "Basic YWxpY2U6eA==",
        'Digest username="a", realm="elsewhere", nonce="n", uri="sip:pbx.example.com", response="00"',
        'Digest username="a", realm="pbx.example.com", nonce="n", uri="sip:x", response="00", algorithm=SHA-1',
        'Digest username="a", realm="pbx.example.com", nonce="n", uri="sip:x", response="00", algorithm=SHA-512-256',
    ],
)
def test_no_credentials_of_ours(value: str | None) -> None:
    asked = request()
    if value is not None:
        asked.headers.add("Authorization", value)
    assert server().check(asked, ALICE.password, NOW) is Verdict.NO_CREDENTIALS


def test_credentials_of_another_realm_do_not_hide_ours() -> None:
    side = server()
    _, asked = answered(side.challenge(NOW))
    asked.headers.prepend("Authorization", 'Digest username="a", realm="elsewhere", nonce="n", uri="x", response="00"')
    assert side.check(asked, ALICE.password, NOW) is Verdict.OK


@pytest.mark.parametrize(
    ("claimed", "asked", "covered"),
    [
        ("sip:bob@192.0.2.1:5060;transport=udp", "sip:bob@pbx.example.com", True),
        ("sip:pbx.example.com", "sip:192.0.2.1:5060", True),
        ("sips:%62ob@pbx.example.com", "sip:bob@pbx.example.com", True),
        ("sip:alice@pbx.example.com", "sip:bob@pbx.example.com", False),
        ("sip:pbx.example.com;transport=UDP", "sip:bob@pbx.example.com", True),
        ("sip:pbx.example.com", "sip:bob@pbx.example.org", False),
        ("/index.html", "sip:bob@pbx.example.com", False),
    ],
)
def test_credentials_are_for_one_callee(claimed: str, asked: str, covered: bool) -> None:
    assert covers(claimed, request("INVITE", uri=asked)) is covered


def test_an_algorithm_that_openssl_lacks_is_not_offered_and_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(data: bytes) -> str:
        raise ValueError("unsupported hash type sha512_256")

    monkeypatch.setattr(digest, "_sha512_256", fail)
    available = digest.available_algorithms()
    assert list(available) == ["MD5", "SHA-256"]
    monkeypatch.setattr(digest, "ALGORITHMS", available)
    assert digest.algorithm_of({"algorithm": "SHA-512-256"}) is None


def test_grammar() -> None:
    assert parse_challenges('Digest a="1,2" , b=3,, C="x\\"y", Basic realm=z,') == [
        ("digest", {"a": '"1,2"', "b": "3", "c": '"x\\"y"'}),
        ("basic", {"realm": "z"}),
    ]
    for wrong in ("a=1", "Digest a=1 b=2", 'Digest a="1', "Digest a=1, a=2"):
        with pytest.raises(SipParseError):
            parse_challenges(wrong)
