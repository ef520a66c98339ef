"""What the media engine tells: one closed union of events, and the figures of a leg."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TypeAlias

from sipbridge.media.addresses import Address

Handle: TypeAlias = int
"""Names a leg of one engine; never used twice."""


@dataclass(frozen=True, slots=True)
class Audio:
    """What the caller says, in `MediaParams.uplink`, in order and without holes: what is missing is silence."""

    handle: Handle
    pcm: bytes


@dataclass(frozen=True, slots=True)
class KeyPressed:
    """Once per press."""

    handle: Handle
    digit: str


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The far end speaks: known to our own ear, where there is one (`MediaEngine.listen`)."""

    handle: Handle


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """It has been quiet for a moment."""

    handle: Handle


@dataclass(frozen=True, slots=True)
class Drained:
    """The last packet of a finished item has been sent. Once per item; not for one that was discarded."""

    handle: Handle
    item_id: str


@dataclass(frozen=True, slots=True)
class SourceChanged:
    """Packets of a new source are believed from now on, and ours go there; also when the first source was learned."""

    handle: Handle
    address: Address


@dataclass(frozen=True, slots=True)
class MediaTimeout:
    """No RTP for so long although some is due. Once per silence."""

    handle: Handle
    seconds: float


@dataclass(frozen=True, slots=True)
class EncryptionFailed:
    """There will be no keys (DTLS), so nothing can be said or heard. Once per leg."""

    handle: Handle
    reason: str
    """In our words: it may be told."""


MediaEvent: TypeAlias = (
    Audio | KeyPressed | SpeechStarted | SpeechEnded | Drained | SourceChanged | MediaTimeout | EncryptionFailed
)


@dataclass(frozen=True, slots=True)
class Flush:
    """One `discard`."""

    flushed_ms: int
    """Speech that was thrown away unheard."""
    took_ms: float
    """Until the last packet with old sound in it, the fade, had left; 0: there was none."""


@dataclass(frozen=True, slots=True)
class MediaStats:
    """A leg's figures at one moment. Counts are since `start`; times are on the engine's clock."""

    packets_received: int
    """RTP packets that were believed: audio, telephone events, comfort noise."""
    bytes_received: int
    """Of their payload; likewise `bytes_sent`."""
    packets_sent: int
    bytes_sent: int
    lost: int
    """Packets given up on; those that came after that are `late`, too."""
    late: int
    duplicate: int
    reordered: int
    bursts: int
    """How many rows of lost packets there were."""
    jitter_ms: float
    """Interarrival jitter (RFC 3550 §6.4.1). Arrivals are seen once per tick, which adds up to 2 ms."""
    jitter_mean_ms: float
    """From second to second; likewise the maximum."""
    jitter_max_ms: float
    filled_ms: int
    """Put in place of audio: for lost packets, and where the sender left some out or fell silent. Silence, but for the
    next three."""
    concealed_ms: int
    """Lost, and continued from what was heard around it, or by the codec."""
    comfort_noise_ms: int
    """Left out, and filled with noise as the sender described it (RFC 3389)."""
    fec_ms: int
    """Lost, and found in a later packet (in-band FEC)."""
    skipped_ms: int
    """Audio left out because it came much faster than time passes."""
    wrong_source: int
    wrong_payload: int
    undecodable: int
    """Audio that was believed, but was nothing that the codec could read: silence of its length, if it had any."""
    malformed: int
    """Looked like RTP, but was none; or was too long to be anything."""
    non_rtp: int
    """STUN, DTLS and whatever else came that looks like neither RTP nor RTCP."""
    unwanted: int
    """RTP that came while we receive none (hold)."""
    encryption: str
    """The suite that we send with; empty: in the clear, or no keys yet."""
    unauthenticated: int
    """Where a leg is encrypted: packets that were not genuine, in the clear, or there before the keys. None of the
    counts above has them, as those of the next two."""
    replayed: int
    """Genuine, and there before."""
    dtls_ignored: int
    """DTLS of somebody who has no part in it, or more than a handshake takes."""
    rtcp_received: int
    """RTCP datagrams, from anyone."""
    rtcp_ignored: int
    """Of those: from whoever is not believed, or not to be read."""
    rtcp_sent: int
    rtcp_byes: int
    """How often the far end has ended a stream of its own."""
    rtcp_implausible: int
    """What the far end reported of us and cannot be; and reports of our own that came back."""
    rtt_ms: float | None
    """The round trip, by RTCP; None until it was measured, as all that follows."""
    remote_lost: int | None
    """Of our packets, as the far end counts."""
    remote_jitter_ms: float | None
    remote_jitter_max_ms: float | None
    mos: float | None
    """MOS-CQE of what we hear (`quality.py`), of the last five seconds."""
    mos_worst: float | None
    mos_average: float | None
    remote_mos: float | None
    """Of what the far end hears, by its last report."""
    remote_mos_worst: float | None
    remote_mos_average: float | None
    source_changes: int
    send_errors: int
    underruns: int
    """How often speech stopped in the middle of an item because no more had come."""
    flushes: int
    flushed_ms: int
    """Speech that was thrown away unheard, by `discard`."""
    flush_log: tuple[Flush, ...]
    """One by one, the latest 128; likewise the next two."""
    uplink_ms: tuple[float, ...]
    """Once a second: how long a block of audio took from the reading of its first packet to being taken."""
    downlink_ms: tuple[float, ...]
    """For each talkspurt: how long its speech took from being pushed to its first packet."""
    dropped_ms: int
    """Speech that came when ten minutes of it were waiting."""
    rephased: int
    """How often speech after a silence was sent before its packet's time had come."""
    late_max_ms: float
    """The latest that a packet of this leg left after its time."""
    stalled_ms: int
    """Time in which the clock stood still for too long to catch up: no packets were sent for it."""
    first_audio_received_at: float | None
    first_audio_sent_at: float | None
    last_audio_sent_at: float | None
    remote: Address | None
    """Where packets go."""
    codec: str
    resampler: str
    """What is done to the sample rate on the way up and down."""

    def since(self, earlier: MediaStats) -> MediaStats:
        """What has been counted after `earlier`. What is no count stays as it is."""
        counts = {name: getattr(self, name) - getattr(earlier, name) for name in _COUNTS}
        return replace(self, **counts)


_COUNTS = tuple(field.name for field in fields(MediaStats) if field.type == "int")
