"""What is to be told of a call when it is over, noted while it is up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import structlog

from sipbridge.agent import ToolCall, Usage
from sipbridge.audio_health import AudioHealth, LegAudio
from sipbridge.call_fields import CallFields
from sipbridge.codecs import Codec
from sipbridge.history.facts import Answered, Noted, ToolUsed
from sipbridge.history.journal import NOWHERE, Journal
from sipbridge.media.events import MediaStats
from sipbridge.outcome import CallReport, Ended, Latency, RunOutcome, Spent, ToolRun, TurnLatency
from sipbridge.prices import Prices, cost
from sipbridge.tenant_file.agent import AgentConfig
from sipbridge.tenants import Tenant
from sipbridge.turn import Turn

log = structlog.get_logger(__name__)

_MOST_FALLBACKS = 50
"""That are noted of one call."""
_MOST_RUNS = 200
_MOST_ERROR = 500
"""Of tools: what a model that asks without end may add to the record."""
_MOST_LATENCIES = 200


class CallRecord:
    def __init__(
        self,
        fields: CallFields,
        tenant: Tenant,
        *,
        outbound: bool,
        clock: Callable[[], float],
        journal: Journal = NOWHERE,
    ) -> None:
        """Some of it is noted in `journal` at once."""
        self.barge_ins = 0
        self.false_alarms = 0
        """How often the agent was silenced for something that was nothing, and went on."""
        self.answered_at: float | None = None
        self.outcome: tuple[Ended, str] | None = None
        """How it ended and why, once it has."""
        self._fields = fields
        self._tenant = tenant
        self.outbound = outbound
        self._clock = clock
        self._status: int | None = None
        self._journal = journal
        self.began = self._ended_at = clock()
        self._delivered_at: float | None = None
        self.machine = ""
        """What has answered a call of ours, where it is said that it is no person."""
        self.reconnects = 0
        """How often the model's session was lost, and another one took its place."""
        self._fallback: list[str] = []
        self._tool_runs: list[ToolRun] = []
        self._usage: dict[tuple[str, str], defaultdict[str, float]] = {}
        self._agents: list[str] = []
        self._latencies: list[TurnLatency] = []

    def took_the_line(self, agent: str) -> None:
        self._agents.append(agent)
        self._journal.note(Noted("agent", agent))

    def answered(self, codec: Codec | None) -> None:
        self.answered_at = self._clock()
        setup_ms = round((self.answered_at - self.began) * 1000)
        self._journal.note(Answered(setup_ms, None if codec is None else codec.name))

    def turn_answered(self, turn: int, latency: Latency) -> None:
        """So long the caller has waited for this one of the agent's."""
        if len(self._latencies) < _MOST_LATENCIES:
            self._latencies.append(TurnLatency(turn, latency))

    def audio_delivered(self) -> None:
        """The provider has been handed audio of the caller's."""
        if self._delivered_at is None:
            self._delivered_at = self._clock()

    def fell_back(self, text: str) -> None:
        """Who failed, and who stood in."""
        if len(self._fallback) < _MOST_FALLBACKS:
            self._fallback.append(text)
            self._journal.note(Noted("fallback", text))

    def used(self, agent: AgentConfig, usage: Usage) -> None:
        """What an agent's provider charges for."""
        counts = self._usage.setdefault((agent.provider, usage.model or agent.model or ""), defaultdict(float))
        for name, count in usage.counts.items():
            counts[name] += count

    def tool_ran(self, request: ToolCall, arguments: str, began: float, outcome: RunOutcome, error: str = "") -> None:
        """A tool's run is over. `arguments` as they may be shown; `began` by the call's clock."""
        if len(self._tool_runs) < _MOST_RUNS:
            at, ms = round(began - self.began, 3), round((self._clock() - began) * 1000)
            run = ToolRun(request.name[:64], arguments, at, ms, outcome, error[:_MOST_ERROR])
            self._tool_runs.append(run)
            self._journal.note(ToolUsed(run))

    def end(self, ended: Ended, detail: str, status: int | None) -> bool:
        """False where it has ended before: the first reason stands. `status`: the final
        response to a call that was not answered."""
        if self.outcome is not None:
            return False
        self.outcome, self._status = (ended, detail), status
        self._ended_at = self._clock()
        return True

    def audio_health(self, figures: Iterable[MediaStats]) -> AudioHealth:
        """`figures` of each leg, in their order."""
        legs = tuple(LegAudio(stats) for stats in figures)
        sent_at = min((leg.stats.first_audio_sent_at for leg in legs if leg.stats.first_audio_sent_at), default=None)
        heard_at = legs[0].stats.first_audio_received_at if legs else None
        return AudioHealth(
            legs,
            first_audio_ms=_ms_between(self.began, sent_at),
            first_audio_after_answer_ms=_ms_between(self.answered_at, sent_at),
            first_delivery_ms=_ms_between(heard_at, self._delivered_at),
        )

    def report(
        self,
        codec: Codec | None,
        audio: AudioHealth,
        turn: Turn,
        *,
        late_audio_bytes: int,
        uplink_dropped_ms: float,
        prices: Prices | None = None,
    ) -> CallReport:
        """When it is over. `late_audio_bytes` and `uplink_dropped_ms` are of all."""
        assert self.outcome is not None
        ended, detail = self.outcome
        agent = self._tenant.config.agent  # the first of those that had the call
        spent = tuple(self._spent(prices or Prices()))
        return CallReport(
            call_id=self._fields.call_id,
            tenant=self._tenant.id,
            direction="outbound" if self.outbound else "inbound",
            trunk=self._fields.trunk,
            ended=ended,
            detail=detail,
            status=self._status,
            codec=codec.name if codec else None,
            setup_ms=_ms_between(self.began, self.answered_at),
            seconds=round(self._ended_at - self.began, 3),
            replies=turn.replies,
            barge_ins=self.barge_ins,
            false_alarms=self.false_alarms,
            # Where the provider knows itself that a reply is cut, its late audio never gets here.
            late_bytes_dropped=turn.dropped_bytes + late_audio_bytes,
            uplink_dropped_ms=uplink_dropped_ms,
            audio=audio,
            provider=agent.provider,
            agents=tuple(self._agents),
            machine=self.machine,
            reconnects=self.reconnects,
            fallback=tuple(self._fallback),
            usage=self._all_usage(),
            cost_usd=None if not spent or any(each.cost_usd is None for each in spent) else _sum(spent),
            spent=spent,
            tool_runs=tuple(self._tool_runs),
            latencies=tuple(self._latencies),
            record=self._journal.record,
            began_at=self._journal.began_at,
            caller=self._fields.caller,
            to=self._fields.to,
            tenant_version=self._tenant.version,
            model=agent.model or "",
        )

    def spent(self, prices: Prices) -> float:
        """USD, so far, as far as there are prices."""
        total = 0.0
        for (provider, model), counts in self._usage.items():
            total += cost(counts, prices.rates(provider, model) or {})
        return total

    def _all_usage(self) -> dict[str, float]:
        total: defaultdict[str, float] = defaultdict(float)
        for counts in self._usage.values():
            for name, count in counts.items():
                total[name] += count
        return {name: round(count, 3) for name, count in total.items()}

    def _spent(self, prices: Prices) -> Iterator[Spent]:
        for (provider, model), counts in self._usage.items():
            rates = prices.rates(provider, model)
            if rates is None and provider in prices.root:
                log.info("a price is missing", provider=provider, model=model or "(the vendor's default)")
            usage = {name: round(count, 3) for name, count in counts.items()}
            yield Spent(provider, model, usage, None if rates is None else round(cost(counts, rates), 6))


def _sum(spent: Iterable[Spent]) -> float:
    return round(sum(each.cost_usd or 0.0 for each in spent), 6)


def _ms_between(earlier: float | None, later: float | None) -> int | None:
    """None where one of the two is missing, or their order is not that."""
    if earlier is None or later is None or later < earlier:
        return None
    return round((later - earlier) * 1000)
