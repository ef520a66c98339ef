"""The measurement of hand-overs, for a moment: that it measures, not what."""

from __future__ import annotations

import pytest

from bench.handovers import handovers
from bench.results import Row
from bench.size import SMALL


@pytest.mark.slow
def test_a_moment_of_hand_overs() -> None:
    rows = [row for row in handovers(SMALL) if isinstance(row, Row)]
    assert [row.figure.partition(",")[0] for row in rows] == [
        "silence at switch_agent",
        "the same where a provider fails in mid-word",
    ]
    assert all(row.met for row in rows)
