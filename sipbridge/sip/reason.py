"""Why a call ended, as peers say it: the Reason header (RFC 3326), the causes of ITU-T Q.850 and SIP's status codes.

Tables, and what is read from them: causes and codes as `FarEnd`, the few words that an outcome is told in. Text in,
values out; what is malformed is left out and never an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from sipbridge.errors import SipParseError
from sipbridge.sip.headers import quote, readable, split_list

MAX_REASONS = 8
_MAX_TEXT = 120

_reason = re.compile(r"[ \t]*+([A-Za-z0-9\-.!%*_+`'~]++)[ \t]*+((?:;.*)?+)", re.DOTALL)
_param = re.compile(
    r';[ \t]*+([a-z0-9\-_.]++)[ \t]*+=[ \t]*+("(?:[^"\\]++|\\.)*+"|[^;"\s]++)', re.IGNORECASE | re.DOTALL
)
_quoted_pair = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reason:
    """One value of a Reason header field."""

    protocol: str
    """In upper case: "SIP", "Q.850"."""
    cause: int | None = None
    text: str = ""

    @classmethod
    def parse(cls, text: str) -> Reason:
        """Raises SipParseError."""
        match = _reason.fullmatch(text)
        if match is None:
            raise SipParseError(f"malformed Reason: {ascii(text[:60])}")
        params = {name.lower(): value for name, value in _param.findall(match[2])}
        cause = params.get("cause", "").strip('"')
        words = params.get("text", "")
        if words.startswith('"'):
            words = _quoted_pair.sub(r"\1", words[1:-1])
        # isascii: other scripts' digits are digits for Python, too.
        number = int(cause) if cause.isascii() and cause.isdigit() and len(cause) <= 4 else None
        return cls(match[1].upper(), number, readable(words)[:_MAX_TEXT])

    def __str__(self) -> str:
        parts = [self.protocol]
        if self.cause is not None:
            parts.append(f"cause={self.cause}")
        if self.text:
            parts.append(f"text={quote(self.text)}")
        return ";".join(parts)


def parse_reasons(value: str | None) -> tuple[Reason, ...]:
    """The values of a message's Reason fields, joined by commas; malformed ones are left out."""
    found: list[Reason] = []
    try:
        elements = split_list(value or "")
    except SipParseError:
        return ()
    for element in elements[:MAX_REASONS]:
        try:
            found.append(Reason.parse(element))
        except SipParseError:
            continue
    return tuple(found)


def q850(cause: int, text: str | None = None) -> Reason:
    """A cause with its name in Q.850, or with other words; only such as may go to strangers: printable ASCII."""
    words = CAUSES.get(cause, "") if text is None else text
    plain = "".join(character for character in words if " " <= character <= "~" and character not in '"\\')
    return Reason("Q.850", cause, plain[:_MAX_TEXT])


CAUSES: Final[Mapping[int, str]] = MappingProxyType(
    {
        1: "Unallocated number",
        2: "No route to specified transit network",
        3: "No route to destination",
        4: "Send special information tone",
        5: "Misdialled trunk prefix",
        6: "Channel unacceptable",
        7: "Call awarded and being delivered in an established channel",
        8: "Preemption",
        9: "Preemption, circuit reserved for reuse",
        14: "Query on release",
        16: "Normal call clearing",
        17: "User busy",
        18: "No user responding",
        19: "No answer from user",
        20: "Subscriber absent",
        21: "Call rejected",
        22: "Number changed",
        23: "Redirection to new destination",
        24: "Call rejected due to feature at the destination",
        25: "Exchange routing error",
        26: "Non-selected user clearing",
        27: "Destination out of order",
        28: "Invalid number format",
        29: "Facility rejected",
        30: "Response to status enquiry",
        31: "Normal, unspecified",
        34: "No circuit available",
        38: "Network out of order",
        39: "Permanent frame mode connection out of service",
        40: "Permanent frame mode connection operational",
        41: "Temporary failure",
        42: "Switching equipment congestion",
        43: "Access information discarded",
        44: "Requested circuit not available",
        46: "Precedence call blocked",
        47: "Resource unavailable, unspecified",
        49: "Quality of service not available",
        50: "Requested facility not subscribed",
        53: "Outgoing calls barred within CUG",
        55: "Incoming calls barred within CUG",
        57: "Bearer capability not authorized",
        58: "Bearer capability not presently available",
        62: "Inconsistency in access information and subscriber class",
        63: "Service or option not available",
        65: "Bearer capability not implemented",
        66: "Channel type not implemented",
        69: "Requested facility not implemented",
        70: "Only restricted digital information is available",
        79: "Service or option not implemented",
        81: "Invalid call reference value",
        82: "Identified channel does not exist",
        83: "A suspended call exists, but this call identity does not",
        84: "Call identity in use",
        85: "No call suspended",
        86: "Call having the requested call identity has been cleared",
        87: "User not member of CUG",
        88: "Incompatible destination",
        90: "Non-existent CUG",
        91: "Invalid transit network selection",
        95: "Invalid message, unspecified",
        96: "Mandatory information element is missing",
        97: "Message type non-existent or not implemented",
        98: "Message not compatible with call state",
        99: "Information element non-existent",
        100: "Invalid information element contents",
        101: "Message not compatible with call state",
        102: "Recovery on timer expiry",
        103: "Parameter non-existent, passed on",
        110: "Message with unrecognized parameter, discarded",
        111: "Protocol error, unspecified",
        127: "Interworking, unspecified",
    }
)
"""Q.850 §2.2.5: the causes by number."""


