"""What is put where no sound came: a continuation of what was heard where packets were lost, comfort noise where the
sender described its background, silence where it fell silent otherwise.

How long such a hole is, and when it has to be filled, is the uplink's to know. Here is only what it sounds like.
"""

from __future__ import annotations

from sipbridge import codecs
from sipbridge.audio import AudioFormat
from sipbridge.codecs import Decoder
from sipbridge.media.comfort_noise import ComfortNoise
from sipbridge.media.plc import REACH_MS, Concealer

_OWN_MS = 1000  # longer than any pause between two packets of a codec that leaves out silence
_NOISE_SEED = 3389  # noise need not be unguessable, and tests like it to be the same each time


class Filler:
    """One stream's, in the wire's format. Chunks that go into the stream are appended to `recent`, those made here too
    (they are already)."""

    def __init__(self, wire: AudioFormat) -> None:
        self.concealed_ms = self.noise_ms = self.recovered_ms = 0.0
        self.own: Decoder | None = None
        """The stream's decoder, where that conceals by itself."""
        self.use(wire)

    def use(self, wire: AudioFormat) -> None:
        """From now on the stream has this format."""
        self.wire = wire
        self._per_ms = wire.rate // 1000
        coder = codecs.lookup(wire.encoding)  # knows no "pcm16": such audio needs none
        decode = None if coder is None else coder.new_decoder().decode
        self._encode = None if coder is None else coder.new_encoder().encode
        self._concealer = Concealer(wire.rate, decode, self._encode)
        self.recent = self._concealer.recent
        self.age = 0
        """How many samples were made here since the last that was heard; 0: what is heard now follows what was heard
        last."""
        self.rests = False
        """The sender has said that it leaves sound out: nothing is lost."""
        self._rough = False  # what was made last knew nothing of what comes next
        self._noise: ComfortNoise | None = None
        self._noisy = False
        self._reach = REACH_MS * wire.rate // 1000

    def forget(self) -> None:
        """What comes next has nothing to do with what was heard."""
        self.recent.clear()
        self.rests = self._rough = self._noisy = False

    # --- what the sender says -----------------------------------------------------------------------------------------

    def describe_noise(self, payload: bytes) -> None:
        """RFC 3389: its background sounds like this until there is sound again."""
        if self._noise is None:
            self._noise = ComfortNoise(_NOISE_SEED, self._concealer.octets)
        self._noise.describe(payload)
        self._noisy = True
        self.pause()

    def pause(self) -> None:
        """It leaves sound out from now on, until there is sound again."""
        self.rests = True
        self.age = max(self.age, 1)

    def join(self, chunk: bytes) -> bytes:
        """Sound again, after `age` samples made here: the chunk as it goes into the stream."""
        if self._rough:
            chunk = self._concealer.join(chunk, age=self.age)
        if self._noisy and self._noise is not None:
            self._noise.fall_silent()
        self.age = 0
        self.rests = self._rough = self._noisy = False
        return chunk

    # --- what is put there --------------------------------------------------------------------------------------------

    def pass_time(self, samples: int) -> bytes:
        """Nobody knows yet why nothing comes: what was heard goes on and fades, silence follows."""
        if self.rests or self._own_may_go_on:
            return self.rest(samples)
        if self.age >= self._reach or not self.recent:
            return self._made(self.wire.silence * samples, samples)
        self._rough = True
        self.concealed_ms += min(samples, self._reach - self.age) / self._per_ms
        return self._made(self._concealer.bridge(samples, age=self.age), samples)

    def rest(self, samples: int) -> bytes:
        """The sender left this out."""
        if self._noisy and self._noise is not None:
            self.noise_ms += samples / self._per_ms
            return self._made(self._noise.render(samples), samples)
        if self.own is None or self.rests or not self._own_may_go_on:
            return self._made(self.wire.silence * samples, samples)
        concealed = min(max(self._reach - self.age, 0), samples)
        self.concealed_ms += concealed / self._per_ms
        self.noise_ms += (samples - concealed) / self._per_ms
        return self._made(self.own.conceal(samples), samples)

    def begin_anew(self) -> None:
        """The sender had paused by itself: how its sound begins is how it was meant."""
        self._rough = False

    def bridge(self, samples: int, lost: int, following: bytes) -> bytes:
        """In between `lost` samples were lost, and `following` comes next."""
        if self.rests:
            return self.rest(samples)
        self._rough = False
        lost = min(samples, lost)
        self.concealed_ms += lost / self._per_ms
        reach = min(self._reach, lost)
        return self._made(self._concealer.bridge(samples, following, age=self.age, reach=reach), samples)

    def bridge_by(self, decoder: Decoder, samples: int, lost: int, packet: int, next_payload: bytes) -> bytes:
        """The same where the codec knows better: it may even find the last packet's sound in the next payload."""
        if self.rests:
            return self.rest(samples)
        lost = min(samples, lost)
        left_out, recovered = self.rest(samples - lost) if samples > lost else b"", b""
        if lost > packet:  # what is continued comes before what is found
            continued = self._conceal_by(decoder, lost - packet)
            lost = packet
        else:
            continued = b""
        if lost == packet:
            recovered = decoder.recover(next_payload, packet)
            self.recovered_ms += len(recovered) / 2 / self._per_ms
        if not recovered:
            recovered = self._conceal_by(decoder, lost)
        return left_out + self._made(continued + recovered, len(continued + recovered) // 2)

    def _conceal_by(self, decoder: Decoder, samples: int) -> bytes:
        self.concealed_ms += samples / self._per_ms
        return decoder.conceal(samples)

    @property
    def _own_may_go_on(self) -> bool:
        """The codec may continue by itself: it knows whether it was speech or the background that it heard last."""
        return self.own is not None and bool(self.recent) and self.age < _OWN_MS * self._per_ms

    def _made(self, data: bytes, samples: int) -> bytes:
        self.age += samples
        self.recent.append(data)
        return data
