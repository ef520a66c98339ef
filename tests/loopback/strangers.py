"""What strangers send to the media port of a live call: by kind, without end, from wherever they can.

A stranger who only guesses does not know the call's SSRC. One who listens does; without SRTP nothing then tells him
apart but the address that he sends from, which he may claim to be the phone's, too: on one machine that is simply the
phone's own socket.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Self

from tests.loopback.earpiece import Earpiece
from tests.loopback.srtp import MASTER_LENGTH, Direction

LARGEST = 65_507
"""Octets of payload that UDP can carry."""
EVIL = b"\x2a" * 160
"""Loud, and not what anybody says in these tests."""
_STUN_COOKIE = 0x2112A442


@dataclass(frozen=True)
class Call:
    """What a stranger who listens to a call knows of it."""

    phone: Earpiece

    @property
    def ssrc(self) -> int:
        return self.phone.ssrc

    @property
    def payload_type(self) -> int:
        return self.phone.payload_type

    def may_pretend(self, name: str) -> bool:
        """To be the phone, at its own address, without being taken for it: with SRTP always."""
        return self.phone.protect is not None or name not in KNOWS_TOO_MUCH

    def packet(self, number: int, *, ssrc: int | None = None, first: int = 0x80, payload: bytes = EVIL) -> bytes:
        """RTP as the phone might have sent it; `number` is sequence and time."""
        return (
            struct.pack(
                "!BBHII",
                first,
                self.payload_type,
                number & 0xFFFF,
                160 * number & 0xFFFFFFFF,
                self.ssrc if ssrc is None else ssrc,
            )
            + payload
        )


Attack = Callable[[Call, Random], Iterator[bytes]]


def truncated(call: Call, random: Random) -> Iterator[bytes]:
    """Headers that end too early, or announce more than there is."""
    number = call.phone.sequence
    while True:
        number += 1
        yield call.packet(number)[: random.randrange(12)]
        yield call.packet(number, first=0x8F, payload=bytes(random.randrange(60)))  # 15 CSRCs
        yield call.packet(number, first=0x90, payload=b"\xbe\xde\xff\xff" + EVIL)  # an extension of 256 KiB
        yield call.packet(number, first=0xA0, payload=EVIL + b"\xff")  # padding of 255 octets
        yield call.packet(number, first=0xA0, payload=EVIL + b"\x00")
        yield call.packet(number, first=0x40)  # version 1


def oversized(call: Call, random: Random) -> Iterator[bytes]:
    number = call.phone.sequence
    while True:
        number += 1
        # The largest seldom: five of them together are more than a socket's buffer holds.
        size = LARGEST - 12 if number % 50 == 0 else random.choice((2_049, 4_000, 9_000))
        yield call.packet(number, payload=b"\x2a" * size)


def consistent(call: Call, random: Random) -> Iterator[bytes]:
    """A whole stream of its own, as a phone would begin one."""
    number, ssrc = random.randrange(65536), random.getrandbits(32)
    while True:
        number += 1
        yield call.packet(number, ssrc=ssrc)


def right_ssrc(call: Call, random: Random) -> Iterator[bytes]:
    """The very packets that are due next."""
    while True:
        for ahead in range(1, 6):
            yield call.packet(call.phone.sequence + ahead)


def noise(call: Call, random: Random) -> Iterator[bytes]:
    while True:
        yield random.randbytes(random.randrange(300))


def keys(call: Call, random: Random) -> Iterator[bytes]:
    """Presses, of which none is the caller's."""
    number = 0
    while True:
        number += 1
        event = bytes((random.randrange(16), 0x80 | 10)) + b"\x03\x20"
        yield struct.pack("!BBHII", 0x80, 101, number & 0xFFFF, number // 3 * 800, call.ssrc) + event


def rtcp(call: Call, random: Random) -> Iterator[bytes]:
    """Garbage, reports that cannot be, and the phone's farewell in its name."""
    while True:
        yield struct.pack("!BBHI", 0x81, 203, 1, call.ssrc)
        yield struct.pack("!BBHI", 0x80, 201, 0xFFFF, call.ssrc)
        yield struct.pack("!BBHI", 0x9F, 200, 6, call.ssrc) + random.randbytes(20)
        yield struct.pack("!BBHI", 0x81, 202, 2, call.ssrc) + b"\x01\xffab"
        yield struct.pack("!BBHI", 0x81, 201, 7, call.ssrc) + random.randbytes(24)
        yield bytes((0x80, 192 + random.randrange(32))) + random.randbytes(random.randrange(200))


def stun(call: Call, random: Random) -> Iterator[bytes]:
    while True:
        yield struct.pack("!HHI", 0x0001, 0, _STUN_COOKIE) + random.randbytes(12)
        yield struct.pack("!HHI", 0x0001, 0xFFFC, _STUN_COOKIE) + random.randbytes(200)
        yield struct.pack("!HHI", 0x0101, 8, _STUN_COOKIE) + random.randbytes(20)


def dtls(call: Call, random: Random) -> Iterator[bytes]:
    while True:
        length = (60).to_bytes(3)
        hello = b"\x01" + length + b"\x00\x00" + bytes(3) + length + b"\xfe\xfd" + random.randbytes(58)
        yield b"\x16\xfe\xff" + bytes(8) + len(hello).to_bytes(2) + hello
        yield bytes((random.randrange(20, 64),)) + random.randbytes(random.randrange(300))


def replayed(call: Call, random: Random) -> Iterator[bytes]:
    """The phone's own packets, once more."""
    while True:
        yield random.choice(call.phone.on_the_wire)


def bit_flips(call: Call, random: Random) -> Iterator[bytes]:
    while True:
        twin = bytearray(random.choice(call.phone.on_the_wire))
        twin[random.randrange(len(twin))] ^= 1 << random.randrange(8)
        yield bytes(twin)


def other_key(call: Call, random: Random) -> Iterator[bytes]:
    """What is due next, properly encrypted."""
    direction = Direction(random.randbytes(MASTER_LENGTH))
    for packet in right_ssrc(call, random):
        yield direction.protect(packet)


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack for attack in (truncated, oversized, consistent, right_ssrc, noise, keys, rtcp, stun, dtls)
}
SRTP_ATTACKS = {**ATTACKS, **{attack.__name__: attack for attack in (replayed, bit_flips, other_key)}}
KNOWS_TOO_MUCH = {"right_ssrc", "keys"}
"""Sent from the phone's own address, with its SSRC, these are the phone's as far as anybody can tell without SRTP."""


