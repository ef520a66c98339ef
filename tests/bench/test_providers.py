"""The measurement of what talks to models, for a moment: that it measures, not what."""

from __future__ import annotations

import pytest

from bench.providers import providers
from bench.results import Row
from bench.size import SMALL


@pytest.mark.slow
def test_a_moment_of_sessions() -> None:
    rows = [row for row in providers(SMALL) if isinstance(row, Row)]
    assert [row.figure.partition(",")[0] for row in rows] == [
        "delta sent -> PCM handed on",
        "delta sent -> PCM handed on",
        "CPU for each of 5 sessions by TLS",
        "push_audio into a socket that nobody reads",
        "the same: dropped of what was pushed",
        "the same: closed within",
        "401 from the model -> 480 to the phone",
        "a model that says nothing -> 480 to the phone",
    ]
    assert all(row.met for row in rows[4:])
