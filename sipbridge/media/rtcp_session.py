"""RTCP of one leg: when we report and what, and what the far end says of our stream (RFC 3550 §6).

Two members share the control bandwidth, so the shortest interval of the RFC always holds: 5 s, half of that before the
first report, times 0.5 to 1.5 by chance, with reconsideration (§6.2, §6.3, appendix A.7). Every datagram is a compound
packet: SR where we have sent lately, else RR; then SDES with the CNAME.

The round trip is the RFC's, from LSR and DLSR; what makes it wrong in life is taken care of. Our NTP time is the wall
clock's at the start and runs on by the steady clock, so that a clock that is set does not become a delay; a block whose
LSR we never sent or whose round trip cannot be is counted and left out; what is told is the median of the last five.

Whether the sender of a datagram is to be believed is decided before (`rtcp_channel`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from sipbridge.errors import RtpError
from sipbridge.media import rtcp
from sipbridge.media.rtcp import Bye, ReceiverReport, ReportBlock, RtcpPacket, SenderReport, SourceDescription
from sipbridge.media.rtp import JitterEstimator, SequenceTracker

INTERVAL_SECONDS = 5.0
_COMPENSATION = 2.718281828 - 1.5  # RFC 3550 §6.3.1: what reconsideration takes off the mean
_NTP_EPOCH = 2_208_988_800  # 1900 to 1970
_MAX_ROUND_TRIP_SECONDS = 4.0  # nobody holds a conversation over more; what says more has been set meanwhile
_ROUNDING_SECONDS = 0.005  # by which a round trip may come out below zero
_REMEMBERED_REPORTS = 8
_MAX_JITTER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Sent:
    """Our stream so far."""

    packets: int
    octets: int
    """Of their payload."""
    rtp_timestamp: int
    """Of the packet that is due now."""


@dataclass(slots=True)
class Reception:
    """What report blocks are made of: one source, from its first packet on."""

    ssrc: int
    tracker: SequenceTracker
    estimator: JitterEstimator


class RtcpSession:
    def __init__(
        self,
        ssrc: int,
        cname: bytes,
        now: float,
        *,
        clock_rate: int,
        wall_time: float,
        chance: Callable[[], float],
    ) -> None:
        """`ssrc` is ours. `cname` is made anew for each call (RFC 7022 §4.2). `wall_time` is the time since 1970 at
        `now`. `chance()` gives a number from 0 to 1."""
        self.clock_rate = clock_rate
        """Of what we send."""
        self.sent = 0
        """Datagrams; likewise `received`."""
        self.received = 0
        self.malformed = 0
        self.implausible = 0
        """Blocks about us whose round trip or jitter cannot be, and packets with our own SSRC."""
        self.byes = 0
        self.blocks = 0
        """About our stream, believed."""
        self.silent_at: float | None = None
        """When the far end last said that it is there and sends nothing."""
        self._ssrc = ssrc
        self._cname = cname
        self._description = SourceDescription(((ssrc, ((rtcp.CNAME, cname),)),))
        self._wall_offset = wall_time - now + _NTP_EPOCH
        self._chance = chance
        self._initial = True
        self._last = now
        self.due_at = now + self._interval()
        """When `report` is to be called."""
        self._sent_ntp: deque[int] = deque(maxlen=_REMEMBERED_REPORTS)  # the middle bits of our sender reports
        self._counted_before = (0, 0)  # packets and octets that were sent under another SSRC
        self._packets_before: tuple[int, int] = (0, 0)  # sent at the last report, and at the one before
        self._peer_sr: tuple[int, int, float] | None = None  # SSRC, middle bits of its NTP time, when it came
        self._peer_packets: int | None = None
        self._reported: tuple[int, int] | None = None  # SSRC and packets at the last report about it
        self.forget()

    def forget(self) -> None:
        """What the far end has said of us so far: somebody else is there now."""
        self.remote_lost: int | None = None
        """Of our packets, as the far end counts; None until it has said so."""
        self.remote_fraction = 0.0
        """Of the packets since its report before."""
        self.remote_jitter_ms: float | None = None
        self.remote_jitter_max_ms: float | None = None
        self._round_trips: deque[float] = deque(maxlen=5)

    def renew(self, ssrc: int, sent: Sent) -> None:
        """Our stream goes on under another SSRC, as one of its own: its counts begin anew (§6.4.1), and what was said
        of it before is about another."""
        self._ssrc = ssrc
        self._counted_before = (sent.packets, sent.octets)
        self._description = SourceDescription(((ssrc, ((rtcp.CNAME, self._cname),)),))
        self.forget()

    # --- what we say --------------------------------------------------------------------------------------------------

    def _interval(self) -> float:
        shortest = INTERVAL_SECONDS / 2 if self._initial else INTERVAL_SECONDS
        return shortest * (0.5 + self._chance()) / _COMPENSATION

    def report(self, now: float, sent: Sent, heard: Reception | None) -> bytes | None:
        """Our report, where its time has come. None: not yet after all, ask again at `due_at`."""
        due_at = self._last + self._interval()
        if now < due_at:  # §6.3.6: the interval is drawn again when it is over
            self.due_at = due_at
            return None
        self._last = now
        self._initial = False
        self.due_at = now + self._interval()
        self.sent += 1
        return rtcp.serialize((self._make_report(now, sent, heard), self._description))

    def bye(self, now: float, sent: Sent, heard: Reception | None, reason: bytes = b"") -> bytes | None:
        """The last report, and the end of our stream (§6.6). None where nothing was ever sent: then there is nobody to
        whom it would be news (§6.3.7)."""
        if not sent.packets and not self.sent:
            return None
        self.sent += 1
        report = self._make_report(now, sent, heard)
        return rtcp.serialize((report, self._description, Bye((self._ssrc,), reason[:255])))

    def _make_report(self, now: float, sent: Sent, heard: Reception | None) -> RtcpPacket:
        blocks = self._blocks(now, heard)
        before = self._packets_before[1]
        self._packets_before = (sent.packets, self._packets_before[0])
        if sent.packets == before:  # nothing since the report before the last (§6.4)
            return ReceiverReport(self._ssrc, blocks)
        ntp = int((now + self._wall_offset) * 65536) << 16 & 0xFFFFFFFFFFFFFFFF
        self._sent_ntp.append(ntp >> 16 & 0xFFFFFFFF)
        packets, octets = self._counted_before
        return SenderReport(
            self._ssrc,
            ntp,
            sent.rtp_timestamp,
            (sent.packets - packets) & 0xFFFFFFFF,
            (sent.octets - octets) & 0xFFFFFFFF,
            blocks,
        )

    def _blocks(self, now: float, heard: Reception | None) -> tuple[ReportBlock, ...]:
        """One, where packets have come since the last report (§6.4.2)."""
        if heard is None or self._reported == (heard.ssrc, heard.tracker.received):
            return ()
        tracker = heard.tracker
        self._reported = (heard.ssrc, tracker.received)
        lsr = dlsr = 0
        if self._peer_sr is not None and self._peer_sr[0] == heard.ssrc:
            lsr = self._peer_sr[1]
            dlsr = min(int((now - self._peer_sr[2]) * 65536), 0xFFFFFFFF)
        block = ReportBlock(
            ssrc=heard.ssrc,
            fraction_lost=min(tracker.fraction_lost(), 255),
            lost=max(-0x800000, min(tracker.lost, 0x7FFFFF)),
            extended_highest=tracker.extended_highest & 0xFFFFFFFF,
            jitter=min(heard.estimator.jitter, 0xFFFFFFFF),
            lsr=lsr,
            dlsr=dlsr,
        )
        return (block,)

    # --- what the far end says ----------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """A datagram of the far end. Whatever is in it, nothing is raised."""
        try:
            packets = rtcp.parse(data)
        except RtpError:
            self.malformed += 1
            return
        self.received += 1
        for packet in packets:
            match packet:
                case SenderReport() | ReceiverReport() if packet.ssrc == self._ssrc:
                    self.implausible += 1  # our own come back, or somebody has the same number (§8.2)
                case SenderReport():
                    self._peer_sends(packet, now)
                    self._peer_reports(packet.reports, now)
                case ReceiverReport():
                    self.silent_at = now
                    self._peer_reports(packet.reports, now)
                case Bye():
                    self._peer_leaves(packet)
                case _:
                    pass

    def _peer_sends(self, report: SenderReport, now: float) -> None:
        self._peer_sr = (report.ssrc, report.ntp >> 16 & 0xFFFFFFFF, now)
        if report.packets in (0, self._peer_packets):
            self.silent_at = now
        self._peer_packets = report.packets

    def _peer_leaves(self, bye: Bye) -> None:
        """Of its stream, not of the call: a PBX that connects its next leg begins another stream (RFC 3550 §8.2), and
        hanging up is the business of signalling."""
        self.byes += 1
        if self._peer_sr is not None and self._peer_sr[0] in bye.sources:
            self._peer_sr = self._peer_packets = None

    def _peer_reports(self, blocks: tuple[ReportBlock, ...], now: float) -> None:
        for block in blocks:
            if block.ssrc == self._ssrc:
                self._reported_of_us(block, now)

    def _reported_of_us(self, block: ReportBlock, now: float) -> None:
        self.blocks += 1
        self.remote_lost = block.lost
        self.remote_fraction = block.fraction_lost / 256
        jitter = block.jitter / self.clock_rate
        if jitter <= _MAX_JITTER_SECONDS:
            self.remote_jitter_ms = jitter * 1000
            self.remote_jitter_max_ms = max(self.remote_jitter_max_ms or 0.0, self.remote_jitter_ms)
        else:
            self.implausible += 1
        if not block.lsr:
            return
        since = (int((now + self._wall_offset) * 65536) - block.lsr) & 0xFFFFFFFF
        seconds = (since - block.dlsr) / 65536
        if block.lsr in self._sent_ntp and -_ROUNDING_SECONDS <= seconds <= _MAX_ROUND_TRIP_SECONDS:
            self._round_trips.append(max(seconds, 0.0))
        else:
            self.implausible += 1

    @property
    def round_trip_ms(self) -> float | None:
        """The median of the last five; None until one was measured."""
        return median(self._round_trips) * 1000 if self._round_trips else None
