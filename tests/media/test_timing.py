"""How long a leg takes for what it does, in virtual time."""

from __future__ import annotations

import pytest

from sipbridge.audio import PCMU
from sipbridge.media.events import Audio, Flush
from sipbridge.media.timing import Timing
from tests.media.test_leg import VOICE, Bench


class TestTiming:
    def test_speech_after_silence(self) -> None:
        timing = Timing()
        timing.speech_came(1.0)
        timing.speech_came(1.005)  # its second piece
        assert timing.pending
        timing.sent(1.010, sounding=False)
        timing.sent(1.030, sounding=True)
        assert list(timing.speech_ms) == [30.0]
        assert not timing.pending

    def test_a_flush_while_it_sounds(self) -> None:
        timing = Timing()
        timing.flushed(800, 1.0)
        timing.sent(1.015, sounding=True)
        assert list(timing.flushes) == [Flush(800, 15.0)]
        assert not timing.pending

    def test_a_flush_of_what_had_not_begun(self) -> None:
        timing = Timing()
        timing.speech_came(0.9)
        timing.flushed(800, 1.0)
        timing.sent(1.015, sounding=False)
        assert list(timing.flushes) == [Flush(800, 0.0)]
        assert list(timing.speech_ms) == []
        assert not timing.pending

    def test_what_comes_right_after_a_flush_is_measured_for_itself(self) -> None:
        timing = Timing()
        timing.flushed(800, 1.0)
        timing.speech_came(1.001)
        timing.sent(1.020, sounding=True)  # the fade
        assert timing.pending
        timing.sent(1.040, sounding=True)
        assert list(timing.speech_ms) == [39.0]

    def test_a_block_that_was_gathered_waited_for_its_last_packet(self) -> None:
        timing = Timing()
        timing.due = True
        timing.delivered(2.002, 2.0, block_ms=60, packet_ms=20)
        assert list(timing.uplink_ms) == [42.0]
        assert not timing.due

    def test_filling_is_no_measurement(self) -> None:
        timing = Timing()
        timing.delivered(2.5, 2.0, block_ms=20, packet_ms=20)
        assert list(timing.uplink_ms) == []

    def test_it_keeps_the_latest(self) -> None:
        timing = Timing()
        for number in range(1000):
            timing.flushed(number, 0.0)
            timing.sent(0.0, sounding=True)
        assert len(timing.flushes) == 128
        assert timing.flushes[-1].flushed_ms == 999


class TestLeg:
    def test_speech_and_flush(self) -> None:
        bench = Bench()
        bench.tick(5, say=VOICE)
        bench.leg.push(VOICE * 50, "r", "i", bench.now + 0.003)
        bench.tick(10, say=VOICE)
        bench.leg.push(VOICE * 50, "r", "i", bench.now)  # more of the same: it does not begin
        bench.tick(5, say=VOICE)
        bench.leg.discard(bench.now + 0.008)
        bench.tick(5, say=VOICE)
        stats = bench.leg.stats()
        assert stats.downlink_ms == (17.0,)
        (flush,) = stats.flush_log
        assert flush.took_ms == pytest.approx(12.0)
        assert flush.flushed_ms == stats.flushed_ms

    def test_audio_that_was_taken(self) -> None:
        bench = Bench()
        bench.tick(5, say=VOICE)
        bench.leg.delivered(Audio(7, VOICE), bench.now + 0.004)
        assert bench.leg.stats().uplink_ms == (4.0,)

    def test_another_party_has_its_own(self) -> None:
        bench = Bench()
        bench.leg.late_max = 0.5
        bench.leg.push(VOICE, "r", "i", bench.now)
        bench.tick(5, say=VOICE)
        before = bench.leg.part()
        bench.tick(5, say=VOICE)
        since = bench.leg.stats().since(before)
        assert (before.late_max_ms, since.late_max_ms) == (500.0, 0.0)
        assert (before.packets_received, since.packets_received) == (5, 5)
        assert (len(before.downlink_ms), len(since.downlink_ms)) == (1, 0)

    def test_what_is_done_to_the_sample_rate(self) -> None:
        assert Bench().leg.stats().resampler == "passed through"
        assert Bench().leg.params.uplink == PCMU
