"""What a call's history costs: 100 calls a minute with full transcripts, noted, kept in the outbox, stored in SQLite.

    python -m bench.history [--seconds 15] [--runs 3]

Each run is a process of its own that does the same twice, in turn: facts made and thrown away, and facts noted in a
real `History` (its thread, the outbox with every commit on disk, the store). The processor time of the second less
that of the first is what history adds, from when as many calls begin as end until no more begin. Fifty facts a call:
its beginning, answer and end (with a ladder of eight messages and a report), forty turns, tools and notes; spread over
six seconds, so that ten calls are up. How long `note` takes is taken around each one.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import structlog

from sipbridge.call_fields import CallFields
from sipbridge.config import Config
from sipbridge.gateway_file.history import HistoryConfig
from sipbridge.history.facts import Answered, Ended, Fact, Noted, Started, ToolUsed, Turn
from sipbridge.history.history import History
from sipbridge.history.journal import NOWHERE, Journal
from sipbridge.history.opening import sinks_of
from sipbridge.history.refusals import report_of_none
from sipbridge.outcome import Ended as Reason
from sipbridge.outcome import Latency, ToolRun

CALLS_A_MINUTE = 100
FACTS = 50
CALL_SECONDS = 6.0
TARGET_PERCENT = 2.0
_SENTENCE = "Your order number four one seven has left our house this morning and will be with you by Friday noon."
_MESSAGE = "INVITE sip:agent@192.0.2.1 SIP/2.0\r\n" + "Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK776asdhds\r\n" * 12


def facts(journal: Journal) -> list[Callable[[], Fact]]:
    """Of one call, in their order; made when they happen."""
    fields = CallFields(to="agent", caller="+15550123", call_id="a84b4c76e66710@pbx.example.com")
    report = report_of_none(fields, Reason.CALLER_HUNG_UP, None, journal=journal)
    step = {"at": 0.0, "sent": False, "peer": "192.0.2.7:5060", "title": "INVITE", "text": _MESSAGE}

    def turn(number: int) -> Callable[[], Fact]:
        speaker: Literal["agent", "caller"] = "agent" if number % 2 else "caller"
        latency = Latency(500, 640, 12) if number % 2 else None
        return lambda: Turn(number, speaker, _SENTENCE, 1.0, 4.0, agent="main", heard_ms=3000, latency=latency)

    made: list[Callable[[], Fact]] = [lambda: Started.of(report), lambda: Answered(180, "PCMU")]
    made += [turn(number) for number in range(40)]
    made += [lambda: ToolUsed(ToolRun("order_status", '{"number": "417"}', 2.0, 140, "ok"))] * 4
    made += [lambda: Noted("interrupted")] * (FACTS - 3 - 44)
    return [*made, lambda: Ended.of(report, (step,) * 8)]


async def load(new_journal: Callable[[], Journal], seconds: float, took: list[float]) -> float:
    """Calls begin at their rate; each fact at its time. The processor's share while the load was steady."""
    loop = asyncio.get_running_loop()

    def note(journal: Journal, fact: Callable[[], Fact]) -> None:
        made = fact()
        began = time.perf_counter()
        journal.note(made)
        took.append(time.perf_counter() - began)

    began, between, steady = loop.time(), 60 / CALLS_A_MINUTE, (0.0, 0.0)
    for number in range(int(seconds / between)):
        await asyncio.sleep(max(0.0, began + number * between - loop.time()))
        if not steady[0] and loop.time() - began >= CALL_SECONDS:
            steady = loop.time(), time.process_time()
        journal = new_journal()
        for place, fact in enumerate(facts(journal)):
            loop.call_later(place * CALL_SECONDS / FACTS, note, journal, fact)
    share = (time.process_time() - steady[1]) / (loop.time() - steady[0])
    await asyncio.sleep(CALL_SECONDS)
    return share


async def measure(seconds: float, directory: Path) -> tuple[float, list[float]]:
    """Percent of a core that it adds; how long `note` took."""
    without = await load(lambda: NOWHERE, seconds, [])
    config = Config(history=HistoryConfig(store=f"sqlite:///{directory}/h.db", outbox=directory / "outbox"))
    took: list[float] = []
    async with History(config.history, lambda: sinks_of(config), node="bench") as history:
        with_history = await load(lambda: history.journal(None), seconds, took)
    return 100 * (with_history - without), took


def run(seconds: float) -> tuple[float, list[float]]:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(measure(seconds, Path(directory)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    shares: list[float] = []
    took: list[float] = []
    for _ in range(options.runs):
        with context.Pool(1) as pool:
            share, times = pool.apply(run, (options.seconds,))
        shares.append(share)
        took += times
    took.sort()
    shares.sort()
    median = shares[len(shares) // 2]
    print(f"history at {CALLS_A_MINUTE} calls a minute, {FACTS} facts each: adds {median:.2f} % of a core")
    print(f"  runs: {', '.join(f'{share:.2f}' for share in shares)}; target {TARGET_PERCENT:g} %")
    for name, place in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)):
        print(f"  note() {name}: {took[min(len(took) - 1, int(place * len(took)))] * 1e6:.1f} us")
    return 0 if median <= TARGET_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main())
