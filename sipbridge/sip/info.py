"""INFO (RFC 6086, and 2976 before it): keys that are pressed, told beside the sound. Pure: request in, answer out.

There is no standard for them; `application/dtmf-relay` is Cisco's and everybody's, `application/dtmf` older still.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sipbridge.errors import SipParseError
from sipbridge.sip.body import is_optional
from sipbridge.sip.message import Request
from sipbridge.sip.replies import Reply

DTMF_RELAY: Final = "application/dtmf-relay"
DTMF: Final = "application/dtmf"
ACCEPT: Final = f"{DTMF_RELAY}, {DTMF}"

_LONGEST_MS = 60_000
_EVENTS: Final = "0123456789*#ABCD"
_FLASH: Final = frozenset({"!", "16", "FLASH", "HF", "R"})

_line = re.compile(r"[ \t]*+([A-Za-z]++)[ \t]*+[=:][ \t]*+([^\s]{0,16})[ \t]*+")


@dataclass(frozen=True, slots=True)
class KeyPress:
    key: str
    """One of 0-9, *, #, A-D."""
    duration_ms: int | None = None


def parse_keys(content_type: str, body: bytes) -> KeyPress | None:
    """The key in a body of one of the two types; None for what is no key (hook flash). Raises SipParseError."""
    text = body[:512].decode("latin-1").replace("\0", "").strip()
    fields: dict[str, str] = {}
    for line in text.splitlines():
        match = _line.fullmatch(line)
        if match is not None:
            fields.setdefault(match[1].lower(), match[2])
    signal = fields.get("signal")
    if signal is None and content_type == DTMF and not fields:
        signal = text.split("\n")[0].strip()
    if signal is None:
        raise SipParseError("no signal in it")
    signal = signal.upper()
    if signal in _FLASH:
        return None
    if signal.isascii() and signal.isdigit() and len(signal) == 2 and int(signal) < len(_EVENTS):
        signal = _EVENTS[int(signal)]  # by the number of the event (RFC 4733 §3.2), as some gateways write * and #
    if len(signal) != 1 or signal not in _EVENTS:
        raise SipParseError(f"no key: {ascii(signal[:16])}")
    digits = fields.get("duration", "")
    known = digits.isascii() and digits.isdigit() and 0 < int(digits) <= _LONGEST_MS
    return KeyPress(signal, int(digits) if known else None)


def told_key(key: str, duration_ms: int = 160) -> bytes:
    """A body of `DTMF_RELAY` that tells of a key. Raises ValueError where it is none."""
    if len(key) != 1 or key.upper() not in _EVENTS:
        raise ValueError(f"{key!r} is no key of a phone")
    return f"Signal={key.upper()}\r\nDuration={duration_ms}\r\n".encode()


def receive_info(request: Request) -> tuple[Reply, bool, KeyPress | None]:
    """The answer to an INFO in a call, whether it tells of a key, and of which."""
    kind = request.content_type
    if "Info-Package" in request.headers:
        # RFC 6086 §4.2.2: we have said that we want none, and say so again.
        return Reply(469, (("Recv-Info", ""),)), False, None
    if kind in (DTMF_RELAY, DTMF):
        try:
            return Reply(200), True, parse_keys(kind, request.body)
        except SipParseError as error:
            return Reply(400, reason=f"Bad Request: {error}"), False, None
    if request.body and not is_optional(request):
        return Reply(415, (("Accept", ACCEPT),)), False, None
    return Reply(200), False, None
