"""What tenants and models learn from an INVITE."""

from __future__ import annotations

import pytest

from sipbridge.call_fields import CallFields
from sipbridge.sip.message import Request, parse_message

INVITE = (
    b"INVITE sip:%61gent%2B1@192.0.2.1 SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK1\r\n"
    b"From: <sip:caf\xe9@example.com>;tag=1\r\n"
    b"To: <sip:agent@example.com>\r\n"
    b"Call-ID: \xffcall\r\n"
    b"CSeq: 1 INVITE\r\n"
    b"Contact: <sip:192.0.2.2>\r\n"
    b"X-Member: J\xc3\xbcrgen\r\n"
    b"\r\n"
)


def fields_of(text: bytes, *, trusted: bool = False) -> CallFields:
    invite = parse_message(text)
    assert isinstance(invite, Request)
    return CallFields.of(invite, "pbx", trusted=trusted)


def test_what_tenants_and_models_see_of_a_call_is_text() -> None:
    fields = fields_of(INVITE)
    assert (fields.to, fields.caller, fields.call_id) == ("agent+1", "café", "ÿcall")
    assert fields.headers["X-Member"] == "Jürgen"


FORWARDED = INVITE.replace(
    b"From: <sip:caf\xe9@example.com>", b'From: "Claimed" <sip:+1-555-0199@example.com>'
).replace(
    b"X-Member",
    b'P-Asserted-Identity: "Real" <sip:+15550123@example.net>, <tel:+15550123;verstat=TN-Validation-Passed>\r\n'
    b"Diversion: <sip:+15550111@example.com>;reason=no-answer, <sip:+15550110@example.com>;reason=user-busy\r\n"
    b"Referred-By: <sip:7001@pbx.example.com>\r\n"
    b'Authorization: Digest username="u", response="secret"\r\n'
    b"X-Member",
)


def test_a_trusted_trunk_tells_who_calls_and_whom_they_dialled() -> None:
    fields = fields_of(FORWARDED, trusted=True)
    assert fields.caller == "+15550123"
    call = fields.templated()
    assert call == {
        "from": "+15550123",
        "to": "agent+1",
        "id": "ÿcall",
        "trunk": "pbx",
        "display": "Claimed",
        "asserted": "+15550123, +15550123",
        "diversion": "+15550111, +15550110",
        "history": "",
        "dialled": "+15550110",
        "verstat": "TN-Validation-Passed",
        "referred_by": "7001",
        "privacy": "",
        "machine": "",
    }
    assert "P-Asserted-Identity" in fields.headers


def test_nobody_else_is_believed() -> None:
    fields = fields_of(FORWARDED)
    assert fields.caller == "+15550199"
    call = fields.templated()
    assert {name: call[name] for name in ("asserted", "diversion", "history", "verstat")} == dict.fromkeys(
        ("asserted", "diversion", "history", "verstat"), ""
    )
    assert call["dialled"] == "agent"
    assert not {"P-Asserted-Identity", "Diversion", "Authorization"} & set(fields.headers)
    assert "Authorization" not in fields_of(FORWARDED, trusted=True).headers


@pytest.mark.parametrize("privacy", [b"id", b"user;critical"])
def test_a_caller_who_hides_is_not_named_to_the_model(privacy: bytes) -> None:
    fields = fields_of(FORWARDED.replace(b"X-Member", b"Privacy: " + privacy + b"\r\nX-Member"), trusted=True)
    assert fields.caller == "+15550123", "tenants may be chosen by it"
    call = fields.templated()
    assert (call["from"], call["display"], call["asserted"]) == ("anonymous", "", "")
