"""The audio health record of real calls: in the report, while the call is up, in the metrics."""

from __future__ import annotations

import json

import pytest

from sipbridge.outcome import Ended
from sipbridge.simulator.script import Script, Utterance
from tests.loopback.house import house
from tests.loopback.sound import tone
from tests.loopback.test_moves import called, notified, refer

LONG = Script(utterances=(Utterance(seconds=6, tone_hz=600),), speed=0, vad_rms=2000)


async def test_a_call_with_an_interruption() -> None:
    async with house(LONG, tenant="agent: {greeting: Hello.}") as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear_sound(5, hz=600)
        phone.audio.say(tone(1000, 0.5))
        session = bench.gateway.calls.sessions[0]
        await (await bench.session()).wait_until(lambda: session.audio_health().legs[0].stats.flushes > 0)
        live = session.audio_health()
        assert live.legs[0].stats.packets_received > 0
        await phone.audio.hear(20)
        await phone.hang_up()
        report = await bench.report()
        assert report.ended is Ended.CALLER_HUNG_UP
        audio = report.audio
        (leg,) = audio.legs
        assert leg.stats.codec == "PCMU"
        assert (leg.stats.lost, leg.loss_percent, leg.stats.encryption) == (0, 0.0, "")
        assert leg.stats.mos == pytest.approx(4.4, abs=0.05)
        assert [flush.flushed_ms > 1000 and flush.took_ms <= 60 for flush in leg.stats.flush_log] == [True]
        assert audio.first_audio_ms is not None
        assert audio.first_audio_after_answer_ms is not None
        assert 0 <= audio.first_audio_after_answer_ms <= audio.first_audio_ms < 3000
        assert audio.first_delivery_ms is not None
        assert 0 <= audio.first_delivery_ms < 200
        assert audio.downlink_ms
        assert max(audio.downlink_ms) < 300
        json.dumps(report.to_json())
        text = bench.gateway.metrics.render()
        assert 'sipbridge_calls_ended_total{direction="inbound",ended="caller_hung_up"} 1.0' in text
        assert 'sipbridge_audio_legs_total{codec="PCMU",encryption="none"} 1.0' in text
        assert "sipbridge_audio_flushes_sum 1.0" in text
        assert 'sipbridge_audio_mos_count{side="caller"} 1.0' in text


async def test_a_call_that_moved_has_a_record_of_each_leg() -> None:
    async with called() as (bench, phone, callee):
        phone.audio.say(tone(1000, 0.2))
        await phone.audio.hear(15)
        refer(phone, "tel:+15550101")
        await callee.answer(await callee.expect("INVITE"))
        await notified(phone)
        callee.audio.say(tone(1000, 0.1))
        await callee.audio.hear(30)
        await phone.hang_up()
        await callee.hang_up()
        report = await bench.report()
        first, second = report.audio.legs
        engine_total = first.stats.packets_sent + second.stats.packets_sent
        assert first.stats.packets_sent > 15
        assert second.stats.packets_sent >= 30
        assert engine_total >= len(phone.audio.packets) + len(callee.audio.packets)
        assert first.stats.remote != second.stats.remote
        assert report.to_log()["sent"] == engine_total