class FarEnd(Enum):
    """What became of a call at the far end, in words that need no table."""

    HUNG_UP = "hung_up"
    """It was up, and ended as calls do."""
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    REFUSED = "refused"
    """By a person, or a rule of theirs."""
    CANCELLED = "cancelled"
    """The caller gave up."""
    ANSWERED_ELSEWHERE = "answered_elsewhere"
    """At another place where the same call rang."""
    NO_SUCH_NUMBER = "no_such_number"
    MOVED = "moved"
    """It names other places (3xx, 410)."""
    UNREACHABLE = "unreachable"
    """The number exists; its phone is off, or the way to it is broken."""
    CONGESTED = "congested"
    """No circuit, no capacity: worth another try later."""
    INCOMPATIBLE = "incompatible"
    """Nothing in common to talk with."""
    NOT_ALLOWED = "not_allowed"
    """The far end does not want calls from us, or not without credentials."""
    FAILED = "failed"


_BY_CAUSE: Final[Mapping[int, FarEnd]] = MappingProxyType(
    {
        **dict.fromkeys((1, 2, 3, 5, 28, 91), FarEnd.NO_SUCH_NUMBER),
        16: FarEnd.HUNG_UP,
        17: FarEnd.BUSY,
        **dict.fromkeys((18, 19), FarEnd.NO_ANSWER),
        **dict.fromkeys((20, 27, 38), FarEnd.UNREACHABLE),
        **dict.fromkeys((21, 24, 29), FarEnd.REFUSED),
        **dict.fromkeys((22, 23), FarEnd.MOVED),
        26: FarEnd.ANSWERED_ELSEWHERE,
        **dict.fromkeys((34, 41, 42, 43, 44, 46, 47, 49, 58), FarEnd.CONGESTED),
        **dict.fromkeys((50, 53, 55, 57, 62, 87, 90), FarEnd.NOT_ALLOWED),
        **dict.fromkeys((63, 65, 66, 69, 70, 79, 88), FarEnd.INCOMPATIBLE),
    }
)

_BY_STATUS: Final[Mapping[int, FarEnd]] = MappingProxyType(
    {
        **dict.fromkeys((300, 301, 302, 305, 380, 410), FarEnd.MOVED),
        **dict.fromkeys((401, 402, 403, 407, 433, 494), FarEnd.NOT_ALLOWED),
        **dict.fromkeys((404, 416, 484, 485, 604), FarEnd.NO_SUCH_NUMBER),
        **dict.fromkeys((406, 415, 488, 493, 580, 606), FarEnd.INCOMPATIBLE),
        **dict.fromkeys((408, 480), FarEnd.NO_ANSWER),
        **dict.fromkeys((486, 600), FarEnd.BUSY),
        487: FarEnd.CANCELLED,
        **dict.fromkeys((502, 504), FarEnd.UNREACHABLE),
        503: FarEnd.CONGESTED,
        **dict.fromkeys((603, 607, 608), FarEnd.REFUSED),
    }
)

_VAGUE: Final = frozenset({403, 404, 408, 480, 487, 500, 502, 503, 504, 603})
"""What gateways answer with when they know better: there a cause of Q.850 beside it counts for more."""
_SAYS_NOTHING: Final = frozenset({16, 31, 127})
_BROKEN: Final = frozenset({27, 38, 41, 42, 43, 44, 47, 102, 111})


def outcome_of_failure(status: int, reasons: Sequence[Reason] = ()) -> FarEnd:
    """Of a call that was refused with a final response from 300 on (RFC 3326, RFC 6432)."""
    cause = _cause(reasons)
    outcome = None if cause is None or cause in _SAYS_NOTHING else _BY_CAUSE.get(cause)
    if outcome is not None and (status in _VAGUE or status not in _BY_STATUS):
        return outcome
    return _BY_STATUS.get(status, FarEnd.MOVED if 300 <= status < 400 else FarEnd.FAILED)


def outcome_of_cancel(reasons: Sequence[Reason] = ()) -> FarEnd:
    """Of a call that was taken back before it was answered: mostly the caller's own wish, else a forking proxy says why
    nobody needs to answer here any more (RFC 3261 §9, RFC 3326 §3.1)."""
    for reason in reasons:
        if reason.protocol == "SIP" and reason.cause is not None:
            if 200 <= reason.cause < 300:
                return FarEnd.ANSWERED_ELSEWHERE
            if reason.cause >= 300 and reason.cause != 487:
                return outcome_of_failure(reason.cause)
    cause = _cause(reasons)
    return FarEnd.ANSWERED_ELSEWHERE if cause == 26 else FarEnd.CANCELLED


def outcome_of_bye(reasons: Sequence[Reason] = ()) -> FarEnd:
    """Of a call that was up: hung up, unless the peer says that something broke."""
    return FarEnd.FAILED if _cause(reasons) in _BROKEN else FarEnd.HUNG_UP


def _cause(reasons: Sequence[Reason]) -> int | None:
    return next((reason.cause for reason in reasons if reason.protocol == "Q.850"), None)
