"""What is measured, how it is judged, and in which words it is reported. One function per measurement, each a list of
rows of the table; runs are repeated and the median of each figure counts.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from bench import filters, parsing, rig
from bench.bridges import bridges
from bench.handovers import handovers
from bench.numbers import Spread, median_spread
from bench.providers import providers
from bench.quality import quality
from bench.results import Chart, Finding, Line, Row, Table, late, ms
from bench.rig import Figures
from bench.scaling import interpreted, scaling
from bench.size import Size
from bench.tenants import tenants

_IDLE_SECONDS = 2.0
_GROWTH_KIB = 2048
_STRAYS_GROWTH_KIB = 5120
_CALLS_PER_SECOND = 100


def pacing(size: Size) -> list[Row]:
    gaps, lateness = [], []
    for seed in range(size.runs):
        result = rig.run("steady", user="pcm", calls=size.few, seconds=size.seconds, seed=seed)
        gaps.append(Spread.of_ns(result["gaps"]))
        lateness.append(Spread.of_ns(result["lateness"]))
    gap = median_spread(gaps)
    measured = f"{ms(gap)}; {late(lateness)}"
    return [Row(f"gap between RTP packets sent, {size.few} calls", "p99 <= 22 ms", measured, gap.p99 <= 22)]


def interruption(size: Size) -> list[Row]:
    few = _interruption(size, size.few, ahead_ms=3000)
    # As much as is heard, so that the models of so many do not send several times what they would.
    many = _interruption(size, size.crowd, ahead_ms=1200, spin=True, tls=True)
    return [*few, *many, *_false_alarms(size)]


def _false_alarms(size: Size) -> list[Row]:
    silenced, resumed, lateness, repeated = [], [], [], [0.0]
    for seed in range(size.runs):
        result = rig.run("false_alarm", user="judged", calls=size.few, seconds=max(size.seconds, 3.0), seed=seed)
        silenced.append(Spread.of_ns(result["silenced"]))
        resumed.append(Spread.of_ns(result["resumed"]))
        lateness.append(Spread.of_ns(result["lateness"]))
        repeated += result["repeated"]
    silent, on = median_spread(silenced), median_spread(resumed)
    most = f"{min(repeated):+.0f} to {max(repeated):+.0f} ms"
    return [
        Row(
            f"speech-started -> silence, where it is judged first, {size.few} calls, {len(repeated) - 1} times",
            "<= 20 ms",
            f"{ms(silent)}; {late(lateness)}",
            silent.p99 <= 20,
        ),
        Row("the verdict, a false alarm -> sound again", "<= 300 ms", ms(on), on.max <= 300),
        Row("what is heard of the answer then, against what was said", "<= 20 ms", most, max(map(abs, repeated)) <= 20),
    ]


def _interruption(size: Size, calls: int, **how: Any) -> list[Row]:
    old, lateness, ways, samples, wrong, fade = [], [], [], 0, 0.0, 0.0
    for seed in range(size.runs):
        result = rig.run("flush", user="pcm", calls=calls, seconds=size.seconds, seed=seed, **how)
        old.append(Spread.of_ns(result["late"]))
        lateness.append(Spread.of_ns(result["lateness"]))
        ways.append(Spread.of_ns(result["trips"]).p50 / 2)
        samples += len(result["late"])
        fade = max(fade, *result["fades"])
        wrong = max(wrong, *(abs(error) for error in result["truncations"]))
        if len(result["truncations"]) != len(result["late"]):
            raise RuntimeError("the model was not told what was heard")
    last, way = median_spread(old), median(ways)
    return [
        Row(
            f"speech-started -> last old packet, {calls} calls, {samples} times",
            "<= 20 ms",
            f"{ms(last)}, {way:.2f} of them on the way; fading for {fade:.0f} ms at most; {late(lateness)}",
            last.p99 <= 20,
        ),
        Row(
            f"what the model is told was heard, against what was, {calls} calls", "", f"wrong by {wrong:.0f} ms at most"
        ),
    ]


def latency(size: Size) -> list[Row]:
    rows = []
    for user, name in (("pcm", "PCM 24 kHz"), ("g711", "G.711 passed through")):
        up, down, lateness = [], [], []
        for seed in range(size.runs):
            result = rig.run("latency", user=user, calls=size.few, seconds=size.seconds, seed=seed)
            if result["unmatched"] > 2 * size.few:  # those on their way when the run ended
                raise RuntimeError(f"{result['unmatched']} marks were lost")
            up.append(Spread.of_ns(result["up"]))
            down.append(Spread.of_ns(result["down"]))
            lateness.append(Spread.of_ns(result["lateness"]))
        towards, back = median_spread(up), median_spread(down)
        rows += [
            Row(
                f"RTP in -> provider send, {name}",
                "p50 <= 5, p99 <= 15 ms",
                f"{ms(towards)}; {late(lateness)}",
                towards.p50 <= 5 and towards.p99 <= 15,
            ),
            Row(
                f"provider receive -> RTP out, {name}",
                "p50 <= 15, p99 <= 30 ms",
                ms(back),
                back.p50 <= 15 and back.p99 <= 30,
            ),
        ]
    return rows + [
        row
        for calls in (size.few, size.many * 2)
        for row in (_round_trip(size, calls, replies=False), _round_trip(size, calls, replies=True))
    ]


def _round_trip(size: Size, calls: int, *, replies: bool) -> Row:
    trips, lateness = [], []
    for seed in range(size.runs):
        result = rig.run(
            "echo", user="pcm", calls=calls, seconds=size.seconds, seed=seed, spin=True, tls=True, replies=replies
        )
        if result["unmatched"] > 2 * calls:
            raise RuntimeError(f"{result['unmatched']} marks were lost")
        trips.append(Spread.of_ns(result["trips"]))
        lateness.append(Spread.of_ns(result["lateness"]))
    trip = median_spread(trips)
    said = "each mark a reply" if replies else "one reply without end"
    return Row(
        f"RTP in -> echoing provider (TLS, 20 ms uplink, {said}) -> RTP out, {calls} calls",
        "p50 <= 25, p99 <= 45 ms",
        f"{ms(trip)}; {late(lateness)}",
        trip.p50 <= 25 and trip.p99 <= 45,
    )


def tools(size: Size) -> list[Row]:
    rows = []
    runs = [
        rig.run("tools", user="tools", calls=size.few, seconds=size.seconds, seed=seed) for seed in range(size.runs)
    ]
    for name, what in (("moment", "a coroutine"), ("moment_in_thread", "a function in a thread")):
        told = median_spread([Spread.of_ns(run["results"][name]) for run in runs])
        asked = median_spread([Spread.of_ns(run["trips"][name]) for run in runs])
        answers = sum(len(run["results"][name]) for run in runs)
        lateness = late([Spread.of_ns(run["lateness"]) for run in runs])
        rows.append(
            Row(
                f"tool result -> model, {what}, {size.few} calls, {answers} times",
                "p99 <= 5 ms",
                f"{ms(told)}; from the model's call to the result {ms(asked)}; {lateness}",
                told.p99 <= 5,
            )
        )
    return rows


class _Processor:
    """Looks at the gateway's processor time before and during a run."""

    def __init__(self) -> None:
        self.points: dict[str, Figures] = {}

    def at(self, point: str, ask: Callable[[str], Figures]) -> None:
        self.points[point] = ask("now")
        if point == "idle":
            time.sleep(_IDLE_SECONDS)
            self.points["still idle"] = ask("now")

    def percent(self, earlier: str, later: str) -> float:
        a, b = self.points[earlier], self.points[later]
        return 100 * (b.cpu_seconds - a.cpu_seconds) / (b.wall_seconds - a.wall_seconds)

    def per_call(self, calls: int) -> float:
        """Percent of a core, without what the gateway takes when there are none."""
        return (self.percent("begin", "end") - self.percent("idle", "still idle")) / calls


