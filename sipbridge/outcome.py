"""How a call ended, and the call in numbers: what logs, records and metrics have in common."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal, TypeAlias

from sipbridge.audio_health import AudioHealth
from sipbridge.errors import CallNotAnsweredError
from sipbridge.sip import reason
from sipbridge.sip.events import CallEnded, EndCause
from sipbridge.sip.reason import FarEnd


class Ended(enum.Enum):
    """Why a call is over: one stable list. What each means to others is in `ENDINGS` and, with its cure, in
    docs/ended-reasons.md."""

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
    """Of a call that we made, as the next ones: nobody spoke to the agent."""
    NO_ANSWER = "no_answer"
    """Or of one that came in, whose INVITE said how long it may ring."""
    DECLINED = "declined"
    """By the far end or its network: not wanted, not allowed, no credentials that it takes."""
    REDIRECTED = "redirected"
    """It named another address (3xx), which is not followed."""
    UNREACHABLE = "unreachable"
    """No such number, no way there, the trunk is down."""
    CANCELLED = "cancelled"
    """Given up by us before it was answered."""
    ANSWERING_MACHINE = "answering_machine"
    """A machine answered, and the tenant has no word for machines (`machine: hang_up`)."""
    AGENT_NOT_READY = "agent_not_ready"
    """The model could not be made ready, so the caller has never talked to it."""
    PROVIDER_FAILED = "provider_failed"
    MEDIA_TIMEOUT = "media_timeout"
    ENCRYPTION_FAILED = "encryption_failed"
    """Agreed on, and no keys came of it."""
    SIGNALLING_FAILED = "signalling_failed"
    TOO_LONG = "too_long"
    CALLER_SILENT = "caller_silent"
    """Nobody said a word, also when asked."""
    SPEND_LIMIT = "spend_limit"
    """It has cost what one call of the tenant's may."""
    LOOP_DETECTED = "loop_detected"
    """The far end is a machine, and the two go round in circles."""
    NO_TENANT = "no_tenant"
    """Nobody's number."""
    TENANT_UNKNOWN = "tenant_unknown"
    """Who has the tenants could not be asked, and nothing was known from before."""
    TENANT_LIMIT = "tenant_limit"
    """The tenant has as many calls, or has used as much, as it may."""
    SHUTDOWN = "shutdown"
    NODE_CRASHED = "node_crashed"
    """The node died in mid-call; written when it is back."""
    INTERNAL_ERROR = "internal_error"


RunOutcome: TypeAlias = Literal["ok", "error", "invalid", "unknown", "timeout", "refused", "cancelled"]
"""What became of a run: `error` is the tool's own, `invalid` its arguments, `unknown` its name, `refused` a quota's."""


@dataclass(frozen=True, slots=True)
class ToolRun:
    """A tool that the model has used."""

    name: str
    arguments: str
    """As the model gave them, shortened, without what the tool's parameters call secret."""
    at: float
    """Seconds since the INVITE."""
    ms: int
    outcome: RunOutcome
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}


Outcome: TypeAlias = Literal["completed", "failed", "unanswered", "refused"]
"""What became of a call, in a word that a list is filtered by: there was a conversation, or as much of one as was
wanted; something broke; nobody took it, or nobody waited for that; it was not wanted, here or for now."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What a reason to end means outside this house."""

    outcome: Outcome
    cause: int
    """In a Reason header field: of ITU-T Q.850."""
    status: int | None = None
    """The final response to a caller whom we have not answered; None: it ends none of those. 503 is the node's own,
    and makes a proxy try another one: no tenant's and no provider's trouble may say it."""
    good: bool = False
    """A conversation, ended by those who had it."""


ENDINGS: Final[Mapping[Ended, Ending]] = {
    Ended.CALLER_HUNG_UP: Ending("completed", 16, good=True),
    Ended.CALLEE_HUNG_UP: Ending("completed", 16, good=True),
    Ended.CALLER_CANCELLED: Ending("unanswered", 16, 487),
    Ended.ANSWERED_ELSEWHERE: Ending("unanswered", 26, 487),
    Ended.AGENT_HUNG_UP: Ending("completed", 16, good=True),
    Ended.TRANSFERRED: Ending("completed", 16, good=True),
    Ended.REFUSED: Ending("refused", 88, 488),
    Ended.BUSY: Ending("unanswered", 17),
    Ended.NO_ANSWER: Ending("unanswered", 19, 487),
    Ended.DECLINED: Ending("unanswered", 21),
    Ended.REDIRECTED: Ending("unanswered", 23),
    Ended.UNREACHABLE: Ending("failed", 20),
    Ended.CANCELLED: Ending("unanswered", 16),
    Ended.ANSWERING_MACHINE: Ending("unanswered", 16),
    Ended.AGENT_NOT_READY: Ending("failed", 41, 480),
    Ended.PROVIDER_FAILED: Ending("failed", 41, 480),
    Ended.MEDIA_TIMEOUT: Ending("failed", 102),
    Ended.ENCRYPTION_FAILED: Ending("failed", 102),
    Ended.SIGNALLING_FAILED: Ending("failed", 111),
    Ended.TOO_LONG: Ending("completed", 16, 480, good=True),
    Ended.CALLER_SILENT: Ending("completed", 16),
    Ended.SPEND_LIMIT: Ending("completed", 16, good=True),
    Ended.LOOP_DETECTED: Ending("completed", 16),
    Ended.NO_TENANT: Ending("refused", 1, 404),
    Ended.TENANT_UNKNOWN: Ending("failed", 41, 480),
    Ended.TENANT_LIMIT: Ending("refused", 17, 486),
    Ended.SHUTDOWN: Ending("failed", 41, 503),
    Ended.NODE_CRASHED: Ending("failed", 41),
    Ended.INTERNAL_ERROR: Ending("failed", 41, 500),
}
"""Every reason has its line; docs/ended-reasons.md is held against it (`tests/test_outcome.py`)."""


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
class Latency:
    """From the caller's last sound to the first packet of what answers it, in its parts; None where one of them cannot
    be told."""

    endpointing_ms: int | None = None
    """The caller is silent -> the model, or our own ear, takes his turn for over."""
    model_ms: int | None = None
    """-> the first sound of the answer is there."""
    playout_ms: int | None = None
    """-> its first packet leaves."""


