"""Every fuzz target for a moment, with a fixed seed, and that the loop does find what is wrong."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import pytest

from tests.fuzz.engine import Found, Target, fuzz
from tests.fuzz.targets import TARGETS


@pytest.fixture(autouse=True, scope="module")
def nothing_of_other_tests() -> Iterator[None]:
    """What is timed is the shipped code, not a walk of the collector through what thousands of tests have left."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("name", TARGETS)
def test_target(name: str) -> None:
    report = fuzz(TARGETS[name], seed=3261)
    assert report.inputs >= TARGETS[name].inputs
    assert len(report.outcomes) > 1, "every input came to the same: it is not looked at"


def test_an_undocumented_error_is_found() -> None:
    def feed(data: bytes) -> int:
        return len(data.decode("ascii"))

    with pytest.raises(Found, match="UnicodeDecodeError"):
        fuzz(Target("ascii", feed, [b"plain"]), seed=1, inputs=2_000)


def test_a_slow_input_is_found() -> None:
    def feed(data: bytes) -> int:
        end = time.process_time() + (0.06 if len(data) > 5_000 else 0)
        while time.process_time() < end:
            pass
        return len(data) % 7

    with pytest.raises(Found, match="took [67]"):
        fuzz(Target("slow", feed, [b"a piece of text to repeat"]), seed=1, inputs=2_000)


def test_the_same_seed_gives_the_same_inputs() -> None:
    runs: list[list[bytes]] = []
    for _ in range(2):
        seen: list[bytes] = []

        def feed(data: bytes, seen: list[bytes] = seen) -> int:
            seen.append(data)
            return len(data)

        fuzz(Target("same", feed, [b"one", b"two; three=4\r\n"]), seed=7, inputs=200)
        runs.append(seen)
    assert runs[0] == runs[1]
