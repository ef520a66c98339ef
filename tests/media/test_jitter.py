"""Order, gaps and loss in virtual time. A packet is 160 ticks; its payload names it."""

from __future__ import annotations

import random

import pytest

from sipbridge.media.jitter import Chunk, Gap, JitterBuffer

TICKS = 160


def feed(jitter: JitterBuffer, numbers: list[int], *, first: int = 0, timestamp: int = 0) -> list[Chunk]:
    """Packets in the order given, one each 20 ms; what comes out, and what still does 40 ms later."""
    out: list[Chunk] = []
    now = 0.0
    for number in numbers:
        now += 0.02
        offset = number - first
        jitter.add(number & 0xFFFF, (timestamp + offset * TICKS) & 0xFFFFFFFF, b"%d" % offset, TICKS, now)
        out.extend(jitter.pop(now))
    out.extend(jitter.pop(now + 0.041))
    return out


def audio(*names: int) -> list[Chunk]:
    return [b"%d" % name for name in names]


def lost(packets: int) -> list[Chunk]:
    return [Gap(packets * TICKS, packets)]


@pytest.mark.parametrize(
    ("arrivals", "expected"),
    [
        pytest.param([0, 1, 2, 3], audio(0, 1, 2, 3), id="in order"),
        pytest.param([0, 2, 1, 3], audio(0, 1, 2, 3), id="swapped"),
        pytest.param([0, 2, 3, 1, 4], audio(0, 1, 2, 3, 4), id="two packets late"),
        pytest.param([0, 3, 2, 1, 4], audio(0, 1, 2, 3, 4), id="backwards"),
        pytest.param([0, 2, 3, 4, 5], [*audio(0), *lost(1), *audio(2, 3, 4, 5)], id="one lost"),
        pytest.param([0, 4, 5, 6], [*audio(0), *lost(3), *audio(4, 5, 6)], id="three lost"),
        pytest.param([0, 2, 3, 4, 1, 5], [*audio(0), *lost(1), *audio(2, 3, 4, 5)], id="too late"),
        pytest.param([0, 1, 1, 2, 2, 2], audio(0, 1, 2), id="duplicates"),
        pytest.param([0, 2, 2, 1], audio(0, 1, 2), id="duplicate of one that waits"),
        pytest.param([0, 2, 4, 5], [*audio(0), *lost(1), *audio(2), *lost(1), *audio(4, 5)], id="two gaps"),
        pytest.param([0, 2], [*audio(0), *lost(1), *audio(2)], id="nothing follows: the wait ends by the clock"),
    ],
)
@pytest.mark.parametrize("first", [0, 65534, 32767])
def test_order(arrivals: list[int], expected: list[Chunk], first: int) -> None:
    for timestamp in (0, 0xFFFFFFFF - 200):
        jitter = JitterBuffer(8000)
        assert feed(jitter, [first + n for n in arrivals], first=first, timestamp=timestamp) == expected


@pytest.mark.parametrize(
    ("arrivals", "counters"),
    [
        ([0, 1, 2], (0, 0, 0, 0)),
        ([0, 2, 1], (0, 0, 0, 1)),
        ([0, 2, 3, 4], (1, 0, 0, 0)),
        ([0, 2, 3, 4, 1], (1, 1, 0, 0)),
        ([0, 2, 3, 4, 1, 1], (1, 1, 1, 0)),
        ([0, 1, 1, 0], (0, 0, 2, 0)),
        ([0, 2, 2, 1], (0, 0, 1, 1)),
    ],
)
def test_counters(arrivals: list[int], counters: tuple[int, int, int, int]) -> None:
    jitter = JitterBuffer(8000)
    feed(jitter, arrivals)
    assert (jitter.lost, jitter.late, jitter.duplicate, jitter.reordered) == counters


def test_a_gap_is_waited_for_40_ms_and_no_longer() -> None:
    jitter = JitterBuffer(8000)
    jitter.add(0, 0, b"0", TICKS, 0.0)
    jitter.add(2, 2 * TICKS, b"2", TICKS, 0.04)
    assert jitter.pop(0.04) == [b"0"]
    assert not jitter.pop(0.079)
    assert jitter.pop(0.081) == [Gap(TICKS, 1), b"2"]
    jitter.add(1, TICKS, b"1", TICKS, 0.09)
    assert not jitter.pop(1.0)
    assert jitter.late == 1


