"""The receiving half of a leg: datagrams in, the caller's audio out as a stream without holes, and the keys pressed.

Stream time is the RTP timestamp. Its holes are filled (see `filler`): where packets were lost, the sound goes on; what
the sender left out (DTX, telephone events, hold) is comfort noise, if it described any, or silence. When no audio comes
at all (hold, a dead peer) the clock goes on in its place, so that the model's voice detection sees time pass. Against
counting the same time twice:

* what the clock filled is taken off the gap that the next audio's timestamp shows;
* a gap is filled with one second at most, then the stream jumps;
* while the stream is more than 0.2 s ahead of the clock (a burst after a network stall that the clock has filled) gaps
  stay unfilled; more than 1 s ahead (a sender that floods) audio is left out. So stream time never passes real time by
  more, but for a thousandth, by which the clocks may differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sipbridge.codecs import Decoder
from sipbridge.errors import RtpError
from sipbridge.media import comfort_noise, rtp
from sipbridge.media.addresses import Address
from sipbridge.media.convert import Converter
from sipbridge.media.dtmf import KeyReceiver
from sipbridge.media.filler import Filler
from sipbridge.media.jitter import Chunk, Gap, JitterBuffer
from sipbridge.media.latch import Latch, Verdict
from sipbridge.media.params import MediaParams
from sipbridge.media.rtcp_session import Reception

_SILENT_NOISE = b"\x7f"  # a description of nothing: no background at all

_MAX_CONTROL = 8  # RTCP datagrams kept per packet time; of more only the number is
_MAX_FILL_SECONDS = 1.0
_NO_FILL_AHEAD_SECONDS = 0.2
_MAX_AHEAD_SECONDS = 1.0
# How long audio may be missing before the clock stands in for it. Less would put holes into speech that is only late; a
# model loses nothing by it, because the whole time is made up for at once and voice detection counts stream time.
_SILENT_AFTER_SECONDS = 0.12
_LOOK_AHEAD_SECONDS = 0.04  # what of the sound after a loss helps to fill it
# Nobody sends shorter packets. To conceal each second one of a row of single octets would keep the loop busy.
_LEAST_CONCEALED_SECONDS = 0.0025
_EARLY_SECONDS = 0.04  # more than that a packet is not early, but the network has changed
# The sender's clock is not ours: what it gains or loses is no sound too much or too little. Crystals differ by 0.0002.
_SKEW = 0.001
_STEADY_SECONDS = 0.06
_CLOCK_LAG_SECONDS = 0.04  # how far behind real time the clock's silence stays: what was sent may still be on its way


class Uplink:
    def __init__(self, params: MediaParams, now: float) -> None:
        self.latch = Latch(params.remote, enabled=params.latch, confirmed=params.confirmed)
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
        self._pending_bytes = 0
        self._seen_waiting_at: float | None = None
        self._overdue = False  # the rest of a block will not come soon
        self._stream_until = now  # the moment up to which there is audio
        self.audio_at = now
        """When audio came last; what the clock put in its place is none."""
        self._clock_filled = 0.0  # seconds of the clock's silence that no timestamp has confirmed yet
        self._decoder: Decoder | None = None
        self._broken = 0  # packets that no decoder has seen, and those that earlier ones could not read
        self.filler = Filler(params.codec.wire_format(params.uplink))
        self._configure(params)
        self._renew_decoder()

    def _configure(self, params: MediaParams) -> None:
        codec = params.codec
        self._params = params
        self._wire = codec.wire_format(params.uplink)
        self._bytes_per_second = self._wire.bytes_per_ms * 1000
        self._duration = codec.duration
        self._clock_rate = codec.clock_rate
        self.converter = Converter(self._wire, params.uplink)
        self._estimator = rtp.JitterEstimator(codec.clock_rate)
        self._receives = params.receives
        self._audio_type = params.payload_type_receive
        self._noise_type = params.comfort_noise_payload_type
        if self._noise_type is None and codec.clock_rate == 8000:
            self._noise_type = comfort_noise.PAYLOAD_TYPE  # some send it without a word in their SDP
        self._event_type = params.event_payload_type_receive
        self._key_receiver.ticks_per_unit = codec.clock_rate / (params.event_clock_rate or codec.clock_rate)
        self._packet_seconds = params.ptime_ms / 1000
        self._block_seconds = params.uplink_block_ms / 1000
        self._block_bytes = params.uplink_block_ms * self._wire.bytes_per_ms

    def _renew_decoder(self) -> None:
        self._broken = self.undecodable
        codec = self._params.codec
        # Octets that are audio are decoded by the converter, if at all.
        self._decoder = None if codec.audio_format is not None else codec.new_decoder(self._wire.rate)
        self.filler.own = self._decoder if codec.conceals else None

    def update(self, params: MediaParams, now: float) -> None:
        """After a new offer and answer; take what there is before. The stream goes on; its source may be learned
        anew."""
        old, wire = self._params, self._wire
        self.latch.update(params.remote, now)
        self._take_all()
        converter, estimator = self.converter, self._estimator
        self._configure(params)
        if params.codec != old.codec:
            self.jitter.restart(params.codec.clock_rate)
        else:
            self._estimator = estimator
            if params.uplink == old.uplink:
                self.converter = converter
        if (params.codec, self._wire) != (old.codec, wire):
            self._renew_decoder()
        if self._wire != wire:
            self.filler.use(self._wire)
        if not self._receives:
            self.filler.forget()
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
        if not is_audio and payload_type != self._event_type and payload_type != self._noise_type:
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
        payload = data[start:end]
        if is_audio:
            estimator = self._estimator
            estimator.update(timestamp, now)
            ticks = self._duration(payload)
            # What came early is waited with as if it had come when it was due: else its forerunner would be given up
            # before its own time.
            due = now + min(estimator.early / self._clock_rate, _EARLY_SECONDS) if estimator.early > 0.0 else now
            if not ticks:
                self._broken += 1
            self.jitter.add(sequence_number, timestamp, payload if ticks else b"", ticks, due)
        elif payload_type == self._event_type:
            key = self._key_receiver.feed(payload, timestamp, marker)
            if key is not None:
                self.keys.append(key)
            self.filler.pause()
            self.jitter.add(sequence_number, timestamp, b"", 0, now)
        else:
            self.jitter.add(sequence_number, timestamp, payload or _SILENT_NOISE, 0, now)
        chunks = self.jitter.pop(now)
        if chunks:
            self._play(chunks, now)
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
            self._pass_time(missing)
        self.jitter.restart()
        self.filler.forget()
        self._renew_decoder()
        self._key_receiver.reset()
        self._estimator.restart()
        self._begin_reception()
        self._clock_filled = 0.0

    def _begin_reception(self) -> None:
        tracker = rtp.SequenceTracker()
        self._track = tracker.update
        self.reception = Reception(self.latch.ssrc, tracker, self._estimator)

    # --- stream time --------------------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Let time pass: end waits for packets, and stand in for a sender that is silent. Call it every ptime or so,
        after what the socket holds has been received."""
        chunks = self.jitter.pop(now)
        if chunks:
            self._play(chunks, now)
        if self._pending:
            if self._seen_waiting_at is None:
                self._seen_waiting_at = now
            self._overdue = now - self._seen_waiting_at >= self._block_seconds
        ahead = self._stream_until - now
        if not -_STEADY_SECONDS < ahead < _STEADY_SECONDS:
            self._stream_until -= math.copysign(_SKEW * self._packet_seconds, ahead)
        if now - self.audio_at < _SILENT_AFTER_SECONDS + self._packet_seconds and not self.filler.rests:
            return
        missing = now - _CLOCK_LAG_SECONDS - self._stream_until
        if missing > self._packet_seconds:
            self._clock_filled += self._pass_time(missing)
            self._stream_until = max(self._stream_until, now - _MAX_FILL_SECONDS)  # after a stall of our own: jump

    def _pass_time(self, missing: float) -> float:
        samples = self._samples(missing)
        return self._fill(self.filler.pass_time(samples), samples)

    def _play(self, chunks: Sequence[Chunk], now: float) -> None:
        """What follows in the stream. Decoded in order, so that codecs with a memory see what their encoder made."""
        decoder = self._decoder
        if decoder is None and len(chunks) == 1 and type(chunks[0]) is bytes:  # nearly always
            self._hear(chunks[0], now)
            return
        conceals = self._params.codec.conceals
        if decoder is not None:
            chunks = [chunk for chunk in chunks if not isinstance(chunk, bytes) or self._has_room(chunk, now)]
            if not conceals:
                chunks = [decoder.decode(chunk) if isinstance(chunk, bytes) else chunk for chunk in chunks]
        for index, chunk in enumerate(chunks):
            if isinstance(chunk, bytes):
                self._hear(decoder.decode(chunk) if conceals and decoder is not None else chunk, now)
            elif isinstance(chunk, Gap):
                self._close(chunk, chunks[index + 1 :], now)
            else:
                self.filler.describe_noise(chunk.payload)

    def _has_room(self, payload: bytes, now: float) -> bool:
        """Whether it is worth decoding: what would be left out afterwards costs most of all in a flood."""
        seconds = self._duration(payload) / self._clock_rate
        if self._stream_until + seconds - now <= _MAX_AHEAD_SECONDS:
            return True
        self.skipped_seconds += seconds
        return False

    def _hear(self, chunk: bytes, now: float) -> None:
        filler = self.filler
        seconds = len(chunk) / self._bytes_per_second
        if self._stream_until + seconds - now > _MAX_AHEAD_SECONDS:
            self.skipped_seconds += seconds
            return
        if filler.age:
            chunk = filler.join(chunk)
        filler.recent.append(chunk)
        self._clock_filled = 0.0
        self.audio_at = now
        self._stream_until += seconds
        self._pending.append(chunk)
        self._pending_bytes += len(chunk)
        if self.first_audio_at is None:
            self.first_audio_at = now

    def _close(self, gap: Gap, following: Sequence[Chunk], now: float) -> None:
        """The hole before the first of `following`, as far as the clock has not filled it."""
        filler, clock_rate = self.filler, self._params.codec.clock_rate
        if gap.lost * self.jitter.packet_ticks < gap.ticks:  # at least in part the sender paused by itself
            filler.begin_anew()
        seconds = gap.ticks / clock_rate - self._clock_filled
        ahead = self._stream_until - now
        if seconds <= 0 or ahead >= _NO_FILL_AHEAD_SECONDS:
            return
        samples = self._samples(min(seconds, _MAX_AHEAD_SECONDS - ahead))
        if not samples:
            return
        packet = self.jitter.packet_ticks * self._wire.rate // clock_rate
        if not gap.lost or self.jitter.packet_ticks < _LEAST_CONCEALED_SECONDS * clock_rate:
            filling = filler.rest(samples)
        elif self._decoder is not None and self._params.codec.conceals:
            (next_payload, *_) = (chunk for chunk in following if isinstance(chunk, bytes))
            filling = filler.bridge_by(self._decoder, samples, gap.lost * packet, packet, next_payload)
        else:
            filling = filler.bridge(samples, gap.lost * packet, self._sound_of(following))
        self._fill(filling, samples)

    def _sound_of(self, following: Sequence[Chunk]) -> bytes:
        """As much of it as is of use, without a hole."""
        sound, wanted = b"", _LOOK_AHEAD_SECONDS * self._bytes_per_second
        for chunk in following:
            if not isinstance(chunk, bytes) or len(sound) >= wanted:
                break
            sound += chunk
        return sound

    def _samples(self, seconds: float) -> int:
        """In whole milliseconds, and one second at most."""
        return round(min(seconds, _MAX_FILL_SECONDS) * 1000) * (self._wire.rate // 1000)

    def _fill(self, filling: bytes, samples: int) -> float:
        seconds = samples / self._wire.rate
        self._pending.append(filling)
        self._pending_bytes += len(filling)
        self.filled_seconds += seconds
        self._stream_until += seconds
        return seconds

    def take(self) -> bytes:
        """The stream since it gave something last, as it came from the wire: `converter` makes it what the agent hears.
        Nothing while that is less than a block and the rest is on its way."""
        if self._pending_bytes < self._block_bytes and not (self._overdue and self._pending):
            return b""
        return self._take_all()

    def _take_all(self) -> bytes:
        pending, self._pending = self._pending, []
        self._pending_bytes = 0
        self._seen_waiting_at, self._overdue = None, False
        return pending[0] if len(pending) == 1 else b"".join(pending)

    @property
    def expected(self) -> int:
        """Packets that came or should have come, each once."""
        jitter = self.jitter
        return self.packets + jitter.lost - jitter.late - jitter.duplicate

    @property
    def unheard(self) -> int:
        """Packets that were lost, and not found in another one."""
        packet_ms = self.jitter.packet_ticks * 1000 / self._params.codec.clock_rate
        return max(self.jitter.lost - round(self.filler.recovered_ms / packet_ms), 0)

    @property
    def bursts(self) -> int:
        """How many rows of lost packets there were."""
        return self.jitter.bursts

    @property
    def undecodable(self) -> int:
        """Packets of audio that the codec could not read."""
        return self._broken + (0 if self._decoder is None else self._decoder.broken)

    @property
    def jitter_ms(self) -> float:
        return self._estimator.jitter_ms
