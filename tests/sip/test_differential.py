"""Where aiosipua's parser reads a message otherwise than ours, and who is right by which section.

Three kinds of messages: the torture sets, each with the differences that it shows; legal ones, put together by a seed,
which both have to read alike but for what `EXPLAINED` says; and mutated ones, where every kind of difference has to be
in `DECIDED`. A difference that is in no table fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

import pytest

from sipbridge.sip.faults import Fault
from tests.fuzz.corpus import REQUESTS, RESPONSES, SIP_WORDS
from tests.fuzz.mutation import Material, mutate
from tests.sip import test_rfc4475, test_rfc5118
from tests.sip.differential import differences

TORTURE = {
    # RFC 4475. What is refused by us is refused in test_rfc4475.py, with the section; they take it.
    "badaspec": {"refused by us: uri"},
    "badbranch": {"refused by us: branch"},
    "baddn": {"refused by us: uri"},
    "badinv01": {"refused by us: parameters"},
    "badvers": {"refused by us: version"},
    "bigcode": {"refused by us: status_line"},
    "clerr": {"refused by us: body_cut_short"},
    "escruri": {"refused by us: header_in_request_uri"},
    "insuf": {"refused by us: missing_field"},
    "ltgtruri": {"refused by us: uri"},
    "lwsruri": {"refused by us: request_line"},
    "lwsstart": {"refused by us: request_line"},
    "mcl01": {"refused by us: repeated_content_length"},
    "mismatch01": {"refused by us: methods_differ"},
    "mismatch02": {"refused by us: methods_differ"},
    "multi01": {"refused by us: repeated_field"},
    "ncl": {"refused by us: content_length"},
    "quotbal": {"refused by us: address"},
    "scalar02": {"refused by us: cseq"},
    "scalarlg": {"refused by us: cseq"},
    "trws": {"refused by us: request_line"},
    # §20.10: without brackets all parameters are the header's; they give them to the URI.
    "cparam01": {"Contact"},
    "inv2543": {"To"},
    "longreq": {"From"},
    # §20.10 again: a URI with a question mark has to be in brackets. They read it, header and all.
    "regbadct": {"Contact"},
    # §19.1.4: an escaped character equals itself, in names of parameters, too (RFC 4475 §3.1.1.3 wants `lr` found).
    "esc01": {"Contact"},
    # §25.1: a user part may have ";", "?", "/" and ","; and a quoted pair is the character that it quotes.
    "intmeth": {"To"},
    # §25.1: white space around the slashes of a Via, and more than one before its host; quoted pairs.
    "wsinv": {"Via", "From", "Contact"},
    # §25.1: an absoluteURI of another scheme has no host of ours to read. They make SIP URIs of them.
    "unksm2": {"From", "To", "Contact"},
    # RFC 5118 §4.2: an IPv6 address has brackets; §4.10: `:::` means `::`.
    "ipv6-bad": {"refused by us: uri"},
    "ipv6-bug-abnf-3-colons": {"To"},
}

EXPLAINED: list[tuple[str, str, str]] = [
    # what differs, where this is in the message, and why
    ("From|To|Contact", r'"[^"\r]*\\', "§25.1: a quoted pair is the character that it quotes"),
    ("From|To|Contact", r"[:,] ?sips?:[^<>,\r]*;", "§20.10: parameters without brackets"),
    ("From|To|Contact", r"sips?:[^@>\r]*[;?][^@>\r]*@", "§25.1: a user part may have these"),
    ("From|To|Contact", r"sips?:[^@>\r;]*:[^@>\r]*@", "§19.1.1: what follows the colon is the password"),
    ("From|To|Contact", r"(?i)<tel:", "RFC 3966: a tel URI has a number and no host"),
    ("Via", r"(?i)SIP\s+/|/\s+2|0\s+/|/\s+(?:UDP|TCP|TLS)|(?:UDP|TCP|TLS)\s\s+\S", "§25.1: SLASH is surrounded by LWS"),
]

DECIDED = {
    **{f"refused by us: {fault}": "see the fault in docs/counters.md, and test_message_hostile.py" for fault in Fault},
    "refused by them": "§7.1: SIP-Version and header names do not depend on the case; their limit of fields is lower",
    "start line": "§7.1, §7.2: one SP between the parts, an empty reason phrase; octets that are no UTF-8 are kept",
    "Via": "§25.1: as in EXPLAINED; ports above 65535; they read an unfinished parameter as none",
    "From": "§25.1: as in EXPLAINED; they take for an address whatever there is",
    "To": "as From",
    "CSeq": "§20.16: leading zeros; they take digits of any script",
    "Call-ID": "octets that are no UTF-8 are kept; they replace them, so that two calls may become one",
    "Contact": "as From; `*` is a wildcard (§10.2.2) and to them a host",
    "Content-Type": "§25.1: `type/subtype`, both tokens; they take any text",
    "body": "§18.3, §20.14: without Content-Length all that is left of the datagram; they take LF LF for its end",
}


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, path.stem) for module in (test_rfc4475, test_rfc5118) for path in sorted(module.DATA.glob("*.dat"))],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_torture(module: object, name: str) -> None:
    assert set(differences(module.read(name))) == TORTURE.get(name, set())  # type: ignore[attr-defined]


def test_legal_messages_are_read_alike() -> None:
    random = Random(3261)
    explained = set()
    for _ in range(3_000):
        data = legal(random)
        text = data.decode()
        for field, pair in differences(data).items():
            reasons = [why for what, where, why in EXPLAINED if re.fullmatch(what, field) and re.search(where, text)]
            assert reasons, f"{field}: {pair}\n{text}"
            explained.update(reasons)
    assert explained == {why for _, _, why in EXPLAINED}, "an explanation that nothing needs any more"


def test_each_kind_of_difference_in_mutated_messages_is_decided() -> None:
    random, material = Random(4475), Material([*REQUESTS, *RESPONSES], SIP_WORDS)
    seen = {difference for _ in range(3_000) for difference in differences(mutate(random, material)[:8_000])}
    assert seen - DECIDED.keys() == set()
    assert len(seen) > 20


# --- legal messages ---------------------------------------------------------------------------------------------------

_HOSTS = ("example.com", "192.0.2.7", "[2001:db8::7]", "h", "a-b.c_d.example.net", "example.com.")
_USERS = ("alice", "+15550100", "a.b-c_d!e~f*g'h(i)", "%61lice", "a&b=c+d$e,f", "user;x=y", "what?now", "a:secret")
_DISPLAYS = ("", '"Alice"', "Alice", "Alice B", '"A, \\"B\\" <C>"', '"Ålice"', '"a\\\\b"', '""')
_URI_PARAMS = ("", ";transport=tcp", ";lr", ";user=phone;x", ";maddr=192.0.2.9;ttl=5")
_PARAMS = ("", ";x=y", ';x="a, b;c"', ";flag", " ; spaced = value")


def legal(random: Random) -> bytes:
    """A request or response as §25.1 allows it, in some of its spellings."""
    method = random.choice(("INVITE", "OPTIONS", "BYE", "MESSAGE", "x-Method.1"))
    lines = [*_vias(random), f"{random.choice(('From', 'f', 'FROM'))}: {_address(random)};tag=1{random.randrange(99)}"]
    lines.append(f"{random.choice(('To', 't', 'to'))}: {_address(random)}")
    lines.append(f"{random.choice(('Call-ID', 'i', 'CALL-id'))}:{random.choice((' ', '', chr(9)))}a-b@{_host(random)}")
    lines.append(f"CSeq: {random.choice((0, 1, 4711, 2**31 - 1))} {method}")
    contacts = [_address(random) + random.choice(_PARAMS) for _ in range(random.randrange(3))]
    if contacts:
        lines.append(f"{random.choice(('Contact', 'm'))}: {', '.join(contacts)}")
    random.shuffle(lines)
    body = random.choice((b"", b"v=0\r\n", "ä\r\n\r\n".encode(), bytes(3)))
    if body or random.random() < 0.5:
        lines.append(f"{random.choice(('Content-Length', 'l', 'CONTENT-LENGTH'))}: {len(body)}")
    if body:
        lines.append(f"{random.choice(('Content-Type', 'c'))}: {random.choice(('application/sdp', 'Text/Plain;x=y'))}")
    start = f"{method} sip:{_host(random)} SIP/2.0"
    if random.random() < 0.3:
        start = f"SIP/2.0 {random.choice((100, 180, 200, 404, 699))} {random.choice(('OK', '', 'Nö, danke', 'a  b'))}"
    rest = random.choice((b"", b"", b"left over"))
    return "\r\n".join((start, *lines)).encode() + b"\r\n\r\n" + body + (rest if body else b"")


def _vias(random: Random) -> Iterator[str]:
    slash = random.choice(("/", "/", "/", " / ", "/ "))
    space = random.choice((" ", " ", "  "))
    for number in range(random.randint(1, 3)):
        transport = random.choice(("UDP", "TCP", "TLS"))
        port = random.choice(("", ":5060", ":65535"))
        params = random.choice(("", ";rport", ";rport=5060;received=192.0.2.8", ";ttl=1;maddr=192.0.2.9"))
        name = random.choice(("Via", "v"))
        branch = f";branch=z9hG4bK{number}" if random.random() < 0.9 else ""
        yield f"{name}: SIP{slash}2.0{slash}{transport}{space}{_host(random)}{port}{params}{branch}"


def _host(random: Random) -> str:
    return random.choice(_HOSTS)


def _address(random: Random) -> str:
    user = random.choice(_USERS)
    port = random.choice(("", "", ":5061"))
    uri = f"{random.choice(('sip', 'sips'))}:{user}@{_host(random)}{port}"
    if random.random() < 0.15 and not set(user) & set(",;?"):
        return uri
    if random.random() < 0.1:
        return "<tel:+1-555-0100;phone-context=example.com>"
    display = random.choice(_DISPLAYS)
    return f"{display}{random.choice((' ', '')) if display else ''}<{uri}{random.choice(_URI_PARAMS)}>"
