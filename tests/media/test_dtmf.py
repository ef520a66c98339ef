"""Keys as telephone events (RFC 4733)."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipbridge.media.dtmf import KEYS, KeyPacket, KeyReceiver, key_packets

Packet = tuple[bytes, int, bool]


def event(code: int, duration: int, *, end: bool = False, volume: int = 10) -> bytes:
    return bytes((code, (0x80 if end else 0) | volume)) + duration.to_bytes(2)


def press(code: int, timestamp: int, *, steps: int = 4) -> list[Packet]:
    """A press as phones send it: `steps` packets of 20 ms, the last one three times."""
    packets = [(event(code, 160 * step), timestamp, step == 1) for step in range(1, steps)]
    return packets + [(event(code, 160 * steps, end=True), timestamp, False)] * 3


def heard(packets: list[Packet], receiver: KeyReceiver | None = None) -> str:
    receiver = receiver or KeyReceiver()
    return "".join(key for packet in packets if (key := receiver.feed(*packet)))


@pytest.mark.parametrize("code", range(16))
def test_each_press_is_reported_once_and_at_its_first_packet(code: int) -> None:
    receiver = KeyReceiver()
    reports = [receiver.feed(*packet) for packet in press(code, 8000)]
    assert reports == [KEYS[code]] + [None] * 5


def test_event_codes_are_those_of_the_standard() -> None:
    assert KEYS == "0123456789*#ABCD"


def test_any_packets_of_a_press_may_be_lost() -> None:
    packets = press(5, 8000)
    for count in range(1, len(packets) + 1):
        for kept in itertools.combinations(packets, count):
            assert heard(list(kept)) == "5"


def test_any_order_of_a_press_is_one_report() -> None:
    packets = press(7, 0xFFFFFF80)
    for seed in range(50):
        shuffled = packets[:]
        random.Random(seed).shuffle(shuffled)
        assert heard(shuffled) == "7"


def test_same_key_twice_is_two_presses() -> None:
    assert heard(press(1, 8000) + press(1, 9600) + press(1, 11200)) == "111"


def test_same_key_twice_is_two_presses_even_without_markers_and_ends() -> None:
    first, second = press(1, 8000)[1:3], press(1, 8000 + 1280)[1:3]
    assert heard(first + second) == "11"


def test_late_copies_of_the_press_before_report_nothing() -> None:
    first, second = press(1, 8000), press(2, 9600)
    assert heard(first[:4] + second[:2] + first[4:] + second[2:]) == "12"


def test_events_across_the_timestamp_wrap() -> None:
    assert heard(press(1, 0xFFFFFF00) + press(1, 0x500)) == "11"


def test_segments_of_a_long_press_are_one_report() -> None:
    start = 0xFFFF0000
    first = [(event(3, duration), start, duration == 160) for duration in range(160, 0xFFFF, 160)]
    first.append((event(3, 0xFFFF), start, False))
    second = [(event(3, duration), (start + 0xFFFF) & 0xFFFFFFFF, False) for duration in (160, 320)]
    second += [(event(3, 480, end=True), (start + 0xFFFF) & 0xFFFFFFFF, False)] * 3
    assert heard(first + second + press(3, 20000)) == "33"


def test_a_timestamp_that_runs_on_during_the_press_is_one_report() -> None:
    """Not what the RFC says, but some gateways send it."""
    packets = [(event(9, 160 * step), 160 * step, step == 1) for step in range(1, 6)]
    packets += [(event(9, 960, end=True), 160 * step, False) for step in range(6, 9)]
    again = [(payload, timestamp + 3200, marker) for payload, timestamp, marker in packets]
    assert heard(packets + again) == "99"


def test_another_key_under_the_same_timestamp_is_another_press() -> None:
    assert heard([(event(1, 160), 0, True), (event(2, 160), 0, True)]) == "12"


def test_first_press_at_timestamp_zero() -> None:
    assert heard(press(0, 0)) == "0"


@pytest.mark.parametrize("payload", [b"", b"\1", b"\1\x0a\0", event(16, 160), event(32, 160), event(255, 160)])
def test_short_packets_and_other_events_are_ignored_and_counted(payload: bytes) -> None:
    receiver = KeyReceiver()
    assert receiver.feed(payload, 8000, True) is None
    assert receiver.ignored == 1
    assert heard(press(4, 8000), receiver) == "4"


def test_a_new_source_may_use_the_same_timestamp() -> None:
    receiver = KeyReceiver()
    assert heard(press(4, 8000), receiver) == "4"
    receiver.reset()
    assert heard(press(4, 8000), receiver) == "4"


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=6), st.integers(0, 0xFFFFFFFF), st.booleans()), max_size=20))
def test_any_bytes_give_keys_or_nothing(packets: list[Packet]) -> None:
    receiver = KeyReceiver()
    for packet in packets:
        key = receiver.feed(*packet)
        assert key is None or key in KEYS


def test_a_press_is_sent_as_the_standard_says() -> None:
    packets = key_packets("#", duration_ms=80, gap_ms=40)
    assert packets == (
        KeyPacket(event(11, 160), marker=True),
        KeyPacket(event(11, 320), marker=False),
        KeyPacket(event(11, 480), marker=False),
        *[KeyPacket(event(11, 640, end=True), marker=False)] * 3,
        None,
        None,
    )


def test_packet_time_and_clock_rate_are_heeded() -> None:
    packets = [packet for packet in key_packets("d", duration_ms=90, ptime_ms=30, clock_rate=48000) if packet]
    assert [packet.payload for packet in packets] == [
        event(15, 1440),
        event(15, 2880),
        *[event(15, 4320, end=True)] * 3,
    ]


@pytest.mark.parametrize("duration_ms", [0, 10, 20, 30])
def test_the_shortest_press_still_has_a_beginning_and_an_end(duration_ms: int) -> None:
    packets = key_packets("1", duration_ms=duration_ms, gap_ms=0)
    assert [packet.marker for packet in packets if packet] == [True, False, False, False]


def test_a_very_long_press_stops_counting_at_the_field_s_end() -> None:
    packets = [packet for packet in key_packets("1", duration_ms=10_000) if packet]
    assert packets[-1].payload == event(1, 0xFFFF, end=True)
    assert sum(packet.marker for packet in packets) == 1


@pytest.mark.parametrize("key", ["", "12", "x", " ", "１"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="no key"):
        key_packets(key)


def test_what_is_sent_is_heard() -> None:
    receiver, timestamp, keys = KeyReceiver(), 0xFFFFF000, ""
    for key in "15550100**##AAbcd":
        begin = timestamp
        for packet in key_packets(key):
            if packet is not None:
                keys += receiver.feed(packet.payload, begin, packet.marker) or ""
            timestamp = (timestamp + 160) & 0xFFFFFFFF
    assert keys == "15550100**##AABCD"
