"""The phone's sound: RTP packed and read by hand.

It speaks every 20 ms once it is connected, silence when it has nothing to say, and keeps every packet that it is sent
with the time it came.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

from tests.loopback.sound import LAWS, Samples, join, level_db, share_of_tone
from tests.loopback.waiting import Watched

Address = tuple[str, int]
_HEADER = struct.Struct("!BBHII")
FRAME = 160
"""Samples, and octets of G.711, in a packet of 20 ms."""


@dataclass(frozen=True)
class Packet:
    at: float
    source: Address
    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes

    @classmethod
    def parse(cls, data: bytes, source: Address) -> Self:
        first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
        assert first == 0x80, "version 2, no padding, no extension, no CSRC"
        return cls(
            time.monotonic(), source, second & 0x7F, second > 0x7F, sequence, timestamp, ssrc, data[_HEADER.size :]
        )

    @property
    def samples(self) -> Samples:
        return LAWS[self.payload_type].decode(self.payload)


class Earpiece(Watched, asyncio.DatagramProtocol):
    def __init__(self) -> None:
        super().__init__()
        self.packets: list[Packet] = []
        self.remote: Address | None = None
        self.payload_type = 0
        self.sequence = 65_500
        """Soon to wrap."""
        self.timestamp = 2**32 - 8000
        self.ssrc = 0x1234_5678
        self.protect: Callable[[bytes], bytes] | None = None
        """SRTP, both ways, where there are keys."""
        self.unprotect: Callable[[bytes], bytes] | None = None
        self.on_the_wire: deque[bytes] = deque(maxlen=100)
        """The last that was sent."""
        self._to_say: deque[bytes] = deque()
        self._speaking = False
        self._clock: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._transport: asyncio.DatagramTransport

    @classmethod
    async def open(cls, host: str = "127.0.0.1") -> Self:
        loop = asyncio.get_running_loop()
        transport, earpiece = await loop.create_datagram_endpoint(cls, local_addr=(host, 0))
        earpiece._transport = transport
        return earpiece

    def close(self) -> None:
        self.hush()
        self._transport.close()

    @property
    def address(self) -> Address:
        host, port = self._transport.get_extra_info("sockname")[:2]
        return host, port

    # --- hearing ------------------------------------------------------------------------------------------------------

    def datagram_received(self, data: bytes, addr: Address) -> None:
        clear = data if self.unprotect is None else self.unprotect(data)
        self.packets.append(Packet.parse(clear, addr))
        self.changed()

    async def hear(self, count: int = 1, *, within: float = 3.0) -> list[Packet]:
        """The next so many packets, from now on."""
        start = len(self.packets)
        await self.until(lambda: len(self.packets) >= start + count, within=within)
        return self.packets[start : start + count]

    async def hear_sound(self, count: int = 1, *, within: float = 3.0, hz: float | None = None) -> list[Packet]:
        """The next so many packets that are not silent (and are of this tone), from now on."""
        start = len(self.packets)

        def loud() -> list[Packet]:
            return [packet for packet in self.audio(start) if is_loud(packet, hz)]

        await self.until(lambda: len(loud()) >= count, within=within)
        return loud()[:count]

    def audio(self, start: int = 0) -> Iterator[Packet]:
        return (packet for packet in self.packets[start:] if packet.payload_type in LAWS)

    def sound(self, start: int = 0) -> Samples:
        """Everything heard, as one signal."""
        return join([packet.samples for packet in self.audio(start)])

    # --- speaking -----------------------------------------------------------------------------------------------------

    def connect(self, remote: Address, payload_type: int | None = None) -> None:
        """Send there from now on."""
        self.remote = remote
        if payload_type is not None:
            self.payload_type = payload_type
        if self._clock is None:
            self._due = asyncio.get_running_loop().time()
            self._tick()

    def hush(self) -> None:
        """Send nothing more."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def say(self, samples: Samples) -> None:
        """As soon as what was to be said before is over."""
        self.say_octets(LAWS[self.payload_type].encode(samples))

    def say_octets(self, data: bytes) -> None:
        """The same, encoded."""
        self._to_say.extend(data[i : i + FRAME] for i in range(0, len(data) - FRAME + 1, FRAME))

    async def said(self, *, within: float = 5.0) -> None:
        """All of it has been sent."""
        await self.until(lambda: not self._to_say, within=within)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while self._due <= loop.time():
            self._due += 0.02
            payload = self._to_say.popleft() if self._to_say else LAWS[self.payload_type].silence
            self.send(payload)
        self._clock = loop.call_at(self._due, self._tick)
        self.changed()

    def send(self, payload: bytes, *, payload_type: int | None = None, marker: bool = False) -> None:
        """One packet, now; the stream's numbers go on."""
        kind = self.payload_type if payload_type is None else payload_type
        self._send(self.packet(payload, kind, marker, self.sequence, self.timestamp, self.ssrc))
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.timestamp = (self.timestamp + FRAME) & 0xFFFF_FFFF

    def _send(self, packet: bytes) -> None:
        data = packet if self.protect is None else self.protect(packet)
        self.on_the_wire.append(data)
        self.send_raw(data)

    def send_raw(self, data: bytes) -> None:
        assert self.remote is not None
        self._transport.sendto(data, self.remote)

    @staticmethod
    def packet(payload: bytes, payload_type: int, marker: bool, sequence: int, timestamp: int, ssrc: int) -> bytes:
        return _HEADER.pack(0x80, payload_type | (0x80 if marker else 0), sequence, timestamp, ssrc) + payload

    def press(self, digit: str, *, payload_type: int = 101) -> None:
        """A key for 100 ms (RFC 4733): five updates of one event, its end three times. Audio pauses meanwhile."""
        event = "0123456789*#ABCD".index(digit)
        began = self.timestamp
        for number in range(8):
            end = 0x80 if number >= 5 else 0
            payload = struct.pack("!BBH", event, end | 10, FRAME * min(number + 1, 5))
            data = self.packet(payload, payload_type, number == 0, self.sequence, began, self.ssrc)
            self._send(data)
            self.sequence = (self.sequence + 1) & 0xFFFF
        self.timestamp = (self.timestamp + 5 * FRAME) & 0xFFFF_FFFF


def is_loud(packet: Packet, hz: float | None = None) -> bool:
    """Not silent, and mostly this tone (it may begin, end or fade in it)."""
    samples = packet.samples
    return level_db(samples) > -45 and (hz is None or share_of_tone(samples, hz) > 0.5)
