"""Telephones, as light as they can be made: each call is a few lines of SIP, and all their sound goes over one socket.

To the gateway they are as many phones behind one address: it has a port of its own for each call, by which the streams
are told apart here. They are no test of SIP: answers are believed, and what was lost is not sent again (on loopback
nothing is).
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from bench.loop import MS, Loop, now, receive_stamped, stamp_arrivals
from bench.sounds import MU_LAW_SILENCE

Address = tuple[str, int]
_HEADER = struct.Struct("!BBHII")
_FRAME = 20 * MS
SAMPLES = 160


@dataclass(frozen=True, slots=True)
class Format:
    """What a phone offers and sends."""

    payload_type: int = 0
    rtpmap: str = "PCMU/8000"
    ticks: int = SAMPLES
    """Of the RTP clock, in 20 ms."""


PCMU = Format()


class Call:
    """One call, from `dial` to `hang_up`. Moments are in nanoseconds."""

    def __init__(self, phones: Phones, name: str, user: str, copies: int, format_: Format) -> None:
        self.id = f"{name}@127.0.0.1"
        self.dialled_at = now()
        self.answered_at = 0
        self.ended_at = 0
        self.failure = ""
        self.tags: set[str] = set()
        """Far ends that answered: more than one would be more than one call."""
        self.on_answer: Callable[[Call], None] = lambda call: None
        self.on_end: Callable[[Call], None] = lambda call: None
        self.on_packet: Callable[[bytes, int], None] | None = None
        """Given each RTP packet and the moment it arrived."""
        self.next_payload: Callable[[], bytes] = lambda: MU_LAW_SILENCE * SAMPLES
        self.arrived_at: list[int] = []
        """When each RTP packet came, where `Phones.keep_moments`."""
        self.numbers: list[int] = []
        """Their sequence numbers, counted on past 65535."""
        self.packets = 0
        self.first_sequence = 0
        self.last_sequence = 0
        """Of the RTP packets that came, counted on past 65535."""
        self.sequence = 0
        """How many RTP packets were sent."""
        self._phones = phones
        self._format = format_
        self._name = name
        self._target = f"sip:{user}@{phones.gateway[0]}:{phones.gateway[1]}"
        self._to = f"<{self._target}>"
        self._far_rtp: Address = ("", 0)
        self._ssrc = len(phones.calls) + 1
        self._talking = False
        invite = self._request("INVITE", 1, self._offer())
        for _ in range(copies):
            phones.send(invite)

    def _request(self, method: str, number: int, body: str = "") -> str:
        port = self._phones.port
        branch = f"z9hG4bK{self._name}{number}{'a' if method == 'ACK' else ''}"
        lines = [
            f"{method} {self._target} SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:{port};branch={branch};rport",
            "Max-Forwards: 70",
            f"From: <sip:bench@127.0.0.1:{port}>;tag={self._name}",
            f"To: {self._to}",
            f"Call-ID: {self.id}",
            f"CSeq: {number} {method}",
            f"Contact: <sip:bench@127.0.0.1:{port}>",
            *(["Content-Type: application/sdp"] if body else []),
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join([*lines, "", body])

    def _offer(self) -> str:
        lines = [
            "v=0",
            "o=bench 1 1 IN IP4 127.0.0.1",
            "s=-",
            "c=IN IP4 127.0.0.1",
            "t=0 0",
            f"m=audio {self._phones.rtp_port} RTP/AVP {self._format.payload_type} 101",
            f"a=rtpmap:{self._format.payload_type} {self._format.rtpmap}",
            "a=rtpmap:101 telephone-event/8000",
            "a=ptime:20",
            "a=sendrecv",
        ]
        return "\r\n".join([*lines, ""])

    # --- signalling ---------------------------------------------------------------------------------------------------

    def response(self, status: int, method: str, text: str, arrived: int) -> None:
        if method == "BYE":
            self._end(arrived)
        elif method == "INVITE" and 200 <= status < 300:
            self._answered(text, arrived)
        elif method == "INVITE" and status >= 300:
            self._phones.send(self._request("ACK", 1))
            self.failure = f"refused with {status}"
            self._end(arrived)

    def _answered(self, text: str, arrived: int) -> None:
        to = _field(text, "To")
        self.tags.add(to.partition("tag=")[2])
        if self.answered_at:  # a repeated 200
            self._phones.send(self._request("ACK", 1))
            return
        self.answered_at = arrived
        self._to = to
        contact = re.search(r"<([^>]+)>", _field(text, "Contact"))
        media = re.search(r"^m=audio (\d+) ", text, re.MULTILINE)
        assert contact is not None
        assert media is not None
        self._target = contact[1]
        self._phones.send(self._request("ACK", 1))
        self._far_rtp = ("127.0.0.1", int(media[1]))
        self._phones.listeners[self._far_rtp[1]] = self
        self._talking = True
        self.on_answer(self)

    def hang_up(self) -> None:
        self._talking = False
        self._phones.send(self._request("BYE", 2))

    def ended_by_gateway(self, text: str) -> None:
        self.failure = f"hung up by the gateway: {_field(text, 'Reason')}"
        self._end(now())

    def _end(self, moment: int) -> None:
        if self.ended_at:
            return
        self.ended_at = moment
        self._talking = False
        if self._phones.listeners.get(self._far_rtp[1]) is self:
            del self._phones.listeners[self._far_rtp[1]]
        self.on_end(self)

    # --- sound --------------------------------------------------------------------------------------------------------

    def talk(self, phase: int) -> None:
        """Send a packet every 20 ms from now on, `phase` nanoseconds into the 20 ms of the clock."""
        first = now() // _FRAME * _FRAME + phase % _FRAME
        self._phones.loop.at(first + _FRAME, self._send)

    def _send(self, due: int) -> None:
        if not self._talking:
            return
        self.sequence += 1
        self.send_payload(self.sequence, self.next_payload(), due)
        self._phones.loop.at(due + _FRAME, self._send)

    def send_payload(self, number: int, payload: bytes, due: int) -> None:
        """One packet, that was due then; its number says its place in the stream."""
        if not self._talking:
            return
        format_ = self._format
        timestamp = number * format_.ticks & 0xFFFFFFFF
        packet = _HEADER.pack(0x80, format_.payload_type, number & 0xFFFF, timestamp, self._ssrc) + payload
        moment = now()
        try:
            self._phones.rtp.sendto(packet, self._far_rtp)
        except OSError:
            self._phones.send_errors += 1
        if self._phones.keep_moments:
            self._phones.lateness.append(moment - due)

    def receive(self, packet: bytes, moment: int) -> None:
        self._count(int.from_bytes(packet[2:4], "big"))
        if self._phones.keep_moments:
            self.arrived_at.append(moment)
            self.numbers.append(self.last_sequence)
        if self.on_packet is not None:
            self.on_packet(packet, moment)

    def _count(self, number: int) -> None:
        if not self.packets:
            self.first_sequence = self.last_sequence = number
        else:
            self.last_sequence += (number - self.last_sequence + 0x8000 & 0xFFFF) - 0x8000
        self.packets += 1


class Phones:
    """All calls: their signalling on one socket, their sound on another."""

    def __init__(self, loop: Loop, gateway: Address) -> None:
        self.loop = loop
        self.gateway = gateway
        self.keep_moments = False
        self.lateness: list[int] = []
        """How late each RTP packet was sent: the generator's own error."""
        self.send_errors = 0
        self.calls: dict[str, Call] = {}
        self.listeners: dict[int, Call] = {}
        """By the port that the gateway has for them."""
        self.rtp, self._rtcp = _rtp_sockets()
        self.rtp_port: int = self.rtp.getsockname()[1]
        loop.add_reader(self.rtp, self._rtp_readable)
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._sock.setblocking(False)
        self._sock.bind(("127.0.0.1", 0))
        stamp_arrivals(self._sock)
        self._sock.connect(gateway)
        self.port: int = self._sock.getsockname()[1]
        loop.add_reader(self._sock, self._readable)

    def dial(self, user: str, *, copies: int = 1, format_: Format = PCMU) -> Call:
        """Every copy of the INVITE is the same datagram, as a retransmission is."""
        call = Call(self, f"{now():x}", user, copies, format_)
        self.calls[call.id] = call
        return call

    def send(self, message: str) -> None:
        self._sock.send(message.encode())

    def _rtp_readable(self) -> None:
        try:
            packet, moment, source = receive_stamped(self.rtp)
        except OSError:
            return
        call = self.listeners.get(source[1])
        if call is not None:
            call.receive(packet, moment)

    def _readable(self) -> None:
        try:
            data, moment, _ = receive_stamped(self._sock, 8192)
        except OSError:
            return
        text = data.decode()
        call = self.calls.get(_field(text, "Call-ID"))
        if call is None:
            return
        if text.startswith("SIP/2.0 "):
            call.response(int(text[8:11]), _field(text, "CSeq").partition(" ")[2], text, moment)
        elif text.startswith("BYE "):
            head = text.partition("\r\n\r\n")[0].split("\r\n")
            kept = [line for line in head if line.startswith(("Via:", "From:", "To:", "Call-ID:", "CSeq:"))]
            self.send("\r\n".join(["SIP/2.0 200 OK", *kept, "Content-Length: 0", "", ""]))
            call.ended_by_gateway(text)


def _rtp_sockets() -> tuple[socket.socket, socket.socket]:
    """RTP on an even port, and RTCP on the next, which nobody reads: there only so that nothing comes back from it."""
    while True:
        rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        rtp.setblocking(False)
        rtp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        rtp.bind(("127.0.0.1", 0))
        port: int = rtp.getsockname()[1]
        rtcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with suppress(OSError):
            if port % 2 == 0:
                rtcp.bind(("127.0.0.1", port + 1))
                stamp_arrivals(rtp)
                return rtp, rtcp
        rtp.close()
        rtcp.close()


def _field(text: str, name: str) -> str:
    start = text.find(f"\r\n{name}: ")
    if start < 0:
        return ""
    start += len(name) + 4
    return text[start : text.index("\r\n", start)]
