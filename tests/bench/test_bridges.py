"""The measurement of bridged legs, for a moment: that it measures, not what."""

from __future__ import annotations

import pytest

from bench.bridges import bridges
from bench.results import Row
from bench.size import SMALL


@pytest.mark.slow
def test_a_moment_of_bridges() -> None:
    rows = [row for row in bridges(SMALL) if isinstance(row, Row)]
    assert [row.figure.partition(":")[0] for row in rows] == [
        "4 relayed legs",
        "the same",
        "the same",
        "8 relayed legs",
        "the same",
        "the same",
    ]
    assert "50.0 packets a second" in rows[0].measured
