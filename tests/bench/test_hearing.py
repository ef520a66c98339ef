"""What the bench takes for what a phone heard, and for what a filter does."""

from __future__ import annotations

from bench.filters import curve, measure
from bench.hearing import in_time


def test_packets_lie_where_their_timestamps_say() -> None:
    first = (1 << 32) - 160
    received = {first: b"one", 320: b"four", 0: b"two"}  # the third was not sent, or is lost
    assert in_time(received, 160) == [b"one", b"two", b"", b"four"]
    assert in_time({}, 160) == []


def test_a_filter_is_flat_in_its_band_and_shut_outside() -> None:
    points = dict(curve(24000, 8000, step=500.0))
    assert abs(points[1000.0]) < 0.1
    assert points[6000.0] < -60
    assert 4000.0 not in points  # there a tone and its image are one
    assert max(points) == 11500.0


def test_a_broken_ratio_is_judged_by_its_own_band() -> None:
    response = measure(16000, 24000)
    assert response.band_hz == 6800
    assert response.passband_db < 1
    assert response.rejection_db > 60