class TestStreamTime:
    def test_a_pause_of_the_sender_is_a_gap_in_which_nothing_was_lost(self) -> None:
        jitter = JitterBuffer(8000)
        jitter.add(0, 0, b"0", TICKS, 0.0)
        jitter.add(1, 4000, b"1", TICKS, 0.5)
        assert jitter.pop(0.5) == [b"0", Gap(4000 - TICKS, 0), b"1"]
        assert jitter.lost == 0

    def test_across_the_wrap_of_the_timestamp(self) -> None:
        jitter = JitterBuffer(8000)
        jitter.add(0, 0xFFFFFF00, b"0", TICKS, 0.0)
        jitter.add(1, 500, b"1", TICKS, 0.5)
        assert jitter.pop(0.5) == [b"0", Gap(756 - TICKS, 0), b"1"]

    @pytest.mark.parametrize("timestamp", [0x80000000, 0, 8000 * 61 + 1000 + TICKS])
    def test_a_timestamp_that_began_anew_is_no_gap(self, timestamp: int) -> None:
        jitter = JitterBuffer(8000)
        jitter.add(0, 1000, b"0", TICKS, 0.0)
        jitter.add(1, timestamp, b"1", TICKS, 0.02)
        jitter.add(2, timestamp + TICKS, b"2", TICKS, 0.04)
        assert jitter.pop(0.04) == audio(0, 1, 2)

    def test_packets_of_changing_length(self) -> None:
        jitter = JitterBuffer(8000)
        timestamp = 0
        for number, ticks in enumerate((160, 240, 80, 480)):
            jitter.add(number, timestamp, b"x" * ticks, ticks, 0.0)
            timestamp += ticks
        assert [len(chunk) for chunk in jitter.pop(0.0) if isinstance(chunk, bytes)] == [160, 240, 80, 480]

    def test_what_is_no_audio_holds_its_place_and_its_time_becomes_a_gap(self) -> None:
        jitter = JitterBuffer(8000)
        jitter.add(0, 0, b"0", TICKS, 0.0)
        for number in range(1, 6):  # a key: its packets have the timestamp of its beginning
            jitter.add(number, TICKS, b"", 0, 0.02 * number)
        jitter.add(6, 6 * TICKS, b"6", TICKS, 0.12)
        assert jitter.pop(0.12) == [b"0", Gap(5 * TICKS, 0), b"6"]
        assert (jitter.lost, jitter.late) == (0, 0)


class TestRestart:
    def test_a_lone_wild_number_is_not_believed(self) -> None:
        jitter = JitterBuffer(8000)
        assert feed(jitter, [0, 1, 30000, 2, 3]) == audio(0, 1, 2, 3)
        assert jitter.restarts == 0

    def test_two_in_sequence_are_a_source_that_began_anew(self) -> None:
        jitter = JitterBuffer(8000)
        for number in (10, 11, 40000, 40001, 40002):
            jitter.add(number, number * TICKS, b"%d" % number, TICKS, 0.0)
        assert jitter.pop(0.0) == [b"10", b"11", b"40001", b"40002"]
        assert jitter.restarts == 1

    def test_another_source_has_no_order_with_the_last(self) -> None:
        jitter = JitterBuffer(8000)
        jitter.add(10, 5000, b"old", TICKS, 0.0)
        jitter.add(12, 5320, b"never", TICKS, 0.0)
        jitter.restart()
        jitter.add(7, 999, b"new", TICKS, 0.0)
        assert jitter.pop(0.0) == [b"old", b"new"]
        assert (jitter.lost, jitter.late) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_in_goes_out_in_order_and_nothing_waits_for_ever(seed: int) -> None:
    chance = random.Random(seed)
    sent = list(range(65000, 67000))
    arrivals = [n + chance.random() * chance.choice((0, 0, 3, 8)) for n in sent if chance.random() > 0.05]
    order = [number for _, number in sorted(zip(arrivals, (int(a) for a in arrivals), strict=True))]
    jitter = JitterBuffer(8000)
    out = feed(jitter, order, first=65000)
    names = [int(chunk) for chunk in out if isinstance(chunk, bytes)]
    assert names == sorted(set(names))
    assert len(jitter.pop(1e9)) == 0
    # Time adds up: each packet that went out and each gap stand for the stream from the first to the last.
    gaps = sum(chunk.ticks for chunk in out if isinstance(chunk, Gap))
    assert len(names) * TICKS + gaps == (names[-1] - names[0] + 1) * TICKS
    assert len(names) + jitter.late == len(set(order))
