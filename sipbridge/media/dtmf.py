"""Keys as telephone events in RTP (RFC 4733): one report per press in, one run of packets per press out.

All packets of one press carry the timestamp of its beginning; that is what tells presses apart. Tones in the audio are
not looked for here.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass

from sipbridge.media.rtp import timestamp_difference

KEYS = "0123456789*#ABCD"
"""The key at each event code (RFC 4733 table 3)."""

_EVENT = struct.Struct("!BBH")  # event | E R volume | duration
_END = 0x80
_MAX_DURATION = 0xFFFF
_END_PACKETS = 3  # §2.5.1.4: the last packet is sent three times


class KeyReceiver:
    """Makes one report of each press out of the packets of one source. Call `reset` when the source changes.

    A press is reported by whichever of its packets comes first, so at once, and also where its beginning or its end was
    lost. Copies, late packets and the segments of a very long press (§2.5.1.3) are recognised and report nothing.
    """

    def __init__(self) -> None:
        self.ignored = 0
        """Packets that are too short, or events that are no keys (flash, tones of modems)."""
        self.ticks_per_unit = 1.0
        """Of the stream's timestamps, in one unit of the events' durations: more than 1 where the events have a slower
        clock than the codec (telephone-event/8000 beside Opus)."""
        self.reset()

    def reset(self) -> None:
        self._recent: deque[tuple[int, int]] = deque(maxlen=8)  # (timestamp, event) of what has been reported
        self._timestamp = 0
        self._event: int | None = None
        self._duration = 0
        self._ended = False

    def feed(self, payload: bytes, timestamp: int, marker: bool) -> str | None:
        """The key, at the first packet of each press; None for all others. Takes any bytes.

        Only the first event of a packet is read: keys that follow each other within one packet are not sent by phones.
        """
        if len(payload) < _EVENT.size:
            self.ignored += 1
            return None
        event, flags, duration = _EVENT.unpack_from(payload)
        if event >= len(KEYS):
            self.ignored += 1
            return None
        ends = bool(flags & _END)
        if event == self._event and timestamp == self._timestamp:
            self._duration = max(self._duration, duration)
            self._ended = self._ended or ends
            return None
        if (timestamp, event) in self._recent:
            return None
        continued = self._continues(event, timestamp, marker, ends)
        self._recent.append((timestamp, event))
        self._event, self._timestamp, self._duration, self._ended = event, timestamp, duration, ends
        return None if continued else KEYS[event]

    def _continues(self, event: int, timestamp: int, marker: bool, ends: bool) -> bool:
        """Whether a new timestamp goes on with the press at hand.

        §2.5.1.3: a long press goes on in a new segment exactly where the last one ended, without marker. Some senders,
        against the RFC, also let the timestamp run on during a press. Both begin no later than the press has lasted so
        far, which a second press of the same key can not.
        """
        if event != self._event or marker or (self._ended and not ends):
            return False
        return 0 < timestamp_difference(timestamp, self._timestamp) <= self._duration * self.ticks_per_unit


def press_seconds(ptime_ms: int = 20) -> float:
    """How long one press of `key_packets` takes, with the gap behind it."""
    return len(key_packets("0", ptime_ms=ptime_ms)) * ptime_ms / 1000


@dataclass(frozen=True, slots=True)
class KeyPacket:
    """One packet of a press; its timestamp is that of the first."""

    payload: bytes
    marker: bool


def key_packets(
    key: str, *, duration_ms: int = 100, gap_ms: int = 60, ptime_ms: int = 20, clock_rate: int = 8000, volume: int = 10
) -> tuple[KeyPacket | None, ...]:
    """What to send in place of audio in the next packet times, one entry each, to press `key` once.

    None stands for a packet of silence: the gap that keeps two presses apart. While events are sent the audio's stream
    time goes on, so the timestamp moves by one ptime for each entry. `volume` is the tone's level in -dBm0. Raises
    ValueError if `key` is no key.
    """
    event = KEYS.find(key.upper()) if len(key) == 1 else -1
    if event < 0:
        raise ValueError(f"{key!r} is no key of a phone")
    tick = clock_rate * ptime_ms // 1000
    steps = max(2, -(-duration_ms // ptime_ms))
    level = max(0, min(volume, 63))
    durations = [min(step * tick, _MAX_DURATION) for step in range(1, steps + 1)]
    pressed = [KeyPacket(_EVENT.pack(event, level, duration), duration == tick) for duration in durations[:-1]]
    released = [KeyPacket(_EVENT.pack(event, level | _END, durations[-1]), False)] * _END_PACKETS
    return (*pressed, *released, *(None,) * -(-gap_ms // ptime_ms))
