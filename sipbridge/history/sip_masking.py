"""A SIP message of a ladder without who is calling whom: what is needed to understand how a call was set up, and which
way, stays; whatever else a message may say is hidden. Pure.

Addresses of machines stay: they are those of trunks and PBXs, and what goes wrong with them (NAT, a private address in
SDP) is why somebody looks.
"""

from __future__ import annotations

import re
from typing import Final

_HIDDEN: Final = "***"

_COMPACT = {
    "c": "content-type",
    "f": "from",
    "i": "call-id",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "r": "refer-to",
    "t": "to",
    "v": "via",
    "x": "session-expires",
}
_KEPT: Final = (
    "accept accept-encoding accept-language allow allow-events call-id contact content-encoding content-length "
    "content-type cseq date event expires from max-forwards mime-version min-expires min-se p-asserted-identity "
    "p-preferred-identity privacy proxy-authenticate proxy-require rack reason record-route refer-to referred-by "
    "remote-party-id replaces require retry-after route rseq server session-expires subscription-state supported "
    "target-dialog timestamp to unsupported user-agent via warning www-authenticate diversion history-info"
)
_ABOUT_THE_WAY = frozenset(_KEPT.split())
"""Header fields that are kept, without the people in them."""
_USER = re.compile(r"\b(sips?):[^\s@<>\"]{1,2000}@", re.IGNORECASE)
_BARE = re.compile(r"\b(tel|mailto):[^\s<>;,\"]{1,2000}", re.IGNORECASE)
_QUOTED_NAME = re.compile(r'"(?:[^"\\]|\\.){0,2000}"(?=\s{0,10}<)')
_NAME = re.compile(r"((?:^|:|,)[ \t]{0,10})[^\s<>\",:;@][^<>\",:;@]{0,200}(?=<)")
_SDP_SECRETS: Final = "iuep"


def without_persons(text: str) -> str:
    head, separator, body = text.partition("\r\n\r\n")
    lines: list[str] = []
    kept = True
    for number, line in enumerate(head.split("\r\n")):
        if number and line[:1] not in (" ", "\t"):
            name, colon, _ = line.partition(":")
            known = name.strip().lower()
            kept = _COMPACT.get(known, known) in _ABOUT_THE_WAY
            if not kept and colon:
                lines.append(f"{name}: {_HIDDEN}")
                continue
        if kept:
            lines.append(_without_people(line, number == 0))
    return "\r\n".join(lines) + separator + _body(body)


def _without_people(line: str, start: bool) -> str:
    line = _USER.sub(rf"\1:{_HIDDEN}@", line)
    line = _BARE.sub(rf"\1:{_HIDDEN}", line)
    if start:
        return line
    line = _QUOTED_NAME.sub(f'"{_HIDDEN}"', line)
    return _NAME.sub(rf"\1{_HIDDEN} ", line)


def _body(body: str) -> str:
    if not body:
        return ""
    if body.startswith("SIP/2.0 "):  # RFC 3420: how a transfer goes
        return body.partition("\r\n")[0]
    if not body.startswith("v="):
        return _HIDDEN
    return "\r\n".join(map(_sdp_line, body.split("\r\n")))


def _sdp_line(line: str) -> str:
    kind = line[:2]
    if kind == "o=":
        return f"o=- {line.partition(' ')[2]}"
    if kind == "s=":
        return "s=-"
    return f"{kind}{_HIDDEN}" if kind[:1] in _SDP_SECRETS and kind[1:] == "=" else line
