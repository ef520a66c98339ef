"""RTCP of one leg: whom it believes, where it sends, and the figures that reports are made of. No socket, no clock.

RTCP goes to the port that SDP names (a=rtcp, RFC 3605; else the one above RTP's), to where the far end's own comes from
once that is known (a NAT maps each port as it likes, RFC 4961), or over the RTP port (RFC 5761). It is believed from
the host that RTP is believed from, whatever the port, and from the one that a=rtcp names while SDP's address holds;
what others send is counted and not read. So a stranger can neither spoil figures nor keep a dead call alive. Nor is
more of it read than anybody needs: a datagram can cost as much as fifty packets of sound.
"""

from __future__ import annotations

from math import inf

from sipbridge.media.addresses import Address
from sipbridge.media.downlink import Downlink
from sipbridge.media.params import MediaParams
from sipbridge.media.quality_meter import QualityMeter, Scores
from sipbridge.media.rtcp_session import RtcpSession, Sent
from sipbridge.media.rtp import Sequencer
from sipbridge.media.uplink import Uplink

_BEAT_SECONDS = 1.0
_LEAST_BUFFER_PACKETS = 2
_MOST_PER_BEAT = 20  # datagrams that are read: reports come every few seconds, feedback (RFC 4585) a little more often


class RtcpChannel:
    def __init__(
        self,
        session: RtcpSession | None,
        params: MediaParams,
        uplink: Uplink,
        downlink: Downlink,
        sequencer: Sequencer,
        now: float,
    ) -> None:
        """Without a session RTCP is only counted."""
        self.session = session
        self.meter = QualityMeter()
        self._next_beat = self.due_at = now + _BEAT_SECONDS
        """When to call `report`."""
        self.datagrams = 0
        """That came to the RTCP port, from anyone."""
        self._params = params
        self._uplink = uplink
        self._downlink = downlink
        self._sequencer = sequencer
        self._left = _MOST_PER_BEAT
        self._source: Address | None = None  # where the far end's RTCP came from, beside its RTP

    def update(self, params: MediaParams) -> None:
        """After a new offer and answer."""
        if (params.remote, params.remote_rtcp) != (self._params.remote, self._params.remote_rtcp):
            self._source = None
        self._params = params
        if self.session is not None:
            self.session.clock_rate = params.codec.clock_rate

    def begin_anew(self) -> None:
        """Another party is at the far end: what was measured of the one before is not theirs."""
        self.meter = QualityMeter()
        if self.session is not None:
            self.session.forget()

    def renew(self, ssrc: int) -> None:
        """Our stream has another SSRC now."""
        if self.session is not None:
            self.session.renew(ssrc, self._sent())

    # --- in -----------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, source: Address, now: float, *, muxed: bool = False) -> None:
        """A datagram that may be RTCP, from anyone; `muxed`: it came to the RTP port."""
        if not muxed:
            self.datagrams += 1
        if self.session is None or not self._left or not self._believes(source):
            return
        self._left -= 1
        session = self.session
        received, blocks = session.received, session.blocks
        session.receive(data, now)
        if session.received > received and not muxed:
            self._source = source
        if session.blocks > blocks:
            self.meter.reported(session.remote_fraction, self._params.codec.name, self.delay_out_ms)
            self._downlink.loss_reported(round(100 * session.remote_fraction))

    def receive_muxed(self) -> None:
        """What came to the RTP port and was left with the uplink."""
        for data, source, arrival in self._uplink.control:
            self.receive(data, source, arrival, muxed=True)
        self._uplink.control.clear()

    def _believes(self, source: Address) -> bool:
        latch, params = self._uplink.latch, self._params
        if latch.authenticated:
            return True  # it would not have come this far
        locked = latch.source or latch.target
        if locked is not None and source[0] == locked[0]:
            return True
        named = params.remote is not None and (locked is None or locked[0] == params.remote[0])
        return named and params.remote_rtcp is not None and source[0] == params.remote_rtcp[0]

    # --- out ----------------------------------------------------------------------------------------------------------

    @property
    def muxed(self) -> bool:
        """Our RTCP goes out by the RTP port."""
        return self._params.rtcp_mux

    @property
    def target(self) -> Address | None:
        """Where our RTCP goes; None while nobody is known."""
        params, latch = self._params, self._uplink.latch
        if params.rtcp_mux or not latch.confirmed:
            return latch.target
        if self._source is not None and params.latch and self._believes(self._source):
            return self._source
        if latch.target is None or latch.target == params.remote or not params.latch:
            return params.remote_rtcp
        host, port = latch.target
        return (host, port + 1) if port < 65535 else None

    def report(self, now: float) -> bytes | None:
        """Once a second measure, and return what is to be sent to `target`, if it is time for it."""
        if now >= self._next_beat:
            self._next_beat = max(self._next_beat + _BEAT_SECONDS, now)
            self._left = _MOST_PER_BEAT
            self.meter.beat(self._uplink, self._params.codec.name, self.delay_in_ms)
        self.due_at = self._next_beat
        session = self.session
        if session is None or self.target is None:
            return None
        data = session.report(now, self._sent(), self._uplink.reception) if now >= session.due_at else None
        self.due_at = min(self._next_beat, session.due_at)
        return data

    def bye(self, now: float, reason: str = "") -> bytes | None:
        """The last word; None where it has nobody to go to."""
        if self.session is None or self.target is None:
            return None
        return self.session.bye(now, self._sent(), self._uplink.reception, reason.encode())

    def _sent(self) -> Sent:
        return Sent(self._downlink.packets, self._downlink.octets, self._sequencer.timestamp)

    # --- figures ------------------------------------------------------------------------------------------------------

    @property
    def round_trip_ms(self) -> float | None:
        return None if self.session is None else self.session.round_trip_ms

    @property
    def delay_in_ms(self) -> float:
        """From the far end's mouth to whoever we hand the audio to: half the round trip, and the time that it takes to
        fill a packet, or a block of ours."""
        return (self.round_trip_ms or 0.0) / 2 + max(self._params.ptime_ms, self._params.uplink_block_ms)

    @property
    def delay_out_ms(self) -> float:
        """From our speech to the far end's ear: half the round trip, a packet, and the buffers of both sides."""
        jitter_ms = 0.0 if self.session is None else self.session.remote_jitter_ms or 0.0
        packet_ms = self._params.ptime_ms
        buffer_ms = self._downlink.pacer.cushion.ms + max(2 * jitter_ms, _LEAST_BUFFER_PACKETS * packet_ms)
        return (self.round_trip_ms or 0.0) / 2 + packet_ms + buffer_ms

    @property
    def scores(self) -> Scores:
        """Of what we hear."""
        return self.meter.scores(self._uplink, self._params.codec.name, self.delay_in_ms)

    @property
    def received(self) -> int:
        """Datagrams, from anyone, by either port."""
        return self._uplink.rtcp + self.datagrams

    @property
    def ignored(self) -> int:
        """Of those: not believed, not readable, or too many at once."""
        read = 0 if self.session is None else self.session.received
        return self.received - read - len(self._uplink.control)

    @property
    def sent(self) -> int:
        return 0 if self.session is None else self.session.sent

    @property
    def alive_at(self) -> float:
        """When the far end last said that it is there and sends nothing: DTX, mute, hold. RTCP is a sign of life only
        then. Who says that it sends while nothing comes is cut off from us, and its call as dead as without RTCP."""
        silent_at = None if self.session is None else self.session.silent_at
        return -inf if silent_at is None else silent_at