class Strangers:
    """Sockets that send, and are answered or not. Use as a context manager."""

    def __init__(self, hosts: Sequence[str] = ("127.0.0.1", "127.0.0.66")) -> None:
        self.sent: Counter[str] = Counter()
        self._sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in hosts]
        for sock, host in zip(self._sockets, hosts, strict=True):
            sock.bind((host, 0))
            sock.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._sockets:
            sock.close()

    def answers(self) -> list[bytes]:
        """What has come so far."""
        found = []
        for sock in self._sockets:
            with suppress(BlockingIOError):
                while True:
                    found.append(sock.recv(2048))
        return found

    async def flood(self, call: Call, names: Sequence[str], *, seconds: float, seen: Callable[[], int]) -> None:
        """A thousand packets a second, 5 ms of them at a time, in turn by kind and by where they come from: strangers'
        ports and, where that can be told from the phone, the phone's own. RTCP goes to both ports of the call.

        `seen`: how many have arrived. On a machine that lags behind it becomes fewer, or the kernel would drop some,
        the phone's among them."""
        loop = asyncio.get_running_loop()
        streams = {name: SRTP_ATTACKS[name](call, Random(f"{name} {seconds}")) for name in names}
        due, end, turn = loop.time(), loop.time() + seconds, 0
        while due < end:
            for _ in range(5 if turn - seen() < 50 else 0):
                name = names[turn % len(names)]
                self._send(call, name, next(streams[name]), turn // len(names))
                turn += 1
            due += 0.005
            waiting: asyncio.Future[None] = loop.create_future()
            loop.call_at(due, waiting.set_result, None)
            await waiting

    def _send(self, call: Call, name: str, data: bytes, turn: int) -> None:
        assert call.phone.remote is not None
        host, port = call.phone.remote
        ways = len(self._sockets) + call.may_pretend(name)
        way = turn % ways
        if way == len(self._sockets):
            call.phone.send_raw(data or b"\0")
        else:
            control = name == "rtcp" and turn // ways % 2
            self._sockets[way].sendto(data, (host, port + control))
        self.sent[name] += 1
