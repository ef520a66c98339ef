"""What a scrape reads."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from sipbridge.audio_health import AudioHealth
from sipbridge.metrics import Metrics
from sipbridge.outcome import Spent
from sipbridge.providers.breaker import Attempt, Breaker
from tests.test_audio_health import health, report


def read(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.render())
        for sample in family.samples
        if "le" not in sample.labels
    }


def test_a_call_that_is_over() -> None:
    metrics = Metrics()
    metrics.count_calls(lambda: 3)
    metrics.observe(report(health()))
    metrics.observe(report(health()))
    found = read(metrics)
    assert found[("sipbridge_calls", ())] == 3
    assert found[("sipbridge_calls_ended_total", (("direction", "inbound"), ("ended", "caller_hung_up")))] == 2
    assert found[("sipbridge_audio_legs_total", (("codec", "PCMU"), ("encryption", "none")))] == 2
    assert found[("sipbridge_rtp_packets_total", (("way", "received"),))] == 2 * 990
    assert found[("sipbridge_audio_mos_count", (("side", "caller"),))] == 2
    assert found[("sipbridge_audio_mos_sum", (("side", "caller"),))] == 2 * 4.1
    assert found[("sipbridge_audio_loss_ratio_sum", (("side", "caller"),))] == 2 * 0.01
    assert found[("sipbridge_audio_bridge_seconds_count", (("way", "up"),))] == 6
    assert found[("sipbridge_audio_first_audio_seconds_sum", (("since", "answer"),))] == 2 * 0.4
    assert found[("sipbridge_audio_flush_seconds_count", ())] == 4
    assert found[("sipbridge_audio_underruns_sum", ())] == 4


def test_a_call_without_sound_counts_as_a_call() -> None:
    metrics = Metrics()
    metrics.observe(report(AudioHealth()))
    found = read(metrics)
    assert found[("sipbridge_calls_ended_total", (("direction", "inbound"), ("ended", "caller_hung_up")))] == 1
    assert ("sipbridge_audio_mos_count", (("side", "caller"),)) not in found


def test_providers() -> None:
    metrics = Metrics()
    breaker = Breaker()
    metrics.watch_providers(breaker)
    for host, failures in (("gone.example.com", 5), ("shaky.example.com", 1)):
        for _ in range(failures):
            attempt = Attempt(breaker, "openai", lambda: 1.0)
            attempt.enter(host)
            attempt.failed("refused", host)
    attempt.failed("a word of the vendor's")
    used = {"input_audio_tokens": 100.0, "the_vendors_own": 7.0}
    spent = (Spent("openai", "m", used, 0.25), Spent("gemini", "", {"input_text_tokens": 3.0}, None))
    metrics.observe(replace(report(health()), provider="openai", reconnects=2, spent=spent))
    metrics.observe(replace(report(health()), provider="openai"))
    found = read(metrics)
    mine = (("provider", "openai"),)
    assert found[("sipbridge_provider_connects_total", (*mine, ("result", "refused")))] == 6
    assert found[("sipbridge_provider_connects_total", (*mine, ("result", "refused_setup")))] == 1
    assert found[("sipbridge_provider_breaker_open", (("host", "gone.example.com"), *mine))] == 1
    assert found[("sipbridge_provider_breaker_open", (("host", "shaky.example.com"), *mine))] == 0
    assert found[("sipbridge_provider_reconnects_total", mine)] == 2
    assert found[("sipbridge_provider_cost_usd_total", mine)] == 0.25
    assert found[("sipbridge_provider_usage_total", (*mine, ("what", "input_audio_tokens")))] == 100
    other = (("provider", "gemini"), ("what", "input_text_tokens"))
    assert found[("sipbridge_provider_usage_total", other)] == 3, "each agent's under its own provider"
    assert ("sipbridge_provider_usage_total", (*mine, ("what", "the_vendors_own"))) not in found


def test_no_label_grows_with_the_calls() -> None:
    """Nothing of a call, a tenant or a number becomes a label."""
    metrics = Metrics()
    metrics.observe(report(health()))
    before = len(read(metrics))
    for number in range(20):
        metrics.observe(report(health(), call_id=str(number), tenant=f"t{number}"))
    assert len(read(metrics)) == before
    assert "t7" not in metrics.render()
