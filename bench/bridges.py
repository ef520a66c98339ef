"""Callers who were connected over the gateway: how many relayed legs one core carries with its pacing as it should be,
and how long what one says takes to the other. All speak all the time, mu-law both ways, through the same jitter buffer,
playout and clock as a call's."""

from __future__ import annotations

import socket
import struct
import subprocess

from bench import machine, rig, sounds
from bench.loop import MS, Loop, now, receive_stamped, stamp_arrivals
from bench.numbers import Spread, delays, gaps, median_spread
from bench.results import Finding, Row, late, ms
from bench.rig import Figures
from bench.size import Size

_HEADER = struct.Struct("!BBHII")
_FRAME = 20 * MS
_SAMPLES = 160
_WARM_S = 2.0
_MARK_EVERY = 25
"""Packets; between the marks of the first two legs there is silence."""
_GOLDEN = 0.618034
_PACING_MS = 5.0


def bridges(size: Size) -> list[Finding]:
    """200 legs are what is asked for; twice as many show what is left."""
    wanted = size.crowd + size.crowd % 2
    return [*_measure(size, wanted, target=True), *_measure(size, 2 * wanted, target=False)]


def _measure(size: Size, legs: int, *, target: bool) -> list[Finding]:
    runs = [_Run(legs, size.seconds) for _ in range(size.runs)]
    delay, error = (median_spread([getattr(run, name) for run in runs]) for name in ("delay", "gap_error"))
    trip, lateness = median_spread([run.trip for run in runs]), [run.lateness for run in runs]
    packets, processor = min(run.packets for run in runs), sorted(run.processor for run in runs)[len(runs) // 2]
    held = delay.p99 < _PACING_MS and error.p99 < _PACING_MS and packets > 49.5
    return [
        Row(
            f"{legs} relayed legs: later than their schedule; error of the gap between packets",
            f"p99 < {_PACING_MS:g} ms each" if target else "",
            f"{ms(delay)}; {ms(error)}; {packets:.1f} packets a second and leg; {late(lateness)}",
            held if target else None,
        ),
        Row(f"the same: from one phone to the other, {runs[0].trip.count} marks", "", ms(trip)),
        Row("the same: CPU", "one core" if target else "", f"{processor:.0f} %", processor < 100 if target else None),
    ]


class _Run:
    """Spreads are in milliseconds."""

    def __init__(self, legs: int, seconds: float) -> None:
        self._loop = Loop(spin=True)
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._sock.bind(("127.0.0.1", 0))
        stamp_arrivals(self._sock)
        self._loop.add_reader(self._sock, self._readable)
        self._marks: dict[int, int] = {}
        self._moments: dict[int, list[int]] = {}
        self._numbers: dict[int, list[int]] = {}
        self._trips: list[int] = []
        self._late: list[int] = []
        gateway_core, our_core = machine.cores()
        host, port = self._sock.getsockname()
        options = {"legs": legs, "host": host, "port": port, "core": gateway_core, "uvloop": True}
        node = rig.Process("bench.relay", options, subprocess.DEVNULL, package=rig.package(rig.compiled()))
        try:
            self._ports: list[int] = node.hear()["ports"]
            self._talk()
            self._loop.run_for(_WARM_S)
            before = self._ask(node)
            self._forget()
            self._loop.run_for(seconds)
            after = self._ask(node)
        finally:
            node.end()
            self._loop.close()
            self._sock.close()
        lasted = after.wall_seconds - before.wall_seconds
        self.processor = 100 * (after.cpu_seconds - before.cpu_seconds) / lasted
        heard = self._moments.values()
        self.packets = min(len(moments) for moments in heard) / seconds if len(self._moments) == legs else 0.0
        self.gap_error = Spread.of_ns(abs(gap - _FRAME) for moments in heard for gap in gaps(moments))
        self.delay = Spread.of_ns(
            late for port in self._moments for late in delays(self._moments[port], self._numbers[port], _FRAME)
        )
        self.trip = Spread.of_ns(self._trips)
        self.lateness = Spread.of_ns(self._late)

    def _ask(self, node: rig.Process) -> Figures:
        node.say("now")
        return Figures(**node.hear())

    def _forget(self) -> None:
        self._moments = {port: [] for port in self._ports}
        self._numbers = {port: [] for port in self._ports}
        self._trips.clear()
        self._late.clear()

    # --- the phones ---------------------------------------------------------------------------------------------------

    def _talk(self) -> None:
        self._forget()
        speech = sounds.mu_law(sounds.tone(sounds.SPEECH_HZ, 20, 8000))
        mark = sounds.mu_law(sounds.tone(sounds.MARK_HZ, 20, 8000))
        silence = sounds.MU_LAW_SILENCE * _SAMPLES
        began = now() + _FRAME
        for index, port in enumerate(self._ports):
            self._send_from(index, port, began + int(index * _GOLDEN * _FRAME) % _FRAME, speech, mark, silence)

    def _send_from(self, index: int, port: int, first: int, speech: bytes, mark: bytes, silence: bytes) -> None:
        number = 0
        partner = self._ports[index ^ 1]

        def send(due: int) -> None:
            nonlocal number
            number += 1
            marked = index < 2 and number % _MARK_EVERY == 0
            payload = speech if index >= 2 else mark if marked else silence
            packet = _HEADER.pack(0x80, 0, number & 0xFFFF, number * _SAMPLES & 0xFFFFFFFF, index + 1) + payload
            moment = now()
            if marked:
                self._marks[partner] = moment
            self._late.append(moment - due)
            self._sock.sendto(packet, ("127.0.0.1", port))
            self._loop.at(due + _FRAME, send)

        self._loop.at(first, send)

    def _readable(self) -> None:
        try:
            packet, moment, source = receive_stamped(self._sock)
        except OSError:
            return
        port = source[1]
        moments = self._moments.get(port)
        if moments is None or packet[0] != 0x80:
            return
        numbers = self._numbers[port]
        number = int.from_bytes(packet[2:4], "big")
        if numbers:
            number = numbers[-1] + ((number - numbers[-1] + 0x8000 & 0xFFFF) - 0x8000)
        moments.append(moment)
        numbers.append(number)
        if port in self._marks:
            onset = sounds.onset_in_mu_law(packet[_HEADER.size :])
            if onset is not None:
                self._trips.append(moment + int(onset * MS) - self._marks.pop(port))
