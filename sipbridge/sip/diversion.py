"""Which way a call took before it came to us: Diversion (RFC 5806) and History-Info (RFC 7044, and 4244 before it).

Header values in, frozen values out. A malformed value raises `SipParseError`; `identity.py` leaves it out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sipbridge.errors import SipParseError
from sipbridge.sip.headers import NameAddr, unescape
from sipbridge.sip.number import Number
from sipbridge.sip.reason import Reason, parse_reasons

MAX_ENTRIES = 20
_MAX_DEPTH = 16

_index = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,4})*")


@dataclass(frozen=True, slots=True)
class Diversion:
    """One who sent the call on."""

    party: NameAddr
    number: Number | None
    reason: str = "unknown"
    """`user-busy`, `no-answer`, `unconditional`, `deflection`, ...: in lower case."""
    counter: int = 1
    """How many times it was diverted up to here, where several were put into one."""
    is_private: bool = False

    @classmethod
    def parse(cls, value: str) -> Diversion:
        party = NameAddr.parse(value)
        params = party.params
        counter = _plain(params.get("counter"))
        return cls(
            NameAddr(party.display, party.uri),
            Number.of(party.uri),
            reason=_plain(params.get("reason")).lower() or "unknown",
            counter=int(counter) if counter.isascii() and counter.isdigit() and 0 < len(counter) <= 3 else 1,
            is_private=_plain(params.get("privacy")).lower() not in ("", "off"),
        )


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One target that the request was sent to."""

    party: NameAddr
    """Its URI without header parameters."""
    number: Number | None
    index: tuple[int, ...] = ()
    """Its place in the tree: (1, 2, 1) came of (1, 2)."""
    change: Literal["rc", "mp", "np"] | None = None
    """RFC 7044 §4: `mp` is another user than before, `rc` the same one's registered contact, `np` neither. Old peers
    (RFC 4244) do not say."""
    came_of: tuple[int, ...] = ()
    """The index of the entry that was replaced; where it is not said, the parent."""
    reasons: tuple[Reason, ...] = ()
    """Why it was left for the next one."""
    cause: int | None = None
    """Why it was come to (RFC 4458): 486 busy, 408 no answer, 302 unconditional, ..."""
    is_private: bool = False

    @classmethod
    def parse(cls, value: str) -> HistoryEntry:
        entry = NameAddr.parse(value)
        embedded = {name.lower(): unescape(text) for name, text in entry.uri.headers}
        change: Literal["rc", "mp", "np"] | None = None
        origin = ""
        for tag in ("rc", "mp", "np"):
            if tag in entry.params:
                change, origin = tag, _plain(entry.params[tag])
        index = _parse_index(_plain(entry.params.get("index")))
        cause = entry.uri.params.get("cause") or ""
        uri = replace(entry.uri, headers=())
        return cls(
            NameAddr(entry.display, uri),
            Number.of(uri),
            index=index,
            change=change,
            came_of=_parse_index(origin) or index[:-1],
            reasons=parse_reasons(embedded.get("reason")),
            cause=int(cause) if cause.isascii() and cause.isdigit() and len(cause) == 3 else None,
            is_private="history" in embedded.get("privacy", "").lower(),
        )


def first_target(history: Sequence[HistoryEntry]) -> HistoryEntry | None:
    """Who was called in the first place, where it was not us: what the first change of user was a change from (RFC
    7044 §4). Peers of RFC 4244 do not mark it: there the root counts, if anything tells of a diversion at all."""
    by_index = {entry.index: entry for entry in history if entry.index}
    for entry in history:
        if entry.change == "mp":
            return by_index.get(entry.came_of)
    if len(history) > 1 and any(entry.cause is not None or entry.reasons for entry in history):
        return history[0]
    return None


def _parse_index(text: str) -> tuple[int, ...]:
    if not text:
        return ()
    if _index.fullmatch(text) is None or text.count(".") >= _MAX_DEPTH:
        raise SipParseError(f"malformed index: {ascii(text[:60])}")
    return tuple(map(int, text.split(".")))


def _plain(value: str | None) -> str:
    return (value or "").strip('"')[:64]
