"""Offer and answer for one audio stream (RFC 3264, with the advice of RFC 6337).

`answer` for an offer that came in, `offer` and `accept` where we speak first. All of an offer's m= lines are answered
in their order; the first audio that we can speak is taken, encrypted before plain, and the others get port 0. An answer
names one codec: what is answered is what is sent. All three are pure; whatever a stranger wrote, the only exception is
SdpError with the status to answer. What is said about encryption is `keying`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from sipbridge.codecs import Codec, Parameters, select
from sipbridge.errors import EncryptionError, SdpError
from sipbridge.media.addresses import Address, Remote, remote_of
from sipbridge.media.formats import (
    assign_payload_types,
    choose,
    codecs_of,
    comfort_noise,
    describe_formats,
    format_parameters,
    key_events,
    packet_time,
)
from sipbridge.media.keying import (
    PROFILES,
    DtlsParams,
    Keying,
    LocalSecurity,
    SecurityParams,
    accept_line,
    answer_line,
    offer_line,
)
from sipbridge.media.session_description import (
    Attribute,
    Direction,
    MediaDescription,
    Origin,
    SessionDescription,
)

__all__ = ["Direction", "LocalAudio", "Negotiated", "SessionDescription", "accept", "answer", "offer"]


@dataclass(frozen=True, slots=True)
class LocalAudio:
    """What our side has to say about its stream."""

    address: str
    port: int
    codecs: tuple[str, ...]
    """Names in order of preference; those that this build lacks are passed over."""
    session_id: str
    """Digits, the same for all descriptions of a call."""
    ptime: int = 20
    """Where the other side asks for nothing else."""
    telephone_event: bool = True
    direction: Direction = "sendrecv"
    """The most that we want; the other side may allow less."""
    security: LocalSecurity = LocalSecurity()


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What both sides agreed on, as our side sees it."""

    sdp: bytes = field(repr=False)
    """Our description, with its keys: the answer to send, or the offer that was accepted."""
    version: int
    """Of our o= line."""
    codec: Codec
    payload_type_send: int
    payload_type_receive: int
    event_payload_type_send: int | None
    """For keys; None: the other side does not know telephone events."""
    event_payload_type_receive: int | None
    ptime_ms: int
    """Of what we send."""
    remote: Address | None
    """Where to send: always a numeric unicast address of our own family, so that no resolver can block. None: not known
    until packets come from there (a host name, the wrong family, no address), or never while we are held."""
    remote_rtcp: Address | None
    direction: Direction
    event_clock_rate: int = 8000
    """Of the telephone events."""
    parameters_send: Parameters = field(default_factory=dict)
    """What the other side's a=fmtp says of the audio that it wants; ours said `Codec.format_parameters`."""
    comfort_noise_payload_type: int | None = None
    """Of what we receive (RFC 3389); None: none was agreed on. We send none."""
    security: SecurityParams | None = None
    """None: in the clear."""
    rtcp_mux: bool = False
    """RTCP comes and goes on the port of RTP (RFC 5761)."""


def answer(offer: bytes, local: LocalAudio, *, version: int = 0, previous: Negotiated | None = None) -> Negotiated:
    """Answer an offer.

    `previous` is what held before it, in a re-INVITE: an answer that says the same as our last description keeps its
    version, any other has the next one (RFC 3264 §8). Without it `version` is used. Raises SdpError: 400 where the
    offer cannot be read, 488 where it has nothing for us; in both cases the session stays as it was.
    """
    theirs = SessionDescription.parse(offer)
    index, payload_type, codec, keying, remote = _take(theirs, local, previous)
    media = theirs.media[index]
    keys = key_events(media, codec.clock_rate) if local.telephone_event else None
    noise_type = comfort_noise(media, codec.clock_rate)
    direction = _our_direction(theirs, media, local.direction)
    ptime = packet_time(media, local.ptime, codec)
    lines = [line.refused() for line in theirs.media]
    noise = [] if noise_type is None else [(noise_type, codec.clock_rate)]
    formats = describe_formats([(payload_type, codec)], [] if keys is None else [keys], noise)
    mux = media.has("rtcp-mux")
    attributes = (*keying.attributes, *_MUX) if mux else keying.attributes
    lines[index] = _audio_line(local.port, (media.protocol, attributes), formats, ptime, direction)
    sdp, version = _describe(local, lines, theirs.timing, version, previous)
    return Negotiated(
        sdp=sdp,
        version=version,
        codec=codec,
        payload_type_send=payload_type,
        payload_type_receive=payload_type,
        event_payload_type_send=None if keys is None else keys.payload_type,
        event_payload_type_receive=None if keys is None else keys.payload_type,
        event_clock_rate=codec.clock_rate if keys is None else keys.clock_rate,
        parameters_send=format_parameters(media, payload_type),
        comfort_noise_payload_type=noise_type,
        ptime_ms=ptime,
        remote=remote.rtp,
        remote_rtcp=_rtcp_target(remote, keying, mux),
        direction=direction,
        security=keying.security,
        rtcp_mux=mux,
    )


