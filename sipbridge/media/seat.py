"""A leg with its two sockets, at its place on the clock: what it says leaves here, and what comes for it is read."""

from __future__ import annotations

from sipbridge.media.clock import TICK_SECONDS, Place
from sipbridge.media.events import MediaEvent
from sipbridge.media.leg import Leg
from sipbridge.media.params import MediaParams
from sipbridge.media.ports import LocalPort
from sipbridge.media.sockets import MediaSockets, receive, send


class Seat(Place):
    __slots__ = ("__weakref__", "busy_at", "leg", "local_port", "open", "rtp", "sockets")

    def __init__(self, leg: Leg, local_port: LocalPort, sockets: MediaSockets) -> None:
        super().__init__(_period(leg.params))
        self.leg = leg
        self.local_port = local_port
        self.sockets = sockets
        self.rtp = sockets.rtp
        self.busy_at = -1
        """The tick at which there was RTP to read last."""
        self.open = True

    def update(self, params: MediaParams, now: float) -> None:
        """After a new offer and answer."""
        self.leg.update(params, now)
        self.period = _period(params)

    def send(self, now: float, late: float, events: list[MediaEvent]) -> None:
        """The next packet, which was due `late` seconds before."""
        leg = self.leg
        if late > leg.late_max:
            leg.late_max = late
        packet, target = leg.next_packet(now, late), leg.latch.target
        if packet is None or target is None:
            return
        try:
            if packet:
                self.rtp.sendto(packet, target)
        except OSError:
            leg.send_errors += 1  # a full buffer, no route, ICMP: the packet is lost, as it would be on the way
        leg.sent(events)

    def send_rtcp(self, data: bytes | None) -> None:
        """A report, or the last word; None: there is none."""
        rtcp = self.leg.rtcp
        target = rtcp.target
        data = None if data is None else self.leg.protect_rtcp(data)
        if data is None or target is None:
            return
        self.leg.send_errors += not send(self.rtp if rtcp.muxed else self.sockets.rtcp, data, target)

    def read(self, limit: int, now: float, events: list[MediaEvent]) -> int:
        """What came to the RTP port, no more than `limit` datagrams; returns how many there were."""
        for count in range(limit):
            datagram = receive(self.rtp)
            if datagram is None:
                return count
            self.leg.receive(datagram[0], datagram[1], now, events)
        return limit

    def read_rtcp(self, limit: int, now: float) -> int:
        """Likewise from the RTCP port."""
        for count in range(limit):
            datagram = receive(self.sockets.rtcp)
            if datagram is None:
                return count
            self.leg.receive_rtcp(*datagram, now)
        return limit

    def shake_hands(self) -> None:
        """Send what DTLS has to say."""
        for datagram, target in self.leg.handshake():
            self.leg.send_errors += not send(self.rtp, datagram, target)


def _period(params: MediaParams) -> int:
    return max(1, round(params.ptime_ms / 1000 / TICK_SECONDS))
