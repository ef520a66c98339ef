"""What the media engine is told: once for all legs (`MediaSettings`), and for each leg (`MediaParams`)."""

from __future__ import annotations

from dataclasses import dataclass, field

from sipbridge.audio import PCM_16K, PCM_24K, AudioFormat
from sipbridge.codecs import Codec, Parameters
from sipbridge.media.addresses import Address
from sipbridge.media.keying import SecurityParams
from sipbridge.media.sdp import Direction, Negotiated


@dataclass(frozen=True, slots=True)
class MediaSettings:
    address: str = "127.0.0.1"
    """Where RTP is received and sent from: one address of this host, not a name."""
    ports: range = range(16384, 32768)
    """RTP takes the even ones, RTCP the odd one above."""
    media_timeout_seconds: float | None = 30.0
    """After so long without RTP, where some is due, `MediaTimeout` is reported. None: never."""
    port_rest_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class MediaParams:
    """One leg as offer and answer left it. Payload types are those of each direction (RFC 3264 lets them differ)."""

    codec: Codec
    remote: Address | None
    """RTP address of the other side, from its SDP: an IP address, not a name. None: it is not known until packets come
    from there."""
    payload_type_send: int
    payload_type_receive: int
    event_payload_type_send: int | None = None
    """telephone-event; None: keys can not be sent."""
    event_payload_type_receive: int | None = None
    event_clock_rate: int | None = None
    """Of telephone events; None: the codec's."""
    parameters_send: Parameters = field(default_factory=dict)
    """What the other side said of the audio that it wants (a=fmtp): for the encoder."""
    comfort_noise_payload_type: int | None = None
    """Of RFC 3389, in what is received; None: none was agreed on, though some send 13 all the same."""
    ptime_ms: int = 20
    """Of what we send; 10 to 60, in steps of 5. What we receive may have any."""
    direction: Direction = "sendrecv"
    """Ours."""
    uplink: AudioFormat = PCM_16K
    """What `Audio` carries. Where it is the codec's own format the payload passes untouched."""
    uplink_block_ms: int = 20
    """How much of it there is at least in one `Audio`, unless the sender pauses."""
    downlink: AudioFormat = PCM_24K
    """What `push` is given; likewise."""
    remote_rtcp: Address | None = None
    """Where SDP says that RTCP goes."""
    rtcp_mux: bool = False
    """RTCP shares the RTP port, in both directions (RFC 5761)."""
    latch: bool = True
    """Learn the source from the packets (symmetric RTP). Without it only `remote` is believed."""
    confirmed: bool = True
    """False: send nothing before `confirm` is called, or a packet is believed. Asked when the leg begins, only."""
    security: SecurityParams | None = None
    """None: in the clear. Else nothing leaves or is believed in the clear."""
    fade_ms: int = 10
    """How long sound that is interrupted takes to end; at most 10, or the last packet would be late."""

    @classmethod
    def agreed(
        cls,
        negotiated: Negotiated,
        *,
        uplink: AudioFormat,
        downlink: AudioFormat,
        uplink_block_ms: int = 20,
        fade_ms: int = 10,
        confirmed: bool = True,
    ) -> MediaParams:
        """What offer and answer came to; the formats are those of whoever the leg talks to."""
        return cls(
            codec=negotiated.codec,
            remote=negotiated.remote,
            remote_rtcp=negotiated.remote_rtcp,
            payload_type_send=negotiated.payload_type_send,
            payload_type_receive=negotiated.payload_type_receive,
            event_payload_type_send=negotiated.event_payload_type_send,
            event_payload_type_receive=negotiated.event_payload_type_receive,
            event_clock_rate=negotiated.event_clock_rate,
            parameters_send=negotiated.parameters_send,
            comfort_noise_payload_type=negotiated.comfort_noise_payload_type,
            ptime_ms=negotiated.ptime_ms,
            direction=negotiated.direction,
            uplink=uplink,
            uplink_block_ms=uplink_block_ms,
            fade_ms=fade_ms,
            downlink=downlink,
            confirmed=confirmed,
            rtcp_mux=negotiated.rtcp_mux,
            security=negotiated.security,
        )

    @property
    def sends(self) -> bool:
        return self.direction in ("sendrecv", "sendonly")

    @property
    def receives(self) -> bool:
        return self.direction in ("sendrecv", "recvonly")