def offer(local: LocalAudio, *, version: int = 0, previous: Negotiated | None = None) -> bytes:
    """An offer of all our codecs.

    With `previous` it is a new offer within the call: its m= lines stay in their places, payload types keep their
    meaning, and the version is handled as in `answer`. Raises SdpError where this build has none of the codecs.
    """
    codecs = select(local.codecs)
    if not codecs:
        raise SdpError("none of our codecs is available")
    formats, events = assign_payload_types(codecs, *_types_in_use(previous))
    if not local.telephone_event:
        events = []
    ours = None if previous is None else SessionDescription.parse(previous.sdp)
    held = None if previous is None else previous.security
    profile = None if ours is None else next(line.protocol for line in ours.media if line.port)
    protocol, attributes = offer_line(local.security, held, profile)
    mux = _MUX if previous is None or previous.rtcp_mux else ()
    described = describe_formats(formats, events)
    audio = _audio_line(local.port, (protocol, (*attributes, *mux)), described, local.ptime, local.direction)
    if ours is None:
        return _describe(local, [audio], "0 0", version, None)[0]
    lines = [audio if line.port else line.refused() for line in ours.media]
    return _describe(local, lines, ours.timing, version, previous)[0]


def accept(
    answer: bytes, local: LocalAudio, *, offered: bytes | None = None, previous: Negotiated | None = None
) -> Negotiated:
    """What an answer to our offer agrees to; `offered` is that offer, where it was not simply `offer(local)`, and
    `previous` what held before it.

    The codec is the answer's first that we offered. Payload types may differ by direction: each side names those that
    it wants to receive. Raises SdpError: 400 where the answer cannot be read, 488 where it does not fit the offer.
    """
    sdp = offer(local) if offered is None else offered
    ours = SessionDescription.parse(sdp)
    theirs = SessionDescription.parse(answer)
    if len(theirs.media) != len(ours.media):
        raise SdpError(f"the answer has {len(theirs.media)} m= lines, the offer {len(ours.media)}")
    own, media = next((own, media) for own, media in zip(ours.media, theirs.media, strict=True) if own.port)
    own_types = {codec: payload_type for payload_type, codec in reversed(codecs_of(own))}
    answered = [(payload_type, codec) for payload_type, codec in codecs_of(media) if codec in own_types]
    if not _is_live_audio(media) or not answered:
        raise SdpError("the answer takes none of the offered audio")
    payload_type, codec = answered[0]
    keys, own_keys = key_events(media, codec.clock_rate), None
    if keys is not None:
        own_keys = key_events(own, keys.clock_rate)
    if keys is None or own_keys is None or own_keys.clock_rate != keys.clock_rate:
        keys = own_keys = None
    remote = remote_of(theirs, media, local.address)
    held = None if previous is None else previous.security
    keying = accept_line(own, theirs, media, remote=remote.rtp, previous=held)
    if keying.refusal:
        raise EncryptionError(keying.refusal)
    mux = media.has("rtcp-mux") and own.has("rtcp-mux")
    return Negotiated(
        sdp=sdp,
        version=ours.origin.version if ours.origin else 0,
        codec=codec,
        payload_type_send=payload_type,
        payload_type_receive=own_types[codec],
        event_payload_type_send=None if keys is None else keys.payload_type,
        event_payload_type_receive=None if own_keys is None else own_keys.payload_type,
        event_clock_rate=codec.clock_rate if keys is None else keys.clock_rate,
        parameters_send=format_parameters(media, payload_type),
        ptime_ms=packet_time(media, local.ptime, codec),
        remote=remote.rtp,
        remote_rtcp=_rtcp_target(remote, keying, mux),
        direction=_our_direction(theirs, media, ours.direction(own)),
        security=keying.security,
        rtcp_mux=mux,
    )


