"""The audio health record: what it says, as JSON and in a line of the log."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from sipbridge import codecs
from sipbridge.audio_health import AudioHealth, LegAudio, summary
from sipbridge.call_fields import CallFields
from sipbridge.call_record import CallRecord
from sipbridge.history.history import Figures, History
from sipbridge.media.events import Flush, MediaStats
from sipbridge.media.leg import Leg
from sipbridge.media.params import MediaParams
from sipbridge.media.rtp import Sequencer
from sipbridge.metrics import Metrics
from sipbridge.outcome import CallReport, Ended
from sipbridge.providers.breaker import Breaker
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenants import Tenant

PARAMS = MediaParams(codecs.PCMU, ("192.0.2.1", 4000), payload_type_send=0, payload_type_receive=0)


def figures(**changes: object) -> MediaStats:
    """Of a leg that has done nothing, but for those."""
    stats = Leg(1, PARAMS, Sequencer(1, 0, 0), 0.0).stats()
    return replace(stats, **changes)  # type: ignore[arg-type]


def health(**changes: object) -> AudioHealth:
    stats = figures(
        packets_received=990,
        packets_sent=1000,
        lost=10,
        remote_lost=5,
        mos=4.2,
        mos_average=4.1,
        mos_worst=3.7,
        jitter_mean_ms=3.14159,
        rtt_ms=42.0,
        underruns=2,
        flushes=2,
        flushed_ms=900,
        flush_log=(Flush(400, 15.0), Flush(500, 20.0)),
        uplink_ms=(4.0, 1.0, 2.0),
        downlink_ms=(12.0,),
        first_audio_received_at=100.0,
        first_audio_sent_at=100.9,
    )
    return AudioHealth((LegAudio(replace(stats, **changes)),), 900, 400, 12)  # type: ignore[arg-type]


def report(audio: AudioHealth, **changes: object) -> CallReport:
    plain = CallReport(
        call_id="c1",
        tenant="t",
        direction="inbound",
        trunk=None,
        ended=Ended.CALLER_HUNG_UP,
        detail="",
        status=None,
        codec="PCMU",
        setup_ms=500,
        seconds=20.0,
        replies=1,
        barge_ins=2,
        false_alarms=1,
        late_bytes_dropped=0,
        uplink_dropped_ms=0.0,
        audio=audio,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_a_conversation_that_a_limit_has_ended_was_one() -> None:
    limited = report(health(), ended=Ended.TENANT_LIMIT, agents=("main",))
    assert limited.outcome == "completed"
    assert replace(limited, agents=()).outcome == replace(limited, setup_ms=None).outcome == "refused"


def test_it_is_json() -> None:
    record = report(health()).to_json()
    assert json.loads(json.dumps(record)) == record
    assert record["ended"] == "caller_hung_up"
    audio = record["audio"]
    assert (audio["first_audio_ms"], audio["first_audio_after_answer_ms"], audio["first_delivery_ms"]) == (900, 400, 12)
    (leg,) = audio["legs"]
    assert (leg["loss_percent"], leg["remote_loss_percent"], leg["jitter_mean_ms"]) == (1.0, 0.5, 3.14)
    assert leg["flush_log"] == [{"flushed_ms": 400, "took_ms": 15.0}, {"flushed_ms": 500, "took_ms": 20.0}]
    assert leg["uplink_ms"] == {"count": 3, "median": 2.0, "max": 4.0}
    assert leg["remote"] == "192.0.2.1:4000"
    assert leg["resampler"] == "8000->16000 up, 24000->8000 down"
    assert not [name for name in leg if name.endswith("_at")]


def test_a_call_without_sound() -> None:
    record = report(AudioHealth()).to_json()
    assert record["audio"] == {
        "first_audio_ms": None,
        "first_audio_after_answer_ms": None,
        "first_delivery_ms": None,
        "legs": [],
    }
    assert "mos" not in report(AudioHealth()).to_log()


def test_the_line_is_flat_and_leaves_out_what_is_not_known() -> None:
    line = report(health()).to_log()
    assert all(value is None or isinstance(value, (str, int, float)) for value in line.values())
    assert (line["mos"], line["mos_worst"], line["loss_pct"], line["jitter_ms"]) == (4.1, 3.7, 1.0, 3.14)
    assert (line["up_ms"], line["down_ms"], line["flush_max_ms"]) == (2.0, 12.0, 20.0)
    assert "far_mos_worst" not in line


def test_of_several_legs_the_line_says_the_sum_or_the_worst() -> None:
    two = AudioHealth((*health().legs, *health(mos_average=3.0, lost=200, jitter_mean_ms=30.0).legs))
    line = two.to_log()
    assert (line["mos"], line["jitter_ms"], line["flushed_ms"], line["received"]) == (3.0, 30.0, 1800, 1980)
    assert line["loss_pct"] == pytest.approx(16.81, abs=0.01)


def test_the_figures_of_a_party_are_those_since_it_came() -> None:
    before = figures(packets_received=100, lost=3, late_max_ms=20.0)
    after = figures(packets_received=150, lost=4, late_max_ms=5.0, codec="PCMA")
    since = after.since(before)
    assert (since.packets_received, since.lost, since.late_max_ms, since.codec) == (50, 1, 5.0, "PCMA")


def test_a_packet_counts_once() -> None:
    """One that is late has been given up on, and has come; a duplicate has come twice."""
    (leg,) = health(packets_received=100, lost=10, late=6, duplicate=4).legs
    assert (leg.expected, leg.loss_percent) == (100, 10.0)


def test_a_summary_of_nothing() -> None:
    assert summary(()) == {"count": 0, "median": None, "max": None}


class TestTimes:
    def record(self, now: list[float]) -> CallRecord:
        tenant = Tenant("t", TenantConfig.model_validate({"agent": {"provider": "quiet"}}))
        return CallRecord(CallFields(to="agent", call_id="c1"), tenant, outbound=False, clock=lambda: now[0])

    def test_what_the_caller_waits_for(self) -> None:
        now = [10.0]
        record = self.record(now)
        now[0] = 11.0
        record.answered(None)
        now[0] = 11.25
        record.audio_delivered()
        now[0] = 12.0
        record.audio_delivered()
        audio = record.audio_health([figures(first_audio_received_at=11.2, first_audio_sent_at=11.5)])
        assert (audio.first_audio_ms, audio.first_audio_after_answer_ms, audio.first_delivery_ms) == (1500, 500, 50)

    def test_nothing_happened(self) -> None:
        audio = self.record([10.0]).audio_health([])
        assert (audio.first_audio_ms, audio.first_audio_after_answer_ms, audio.first_delivery_ms) == (None, None, None)

    def test_the_first_reason_to_end_stands(self) -> None:
        record = self.record([10.0])
        assert record.end(Ended.BUSY, "", 486)
        assert not record.end(Ended.SHUTDOWN, "", None)
        assert record.outcome == (Ended.BUSY, "")


def test_every_figure_is_explained() -> None:
    """docs/audio-health.md has a row for each, and none for what is not there."""
    text = (Path(__file__).parents[1] / "docs" / "audio-health.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    documented = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert len(documented) == len(set(documented))
    there = {field.name for kind in (MediaStats, AudioHealth, Flush) for field in fields(kind)}
    there |= {"loss_percent", "remote_loss_percent"} | set(health(remote_mos_worst=4.0).to_log())
    metrics = Metrics()
    metrics.watch_providers(Breaker())
    metrics.watch_history(cast(History, SimpleNamespace(figures=Figures(), sinks={}, wall=lambda: 0.0)))
    there |= {name for name in re.findall(r"^# TYPE (\w+)", metrics.render(), re.M) if not name.endswith("_created")}
    assert sorted(there - set(documented)) == []
    assert sorted(set(documented) - there) == []
