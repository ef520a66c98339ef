"""How a call ended, and the call in numbers: what logs, records and metrics have in common."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from sipbridge.audio_health import AudioHealth
from sipbridge.errors import CallNotAnsweredError
from sipbridge.sip import reason
from sipbridge.sip.events import CallEnded, EndCause
from sipbridge.sip.reason import FarEnd


class Ended(enum.Enum):
    """Why a call is over: one stable list."""

    CALLER_HUNG_UP = "caller_hung_up"
    CALLEE_HUNG_UP = "callee_hung_up"
    """The far end of a call that we made."""
    CALLER_CANCELLED = "caller_cancelled"
    ANSWERED_ELSEWHERE = "answered_elsewhere"
    """Another telephone that rang for the same call was quicker."""
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
    ENCRYPTION_FAILED = "encryption_failed"
    """Agreed on, and no keys came of it."""
    SIGNALLING_FAILED = "signalling_failed"
    TOO_LONG = "too_long"
    SHUTDOWN = "shutdown"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class Spent:
    """What one model of one provider counted in a call."""

    provider: str
    model: str
    """"": the provider's default."""
    usage: Mapping[str, float]
    """By the names of `agent.Usage`."""
    cost_usd: float | None
    """By `prices`; None where there is none."""


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
    audio: AudioHealth = AudioHealth()
    """How it sounded."""
    provider: str = ""
    """Of the agent that the call began with."""
    agents: tuple[str, ...] = ()
    """Who had the line, by the names in the tenant's file, one after another."""
    reconnects: int = 0
    """How often the model's session was lost in mid-call, and another one took its place."""
    usage: Mapping[str, float] = field(default_factory=dict)
    """What the provider charges for, by the names of `agent.Usage`, summed."""
    cost_usd: float | None = None
    """By `prices`; None where nothing was used, or something that has no price."""
    spent: tuple[Spent, ...] = ()
    """The same by provider and model."""

    def to_json(self) -> dict[str, Any]:
        """Nothing but dictionaries, lists, numbers, text and None."""
        spent = [{**asdict(each), "usage": dict(each.usage)} for each in self.spent]
        more = {"agents": list(self.agents), "usage": dict(self.usage), "spent": spent, "audio": self.audio.to_json()}
        return {**self._figures(), **more}

    def to_log(self) -> dict[str, Any]:
        """For the line that ends the call: flat."""
        usage = {f"usage_{name}": count for name, count in self.usage.items()}
        return {**self._figures(), "agents": " ".join(self.agents), **usage, **self.audio.to_log()}

    def _figures(self) -> dict[str, Any]:
        apart = ("agents", "audio", "spent", "usage")
        figures = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in apart}
        return {**figures, "ended": self.ended.value}


_OF_FAR_END = {
    FarEnd.BUSY: Ended.BUSY,
    FarEnd.NO_ANSWER: Ended.NO_ANSWER,
    FarEnd.CANCELLED: Ended.NO_ANSWER,  # by us, who have waited long enough, or by a network that has
    FarEnd.REFUSED: Ended.DECLINED,
    FarEnd.NOT_ALLOWED: Ended.DECLINED,
    FarEnd.HUNG_UP: Ended.DECLINED,
    FarEnd.MOVED: Ended.REDIRECTED,
    FarEnd.ANSWERED_ELSEWHERE: Ended.ANSWERED_ELSEWHERE,
    FarEnd.NO_SUCH_NUMBER: Ended.UNREACHABLE,
    FarEnd.UNREACHABLE: Ended.UNREACHABLE,
    FarEnd.CONGESTED: Ended.UNREACHABLE,
    FarEnd.INCOMPATIBLE: Ended.REFUSED,
    FarEnd.FAILED: Ended.SIGNALLING_FAILED,
}


def ended_by(event: CallEnded, *, outbound: bool, transferred: bool) -> tuple[Ended, str]:
    """How a call ended whose dialog did; `transferred`: its far end had taken on a transfer of ours."""
    match event.cause:
        case EndCause.REMOTE_BYE if transferred:
            # Many PBXs end our leg themselves, before or instead of the last NOTIFY.
            return Ended.TRANSFERRED, event.reason
        case EndCause.REMOTE_BYE:
            return hung_up(event.reason_header, outbound=outbound), event.reason_header or event.reason
        case EndCause.CANCELLED:
            return given_up(event.reason_header), event.reason
        case cause:
            return Ended.SIGNALLING_FAILED, f"{cause.value} {event.reason}".strip()


def unanswered(error: CallNotAnsweredError) -> Ended:
    """What became of a call that we made."""
    status = error.sip_status
    if status == 408 and not error.rang and error.reason is None:
        return Ended.UNREACHABLE
    ended = _OF_FAR_END[reason.outcome_of_failure(status, reason.parse_reasons(error.reason))]
    if ended is Ended.SIGNALLING_FAILED and status >= 500 or status == 410:
        return Ended.UNREACHABLE
    return ended


def hung_up(reason_header: str | None, *, outbound: bool) -> Ended:
    """Why the far end has ended a call that was up: by its BYE's Reason header field, for something may have broken."""
    if reason.outcome_of_bye(reason.parse_reasons(reason_header)) is FarEnd.FAILED:
        return Ended.SIGNALLING_FAILED
    return Ended.CALLEE_HUNG_UP if outbound else Ended.CALLER_HUNG_UP


def given_up(reason_header: str | None) -> Ended:
    """Why a call that came in was taken back before it was answered: by its CANCEL's Reason header field."""
    outcome = reason.outcome_of_cancel(reason.parse_reasons(reason_header))
    return Ended.ANSWERED_ELSEWHERE if outcome is FarEnd.ANSWERED_ELSEWHERE else Ended.CALLER_CANCELLED


_Q850 = {
    Ended.REFUSED: 88,
    Ended.MEDIA_TIMEOUT: 102,
    Ended.ENCRYPTION_FAILED: 102,
    Ended.AGENT_NOT_READY: 41,
    Ended.PROVIDER_FAILED: 41,
}
"""Causes of ITU-T Q.850: incompatible destination, recovery on timer expiry, temporary failure; else 16, normal."""


def reason_header(ended: Ended, code: str = "") -> str:
    """The value of a Reason header field (RFC 3326) that says how a call ended.

    It goes to strangers, so nothing but the stable name and a code of few words leaves the house: what a model said and
    what our configuration lacks is for the log.
    """
    return str(reason.q850(_Q850.get(ended, 16), f"{ended.value}: {code}" if code else ended.value))