# Reading theirs.


def _is_live_audio(media: MediaDescription) -> bool:
    return media.kind == "audio" and media.port > 0 and media.protocol.upper() in PROFILES


class _Taken(NamedTuple):
    line: int
    payload_type: int
    codec: Codec
    keying: Keying
    remote: Remote


def _take(theirs: SessionDescription, local: LocalAudio, previous: Negotiated | None) -> _Taken:
    """The line of an offer to take. Many phones offer two, RTP/SAVP and RTP/AVP, in one order or the other: whoever can
    be encrypted is. Raises SdpError where there is none."""
    wanted = select(local.codecs)
    held = None if previous is None else previous.security
    usable: list[_Taken] = []
    refusal = ""
    for index, line in enumerate(theirs.media):
        pair = choose(line, wanted) if _is_live_audio(line) else None
        if pair is None:
            continue
        remote = remote_of(theirs, line, local.address)
        keying = answer_line(theirs, line, local.security, remote=remote.rtp, address=local.address, previous=held)
        refusal = refusal or keying.refusal
        if not keying.refusal:
            usable.append(_Taken(index, *pair, keying, remote))
    if not usable:
        raise EncryptionError(refusal) if refusal else SdpError("no audio in the offer that could be accepted")
    return next((taken for taken in usable if taken.keying.security is not None), usable[0])


def _our_direction(theirs: SessionDescription, media: MediaDescription, wanted: Direction) -> Direction:
    """What is left for us of their direction, and of what we want ourselves (RFC 3264 §6.1)."""
    direction = theirs.direction(media)
    held = theirs.address(media) in ("0.0.0.0", "::")  # the old way to hold (§8.4): they may send, but not receive
    send = wanted in ("sendrecv", "sendonly") and direction in ("sendrecv", "recvonly") and not held
    receive = wanted in ("sendrecv", "recvonly") and direction in ("sendrecv", "sendonly")
    if send:
        return "sendrecv" if receive else "sendonly"
    return "recvonly" if receive else "inactive"


def _rtcp_target(remote: Remote, keying: Keying, mux: bool) -> Address | None:
    if mux:
        return remote.rtp
    # On a port of its own it would want a handshake of its own (RFC 5764 §4.1.2), which nobody makes any more.
    return None if isinstance(keying.security, DtlsParams) else remote.rtcp


# Writing ours.


def _types_in_use(previous: Negotiated | None) -> tuple[dict[Codec, int], dict[int, int], int | None]:
    """The numbers of codecs, of the events for each clock rate, and of comfort noise."""
    if previous is None:
        return {}, {}, None
    event_type = previous.event_payload_type_receive
    event_types = {} if event_type is None else {previous.event_clock_rate: event_type}
    return {previous.codec: previous.payload_type_receive}, event_types, previous.comfort_noise_payload_type


_MUX: tuple[Attribute, ...] = (("rtcp-mux", None),)


def _audio_line(
    port: int,
    profile: tuple[str, tuple[Attribute, ...]],
    formats: tuple[tuple[str, ...], list[Attribute]],
    ptime: int,
    direction: Direction,
) -> MediaDescription:
    types, attributes = formats
    protocol, more = profile
    attributes += [*more, ("ptime", str(ptime)), (direction, None)]
    return MediaDescription("audio", port, protocol, types, attributes=tuple(attributes))


def _describe(
    local: LocalAudio, lines: list[MediaDescription], timing: str, version: int, previous: Negotiated | None
) -> tuple[bytes, int]:
    """Our description and its version: that of `previous` if it says the same, else the next."""

    def describe(version: int) -> bytes:
        origin = Origin(local.session_id, version, local.address)
        return SessionDescription(origin, local.address, tuple(lines), timing=timing).serialize()

    if previous is None:
        return describe(version), version
    if describe(previous.version) == previous.sdp:
        return previous.sdp, previous.version
    return describe(previous.version + 1), previous.version + 1