def _steady(size: Size, user: str, seed: int, *, uvloop: bool = True) -> tuple[_Processor, Spread]:
    """One run of the load whose processor time counts, and the generator's error."""
    watch = _Processor()
    result = rig.run(
        "steady",
        user=user,
        calls=size.many,
        seconds=0.6 * size.seconds,
        seed=seed,
        uvloop=uvloop,
        spin=True,
        at_point=watch.at,
    )
    for what in ("packets_per_second", "messages_per_second"):
        if abs(result[what] - 50) > 1.5:
            raise RuntimeError(f"{result[what]:.1f} {what.replace('_', ' ')} and call: the load was not whole")
    return watch, Spread.of_ns(result["lateness"])


def processor(size: Size) -> list[Row]:
    rows = []
    for user, name, limit in (("pcm", "PCM 24 kHz", 0.5), ("g711", "G.711 passed through", 0.4)):
        # More runs than elsewhere: it varies more, from process to process.
        runs = [_steady(size, user, seed) for seed in range(size.runs + 2)]
        shares = [watch.per_call(size.many) for watch, _ in runs]
        idle = median(watch.percent("idle", "still idle") for watch, _ in runs)
        span = f"{min(shares):.2f} to {max(shares):.2f} in {len(runs)} runs"
        stock, _ = _steady(size, user, 0, uvloop=False)
        rows += [
            Row(
                f"CPU per call, {size.many} calls, {name}",
                f"<= {limit} % of a core",
                f"{median(shares):.2f} % ({span}; idle {idle:.1f} % taken off); {late([spread for _, spread in runs])}",
                median(shares) <= limit,
            ),
            Row("the same without uvloop", "", f"{stock.per_call(size.many):.2f} % (one run)"),
        ]
    return rows


