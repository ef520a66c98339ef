"""What the gateway counts and measures, for Prometheus: its own registry, and the text that a scrape reads.

Each call is observed once, when it is over; what is up is asked for when somebody reads. Labels have few values: no
call, no tenant, no number. Names are stable; `docs/audio-health.md` has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from sipbridge.audio_health import AudioHealth, LegAudio
from sipbridge.history.history import History
from sipbridge.history.metering import HistoryCollector
from sipbridge.outcome import CallReport
from sipbridge.prices import NAMES
from sipbridge.providers.breaker import Breaker

CONTENT_TYPE = CONTENT_TYPE_LATEST

_MOS = (1.5, 2.0, 2.5, 3.0, 3.3, 3.6, 3.8, 4.0, 4.1, 4.2, 4.3, 4.4)
_RATIO = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5)
_JITTER_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
_ROUND_TRIP_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
_BRIDGE_S = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5)
_FIRST_AUDIO_S = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_TIMES = (0, 1, 2, 3, 5, 10, 20, 50)
_SECONDS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_SIDES = ("caller", "far_end")


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Gauge("sipbridge_calls", "Calls that are up or being set up.", registry=self.registry)
        self._ended = self._counter("calls_ended", "Calls that are over.", ("ended", "direction"))
        self._turned_away = self._counter("tenant_limit", "Calls above a limit of their tenant's.", ("limit",))
        self._legs = self._counter("audio_legs", "Legs of calls that are over.", ("codec", "encryption"))
        self._packets = self._counter("rtp_packets", "RTP packets of calls that are over.", ("way",))
        self._mos = self._histogram("mos", "Average MOS-CQE of a leg.", _MOS, ("side",))
        self._mos_worst = self._histogram("mos_worst", "Worst MOS-CQE of a leg.", _MOS, ("side",))
        self._loss = self._histogram("loss_ratio", "Lost packets of a leg, of those expected.", _RATIO, ("side",))
        self._jitter = self._histogram("jitter_seconds", "Mean interarrival jitter of a leg.", _JITTER_S)
        self._round_trip = self._histogram("round_trip_seconds", "Round trip of a leg by RTCP.", _ROUND_TRIP_S)
        self._first_audio = self._histogram(
            "first_audio_seconds", "From INVITE or answer to the agent's first packet.", _FIRST_AUDIO_S, ("since",)
        )
        self._bridge = self._histogram("bridge_seconds", "What the bridge adds, sampled.", _BRIDGE_S, ("way",))
        self._flush = self._histogram("flush_seconds", "From a flush to the last old packet.", _BRIDGE_S)
        self._underruns = self._histogram("underruns", "Underruns of a leg.", _TIMES)
        self._flushes = self._histogram("flushes", "Flushes of a leg.", _TIMES)
        self._flushed = self._histogram("flushed_seconds", "Speech of a leg that was flushed.", _SECONDS)
        self._concealed = self._histogram("concealed_seconds", "Lost audio of a leg that was concealed.", _SECONDS)

        self._recordings = self._counter("recordings", "Recordings by what became of them.", ("state",))
        self._reconnects = self._counter(
            "provider_reconnects", "Sessions lost in mid-call and replaced.", ("provider",)
        )
        self._used = self._counter("provider_usage", "What providers charge for.", ("provider", "what"))
        self._cost = self._counter("provider_cost_usd", "What it cost, by the configured prices.", ("provider",))
        self._unrecorded = self._counter("recording_dropped_packets", "Packets the disk was too slow for.", ())

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Counter:
        return Counter(f"sipbridge_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
        return Histogram(f"sipbridge_audio_{name}", text, labels, registry=self.registry, buckets=buckets)

    def count_calls(self, calls: Callable[[], int]) -> None:
        """How many are up is asked for at each scrape."""
        self._calls.set_function(lambda: float(calls()))

    def count_recordings(self, state: str, number: int) -> None:
        """`started`, `finished`, `failed`; or `dropped`, which are packets. From any thread."""
        if state == "dropped":
            self._unrecorded.inc(number)
        else:
            self._recordings.labels(state).inc(number)

    def count_turned_away(self, limit: str) -> None:
        """A call, or one that was to be made, that its tenant's limit was in the way of."""
        self._turned_away.labels(limit).inc()

    def observe(self, report: CallReport) -> None:
        """A call is over."""
        self._ended.labels(report.ended.value, report.direction).inc()
        self._observe_audio(report.audio)
        if report.provider:
            self._reconnects.labels(report.provider).inc(report.reconnects)
        for spent in report.spent:
            for name in spent.usage.keys() & set(NAMES):
                self._used.labels(spent.provider, name).inc(max(0.0, spent.usage[name]))
            self._cost.labels(spent.provider).inc(spent.cost_usd or 0.0)

    def watch_providers(self, breaker: Breaker) -> None:
        """How sessions could be opened, and which servers are taken to be gone, is asked for at each scrape."""
        self.registry.register(_Providers(breaker))

    def watch_history(self, history: History) -> None:
        """What waits for whom is asked for at each scrape."""
        self.registry.register(HistoryCollector(history))

    def _observe_audio(self, audio: AudioHealth) -> None:
        for since, milliseconds in (
            ("invite", audio.first_audio_ms),
            ("answer", audio.first_audio_after_answer_ms),
        ):
            if milliseconds is not None:
                self._first_audio.labels(since).observe(milliseconds / 1000)
        for way, samples in (("up", audio.uplink_ms), ("down", audio.downlink_ms)):
            bridge = self._bridge.labels(way)
            for sample in samples:
                bridge.observe(sample / 1000)
        for leg in audio.legs:
            self._observe_leg(leg)

    def _observe_leg(self, leg: LegAudio) -> None:
        stats = leg.stats
        self._legs.labels(stats.codec, stats.encryption or "none").inc()
        self._packets.labels("received").inc(stats.packets_received)
        self._packets.labels("sent").inc(stats.packets_sent)
        caller, far_end = _SIDES
        _observe(self._mos.labels(caller), stats.mos_average)
        _observe(self._mos.labels(far_end), stats.remote_mos_average)
        _observe(self._mos_worst.labels(caller), stats.mos_worst)
        _observe(self._mos_worst.labels(far_end), stats.remote_mos_worst)
        if leg.expected:
            self._loss.labels(caller).observe(leg.loss_percent / 100)
            self._jitter.observe(stats.jitter_mean_ms / 1000)
        _observe(self._loss.labels(far_end), leg.remote_loss_percent, 100)
        _observe(self._round_trip, stats.rtt_ms, 1000)
        for flush in stats.flush_log:
            self._flush.observe(flush.took_ms / 1000)
        self._underruns.observe(stats.underruns)
        self._flushes.observe(stats.flushes)
        self._flushed.observe(stats.flushed_ms / 1000)
        self._concealed.observe(stats.concealed_ms / 1000)

    def render(self) -> str:
        """All of it, in Prometheus' text format (`CONTENT_TYPE`)."""
        return generate_latest(self.registry).decode()


def _observe(histogram: Histogram, value: float | None, divisor: float = 1.0) -> None:
    if value is not None:
        histogram.observe(value / divisor)


class _Providers(Collector):
    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        connects = CounterMetricFamily(
            "sipbridge_provider_connects", "Attempts to open a model's session.", labels=("provider", "result")
        )
        for (provider, result), count in list(self._breaker.connects.items()):
            connects.add_metric((provider, result), count)
        yield connects
        is_open = GaugeMetricFamily(
            "sipbridge_provider_breaker_open",
            "1 where a server has failed so often that calls are refused at once; 0 where it failed last.",
            labels=("provider", "host"),
        )
        gone = set(self._breaker.open_keys())
        for key in self._breaker.known_keys():
            is_open.add_metric(key, 1.0 if key in gone else 0.0)
        yield is_open
