"""Who is calling: header fields as PBXs and trunks write them, and as attackers do."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from dataclasses import FrozenInstanceError

import pytest

from sipbridge.errors import SipParseError
from sipbridge.sip.diversion import Diversion, HistoryEntry
from sipbridge.sip.headers import Uri
from sipbridge.sip.identity import CallerIdentity
from sipbridge.sip.number import Number
from sipbridge.sip.passport import UnverifiedPassport, read_unverified
from sipbridge.sip.reason import Reason
from tests.sip.messages import parse_request
from tests.sip.wire import request

NUMBER = "+15550100"


def identity(*headers: str, trusted: bool = True, **changes: str) -> CallerIdentity:
    return CallerIdentity.of(parse_request(request(headers=headers, **changes)), trusted=trusted)  # type: ignore[arg-type]


# --- numbers in URIs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("tel:+1-555-01.00", Number(NUMBER)),
        ("tel:+1(555)0100;ext=12;isub=7", Number(NUMBER, "12", "7")),
        ("TEL:0100;phone-context=example.com", Number("0100", context="example.com")),
        ("tel:*21%23", None),
        ("tel:*21#", Number("*21#")),
        ("sip:+15550100@pbx.example.com", Number(NUMBER)),
        ("sip:%2B15550100@pbx.example.com;user=phone", Number(NUMBER)),
        ("sip:+1%35550100@pbx.example.com", Number(NUMBER)),
        ("sip:+1-555-0100;ext=5;verstat=TN-Validation-Passed@pbx.example.com;user=phone", Number(NUMBER, "5")),
        ("sip:0100;phone-context=+1555@pbx.example.com;user=phone", Number("0100", context="+1555")),
        ("sips:100@pbx.example.com", Number("100")),
        ("sip:*97@pbx.example.com", Number("*97")),
        ("sip:12AB@pbx.example.com;user=phone", Number("12AB")),
        ("sip:12AB@pbx.example.com", None),
        ("sip:abba@pbx.example.com", None),
        ("sip:alice@pbx.example.com", None),
        ("sip:pbx.example.com", None),
        ("sip:+@pbx.example.com", None),
        ("sip:1+555@pbx.example.com", None),
        ("sip:%252B15550100@pbx.example.com", None),
        ("sip:١٥٥٥٠١٠٠@pbx.example.com", None),
        ("sip:%D9%A1%D9%A5@pbx.example.com", None),
        ("sip:+1555０100@pbx.example.com", None),
        (f"sip:{'1' * 65}@pbx.example.com", None),
        (f"sip:{'1-' * 5000}@pbx.example.com", None),
        ("mailto:15550100", None),
    ],
)
def test_numbers_and_what_is_none(uri: str, expected: Number | None) -> None:
    assert number_in(uri) == expected


def number_in(text: str) -> Number | None:
    try:
        return Number.of(Uri.parse(text))
    except SipParseError:
        return None


def test_a_number_is_kept_as_it_was_dialled() -> None:
    for text, is_global in ((NUMBER, True), ("015550100", False), ("0015550100", False)):
        number = Number.of(Uri.parse(f"sip:{text}@pbx.example.com"))
        assert number is not None
        assert (str(number), number.is_global) == (text, is_global)


# --- whole INVITEs, in the shapes of vendors --------------------------------------------------------------------------


def test_asterisk_with_pai_and_privacy() -> None:
    caller = identity(
        'P-Asserted-Identity: "Front Desk" <sip:0101@192.0.2.2>',
        "Privacy: id",
        "Diversion: <sip:0102@192.0.2.2>;reason=no-answer",
        "X-Tenant: acme",
        "User-Agent: Asterisk PBX 22",
        from_='"Anonymous" <sip:anonymous@anonymous.invalid>;tag=a1',
        uri="sip:0199@192.0.2.1:5060",
        to="<sip:0199@192.0.2.1>",
    )
    assert caller.is_private
    assert caller.shown is None
    assert (caller.caller.user, caller.asserted[0].display) == ("0101", "Front Desk")
    assert caller.dialled.user == "0199"
    assert caller.first_dialled.user == "0102"
    assert caller.diversions[0].reason == "no-answer"
    assert caller.x_headers == (("X-Tenant", "acme"),)
    assert caller.user_agent == "Asterisk PBX 22"
    assert caller.malformed == ()


def test_cisco_with_remote_party_id() -> None:
    caller = identity(
        'Remote-Party-ID: "Alice" <sip:0101@cucm.example.com>;party=calling;screen=yes;privacy=off',
        'Remote-Party-ID: "Bob" <sip:0102@cucm.example.com>;party=called;privacy=full',
        'Diversion: "Bob" <sip:0102@cucm.example.com>;privacy=off;reason=user-busy;screen=yes',
        'Diversion: <sip:0103@cucm.example.com>;privacy=full;reason="unconditional";counter=2',
        from_='"Alice" <sip:0101@cucm.example.com>;tag=a1',
    )
    assert [party.user for party in caller.asserted] == ["0101"]
    assert not caller.is_private
    assert [(d.reason, d.counter, d.is_private) for d in caller.diversions] == [
        ("user-busy", 1, False),
        ("unconditional", 2, True),
    ]
    assert caller.first_dialled.user == "0103"


@pytest.mark.parametrize("privacy", ["full", "name", "uri", '"full"'])
def test_remote_party_id_asks_for_privacy(privacy: str) -> None:
    assert identity(f"Remote-Party-ID: <sip:0101@192.0.2.2>;privacy={privacy}").is_private


def test_3cx_sends_the_number_in_to_and_our_own_user_in_the_request_uri() -> None:
    caller = identity(
        from_='"15550101" <sip:15550101@3cx.example.com>;tag=a1',
        uri="sip:7000@192.0.2.1:5060;transport=udp;rinstance=1",
        to="<sip:15550100@3cx.example.com>",
    )
    assert (caller.dialled.user, caller.to.user, caller.caller.user) == ("7000", "15550100", "15550101")


def test_twilio_with_verstat_and_x_fields() -> None:
    caller = identity(
        "X-Twilio-CallSid: CA0123456789",
        "X-Twilio-VerStat: TN-Validation-Passed-A",
        "P-Asserted-Identity: <sip:+15550101@203.0.113.9:5060>",
        from_="<sip:+15550101;verstat=TN-Validation-Passed-A@example.com;user=phone>;tag=a1",
        uri="sip:+15550100@192.0.2.1:5060",
    )
    assert caller.verstat == "TN-Validation-Passed-A"
    assert dict(caller.x_headers)["X-Twilio-CallSid"] == "CA0123456789"
    assert caller.caller.number == Number("+15550101")


def test_telnyx_with_diversion_and_history() -> None:
    caller = identity(
        "History-Info: <sip:+15550102@sip.example.com?Reason=SIP%3Bcause%3D302>;index=1",
        "History-Info: <sip:+15550100@sip.example.com;cause=302>;index=1.1;mp=1",
        "Diversion: <sip:+15550102@sip.example.com>;reason=unconditional",
        from_='"+15550101" <sip:+15550101@sip.example.com>;tag=a1',
    )
    assert [entry.index for entry in caller.history] == [(1,), (1, 1)]
    assert caller.history[0].reasons == (Reason("SIP", 302),)
    assert (caller.history[1].change, caller.history[1].came_of, caller.history[1].cause) == ("mp", (1,), 302)
    assert caller.first_dialled.user == "+15550102"


def test_microsoft_with_history_of_rfc_4244_and_a_ring_of_its_own() -> None:
    caller = identity(
        "History-Info: <sip:+15550100@sbc.example.com;user=phone>;index=1.1,"
        "<sip:bob@example.com;user=phone?Reason=SIP;cause=302;text=%22Moved%22&Privacy=history>;index=1",
        "P-Asserted-Identity: <tel:+15550101>,<sip:alice@example.com>",
        "Alert-Info: <http://127.0.0.1/ring-internal>",
        "Call-Info: <sip:example.com>;method=x",
        "Subject: Sales",
    )
    assert [entry.index for entry in caller.history] == [(1,), (1, 1)]
    assert caller.history[0].is_private
    assert caller.first_dialled.user == "bob"
    assert caller.caller.uri.scheme == "tel"
    assert [party.user for party in caller.asserted] == ["+15550101", "alice"]
    assert (caller.alert_info, caller.call_info) == (
        ("<http://127.0.0.1/ring-internal>",),
        ("<sip:example.com>;method=x",),
    )
    assert caller.subject == "Sales"


def test_a_carrier_with_tel_uris_everywhere() -> None:
    caller = identity(
        "P-Asserted-Identity: <tel:+1-555-0101;verstat=TN-Validation-Failed>",
        "Referred-By: <sip:0103@pbx.example.com>",
        from_='"ACME, Inc." <tel:+1-555-0101>;tag=a1',
        uri="tel:+1-555-0100",
        to="<tel:0100;phone-context=+1555>",
    )
    assert caller.caller.user == "+15550101"
    assert caller.verstat == "TN-Validation-Failed"
    assert caller.dialled.user == NUMBER
    assert caller.to.number == Number("0100", context="+1555")
    assert caller.display == "ACME, Inc."
    assert caller.referred_by is not None
    assert caller.referred_by.user == "0103"


# --- trust ------------------------------------------------------------------------------------------------------------


def test_a_stranger_asserts_nothing() -> None:
    caller = identity(
        "P-Asserted-Identity: <tel:+15550199;verstat=TN-Validation-Passed>",
        "Remote-Party-ID: <sip:+15550199@192.0.2.2>",
        "P-Preferred-Identity: <sip:+15550199@192.0.2.2>",
        trusted=False,
        from_="<sip:+15550101;verstat=TN-Validation-Passed@192.0.2.2>;tag=a1",
    )
    assert (caller.asserted, caller.verstat, caller.trusted) == ((), "", False)
    assert caller.caller.user == "+15550101"


def test_what_a_caller_would_prefer_is_never_read() -> None:
    caller = identity("P-Preferred-Identity: <sip:+15550199@192.0.2.2>", "P-Charging-Vector: icid-value=1")
    assert caller.asserted == ()
    assert caller.caller.user == "alice"


def test_a_stranger_may_ask_for_privacy() -> None:
    assert identity("Privacy: id;critical", trusted=False).is_private


@pytest.mark.parametrize(
    ("value", "private"),
    [("id", True), ("ID; critical", True), ("header;session", True), ("user,id", True), ("none", False)]
    + [("session", False), ("history", False), ("", False), ("\u00e9;;=", False)],
)
def test_what_privacy_asks_for(value: str, private: bool) -> None:
    assert identity(f"Privacy: {value}").is_private is private


@pytest.mark.parametrize(
    ("from_", "private"),
    [
        ('"Anonymous" <sip:anonymous@anonymous.invalid>;tag=a1', True),
        ("<sip:Anonymous@192.0.2.2>;tag=a1", True),
        ("<sip:restricted@example.com>;tag=a1", True),
        ("<sip:anonymously@example.com>;tag=a1", False),
        ('"Anonymous" <sip:0101@example.com>;tag=a1', False),
    ],
)
def test_who_hides(from_: str, private: bool) -> None:
    assert identity(from_=from_).is_private is private


# --- PASSporTs --------------------------------------------------------------------------------------------------------


def b64(value: object) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


HEADER = {"alg": "ES256", "ppt": "shaken", "typ": "passport", "x5u": "https://certs.example.com/1.pem"}
CLAIMS = {
    "attest": "A",
    "dest": {"tn": ["15550100"]},
    "iat": 1_700_000_000,
    "orig": {"tn": "15550101"},
    "origid": "3f0a9e2c",
}


def test_a_shaken_claim_is_told_as_unverified() -> None:
    token = f"{b64(HEADER)}.{b64(CLAIMS)}.AAAA"
    caller = identity(f'Identity: {token};info=<https://certs.example.com/1.pem>;alg=ES256;ppt="shaken"', trusted=False)
    assert caller.unverified_attestation == "A"
    assert caller.unverified_passports == (
        UnverifiedPassport(
            kind="shaken",
            attestation="A",
            orig="15550101",
            dest=("15550100",),
            issued_at=1_700_000_000,
            origination_id="3f0a9e2c",
            certificate="https://certs.example.com/1.pem",
        ),
    )


@pytest.mark.parametrize(
    "value",
    [
        "..c2ln;info=<https://certs.example.com/1.pem>",
        "a.b",
        "a.b.c.d",
        "!!!.###.x",
        f"{b64([1])}.{b64(CLAIMS)}.x",
        f"{b64(HEADER)}.{b64('text')}.x",
        f"{b64(HEADER)}.{urlsafe_b64encode(b'[' * 5000).decode()}.x",
        f"{b64(HEADER)}.{urlsafe_b64encode(b'1' * 5000).decode()}.x",
        "a" * 20_000 + ".b.c",
        "é.é.é",
    ],
)
def test_a_token_that_claims_nothing_readable(value: str) -> None:
    assert read_unverified(value) is None


@pytest.mark.parametrize(
    "claims",
    [
        {"attest": "Z", "orig": 5, "dest": {"tn": [1, None, "x\ny"]}, "iat": "yesterday", "origid": ["x"]},
        {"attest": ["A"], "orig": {"tn": {"a": 1}}, "dest": [], "iat": True},
        {"iat": -1},
        {},
    ],
)
def test_claims_of_the_wrong_kind_are_left_out(claims: dict[str, object]) -> None:
    passport = read_unverified(f"{b64(HEADER)}.{b64(claims)}.x")
    assert passport is not None
    assert (passport.attestation, passport.orig, passport.dest, passport.issued_at) == ("", "", (), None)


# --- malformed, hostile, too much -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field",
    [
        "P-Asserted-Identity: <:::>",
        'P-Asserted-Identity: "open <sip:a@b.example>',
        "Diversion: sip:",
        "History-Info: <sip:bob@example.com>;index=a.b",
        "History-Info: <sip:bob@example.com>;index=" + ".".join("1" * 40),
        "Identity: nonsense",
        "Referred-By: <>",
    ],
)
def test_a_malformed_field_is_left_out_and_named(field: str) -> None:
    caller = identity(field)
    assert caller.malformed == (field.partition(":")[0],)
    assert (caller.asserted, caller.diversions, caller.history, caller.referred_by) == ((), (), (), None)


def test_a_good_value_beside_a_malformed_one_counts() -> None:
    caller = identity("P-Asserted-Identity: <:::>", "P-Asserted-Identity: <sip:0101@192.0.2.2>")
    assert [party.user for party in caller.asserted] == ["0101"]
    assert caller.malformed == ("P-Asserted-Identity",)


def test_nothing_grows_without_bound() -> None:
    caller = identity(
        *["Diversion: <sip:0101@192.0.2.2>"] * 60,
        *["History-Info: <sip:0101@192.0.2.2>;index=1"] * 60,
        *["P-Asserted-Identity: <sip:0101@192.0.2.2>"] * 60,
        *["Identity: a.b.c"] * 60,
        *[f"X-{number}: {'x' * (1 if number else 5000)}" for number in range(100)],
        f"Subject: {'s' * 9000}",
    )
    assert (len(caller.diversions), len(caller.history), len(caller.asserted)) == (20, 20, 4)
    assert (len(caller.x_headers), len(caller.x_headers[0][1]), len(caller.subject)) == (64, 1024, 1024)
    assert caller.malformed == ("Identity",)


def test_malformed_values_take_no_time() -> None:
    """A datagram has room for twenty thousand of them, and looking at each would take 60 ms."""
    who = identity("History-Info: <sip:a@h>;index=1" + ",1" * 20_000)
    assert len(who.history) == 1
    beyond = "History-Info: " + "1," * 300 + "<sip:a@h>;index=1"
    assert identity(beyond).history == ()


def test_texts_are_fit_for_logs_and_models() -> None:
    data = request(
        headers=['P-Asserted-Identity: "M\u00fcller\u2028\u009b" <sip:0101@192.0.2.2>', "Subject: LATIN"],
        from_='"Ren\u00e9" <sip:ren%C3%A9%0d%0aX@example.com>;tag=a1',
    ).replace(b"LATIN", b"Stra\xdfe \x1b[31m")
    caller = CallerIdentity.of(parse_request(data), trusted=True)
    assert caller.asserted[0].display == "M\u00fcller"
    assert caller.subject == "Stra\u00dfe [31m"
    assert caller.from_.user == "ren\u00e9X"
    assert json.dumps(caller.subject + caller.from_.user + caller.from_.display)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("<sip:0101@192.0.2.2>;counter=99999", ("unknown", 1)),
        ("<sip:0101@192.0.2.2>;counter=٣;reason=USER-BUSY", ("user-busy", 1)),
        ("<tel:+15550101>;reason=time-of-day;counter=3;limit=5", ("time-of-day", 3)),
        ("sip:0101@192.0.2.2;reason=away", ("away", 1)),
    ],
)
def test_diversions(value: str, expected: tuple[str, int]) -> None:
    diversion = Diversion.parse(value)
    assert (diversion.reason, diversion.counter) == expected


def test_an_entry_of_the_history_keeps_no_header_parameters() -> None:
    entry = HistoryEntry.parse(
        "<sip:+15550100@192.0.2.2;user=phone?Reason=Q.850%3Bcause%3D17&Privacy=history>;index=1.2.10;rc=1.2"
    )
    assert entry.party.uri.headers == ()
    assert (entry.index, entry.change, entry.came_of) == ((1, 2, 10), "rc", (1, 2))
    assert (entry.reasons, entry.is_private, entry.number) == ((Reason("Q.850", 17),), True, Number(NUMBER))


def test_a_call_that_nobody_diverted_was_dialled_as_it_came() -> None:
    caller = identity("History-Info: <sip:agent@192.0.2.1>;index=1", "History-Info: <sip:x@192.0.2.1>;index=1.1;rc=1")
    assert caller.first_dialled == caller.dialled


def test_it_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        identity().trusted = False  # type: ignore[misc]
