"""Puts the packets of one source back in order and says what is missing between them, for a reader of a stream.

A model reads a stream, not a clock, so there is no playout buffer: what comes in order goes on at once. Where packets
are missing it waits for as long as two last (40 ms at 20 ms each), then goes on without them. Stream time is the RTP
timestamp: where it jumps (loss, DTX, telephone events, hold) a `Gap` says by how much, so that the reader's time does
not stand still. Payloads stay as they came: decoding is for the reader, who sees them in order.

Sequence numbers are followed across the wrap as in RFC 3550 appendix A.1: a wild number alone is not believed, two in
sequence are a source that began anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

_MAX_DROPOUT = 3000
_MAX_MISORDER = 100
_WAIT_PACKETS = 2
_MAX_WAIT_SECONDS = 0.12  # what two of the longest packets that are agreed on last
_MIN_WAIT_SECONDS = 0.02
_TOLERANCE = 0.0005  # the clock that asks has a grain
_MAX_HELD = 16  # whoever sends more in that time is not waited for
# Further than this the timestamp did not jump, it began anew: nobody leaves a call silent for so long without a packet.
_MAX_GAP_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Gap:
    """Stream time for which there is no audio. `lost` packets should have been there; 0: the sender left it out. Always
    followed by the audio that comes after it."""

    ticks: int
    lost: int


@dataclass(frozen=True, slots=True)
class Aside:
    """A packet that is no audio but has something to say about it (comfort noise), in its place in the sequence."""

    payload: bytes


Chunk: TypeAlias = bytes | Gap | Aside
_Held: TypeAlias = tuple[int, bytes, int, float]  # timestamp, payload, ticks, arrival


class JitterBuffer:
    """One source's packets; call `restart()` when the source changes.

    `add` and then `pop` for each packet, and `pop` now and then without one, so that a wait can end. Counters are
    cumulative over restarts.
    """

    def __init__(self, clock_rate: int) -> None:
        self.lost = 0
        """Packets given up on. One that comes later than that counts as late, too."""
        self.bursts = 0
        """How many rows of such packets there were."""
        self.late = 0
        self.duplicate = 0
        self.reordered = 0
        """Packets that came after their successor, yet in time."""
        self.restarts = 0
        self._held: dict[int, _Held] = {}
        self._ready: list[Chunk] = []
        self.restart(clock_rate)

    def restart(self, clock_rate: int | None = None) -> None:
        """The next packet is the first of a new source: with what was before it has no order and no time in common."""
        if clock_rate is not None:
            self._clock_rate = clock_rate
            self._max_gap = clock_rate * _MAX_GAP_SECONDS
            self.packet_ticks = clock_rate // 50  # how long the last audio packet was
        self._started = False
        self._next = 0  # extended sequence number: does not wrap
        self._timestamp = 0  # where the next packet's audio should begin
        self._delivered = 0  # one bit for each of the last numbers before _next that did come
        self._missing = 0  # packets given up on since the last audio
        self._wild: int | None = None  # the sequence number that would make a restart
        self._held.clear()

    def add(self, sequence_number: int, timestamp: int, payload: bytes, ticks: int, now: float) -> None:
        """A packet. `ticks` is how long its audio lasts; 0 for one that is no audio and only holds its place in the
        sequence (telephone event, comfort noise): it comes out as an `Aside` if it has a payload. `now` is what the
        wait for its forerunners is counted from: its arrival, or when it was due, where it came early."""
        offset = ((sequence_number - self._next + 0x8000) & 0xFFFF) - 0x8000
        if offset == 0 and self._started and not self._held:
            self._deliver(timestamp, payload, ticks)
            return
        if not self._started:
            self._start(sequence_number, timestamp)
            offset = 0
        elif not -_MAX_MISORDER <= offset < _MAX_DROPOUT:
            if sequence_number != self._wild:
                self._wild = (sequence_number + 1) & 0xFFFF
                return
            self.restart()
            self.restarts += 1
            self._start(sequence_number, timestamp)
            offset = 0
        if offset < 0:
            self._add_old(-offset)
            return
        number = self._next + offset
        if number in self._held:
            self.duplicate += 1
            return
        if self._held and number < max(self._held):
            self.reordered += 1
        self._held[number] = (timestamp, payload, ticks, now)
        self._release()
        while len(self._held) > _MAX_HELD:
            self._give_up()

    def pop(self, now: float) -> Sequence[Chunk]:
        """What follows in the stream: audio and gaps, in order; empty while there is nothing, or something is waited
        for."""
        while self._held and now - min(held[3] for held in self._held.values()) >= self._max_wait:
            self._give_up()
        if not self._ready:
            return ()
        ready, self._ready = self._ready, []
        return ready

    @property
    def _max_wait(self) -> float:
        wait = _WAIT_PACKETS * self.packet_ticks / self._clock_rate
        return max(_MIN_WAIT_SECONDS, min(wait, _MAX_WAIT_SECONDS)) - _TOLERANCE

    def _start(self, sequence_number: int, timestamp: int) -> None:
        self._started = True
        self._next = sequence_number
        self._timestamp = timestamp

    def _add_old(self, distance: int) -> None:
        bit = 1 << (distance - 1)
        if self._delivered & bit:
            self.duplicate += 1
        else:
            self._delivered |= bit
            self.late += 1

    def _give_up(self) -> None:
        """Go on at the first packet that is there."""
        first = min(self._held)
        lost = first - self._next
        self.lost += lost
        self.bursts += 1 if lost else 0
        self._missing += lost
        self._delivered = (self._delivered << lost) & ((1 << _MAX_MISORDER) - 1)
        self._next = first
        self._release()

    def _release(self) -> None:
        while (held := self._held.pop(self._next, None)) is not None:
            self._deliver(held[0], held[1], held[2])

    def _deliver(self, timestamp: int, payload: bytes, ticks: int) -> None:
        self._next += 1
        self._wild = None
        self._delivered = (self._delivered << 1 | 1) & ((1 << _MAX_MISORDER) - 1)
        if not ticks:  # the gap up to the next audio will cover it
            if payload:
                self._ready.append(Aside(payload))
            return
        if timestamp != self._timestamp:
            gap = ((timestamp - self._timestamp + 0x80000000) & 0xFFFFFFFF) - 0x80000000
            if 0 < gap <= self._max_gap:
                self._ready.append(Gap(gap, self._missing))
        self._ready.append(payload)
        self._timestamp = (timestamp + ticks) & 0xFFFFFFFF
        self.packet_ticks = ticks
        self._missing = 0
