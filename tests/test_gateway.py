"""What the gateway makes of an INVITE before there is a call."""

from __future__ import annotations

from sipbridge.gateway import _fields
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


def test_what_tenants_and_models_see_of_a_call_is_text() -> None:
    invite = parse_message(INVITE)
    assert isinstance(invite, Request)
    fields = _fields(invite, None)
    assert (fields.to, fields.caller, fields.call_id) == ("agent+1", "café", "ÿcall")
    assert fields.headers["X-Member"] == "Jürgen"
