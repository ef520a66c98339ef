"""One leg: an `Uplink`, a `Downlink` and what concerns both. No socket and no clock; the engine drives it."""

from __future__ import annotations

from sipbridge.audio import Played
from sipbridge.media.addresses import Address
from sipbridge.media.convert import Converter
from sipbridge.media.downlink import Downlink
from sipbridge.media.dtls import DtlsIdentity
from sipbridge.media.ear import Ear
from sipbridge.media.events import (
    Audio,
    Drained,
    EncryptionFailed,
    Handle,
    KeyPressed,
    MediaEvent,
    MediaStats,
    MediaTimeout,
    SourceChanged,
)
from sipbridge.media.keying import DtlsParams
from sipbridge.media.listeners import Listeners
from sipbridge.media.params import MediaParams
from sipbridge.media.rtcp_channel import RtcpChannel
from sipbridge.media.rtcp_session import RtcpSession
from sipbridge.media.rtp import MAX_DATAGRAM, Sequencer, is_rtcp
from sipbridge.media.security import Security
from sipbridge.media.timing import Timing
from sipbridge.media.uplink import Uplink


class Leg:
    def __init__(
        self,
        handle: Handle,
        params: MediaParams,
        sequencer: Sequencer,
        now: float,
        *,
        timeout_seconds: float | None = None,
        rtcp: RtcpSession | None = None,
        identity: DtlsIdentity | None = None,
    ) -> None:
        self.handle = handle
        self.params = params
        self.uplink = Uplink(params, now)
        self.downlink = Downlink(params, sequencer)
        self.latch = self.uplink.latch
        self.listeners = Listeners(handle, self.uplink, self.downlink)
        self.ear: Ear | None = None
        """Who tells when the far end speaks."""
        self.send_errors = 0
        self.rtcp = RtcpChannel(rtcp, params, self.uplink, self.downlink, sequencer, now)
        self.rephased = 0
        self.late_max = 0.0
        """The longest, in seconds, that a packet was behind its time."""
        self.stalled_ms = 0
        self.timing = Timing()
        self.security: Security | None = None
        self._identity = identity
        self._sequencer = sequencer
        self._encryption_failed = False
        self._secure(params, now)
        self._sends = self._may_send()
        self._timeout_seconds = timeout_seconds
        self._timed_out_at: float | None = None  # heard_at of the silence that was reported

    def update(self, params: MediaParams, now: float) -> None:
        self.params = params
        self.uplink.update(params, now)
        self.downlink.update(params)
        self.rtcp.update(params)
        self._secure(params, now)
        self._sends = self._may_send()

    def _secure(self, params: MediaParams, now: float) -> None:
        if params.security is None:
            self.security = None
        elif self.security is None:
            self.security = Security(params.security, now, self._identity)
        else:
            self.security.update(params.security, now)
        self.latch.authenticated = self.security is not None
        self._renew_stream()

    def _renew_stream(self) -> None:
        """A new key of ours wants a stream that begins anew (see `SrtpSender`)."""
        if self.security is not None and self.security.renewed:
            self.security.renewed = False
            if self.downlink.packets or self.rtcp.sent:  # reports are numbered from the beginning again, too
                self._sequencer.renew()
                self.rtcp.renew(self._sequencer.ssrc)

    def _may_send(self) -> bool:
        return self.params.sends and (self.security is None or self.security.ready)

    def receive(self, data: bytes, source: Address, now: float, events: list[MediaEvent]) -> None:
        """A datagram from anyone, with what it means appended to `events`; its audio waits in
        `uplink.take()`."""
        uplink = self.uplink
        if len(data) > MAX_DATAGRAM:
            uplink.malformed += 1
            return
        if self.security is not None:
            clear = self._open(self.security, data, source, now)
            if clear is None:
                return
            data = clear
        if uplink.receive(data, source, now):
            events.append(SourceChanged(self.handle, source))
        if uplink.keys:
            events.extend(KeyPressed(self.handle, key) for key in uplink.keys)
            uplink.keys.clear()

    def _open(self, security: Security, data: bytes, source: Address, now: float) -> bytes | None:
        """What the datagram says if it is genuine, or None; told apart as RFC 7983 has it."""
        first = data[0] if data else 0
        if 128 <= first <= 191:
            return security.unprotect_rtcp(data) if is_rtcp(data) else security.unprotect(data)
        if not 20 <= first <= 63:
            return data  # STUN and the like: only counted
        security.receive_dtls(data, source, self.latch.target, now)
        if security.renewed:  # there are keys
            self._renew_stream()
            self._sends = self._may_send()
            if security.partner is not None:
                self.latch.prove(security.partner)
        return None

    def receive_rtcp(self, data: bytes, source: Address, now: float) -> None:
        """A datagram that came to the RTCP port, from anyone."""
        if len(data) > MAX_DATAGRAM:
            self.rtcp.datagrams += 1  # and read is none: it is among the ignored
            return
        clear = data if self.security is None else self.security.unprotect_rtcp(data)
        if clear is not None:
            self.rtcp.receive(clear, source, now)

    def protect_rtcp(self, data: bytes) -> bytes | None:
        """RTCP as it is to be sent; None: not at all."""
        if self.security is None:
            return data
        if isinstance(self.params.security, DtlsParams) and not self.params.rtcp_mux:
            return None  # its port would want a handshake of its own (RFC 5764 §4.1.2)
        return self.security.protect_rtcp(data)

    def handshake(self) -> list[tuple[bytes, Address]]:
        """DTLS datagrams to send on the RTP port, and where."""
        return [] if self.security is None else self.security.outgoing(self.latch.target)

    def _watch_handshake(self, security: Security, now: float, events: list[MediaEvent]) -> None:
        if security.shaking_hands:
            security.handle_timer(now, self.latch.target, confirmed=self.latch.confirmed)
        if security.failure and not self._encryption_failed:
            self._encryption_failed = True
            events.append(EncryptionFailed(self.handle, security.failure))

    def next_packet(self, now: float, late: float = 0.0) -> bytes | None:
        """What to send to `latch.target` at this packet time; None while the direction allows nothing, or nobody is
        known to send it to. Speech waits then: it counts as played only where it is sent. b"": nothing at
        this packet time (DTX)."""
        if self._sends and self.latch.target is not None:
            packet = self.downlink.next_packet(now, late)
            if self.timing.pending:
                self.timing.sent(now, sounding=self.downlink.last_audio_at == now)
            if self.security is not None and packet:
                return self.security.protect(packet) or b""
            return packet
        self.downlink.skip(self.params.ptime_ms)
        return None

    def push(self, data: bytes, reply_id: str, item_id: str, now: float) -> None:
        """Speech for the far end."""
        down = self.downlink
        if data and not down.talking and not down.pacer.paused:
            self.timing.speech_came(now)
        down.pacer.clock_ms = now * 1000
        down.push(data, reply_id, item_id)

    def discard(self, now: float) -> tuple[Played, ...]:
        """Throw away what waits, and say what was heard."""
        down = self.downlink
        before = down.flushed_ms
        played = down.discard()
        self.timing.flushed(down.flushed_ms - before, now)
        return played

    def delivered(self, event: Audio, now: float) -> None:
        """Audio of this leg has been taken."""
        params = self.params
        self.timing.delivered(now, self.uplink.heard_at, params.uplink.duration_ms(event.pcm), params.ptime_ms)

    def part(self) -> MediaStats:
        """The figures so far; from now on another party is on this leg, to whom extremes and delays before are not to
        be ascribed."""
        stats = self.stats()
        self.late_max = 0.0
        self.timing = Timing()
        self.rtcp.begin_anew()
        return stats

    @property
    def sending(self) -> bool:
        return self._sends and self.latch.target is not None

    def sent(self, events: list[MediaEvent]) -> None:
        """The packet has left: report the items that ended with it."""
        for item_id in self.downlink.pacer.take_drained():
            events.append(Drained(self.handle, item_id))

    def advance(self, now: float, events: list[MediaEvent]) -> None:
        """Once per packet time, after what the socket holds has been received."""
        uplink = self.uplink
        uplink.advance(now)
        if uplink.control:
            self.rtcp.receive_muxed()
        if self.security is not None:
            self._watch_handshake(self.security, now, events)
        silent = now - uplink.heard_at
        if self._timeout_seconds is None or silent < self._timeout_seconds:
            return
        silent = now - max(uplink.heard_at, self.rtcp.alive_at)
        if silent < self._timeout_seconds:
            return  # it says itself that it sends nothing
        if self.params.direction != "sendrecv":
            return  # who holds us may send music or nothing at all: that silence says nothing
        if self._timed_out_at != uplink.heard_at:
            self._timed_out_at = uplink.heard_at
            events.append(MediaTimeout(self.handle, silent))

    def stalled(self, ms: int) -> None:
        """The clock stood still for so long that the packets of that time are left out."""
        self.stalled_ms += ms
        self.downlink.skip(ms)

    def stats(self) -> MediaStats:
        up, down, control = self.uplink, self.downlink, self.rtcp
        scores, remote, session = control.scores, control.meter.remote, control.session
        security = self.security
        return MediaStats(
            packets_received=up.packets,
            bytes_received=up.octets,
            packets_sent=down.packets,
            bytes_sent=down.octets,
            lost=up.jitter.lost,
            late=up.jitter.late,
            duplicate=up.jitter.duplicate,
            reordered=up.jitter.reordered,
            bursts=up.bursts,
            jitter_ms=up.jitter_ms,
            jitter_mean_ms=up.jitter_ms if control.meter.jitter_mean_ms is None else control.meter.jitter_mean_ms,
            jitter_max_ms=max(control.meter.jitter_max_ms, up.jitter_ms),
            filled_ms=round(up.filled_seconds * 1000),
            concealed_ms=round(up.filler.concealed_ms),
            comfort_noise_ms=round(up.filler.noise_ms),
            fec_ms=round(up.filler.recovered_ms),
            skipped_ms=round(up.skipped_seconds * 1000),
            wrong_source=up.wrong_source + (0 if security is None else security.refused),
            wrong_payload=up.wrong_payload,
            undecodable=up.undecodable,
            malformed=up.malformed,
            non_rtp=up.non_rtp,
            unwanted=up.unwanted,
            encryption="" if security is None else security.suite,
            unauthenticated=0 if security is None else security.unauthenticated,
            replayed=0 if security is None else security.replayed,
            dtls_ignored=0 if security is None else security.dtls_ignored,
            rtcp_received=control.received,
            rtcp_ignored=control.ignored,
            rtcp_sent=control.sent,
            rtcp_byes=session.byes if session else 0,
            rtcp_implausible=session.implausible if session else 0,
            rtt_ms=control.round_trip_ms,
            remote_lost=session.remote_lost if session else None,
            remote_jitter_ms=session.remote_jitter_ms if session else None,
            remote_jitter_max_ms=session.remote_jitter_max_ms if session else None,
            mos=scores.now,
            mos_worst=scores.worst,
            mos_average=scores.average,
            remote_mos=remote.now,
            remote_mos_worst=remote.worst,
            remote_mos_average=remote.average,
            source_changes=up.source_changes,
            send_errors=self.send_errors,
            underruns=down.pacer.underruns,
            flushes=down.flushes,
            flushed_ms=down.flushed_ms,
            flush_log=tuple(self.timing.flushes),
            uplink_ms=tuple(self.timing.uplink_ms),
            downlink_ms=tuple(self.timing.speech_ms),
            dropped_ms=round(down.dropped_ms),
            rephased=self.rephased,
            late_max_ms=self.late_max * 1000,
            stalled_ms=self.stalled_ms,
            first_audio_received_at=up.first_audio_at,
            first_audio_sent_at=down.first_audio_at,
            last_audio_sent_at=down.last_audio_at,
            remote=self.latch.target,
            codec=self.params.codec.name,
            resampler=_resampler(up.converter, down.converter),
        )


def _resampler(up: Converter, down: Converter) -> str:
    if up.transparent and down.transparent and up.source.encoding != "pcm16":
        return "passed through"
    ways = [(up, "up"), (down, "down")]
    used = [f"{way.source.rate}->{way.target.rate} {name}" for way, name in ways if way.source.rate != way.target.rate]
    return ", ".join(used) or "none"
