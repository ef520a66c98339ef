"""The sending half of a leg: the agent's speech in, one RTP packet out for every packet time, silence where there is no
speech. Keys go out in place of audio, one after the other.

The ring's format is the encoded form where the codec has no memory (G.711), so that a packet is a header and a slice;
else PCM at the codec's rate. What a model says is brought into it as it comes. But pieces may be of any length, and a
minute at once would hold up every call's sound while it is converted. So what is long waits as it came, and is
converted slice by slice: by the owner (`backlog`), for many legs together and while there is time, or at the latest by
the packet that needs it.
"""

from __future__ import annotations

from collections import deque

from sipbridge.audio import Played
from sipbridge.codecs import Encoder
from sipbridge.media.convert import Converter
from sipbridge.media.dtmf import KeyPacket, key_packets
from sipbridge.media.mixer import Mixer
from sipbridge.media.pacer import EARLY_MS, Item, Pacer
from sipbridge.media.params import MediaParams
from sipbridge.media.rtp import Sequencer
from sipbridge.media.tap import Tap

_SHORT_US = 400_000  # as most pieces are: some 50 us of work
_SLICE_MS = 100
_MOST_WAITING_MS = 600_000


class _Raw:
    """Speech as it was pushed, not yet in the ring."""

    __slots__ = ("data", "item", "microseconds", "position")

    def __init__(self, data: bytes, item: Item, microseconds: int) -> None:
        self.data = data
        self.item = item
        self.position = 0
        self.microseconds = microseconds
        """That were promised and not yet kept."""


