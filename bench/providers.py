"""What talking to a model costs and how long it takes, telephones apart: sessions, a socket that stalls, refusals."""

from __future__ import annotations

from statistics import median
from typing import Any

from bench import machine, refusals, rig
from bench.loop import MS, Loop, now
from bench.numbers import Spread, median_spread
from bench.provider import Provider, Session, audio_frame
from bench.results import Finding, Row, ms
from bench.secrecy import server_context
from bench.size import Size

_STAMP = b"1" * 19
"""As many digits as a moment in nanoseconds has, until 2286."""
_OPEN_S = 60.0


class Stamped:
    """Speaks in one session without end, in real time: 100 ms every 100 ms, whose item is named after the moment."""

    def __init__(self, loop: Loop, session: Session, wait: int) -> None:
        self._loop, self._session = loop, session
        head, stamp, tail = audio_frame("reply", _STAMP.decode(), bytes(4800)).partition(_STAMP)
        assert stamp
        self._head, self._tail = head, tail
        loop.after(wait, self._begin)

    def _begin(self, due: int) -> None:
        self._session.begin_reply("reply")
        self._speak(due)

    def _speak(self, due: int) -> None:
        if not self._session.closed:
            self._session.send(self._head + b"%d" % now() + self._tail)
            self._loop.at(due + 100 * MS, self._speak)


def run(scenario: str, *, sessions: int, seconds: float) -> dict[str, Any]:
    """One run by TLS; the models are in this process."""
    gateway_core, _ = machine.cores()
    certificate, trusted = rig.certificate()
    loop = Loop()
    provider = Provider(loop, server_context(certificate))
    options = {"scenario": scenario, "url": provider.url, "sessions": sessions, "seconds": seconds}
    where = rig.package(rig.compiled())
    child = rig.Process("bench.sessions", options | {"core": gateway_core}, None, trusted=trusted, package=where)
    heard: list[dict[str, Any]] = []
    try:
        child.when_it_speaks(loop, heard.append)
        if not loop.run_until(lambda: bool(heard), _OPEN_S):
            raise RuntimeError("the sessions were not open in time")
        if scenario == "stall":
            for session in provider.sessions.values():
                session.stall()
        else:
            for number, session in enumerate(provider.sessions.values()):
                Stamped(loop, session, 100 * MS * number // sessions)
        child.say("go on")
        if not loop.run_until(lambda: len(heard) > 1, seconds + _OPEN_S):
            raise RuntimeError("no result")
    finally:
        child.end()
        provider.close()
        loop.close()
    result: dict[str, Any] = heard[-1]["result"]
    return result


def providers(size: Size) -> list[Finding]:
    rows: list[Finding] = []
    for count in (size.few, size.hundred):
        results = [run("talk", sessions=count, seconds=size.seconds) for _ in range(size.runs)]
        way = median_spread([Spread.of_ns(result["delays"]) for result in results])
        heard = f"{ms(way)} of {way.count}"
        rows.append(Row(f"delta sent -> PCM handed on, {count} sessions", "p99 <= 3 ms", heard, way.p99 <= 3))
    cost = median(result["cpu"] for result in results) * 100
    dropped = sum(result["dropped_ms"] for result in results)
    due = count * size.seconds * 1000 / 60
    if dropped or min(result["pushed"] for result in results) < 0.98 * due:
        raise RuntimeError("not all of the callers' sound was sent")
    what = f"CPU for each of {count} sessions by TLS, 60 ms blocks up, 100 ms deltas down"
    rows.append(Row(what, "<= 0.2 % of a core", f"{cost:.2f} %", cost <= 0.2))
    return [*rows, *_stalled(size), *_refused(size)]


def _stalled(size: Size) -> list[Finding]:
    result = run("stall", sessions=1, seconds=size.seconds)
    times = Spread.of_ns(result["times"])
    return [
        Row("push_audio into a socket that nobody reads", "never blocks", f"{ms(times)}", times.max < 20),
        Row(
            "the same: dropped of what was pushed",
            "counted",
            f"{result['dropped_ms'] / 1000:.1f} of {result['pushed_ms'] / 1000:.1f} s",
            result["dropped_ms"] > 0,
        ),
        Row("the same: closed within", "<= 1 s", f"{result['close_ms']:.0f} ms", result["close_ms"] <= 1000),
    ]


def _refused(size: Size) -> list[Finding]:
    calls = size.few
    refused, silent = Spread.of(refusals.refused(calls)), Spread.of(refusals.silent(size.runs))
    return [
        Row(f"401 from the model -> 480 to the phone, {calls} calls", "<= 500 ms", ms(refused), refused.max <= 500),
        Row(
            f"a model that says nothing -> 480 to the phone, over the deadline, {size.runs} calls",
            "<= 500 ms",
            ms(silent),
            silent.max <= 500,
        ),
    ]
