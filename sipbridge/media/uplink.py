"""The receiving half of a leg: datagrams in, the caller's audio out as a stream without holes, and the keys pressed.

Stream time is the RTP timestamp; its holes (loss, DTX, comfort noise, telephone events) become silence. When no audio
comes at all (hold, a dead peer) the clock goes on in its place, so that the model's voice detection sees time pass.
Against counting the same time twice:

* what the clock filled is taken off the gap that the next audio's timestamp shows;
* a gap is filled with one second at most, then the stream jumps;
* while the stream is more than 0.2 s ahead of the clock (a burst after a network stall that the clock has filled) gaps
  stay unfilled; more than 1 s ahead (a sender that floods) audio is left out. So stream time never passes real time by
  more.
"""

from __future__ import annotations

from sipbridge.errors import RtpError
from sipbridge.media import rtp
from sipbridge.media.convert import Converter
from sipbridge.media.dtmf import KeyReceiver
from sipbridge.media.jitter import Gap, JitterBuffer
from sipbridge.media.latch import Address, Latch, Verdict
from sipbridge.media.params import MediaParams
from sipbridge.media.rtcp_session import Reception

COMFORT_NOISE = 13  # RFC 3389: its static payload type

_MAX_CONTROL = 8  # RTCP datagrams kept per packet time; of more only the number is
_MAX_FILL_SECONDS = 1.0
_NO_FILL_AHEAD_SECONDS = 0.2
_MAX_AHEAD_SECONDS = 1.0
# How long audio may be missing before the clock stands in for it. Less would put holes into speech that is only late; a
# model loses nothing by it, because the whole time is made up for at once and voice detection counts stream time.
_SILENT_AFTER_SECONDS = 0.12
_CLOCK_LAG_SECONDS = 0.04  # how far behind real time the clock's silence stays: what was sent may still be on its way


