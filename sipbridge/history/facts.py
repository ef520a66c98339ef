"""What happens in a call, as facts in their order: one closed union. Pure.

A call is `Started` first of all and `Ended` once; `RecordingReady` and `Summarised` may come after that. Each fact has
a `kind`, by which stores, webhooks and people know it, and `to_json()`: nothing but dictionaries, lists, numbers, text
and None. When it happened and as which of its call, an `Entry` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeAlias

from sipbridge.outcome import CallReport, ToolRun
from sipbridge.outcome import Latency as Latency


@dataclass(frozen=True, slots=True)
class Started:
    """A call has come in, or is about to be made."""

    kind: ClassVar = "call.started"
    call_id: str
    """SIP's. A stranger may have chosen it, and used it before: what names the call for good is `Entry.record`."""
    direction: Literal["inbound", "outbound"]
    caller: str
    to: str
    trunk: str | None
    tenant: str
    tenant_version: int
    """Of the tenant's configuration; 0 where it has no number."""
    provider: str
    model: str
    """"": the provider's default. Both are of the agent that the call begins with."""
    node: str = ""
    caller_name: str = ""
    """What a caller is said to be called (RFC 3325); whoever said it."""

    @classmethod
    def of(cls, report: CallReport) -> Started:
        """Of a call that was over before it had begun."""
        return cls(**{each.name: getattr(report, each.name) for each in fields(cls) if hasattr(report, each.name)})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Answered:
    """Both can talk, or could."""

    kind: ClassVar = "call.answered"
    setup_ms: int
    """From the INVITE."""
    codec: str | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Turn:
    """One side has said something. `began` and `ended` are seconds since the INVITE."""

    kind: ClassVar = "call.turn"
    number: int
    """Of the call, both sides together. An interim result has the number of what it will become."""
    speaker: Literal["caller", "agent"]
    text: str
    """As transcribed; of an agent that was interrupted, as much as was generated."""
    began: float
    ended: float
    final: bool = True
    """False: an interim result (`transcripts: {interim: true}`)."""
    agent: str = ""
    """The agent's name in the tenant's file."""
    interrupted: bool = False
    heard_ms: int | None = None
    """How much of an agent's turn was sent as RTP."""
    latency: Latency | None = None
    """Of an agent's turn that answers the caller."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ToolUsed:
    kind: ClassVar = "call.tool"
    run: ToolRun

    def to_json(self) -> dict[str, Any]:
        return self.run.to_json()


@dataclass(frozen=True, slots=True)
class Transferred:
    """What became of putting the caller through."""

    kind: ClassVar = "call.transferred"
    target: str
    """Its name in the tenant's list."""
    way: str
    """`refer`, `attended`, `bridge`; "" where it never came to one."""
    succeeded: bool
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Noted:
    """Something else for the timeline: an agent took the line, a provider failed, the caller interrupted."""

    kind: ClassVar = "call.note"
    what: str
    """A stable word: `agent`, `fallback`, `interrupted`, `false_alarm`, `reconnecting` ... docs/history.md has all."""
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Ended:
    """The call is over. `report` is `CallReport.to_json()`: of a node that died, as much as is known."""

    kind: ClassVar = "call.ended"
    report: Mapping[str, Any]
    ladder: tuple[Mapping[str, Any], ...] = ()
    """The SIP messages, oldest first: `at` (seconds since the first), `sent`, `peer`, `title`, `text`. One that was
    repeated has no text again."""

    @classmethod
    def of(cls, report: CallReport, ladder: tuple[Mapping[str, Any], ...] = ()) -> Ended:
        return cls(report.to_json(), ladder)

    def to_json(self) -> dict[str, Any]:
        return {"report": dict(self.report), "ladder": [dict(step) for step in self.ladder]}


@dataclass(frozen=True, slots=True)
class RecordingReady:
    kind: ClassVar = "recording.ready"
    path: str
    """Below `recordings.directory`."""
    seconds: float
    encrypted: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Summarised:
    """What the call was about, in a text model's words."""

    kind: ClassVar = "call.summary"
    text: str
    provider: str
    model: str
    usage: Mapping[str, float] = field(default_factory=dict)
    """What it was charged by, by the names of `agent.Usage`."""
    cost_usd: float | None = None
    """By `prices`; it is not in the call's own cost. None: there is no price."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


Fact: TypeAlias = Started | Answered | Turn | ToolUsed | Transferred | Noted | Ended | RecordingReady | Summarised

KINDS = tuple(fact.kind for fact in Fact.__args__)
"""Of every fact, in the order above."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One fact of one call, as it is kept and sent: (`record`, `seq`) names it, so that who gets it twice can tell."""

    record: str
    """The call, for good: 32 hexadecimal digits, later calls above earlier ones."""
    seq: int
    """From 0, without a gap but where entries had to be left out."""
    at: float
    """Unix time in seconds: of the call's start by the clock on the wall, from there on by one that nobody sets."""
    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)
    """`Fact.to_json()`."""
    call_id: str = ""
    """As in `Started`, likewise `tenant`: who is told of a turn alone is to know whose it is. Stores have them from
    `Started`; those that they give back have none."""
    tenant: str = ""
