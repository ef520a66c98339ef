"""What is measured of a history's way, for Prometheus (docs/audio-health.md)."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sipbridge.history.history import History

_COUNTS = {
    "written": ("entries", "Entries that are durable."),
    "failed": ("write_failures", "Attempts to write the outbox that failed."),
    "dropped": ("dropped", "Entries for which there was no room any more."),
    "crashed": ("crashed_calls", "Calls that were closed after the node had died."),
}
_OF_SINKS = {
    "delivered": "Entries that were taken.",
    "retries": "Deliveries that failed, and are tried again.",
    "refused": "Entries that will never be taken, and were set aside.",
}


class HistoryCollector(Collector):
    """Asked at each scrape, by any thread."""

    def __init__(self, history: History) -> None:
        self._history = history

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        figures = self._history.figures
        for key, (name, text) in _COUNTS.items():
            yield CounterMetricFamily(f"sipbridge_history_{name}", text, figures.counts[key])
        yield GaugeMetricFamily(
            "sipbridge_history_outbox_up", "0: there is none on the disk.", 1.0 if figures.durable else 0.0
        )
        sinks = dict(self._history.sinks)  # some may be added meanwhile
        for key, text in _OF_SINKS.items():
            count = CounterMetricFamily(f"sipbridge_history_{key}", text, labels=("sink",))
            for name, courier in sinks.items():
                count.add_metric((name,), courier.counters[key])
            yield count
        up = GaugeMetricFamily("sipbridge_history_sink_up", "0: it took nothing last time.", labels=("sink",))
        for name, courier in sinks.items():
            up.add_metric((name,), 0.0 if courier.schedule.failures else 1.0)
        yield up
        yield from self._waiting()

    def _waiting(self) -> Iterator[Metric]:
        count = GaugeMetricFamily("sipbridge_history_waiting", "Entries that wait for a sink.", labels=("sink",))
        age = GaugeMetricFamily("sipbridge_history_oldest_seconds", "Age of the oldest of them.", labels=("sink",))
        now = self._history.wall()
        for name, (waiting, oldest) in list(self._history.figures.waiting.items()):
            count.add_metric((name,), waiting)
            age.add_metric((name,), 0.0 if oldest is None else max(0.0, now - oldest))
        yield count
        yield age