class Downlink:
    def __init__(self, params: MediaParams, sequencer: Sequencer) -> None:
        self.pacer = Pacer(params.codec.wire_format(params.downlink), fade_ms=params.fade_ms)
        self.packets = self.octets = self.flushes = self.flushed_ms = 0
        self.dropped_ms = 0.0
        self.first_audio_at: float | None = None
        self.last_audio_at: float | None = None
        self.tap: Tap | None = None
        self.mixer: Mixer | None = None
        """What other legs say to this one."""
        self._sequencer = sequencer
        self._keys: deque[KeyPacket | None] = deque()
        self._key_timestamp = 0
        self.talking = False
        """The packet before ended with speech."""
        self._tail = False  # the converter's filter may hold speech that is not in the ring
        self._raw: deque[_Raw] = deque()
        self._configure(params)

    def _configure(self, params: MediaParams, encoder: Encoder | None = None) -> None:
        codec = params.codec
        ring = self.pacer.audio_format
        self._params = params
        self.converter = Converter(params.downlink, ring)
        self._encoder = encoder or codec.new_encoder(params.parameters_send, ring.rate)
        self._encode = self._encoder.encode if codec.audio_format is None else None
        self._payload_type = params.payload_type_send
        self._ticks = codec.ticks(params.ptime_ms)
        self._frame_bytes = ring.bytes_per_ms * params.ptime_ms
        self._silence = ring.silence * (ring.rate * params.ptime_ms // 1000)

    def update(self, params: MediaParams) -> None:
        """After a new offer and answer: what waits to be heard is kept, in the new codec's format."""
        old = self._params
        if params.downlink != old.downlink:
            while self._raw:
                self._convert()
        ring = params.codec.wire_format(params.downlink)
        if ring != self.pacer.audio_format:
            self.pacer.convert(ring, Converter(self.pacer.audio_format, ring).process)
        converter = self.converter
        same = (params.downlink, params.codec) == (old.downlink, old.codec)
        # An encoder remembers what was sent last: another one would click.
        self._configure(params, self._encoder if same and params.parameters_send == old.parameters_send else None)
        if same:
            self.converter = converter
        else:
            self._tail = False
        if params.event_payload_type_send is None:
            self._keys.clear()
        self.talking = False
        if self.converter.transparent:
            while self._raw:
                self._convert()

    # --- from the agent -----------------------------------------------------------------------------------------------

    def push(self, data: bytes, reply_id: str, item_id: str) -> None:
        """Speech of an item. What would make more than ten minutes wait is left out, and counted."""
        pacer, size = self.pacer, len(data)
        if size:
            microseconds = size * 1000 // self._params.downlink.bytes_per_ms
            if pacer.waiting_ms + microseconds / 1000 > _MOST_WAITING_MS:
                self.dropped_ms += microseconds / 1000
                data = b""
            elif not self.converter.transparent and not self._raw and microseconds <= _SHORT_US:
                data = self.converter.process(data)
                self._tail = self.converter.delay_ms > 0
            elif not self.converter.transparent:
                self._raw.append(_Raw(data, pacer.promise(microseconds, reply_id, item_id), microseconds))
                return
        pacer.push(data, reply_id, item_id)

    def finish(self, item_id: str) -> None:
        if self._tail and not self._raw and self.pacer.buffered <= self._frame_bytes:
            self._push_tail()
        self.pacer.finish(item_id)

    def discard(self) -> tuple[Played, ...]:
        pacer = self.pacer
        before = pacer.waiting_ms
        while self._raw and pacer.buffered < self._frame_bytes:
            self._convert()  # for the fade
        played = pacer.discard()
        self._raw.clear()
        self.converter.reset()
        self._tail = False
        self.flushes += 1
        self.flushed_ms += int(before)
        return played

    def send_key(self, key: str) -> bool:
        """Press a key after those that wait. False where the other side takes none; ValueError where it is no key."""
        clock_rate = self._params.event_clock_rate or self._params.codec.clock_rate
        packets = key_packets(key, ptime_ms=self._params.ptime_ms, clock_rate=clock_rate)
        if self._params.event_payload_type_send is None:
            return False
        self._keys.extend(packets)
        return True

    # --- to the clock -------------------------------------------------------------------------------------------------

    def next_packet(self, now: float, late: float = 0.0) -> bytes:
        """b"" where the codec has nothing to say (DTX, which the far end asked for). `late`: seconds since its
        time."""
        if self._keys:
            if self.tap is not None:
                self.tap.sent(None, self.pacer.audio_format, now - late)
            return self._next_key_packet()
        pacer = self.pacer
        if pacer.buffered <= self._frame_bytes:
            self._refill()
        pacer.clock_ms = (now - late) * 1000
        frame = own = pacer.next_frame(self._frame_bytes)
        if pacer.starting and own is not None:
            pacer.note_started(now)
        if self.mixer is not None:
            ring = pacer.audio_format
            frame = self.mixer.mix(own, self._frame_bytes // ring.bytes_per_sample, ring, now - late)
        if self.tap is not None:
            self.tap.sent(frame, pacer.audio_format, now - late)
        marker = False
        if frame is None:
            frame = self._silence
            self.talking = False
        else:
            marker = not self.talking  # RFC 3551 §4.1: the first packet of a talkspurt is marked
            if self.first_audio_at is None:
                self.first_audio_at = now
            self.last_audio_at = now
            self.talking = pacer.sounding or frame is not own
        return self._packet(frame, marker)

    def _packet(self, frame: bytes, marker: bool) -> bytes:
        if self._encode is not None:
            frame = self._encode(frame)
            if not frame:
                self.talking = False  # the next packet begins a talkspurt (RFC 3551 §4.1)
                self._sequencer.skip(self._ticks)
                return b""
        self.packets += 1
        self.octets += len(frame)
        return self._sequencer.packet(self._payload_type, frame, self._ticks, marker)

    def _refill(self) -> None:
        """The ring is nearly empty."""
        while self._raw and self.pacer.buffered <= self._frame_bytes:
            self._convert()
        if self._tail and self.pacer.ending and self.pacer.buffered <= self._frame_bytes:
            self._push_tail()

    def _push_tail(self) -> None:
        self._tail = False
        self.pacer.push_tail(self.converter.flush())

    @property
    def starts_in_ms(self) -> float | None:
        """There was silence, and so soon there could be speech: no reason to wait for the next packet's time. None: not
        before something comes."""
        pacer = self.pacer
        if self.talking or self._keys or not (pacer.buffered or self._raw):
            return None
        if pacer.ready:
            return 0.0
        return max(0.0, pacer.held_ms - EARLY_MS) if pacer.held_ms else None

    # --- conversion ---------------------------------------------------------------------------------------------------

    @property
    def backlog(self) -> bool:
        """`next_slice` has something."""
        return bool(self._raw)

    def next_slice(self) -> bytes:
        """What `converter` has to be given next; then hand the result to `keep_slice`."""
        raw = self._raw[0]
        start = raw.position
        raw.position = start + _SLICE_MS * self._params.downlink.bytes_per_ms
        return raw.data[start : raw.position]

    def keep_slice(self, data: bytes) -> None:
        raw = self._raw[0]
        self._tail = self.converter.delay_ms > 0
        if raw.position >= len(raw.data):
            self._raw.popleft()
            self.pacer.keep(raw.item, data, raw.microseconds)
        else:
            raw.microseconds -= _SLICE_MS * 1000
            self.pacer.keep(raw.item, data, _SLICE_MS * 1000)

    def _convert(self) -> None:
        self.keep_slice(self.converter.process(self.next_slice()))

    def _next_key_packet(self) -> bytes:
        entry = self._keys.popleft()
        self.talking = False
        event_type = self._params.event_payload_type_send
        if entry is None or event_type is None:
            return self._packet(self._silence, False)
        self.packets += 1
        if entry.marker:
            self._key_timestamp = self._sequencer.timestamp
        self._sequencer.skip(self._ticks)
        self.octets += len(entry.payload)
        return self._sequencer.packet_at(self._key_timestamp, event_type, entry.payload, entry.marker)

    def loss_reported(self, percent: int) -> None:
        """By the far end (RTCP): that much of what we send does not arrive."""
        self._encoder.expect_loss(percent)

    def skip(self, ms: int) -> None:
        """Time passes in which nothing is sent: hold, or a clock that stood still. What waits to be heard goes on
        waiting."""
        self.talking = False
        self._sequencer.skip(self._params.codec.ticks(ms))
