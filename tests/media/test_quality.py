"""The E-model against published figures, and the scores of a call."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from sipbridge.media import quality
from sipbridge.media.quality import Impairment, burst_ratio, delay_impairment, loss_impairment, mos, rating
from sipbridge.media.quality_meter import QualityMeter


class TestRating:
    def test_without_any_impairment(self) -> None:
        """G.107 table 3: with all default values R is 93.2."""
        assert rating("PCMU") == pytest.approx(93.2, abs=0.01)

    @pytest.mark.parametrize(
        ("r", "expected"), [(93.2, 4.41), (90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58)]
    )
    def test_mos_of_a_rating(self, r: float, expected: float) -> None:
        """G.107 annex B, table B.1."""
        assert mos(r) == pytest.approx(expected, abs=0.01)

    def test_mos_has_its_bounds(self) -> None:
        assert [mos(r) for r in (-5, 0, 3, 100, 120)] == [1.0, 1.0, 1.0, 4.5, 4.5]

    @pytest.mark.parametrize("delay_ms", [50, 100, 150, 177, 200, 250, 300, 350])
    def test_delay(self, delay_ms: float) -> None:
        """The line that Cole and Rosenbluth (2001) fitted to Id with the default values."""
        line = 0.024 * delay_ms + 0.11 * max(delay_ms - 177.3, 0)
        assert delay_impairment(delay_ms) == pytest.approx(line, abs=1.3)

    def test_more_delay_is_never_better(self) -> None:
        ratings = [rating("PCMU", delay_ms=delay_ms) for delay_ms in range(0, 1000, 5)]
        assert ratings == sorted(ratings, reverse=True)

    @pytest.mark.parametrize(("percent", "expected"), [(0, 0.0), (1, 3.64), (3, 10.14), (5, 15.78), (10, 27.07)])
    def test_loss_with_g711_and_concealment(self, percent: float, expected: float) -> None:
        """G.107 §7.5 with the Bpl of G.113 appendix I: 95 p / (p + 25.1)."""
        assert 93.2 - rating("PCMA", loss=percent / 100) == pytest.approx(expected, abs=0.02)

    def test_losses_in_a_row_are_worse(self) -> None:
        g729 = Impairment(11, 19)  # G.113: G.729A with VAD
        assert loss_impairment(g729, 0.03) == pytest.approx(11 + 84 * 3 / 22)
        assert loss_impairment(g729, 0.03, 2.0) == pytest.approx(11 + 84 * 3 / 20.5)

    @pytest.mark.parametrize("codec", ["PCMU", "PCMA", "G722", "L16", "opus", "something else"])
    @pytest.mark.parametrize(("loss", "delay_ms"), [(0, 0), (0.2, 0), (1, 5000), (5, 1e9)])
    def test_it_stays_on_the_scale(self, codec: str, loss: float, delay_ms: float) -> None:
        assert 0 <= rating(codec, loss=loss, delay_ms=delay_ms) <= 93.3

    def test_a_codec_that_is_not_known_is_taken_for_one_without_concealment(self) -> None:
        assert rating("GSM", loss=0.05) < rating("PCMU", loss=0.05)


class TestBurstRatio:
    def test_losses_by_chance(self) -> None:
        """Of 10,000 packets 1,000 at random: rows of 1 / (1 - 0.1)."""
        assert burst_ratio(1000, 900, 10_000) == pytest.approx(1.0)

    def test_losses_in_rows_of_four(self) -> None:
        assert burst_ratio(100, 25, 1000) == pytest.approx(3.6)

    @pytest.mark.parametrize(("lost", "bursts", "expected"), [(0, 0, 100), (3, 0, 100), (5, 5, 100), (100, 1, 100)])
    def test_it_is_at_least_one(self, lost: int, bursts: int, expected: int) -> None:
        assert burst_ratio(lost, bursts, expected) == 1.0


@dataclass
class Stream:
    expected: int = 0
    unheard: int = 0
    bursts: int = 0
    jitter_ms: float = 0.0


class TestMeter:
    def beat(self, meter: QualityMeter, stream: Stream, *, lose: int = 0, packets: int = 50, jitter: float = 1) -> None:
        stream.expected += packets
        stream.unheard += lose
        stream.bursts += lose
        stream.jitter_ms = jitter
        meter.beat(stream, "PCMU", 20)

    def test_five_seconds_make_a_score(self) -> None:
        meter, stream = QualityMeter(), Stream()
        for _ in range(4):
            self.beat(meter, stream)
        assert meter.received.now is None
        self.beat(meter, stream)
        assert meter.received.now == pytest.approx(4.40, abs=0.01)

    def test_now_the_worst_and_on_average(self) -> None:
        meter, stream = QualityMeter(), Stream()
        for lose in (0, 5, 0):
            for _ in range(5):
                self.beat(meter, stream, lose=lose)
        scores = meter.received
        assert scores.now == pytest.approx(4.40, abs=0.01)
        assert scores.worst == pytest.approx(mos(rating("PCMU", loss=0.1, delay_ms=20)), abs=0.01)
        assert scores.worst is not None
        assert scores.worst < 3.5
        assert scores.average == pytest.approx((4.40 + 4.40 + scores.worst) / 3, abs=0.01)

    def test_silence_is_no_score(self) -> None:
        meter, stream = QualityMeter(), Stream()
        for _ in range(10):
            self.beat(meter, stream, packets=2)
        assert meter.received.now is None

    def test_a_short_call_has_one_all_the_same(self) -> None:
        meter, stream = QualityMeter(), Stream()
        self.beat(meter, stream, lose=5)
        scores = meter.scores(stream, "PCMU", 20)
        assert scores.now == scores.worst == scores.average == pytest.approx(mos(rating("PCMU", loss=0.1, delay_ms=20)))
        assert meter.received.now is None  # nothing is kept of having been asked

    def test_jitter(self) -> None:
        meter, stream = QualityMeter(), Stream()
        for jitter in (1.0, 30.0, 2.0):
            self.beat(meter, stream, jitter=jitter)
        assert (meter.jitter_mean_ms, meter.jitter_max_ms) == (11.0, 30.0)

    def test_what_the_far_end_hears(self) -> None:
        meter = QualityMeter()
        meter.reported(0.0, "PCMA", 100)
        meter.reported(0.25, "PCMA", 100)
        assert meter.remote.now == meter.remote.worst
        assert meter.remote.now is not None
        assert 1 < meter.remote.now < 2.5


def test_the_impairments_name_codecs_as_sdp_does() -> None:
    assert set(quality.IMPAIRMENTS) == {"PCMU", "PCMA", "G722", "L16", "opus"}