def endurance(size: Size) -> list[Row]:
    points: dict[str, Figures] = {}

    def at_point(point: str, ask: Callable[[str], Figures]) -> None:
        if point in ("first", "second"):
            time.sleep(size.timer_seconds)
        points[point] = ask("settled")

    result = rig.run("churn", user="pcm", calls=size.thousand, seconds=0, seed=0, at_point=at_point)
    count = size.thousand
    failures = [failure for run in result["failures"] for failure in run]
    one_each = not failures and all(
        connections == count and far_ends == [1] * count
        for connections, far_ends in zip(result["connections"], result["far_ends"], strict=True)
    )
    before, after = points["started"], points["second"]
    more = Counter(after.descriptors)
    more.subtract(before.descriptors)
    changed = "".join(f" ({number:+d} {kind})" for kind, number in more.items() if number)
    growth = points["second"].resident_kib - points["first"].resident_kib
    setup = median_spread([Spread.of_ns(run) for run in result["setup"]])
    lateness = Spread.of_ns(result["lateness"])
    connections = " and ".join(str(number) for number in result["connections"])
    return [
        Row(
            f"INVITE sent 3 times, twice {count} calls at 50 a second",
            "one call each",
            f"{connections} calls, {sum(map(len, result['far_ends']))} answers" + "".join(f"; {x}" for x in failures),
            one_each,
        ),
        Row(
            "tasks; descriptors, before and after",
            "equal",
            f"{before.tasks} and {after.tasks}; {len(before.descriptors)} and {len(after.descriptors)}{changed}",
            (before.tasks, before.descriptors, 0) == (after.tasks, after.descriptors, after.calls),
        ),
        Row(
            f"memory after the second {count} calls, over that after the first",
            "<= 2 MB",
            f"{growth / 1024:+.2f} MiB ({points['first'].resident_kib / 1024:.1f} MiB after the first)",
            growth <= _GROWTH_KIB,
        ),
        Row("INVITE -> 200, model ready, 50 calls a second", "", f"{ms(setup)}; {late([lateness])}"),
    ]