@dataclass(frozen=True, slots=True)
class TurnLatency:
    turn: int
    """Its number (`history.facts.Turn`)."""
    latency: Latency


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
    """The final response to a call that was not answered: theirs to ours, or ours to theirs."""
    codec: str | None
    setup_ms: int | None
    """INVITE to 200; None where it was never answered."""
    seconds: float
    """From the INVITE to the end."""
    replies: int
    barge_ins: int
    false_alarms: int
    """How often the agent fell silent for a cough or a "mm-hm", and went on."""
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
    machine: str = ""
    """What answered a call of ours, where SIP says that it is no person (`machine.machine_of`)."""
    reconnects: int = 0
    """How often the model's session was lost in mid-call, and another one took its place."""
    fallback: tuple[str, ...] = ()
    """Who failed and who stood in, in this order, in words."""
    usage: Mapping[str, float] = field(default_factory=dict)
    """What the provider charges for, by the names of `agent.Usage`, summed."""
    cost_usd: float | None = None
    """By `prices`; None where nothing was used, or something that has no price."""
    spent: tuple[Spent, ...] = ()
    """The same by provider and model."""
    tool_runs: tuple[ToolRun, ...] = ()
    """In the order in which they ended."""
    latencies: tuple[TurnLatency, ...] = ()
    """Of the agent's turns that answer the caller, in their order; the first so many."""
    record: str = ""
    """Names the call for good, in the history; "": there is none."""
    began_at: float = 0.0
    """Unix time."""
    caller: str = ""
    to: str = ""
    tenant_version: int = 0
    model: str = ""
    """Of the agent that the call began with; "": the provider's default."""

    @property
    def outcome(self) -> Outcome:
        """As its reason has it, but that a conversation which a limit has ended was one."""
        outcome = ENDINGS[self.ended].outcome
        return "completed" if outcome == "refused" and self.agents and self.setup_ms is not None else outcome

    def to_json(self) -> dict[str, Any]:
        """Nothing but dictionaries, lists, numbers, text and None."""
        return {
            **self._figures(),
            "agents": list(self.agents),
            "usage": dict(self.usage),
            "spent": [{**asdict(each), "usage": dict(each.usage)} for each in self.spent],
            "fallback": list(self.fallback),
            "audio": self.audio.to_json(),
            "tool_runs": [run.to_json() for run in self.tool_runs],
            "latencies": [{"turn": each.turn, **asdict(each.latency)} for each in self.latencies],
        }

    def to_log(self) -> dict[str, Any]:
        """For the line that ends the call: flat, and without who it was."""
        usage = {f"usage_{name}": count for name, count in self.usage.items()}
        more: dict[str, Any] = {"agents": " ".join(self.agents), "tools": len(self.tool_runs)}
        if self.fallback:
            more["fallback"] = "; ".join(self.fallback)
        figures = {name: value for name, value in self._figures().items() if name not in ("began_at", "caller", "to")}
        return {**figures, **more, **usage, **self.audio.to_log()}

    def _figures(self) -> dict[str, Any]:
        apart = ("agents", "audio", "fallback", "latencies", "spent", "tool_runs", "usage")
        figures = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in apart}
        return {**figures, "ended": self.ended.value, "outcome": self.outcome}


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


def ended_by(event: CallEnded, *, outbound: bool, transferred: str | None, answered: bool) -> tuple[Ended, str]:
    """How a call ended whose dialog did; `transferred`: to whom, where its far end had taken on a transfer of
    ours, or was connected over us; else None."""
    match event.cause:
        case EndCause.REMOTE_BYE if transferred is not None:
            # Many PBXs end our leg themselves, before or instead of the last NOTIFY.
            return Ended.TRANSFERRED, f"{transferred}: {event.reason}"
        case EndCause.REMOTE_BYE:
            return hung_up(event.reason_header, outbound=outbound), event.reason_header or event.reason
        case EndCause.CANCELLED:
            return given_up(event.reason_header), event.reason
        case EndCause.TIMEOUT if not answered:
            return Ended.NO_ANSWER, event.reason  # the INVITE's Expires
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


def reason_header(ended: Ended, code: str = "") -> str:
    """The value of a Reason header field (RFC 3326) that says how a call ended.

    It goes to strangers, so nothing but the stable name and a code of few words leaves the house: what a model said and
    what our configuration lacks is for the log.
    """
    return str(reason.q850(ENDINGS[ended].cause, f"{ended.value}: {code}" if code else ended.value))
