"""Which formats an m= line speaks of: payload types, rtpmap and fmtp on one side, codecs on the other (RFC 8866 §6.6,
§6.15). Telephone events (RFC 4733) and comfort noise (RFC 3389) are formats like the codecs; ptime belongs to them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sipbridge.codecs import Codec, Parameters, lookup, lookup_payload_type
from sipbridge.media.session_description import Attribute, Encoding, MediaDescription, number

_EVENT_NAME = "telephone-event"
_KEY_EVENTS = "0-16"
_NOISE_NAME = "CN"
_NOISE_PAYLOAD_TYPE = 13  # at 8000
_FIRST_DYNAMIC = 96
_EVENT_PAYLOAD_TYPE = 101  # not fixed by any RFC, but what nearly everybody uses, at 8000
_MIN_PTIME, _MAX_PTIME, _PTIME_STEP = 10, 60, 10
_MAX_PARAMETERS = 32


class Events(NamedTuple):
    """Telephone events, under one number."""

    payload_type: int
    clock_rate: int


def codecs_of(media: MediaDescription) -> list[tuple[int, Codec]]:
    """The payload types that we can speak, in their order; static ones need no rtpmap (RFC 3264 §5.1)."""
    encodings = media.encodings()
    found = []
    for payload_type in media.payload_types():
        encoding = encodings.get(payload_type)
        codec = lookup_payload_type(payload_type) if encoding is None else _codec_for(encoding)
        if codec is not None:
            found.append((payload_type, codec))
    return found


def _codec_for(encoding: Encoding) -> Codec | None:
    codec = lookup(encoding.name, encoding.clock_rate)
    return codec if codec is not None and codec.channels == encoding.channels else None


def choose(media: MediaDescription, wanted: Iterable[Codec]) -> tuple[int, Codec] | None:
    """Our most preferred codec among theirs, under the number that they gave it."""
    theirs = codecs_of(media)
    return next(((payload_type, ours) for ours in wanted for payload_type, codec in theirs if codec is ours), None)


def key_events(media: MediaDescription, clock_rate: int) -> Events | None:
    """Telephone events at the codec's clock rate, as RFC 4733 §2.1 wants them; else those at 8000, because many phones
    know no others, whatever the codec."""
    encodings = media.encodings()
    known = {
        encoding.clock_rate: payload_type
        for payload_type in reversed(media.payload_types())
        if (encoding := encodings.get(payload_type)) is not None and encoding.name.lower() == _EVENT_NAME
    }
    rate = clock_rate if clock_rate in known else 8000
    return Events(known[rate], rate) if rate in known else None


def comfort_noise(media: MediaDescription, clock_rate: int) -> int | None:
    """The payload type of comfort noise at the codec's clock rate."""
    encodings = media.encodings()
    for payload_type in media.payload_types():
        encoding = encodings.get(payload_type)
        if encoding is None and payload_type == _NOISE_PAYLOAD_TYPE and clock_rate == 8000:
            return payload_type
        if encoding is not None and encoding.name.upper() == _NOISE_NAME and encoding.clock_rate == clock_rate:
            return payload_type
    return None


def format_parameters(media: MediaDescription, payload_type: int) -> Parameters:
    """What a=fmtp says of a format, as `name=value; name=value`; the first of a name counts."""
    found: dict[str, str] = {}
    for line in media.values("fmtp"):
        fields = line.split(maxsplit=1)
        if len(fields) < 2 or number(fields[0], 127) != payload_type:
            continue
        for parameter in fields[1].split(";", _MAX_PARAMETERS)[:_MAX_PARAMETERS]:
            name, _, value = parameter.partition("=")
            found.setdefault(name.strip().lower(), value.strip())
        break
    return found


def packet_time(media: MediaDescription, default: int, codec: Codec) -> int:
    """The ptime to send with: what they asked for, as far as engine and codec can send it, not above their maxptime."""
    limit = number(media.attribute("maxptime"), 1000)
    wish = number((media.attribute("ptime") or "").partition(".")[0], 1000) or default
    ptime = min(wish, limit or _MAX_PTIME, _MAX_PTIME)
    ptime = max(ptime // _PTIME_STEP * _PTIME_STEP, _MIN_PTIME)
    return max((time for time in codec.packet_times if time <= ptime), default=codec.packet_times[0])


# Writing ours.


def assign_payload_types(
    codecs: Sequence[Codec], codec_types: dict[Codec, int], event_types: dict[int, int], noise_type: int | None = None
) -> tuple[list[tuple[int, Codec]], list[tuple[int, int]]]:
    """Numbers for an offer: (payload type, codec) and, for each clock rate, (payload type, clock rate) of the events.

    `codec_types`, `event_types` (by clock rate) and `noise_type` are those in use: within a session a number never gets
    another meaning (RFC 3264 §8.3.2).
    """
    codec_types, event_types = dict(codec_types), dict(event_types)
    taken: set[int | None] = {*codec_types.values(), *event_types.values(), noise_type}

    def take(wish: int | None) -> int:
        free = (value for value in range(_FIRST_DYNAMIC, 128) if value not in taken and value != _EVENT_PAYLOAD_TYPE)
        payload_type = wish if wish is not None and wish not in taken else next(free)
        taken.add(payload_type)
        return payload_type

    for codec in codecs:
        if codec not in codec_types:
            codec_types[codec] = take(codec.static_payload_type)
    for codec in codecs:
        if codec.clock_rate not in event_types:
            event_types[codec.clock_rate] = take(_EVENT_PAYLOAD_TYPE if codec.clock_rate == 8000 else None)
    rates = dict.fromkeys(codec.clock_rate for codec in codecs)
    return [(codec_types[codec], codec) for codec in codecs], [(event_types[rate], rate) for rate in rates]


def describe_formats(
    formats: Iterable[tuple[int, Codec]], events: Iterable[tuple[int, int]], noise: Iterable[tuple[int, int]] = ()
) -> tuple[tuple[str, ...], list[Attribute]]:
    """An m= line's formats, and the attributes that say what they are; `events` and `noise` are (payload type, clock
    rate)."""
    formats, events = tuple(formats), tuple(events)
    encodings = [Encoding(value, codec.name, codec.clock_rate, codec.channels) for value, codec in formats]
    encodings += [Encoding(value, _NOISE_NAME, clock_rate) for value, clock_rate in noise]
    encodings += [Encoding(value, _EVENT_NAME, clock_rate) for value, clock_rate in events]
    attributes: list[Attribute] = [("rtpmap", str(encoding)) for encoding in encodings]
    attributes += [
        ("fmtp", f"{value} {codec.format_parameters}") for value, codec in formats if codec.format_parameters
    ]
    attributes += [("fmtp", f"{value} {_KEY_EVENTS}") for value, _ in events]
    return tuple(str(encoding.payload_type) for encoding in encodings), attributes