def signalling(size: Size) -> list[Row]:
    """Calls that come and go quickly, each with sound while it is up."""
    parse = median(parsing.microseconds_per_invite() for _ in range(size.runs))
    delays, loads, lateness, failures, count = [], [], [], Counter[str](), int(_CALLS_PER_SECOND * size.seconds)
    for seed in range(size.runs):
        watch = _Processor()
        result = rig.run("rush", user="pcm", calls=count, seconds=size.seconds, seed=seed, spin=True, at_point=watch.at)
        delays.append(Spread.of_ns(result["setup"]))
        lateness.append(Spread.of_ns(result["lateness"]))
        loads.append(watch.percent("begin", "end"))
        failures.update(result["failures"])
    delay = median_spread(delays)
    return [
        Row("parse and serialize one INVITE", "<= 60 us", f"{parse:.0f} us", parse <= 60),
        Row(
            f"calls failed of {size.runs} x {count}, set up and torn down at {_CALLS_PER_SECOND} a second",
            "0",
            f"{failures.total()}" + "".join(f"; {failure}" for failure in failures),
            not failures,
        ),
        Row(
            "INVITE -> 200 meanwhile, model ready",
            "p99 <= 50 ms",
            f"{ms(delay)}; {late(lateness)}",
            delay.p99 <= 50,
        ),
        Row("CPU meanwhile, their sound included", "one core", f"{median(loads):.0f} %", max(loads) < 100),
    ]


def strays(size: Size) -> list[Row]:
    """Requests from sources that no trunk names, while calls are up."""
    watch = _Processor()
    result = rig.run(
        "strays", user="pcm", calls=size.few, seconds=size.flood_seconds, seed=0, spin=True, at_point=watch.at
    )
    gap, lateness = Spread.of_ns(result["gaps"]), Spread.of_ns(result["lateness"])
    growth = watch.points["settled"].resident_kib - watch.points["idle"].resident_kib
    rate = result["strays"] / size.flood_seconds
    return [
        Row(
            f"{rate:.0f} stray requests a second for {size.flood_seconds:.0f} s, {size.few} calls up: packets lost",
            "0",
            f"{result['lost_down']} of {result['sent_down']} down, {result['lost_up']} of {result['sent_up']} up",
            result["lost_down"] == result["lost_up"] == 0,
        ),
        Row("gap between RTP packets sent meanwhile", "", f"{ms(gap)}; {late([lateness])}"),
        Row(
            "CPU for the strays",
            "",
            f"{watch.percent('begin', 'end') - watch.percent('quiet', 'begin'):.0f} % of a core"
            f" ({result['answers']} answered)",
        ),
        Row("memory after, over that before", "<= 5 MB", f"{growth / 1024:+.2f} MiB", growth <= _STRAYS_GROWTH_KIB),
    ]


def resampling(size: Size) -> list[Finding]:
    responses = [filters.measure(source, target) for source, target in filters.RATIOS]
    rejection = min(response.rejection_db for response in responses)
    deviation = max(response.passband_db for response in responses)
    lines = tuple(
        (
            _ratio(response.source, response.target),
            f"{response.band_hz / 1000:.1f} kHz",
            f"{response.passband_db:.2f} dB",
            f"{response.rejection_db:.1f} dB",
            f"{response.delay_ms:.1f} ms",
        )
        for response in responses
    )
    curves = tuple(
        Line(_ratio(*pair), tuple((hertz / 1000, level) for hertz, level in filters.curve(*pair)))
        for pair in filters.RATIOS
    )
    return [
        Row("alias and image rejection in the band, at worst", ">= 60 dB", f"{rejection:.1f} dB", rejection >= 60),
        Row("deviation in the band, at worst", "within 1 dB", f"{deviation:.2f} dB", deviation <= 1),
        Table("Each ratio", ("kHz", "band to", "deviation in it", "rejection", "delay"), lines),
        Chart("resampler", "Frequency response of each ratio", "kHz", "dB", curves, y_range=(-100, 20)),
    ]


def _ratio(source: int, target: int) -> str:
    return f"{source // 1000} -> {target // 1000}"


MEASUREMENTS: dict[str, Callable[[Size], Sequence[Finding]]] = {
    "scaling": scaling,
    "interpreted": interpreted,
    "pacing": pacing,
    "interruption": interruption,
    "latency": latency,
    "tools": tools,
    "processor": processor,
    "endurance": endurance,
    "signalling": signalling,
    "strays": strays,
    "resampling": resampling,
    "quality": quality,
    "providers": providers,
    "handovers": handovers,
    "bridges": bridges,
    "tenants": tenants,
}
