"""What no mutation finds by chance: messages of every size and depth, and sessions without end."""

from __future__ import annotations

import json
import re
import time

import pytest

from tests.fuzz.provider_targets import LINE, Alone, from_line, recorded
from tests.providers.scenarios.bench import BENCHES, Bench
from tests.providers.size import deep_size

HUGE = [
    "[" * 200_000,
    '{"type":' * 100_000,
    '{"type":"' + "x" * 15_000_000 + '"}',
    json.dumps({"type": ["x"] * 100_000}),
    '{"a":' + "9" * 1_000_000 + "}",
    "\x00" * 1000,
    "",
    "null",
    '"\\ud800"',
]


@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.name)
def test_messages_of_any_size_and_depth(bench: Bench) -> None:
    alone = Alone(bench)
    lines = [from_line(line) for line in recorded(bench)[0].split(LINE)]
    for channel, message in lines[: len(lines) // 2]:
        alone.receive(channel, message)
    for channel in alone.channels:
        for text in HUGE:
            began = time.process_time()
            alone.receive(channel, text)
            alone.receive(channel, text.encode())
            assert time.process_time() - began < 1.0
        for octets in (b"\xff\xfe", b"\xe2\x82", bytes(range(256)), b"{" + b"\xff" * 100 + b"}"):
            alone.receive(channel, octets)
    alone.close()


ROUNDS = 400
MOST = 300_000
"""Octets that a dialect may hold after tens of thousands of messages."""


OF_ONE_PIECE = [bench for bench in BENCHES if bench.parts is None]
"""Services of parts answer by ids of ours, and a conversation that is played again has none."""


@pytest.mark.parametrize("bench", OF_ONE_PIECE, ids=lambda bench: bench.name)
def test_a_session_without_end_holds_no_more_and_no_more(bench: Bench) -> None:
    """The same conversation over and over, each time with other ids; tools are answered, as a call does."""
    alone = Alone(bench)
    lines = [from_line(line) for line in recorded(bench)[0].split(LINE)]
    for number in range(ROUNDS):
        for channel, message in lines:
            alone.receive(channel, _other_ids(message, number))
        assert not alone.order.closed
        alone.answer()
        alone.order.seen[1:] = alone.order.seen[-1:]  # ours, not the dialect's
    assert deep_size(alone.dialect) < MOST
    alone.close()


def _other_ids(message: str | bytes, number: int) -> str | bytes:
    """Every id in it gets the round's number."""
    if isinstance(message, bytes):
        return re.sub(rb'("(?:\w*id|id|call|call_id)": ?"[^"]{0,60})"', rb'\1-%d"' % number, message)
    return re.sub(r'("(?:\w*id|id|call|call_id)": ?"[^"]{0,60})"', rf'\1-{number}"', message)
