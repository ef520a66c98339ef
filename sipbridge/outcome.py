"""How a call ended, and the call in numbers: what logs, records and metrics have in common."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Literal

from sipbridge.errors import CallNotAnsweredError
from sipbridge.sip import reason


class Ended(enum.Enum):
    """Why a call is over: one stable list."""

    CALLER_HUNG_UP = "caller_hung_up"
    CALLEE_HUNG_UP = "callee_hung_up"
    """The far end of a call that we made."""
    CALLER_CANCELLED = "caller_cancelled"
    AGENT_HUNG_UP = "agent_hung_up"
    TRANSFERRED = "transferred"
    REFUSED = "refused"
    """Before it was answered, for a reason of the call's own: no codec in common, no free port."""
    BUSY = "busy"
    """Of a call that we made, as the next five: nobody spoke to the agent."""
    NO_ANSWER = "no_answer"
    DECLINED = "declined"
    """By the far end or its network: not wanted, not allowed, no credentials that it takes."""
    REDIRECTED = "redirected"
    """It named another address (3xx), which is not followed."""
    UNREACHABLE = "unreachable"
    """No such number, no way there, the trunk is down."""
    CANCELLED = "cancelled"
    """Given up by us before it was answered."""
    AGENT_NOT_READY = "agent_not_ready"
    """The model could not be made ready, so the call was not answered."""
    PROVIDER_FAILED = "provider_failed"
    MEDIA_TIMEOUT = "media_timeout"
    SIGNALLING_FAILED = "signalling_failed"
    TOO_LONG = "too_long"
    SHUTDOWN = "shutdown"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class CallReport:
    """One call, written when it is over."""

    call_id: str
    tenant: str
    direction: Literal["inbound", "outbound"]
    trunk: str | None
    ended: Ended
    detail: str
    status: int | None
    """The final response that a call of ours was refused with."""
    codec: str | None
    setup_ms: int | None
    """INVITE to 200; None where it was never answered."""
    seconds: float
    """From the INVITE to the end."""
    replies: int
    barge_ins: int
    late_bytes_dropped: int
    """Agent speech that came after its reply had been cut."""
    uplink_dropped_ms: float
    """Caller audio that the model's transport did not take in time."""


_BY_CAUSE = {
    **dict.fromkeys((17,), Ended.BUSY),
    **dict.fromkeys((18, 19), Ended.NO_ANSWER),
    **dict.fromkeys((21, 55, 57), Ended.DECLINED),
    **dict.fromkeys((1, 2, 3, 20, 22, 27, 28, 34, 38, 41, 42, 47), Ended.UNREACHABLE),
}
_BY_STATUS = {
    **dict.fromkeys((486, 600), Ended.BUSY),
    **dict.fromkeys((408, 480, 487), Ended.NO_ANSWER),
    **dict.fromkeys((401, 402, 403, 407, 433, 603, 607, 608), Ended.DECLINED),
    **dict.fromkeys((404, 410, 416, 484, 485, 604), Ended.UNREACHABLE),
    **dict.fromkeys((406, 415, 488, 606), Ended.REFUSED),
}


def unanswered(error: CallNotAnsweredError) -> Ended:
    """What became of a call that we made. The Q.850 cause, where there is one, says more than the status, which
    gateways to other networks choose as they like (RFC 3398 §8.2.6)."""
    status = error.sip_status
    if error.cause in _BY_CAUSE:
        return _BY_CAUSE[error.cause]
    if status == 408 and not error.rang:
        return Ended.UNREACHABLE
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 300 <= status < 400:
        return Ended.REDIRECTED
    return Ended.UNREACHABLE if status >= 500 else Ended.SIGNALLING_FAILED


def q850_cause(reason: str | None) -> int | None:
    """The cause of a Reason header field (RFC 3326) of protocol Q.850."""
    match = re.search(r"(?:^|,)\s*Q\.850\s*;[^,]*?\bcause\s*=\s*(\d{1,3})\b", reason or "", re.IGNORECASE)
    return int(match[1]) if match else None


_Q850 = {Ended.REFUSED: 88, Ended.MEDIA_TIMEOUT: 102, Ended.AGENT_NOT_READY: 41, Ended.PROVIDER_FAILED: 41}
"""Causes of ITU-T Q.850: incompatible destination, recovery on timer expiry, temporary failure; else 16, normal."""


def reason_header(ended: Ended, code: str = "") -> str:
    """The value of a Reason header field (RFC 3326) that says how a call ended.

    It goes to strangers, so nothing but the stable name and a code of few words leaves the house: what a model said and
    what our configuration lacks is for the log.
    """
    return str(reason.q850(_Q850.get(ended, 16), f"{ended.value}: {code}" if code else ended.value))
