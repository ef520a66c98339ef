"""What SIP says of a machine that answers: Contact (RFC 3840), the way to a mailbox (RFC 4458, RFC 7044)."""

from __future__ import annotations

import pytest

from sipbridge.machine import machine_of
from sipbridge.sip.fields import Headers

BOX = "<sip:vm@pbx.example.com;target=sip:100%40pbx.example.com;cause=486>"


@pytest.mark.parametrize(
    ("fields", "machine"),
    [
        ([("Contact", "<sip:a@192.0.2.1>")], ""),
        ([("Contact", '<sip:a@192.0.2.1>;actor="msg-taker"')], "voicemail"),
        ([("m", '<sip:a@192.0.2.1>;automata;actor="Msg-Taker"')], "voicemail"),
        ([("Contact", "<sip:a@192.0.2.1>;actor=information")], "announcement"),
        ([("Contact", '<sip:a@192.0.2.1>;actor="attendant"')], "attendant"),
        ([("Contact", '<sip:a@192.0.2.1>;automata;actor="principal"')], "automaton"),
        ([("Contact", "<sip:a@192.0.2.1>;automata")], "automaton"),
        ([("Contact", '<sip:a@192.0.2.1>;AUTOMATA="TRUE"')], "automaton"),
        ([("Contact", '<sip:a@192.0.2.1>;automata="FALSE"')], ""),
        ([("Contact", '<sip:a@192.0.2.1>;actor="principal"')], ""),
        ([("Contact", BOX)], "voicemail"),
        (
            [("Contact", "<sip:a@192.0.2.1>"), ("History-Info", f"<sip:100@pbx.example.com>;index=1, {BOX};index=1.1")],
            "voicemail",
        ),
        ([("History-Info", "<sip:100@pbx.example.com>;index=1, <sip:200@pbx.example.com;cause=302>;index=1.1")], ""),
        ([("Contact", "<<<"), ("History-Info", '"'), ("History-Info", f"{BOX};index=1")], "voicemail"),
        ([("Contact", "*")], ""),
        ([], ""),
    ],
)
def test_what_is_said_of_it(fields: list[tuple[str, str]], machine: str) -> None:
    assert machine_of(Headers(fields)) == machine