class Uplink:
    def __init__(self, params: MediaParams, now: float) -> None:
        self.latch = Latch(params.remote, enabled=params.latch)
        self.jitter = JitterBuffer(params.codec.clock_rate)
        self.keys: list[str] = []
        """Presses not yet taken; the owner empties it."""
        self.control: list[tuple[bytes, Address, float]] = []
        """RTCP that came to the RTP port, with its source and time; likewise."""
        self.reception: Reception | None = None
        """The source that is believed, as reports speak of it."""
        self.heard_at = now
        """When a packet was believed last, or one was first due."""
        self.first_audio_at: float | None = None
        self.packets = self.octets = self.rtcp = self.source_changes = 0
        self.wrong_source = self.wrong_payload = self.malformed = self.non_rtp = self.unwanted = 0
        self.filled_seconds = self.skipped_seconds = 0.0
        self._key_receiver = KeyReceiver()
        self._pending: list[bytes] = []  # in the wire's format
        self._stream_until = now  # the moment up to which there is audio
        self._audio_at = now
        self._clock_filled = 0.0  # seconds of the clock's silence that no timestamp has confirmed yet
        self._configure(params)

    def _configure(self, params: MediaParams) -> None:
        codec = params.codec
        self._params = params
        self._wire = codec.wire_format(params.uplink)
        self._bytes_per_second = self._wire.bytes_per_ms * 1000
        self._decode = None if codec.audio_format is not None else codec.new_decoder(self._wire.rate).decode
        self._ticks_per_byte = codec.clock_rate / self._bytes_per_second
        self.converter = Converter(self._wire, params.uplink)
        self._estimator = rtp.JitterEstimator(codec.clock_rate)
        self._receives = params.receives
        self._audio_type = params.payload_type_receive
        self._event_type = params.event_payload_type_receive
        self._packet_seconds = params.ptime_ms / 1000

    def update(self, params: MediaParams, now: float) -> None:
        """After a new offer and answer; take what there is before. The stream goes on; its source may be learned
        anew."""
        old = self._params
        self.latch.update(params.remote, now)
        self._pending.clear()
        converter, estimator = self.converter, self._estimator
        self._configure(params)
        if params.codec != old.codec:
            self.jitter.restart(params.codec.clock_rate)
        else:
            self._estimator = estimator
            if params.uplink == old.uplink:
                self.converter = converter
        if self.reception is not None:
            self.reception.estimator = self._estimator
        self.heard_at = now

    # --- from the socket ----------------------------------------------------------------------------------------------

    def receive(self, data: bytes, source: Address, now: float) -> bool:
        """A datagram from anyone. True where it is the first of a new source."""
        try:
            payload_type, marker, sequence_number, timestamp, ssrc, start, end = rtp.parse_header(data)
        except RtpError:
            self._count_broken(data, source, now)
            return False
        is_audio = payload_type == self._audio_type
        if not is_audio and payload_type != self._event_type and payload_type != COMFORT_NOISE:
            if rtp.is_rtcp(data):
                self._keep_rtcp(data, source, now)
            else:
                self.wrong_payload += 1
            return False
        verdict = self.latch.judge(source, ssrc, sequence_number, now)
        if verdict is Verdict.WRONG_SOURCE:
            self.wrong_source += 1
            return False
        self.heard_at = now
        changed = verdict is Verdict.NEW_SOURCE
        if changed:
            self._restart(now)
        self._track(sequence_number)
        if not self._receives:
            self.unwanted += 1
            return changed
        self.packets += 1
        self.octets += end - start
        if is_audio:
            self._add_audio(data[start:end], sequence_number, timestamp, now)
        else:
            if payload_type == self._event_type:
                key = self._key_receiver.feed(data[start:end], timestamp, marker)
                if key is not None:
                    self.keys.append(key)
            self.jitter.add(sequence_number, timestamp, b"", 0, now)
        for chunk in self.jitter.pop(now):
            self._play(chunk, now)
        return changed

    def _keep_rtcp(self, data: bytes, source: Address, now: float) -> None:
        self.rtcp += 1
        if len(self.control) < _MAX_CONTROL:
            self.control.append((data, source, now))

    def _count_broken(self, data: bytes, source: Address, now: float) -> None:
        match rtp.classify(data):
            case rtp.Kind.RTP:
                self.malformed += 1
            case rtp.Kind.RTCP:
                self._keep_rtcp(data, source, now)
            case _:
                self.non_rtp += 1

    def _restart(self, now: float) -> None:
        self.source_changes += 1
        # The time since the old source is known from the clock alone.
        missing = now - _CLOCK_LAG_SECONDS - self._stream_until
        if missing > _CLOCK_LAG_SECONDS:
            self._fill(min(missing, _MAX_FILL_SECONDS))
        self.jitter.restart()
        self._key_receiver.reset()
        self._estimator.restart()
        self._begin_reception()
        self._clock_filled = 0.0

    def _add_audio(self, payload: bytes, sequence_number: int, timestamp: int, now: float) -> None:
        if self._decode is not None:
            # Decoded before it is put in order: how long a packet lasts is only known then. Codecs with a memory (Opus)
            # will want it the other way round.
            payload = self._decode(payload)
        self._estimator.update(timestamp, now)
        self.jitter.add(sequence_number, timestamp, payload, int(len(payload) * self._ticks_per_byte), now)

    def _begin_reception(self) -> None:
        tracker = rtp.SequenceTracker()
        self._track = tracker.update
        self.reception = Reception(self.latch.ssrc, tracker, self._estimator)

    # --- stream time --------------------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Let time pass: end waits for packets, and stand in for a sender that is silent. Call it every ptime or so,
        after what the socket holds has been received."""
        for chunk in self.jitter.pop(now):
            self._play(chunk, now)
        if now - self._audio_at < _SILENT_AFTER_SECONDS + self._packet_seconds:
            return
        missing = now - _CLOCK_LAG_SECONDS - self._stream_until
        if missing > self._packet_seconds:
            seconds = self._fill(min(missing, _MAX_FILL_SECONDS))
            self._stream_until = max(self._stream_until, now - _MAX_FILL_SECONDS)  # after a stall of our own: jump
            self._clock_filled += seconds

    def _play(self, chunk: bytes | Gap, now: float) -> None:
        if isinstance(chunk, Gap):
            seconds = chunk.ticks / self._params.codec.clock_rate - self._clock_filled
            if seconds > 0 and self._stream_until - now < _NO_FILL_AHEAD_SECONDS:
                self._fill(min(seconds, _MAX_FILL_SECONDS))
            return
        seconds = len(chunk) / self._bytes_per_second
        if self._stream_until + seconds - now > _MAX_AHEAD_SECONDS:
            self.skipped_seconds += seconds
            return
        self._clock_filled = 0.0
        self._audio_at = now
        self._stream_until += seconds
        self._pending.append(chunk)
        if self.first_audio_at is None:
            self.first_audio_at = now

    def _fill(self, seconds: float) -> float:
        """So much silence, in whole milliseconds; returns how much it was."""
        milliseconds = round(seconds * 1000)
        self._pending.append(self._wire.silence * (milliseconds * self._wire.rate // 1000))
        seconds = milliseconds / 1000
        self.filled_seconds += seconds
        self._stream_until += seconds
        return seconds

    def take(self) -> bytes:
        """The stream since the last call, as it came from the wire: `converter` makes it what the agent hears."""
        pending = self._pending
        if not pending:
            return b""
        self._pending = []
        return pending[0] if len(pending) == 1 else b"".join(pending)

    @property
    def jitter_ms(self) -> float:
        return self._estimator.jitter_ms
