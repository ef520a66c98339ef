"""Has a machine answered a call of ours? What SIP says of it, if it does; pure.

Two standards have a word for it. The Contact of the 200 may carry the capabilities of who answered (RFC 3840 §10.7 and
§10.17): `automata`, no human; `actor`, which is `principal` for a person, else `attendant`, `msg-taker` (a mailbox) or
`information` (an announcement). And a proxy that sends a call to a mailbox names it by a URI with `target` and `cause`
(RFC 4458), which History-Info (RFC 7044) or Contact show in the responses. Most of the telephone network says neither:
that there is no hint does not mean that there is a person.
"""

from __future__ import annotations

from sipbridge.errors import SipParseError
from sipbridge.sip.fields import Headers
from sipbridge.sip.headers import NameAddr, split_list

_ACTORS = {"msg-taker": "voicemail", "information": "announcement", "attendant": "attendant"}
"""What `actor` calls them, and what we do."""
_MOST = 20
"""Entries of a header that are looked at."""


def machine_of(headers: Headers) -> str:
    """`voicemail`, `announcement`, `attendant` or `automaton`; "": nothing is said of a machine. Never raises."""
    contacts = _addresses(headers, "Contact")
    for contact in contacts:
        params = {name.lower(): value for name, value in contact.params.items()}
        actor = _plain(params.get("actor"))
        if actor in _ACTORS:
            return _ACTORS[actor]
        if "automata" in params and _plain(params["automata"]) != "false":
            return "automaton"
    diverted = (*contacts, *_addresses(headers, "History-Info"))
    return "voicemail" if any({"target", "cause"} <= _names(address) for address in diverted) else ""


def _plain(value: str | None) -> str:
    """A tag value of RFC 3840 §9: quoted, in any case, a string of it in angle brackets."""
    return (value or "").strip('"<> ').lower()


def _names(address: NameAddr) -> set[str]:
    return {name.lower() for name in address.uri.params}


def _addresses(headers: Headers, name: str) -> list[NameAddr]:
    found = []
    for value in headers.get_all(name):
        try:
            found += [NameAddr.parse(element) for element in split_list(value)[:_MOST]]
        except SipParseError:
            continue  # what cannot be read says nothing
    return found[:_MOST]
