"""How a call ended, and the call in numbers: what logs, records and metrics have in common."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from sipbridge.sip import reason


class Ended(enum.Enum):
    """Why a call is over: one stable list."""

    CALLER_HUNG_UP = "caller_hung_up"
    CALLER_CANCELLED = "caller_cancelled"
    AGENT_HUNG_UP = "agent_hung_up"
    TRANSFERRED = "transferred"
    REFUSED = "refused"
    """Before it was answered, for a reason of the call's own: no codec in common, no free port."""
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
    ended: Ended
    detail: str
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


_Q850 = {Ended.REFUSED: 88, Ended.MEDIA_TIMEOUT: 102, Ended.AGENT_NOT_READY: 41, Ended.PROVIDER_FAILED: 41}
"""Causes of ITU-T Q.850: incompatible destination, recovery on timer expiry, temporary failure; else 16, normal."""


def reason_header(ended: Ended, code: str = "") -> str:
    """The value of a Reason header field (RFC 3326) that says how a call ended.

    It goes to strangers, so nothing but the stable name and a code of few words leaves the house: what a model said and
    what our configuration lacks is for the log.
    """
    return str(reason.q850(_Q850.get(ended, 16), f"{ended.value}: {code}" if code else ended.value))
