"""Which formats an m= line speaks of: payload types, rtpmap and fmtp on one side, codecs on the other (RFC 8866 §6.6,
§6.15). Telephone events (RFC 4733) are formats like the codecs; ptime belongs to them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sipbridge.codecs import Codec, lookup, lookup_payload_type
from sipbridge.media.session_description import Attribute, Encoding, MediaDescription, number

_EVENT_NAME = "telephone-event"
_KEY_EVENTS = "0-16"
_FIRST_DYNAMIC = 96
_EVENT_PAYLOAD_TYPE = 101  # not fixed by any RFC, but what nearly everybody uses
_MIN_PTIME, _MAX_PTIME, _PTIME_STEP = 10, 60, 10


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
    codec = lookup(encoding.name)
    if codec is None or (codec.clock_rate, codec.channels) != (encoding.clock_rate, encoding.channels):
        return None
    return codec


def choose(media: MediaDescription, wanted: Iterable[Codec]) -> tuple[int, Codec] | None:
    """Our most preferred codec among theirs, under the number that they gave it."""
    theirs = codecs_of(media)
    return next(((payload_type, ours) for ours in wanted for payload_type, codec in theirs if codec is ours), None)


def event_payload_type(media: MediaDescription, clock_rate: int) -> int | None:
    """The payload type of telephone events at the codec's clock rate, as RFC 4733 §2.1 wants them."""
    encodings = media.encodings()
    for payload_type in media.payload_types():
        encoding = encodings.get(payload_type)
        if encoding is not None and encoding.name.lower() == _EVENT_NAME and encoding.clock_rate == clock_rate:
            return payload_type
    return None


def packet_time(media: MediaDescription, default: int) -> int:
    """The ptime to send with: what they asked for, in steps that the engine can send, not above their maxptime."""
    limit = number(media.attribute("maxptime"), 1000)
    wish = number((media.attribute("ptime") or "").partition(".")[0], 1000) or default
    ptime = min(wish, limit or _MAX_PTIME, _MAX_PTIME)
    return max(ptime // _PTIME_STEP * _PTIME_STEP, _MIN_PTIME)


# Writing ours.


def assign_payload_types(
    codecs: Sequence[Codec], codec_types: dict[Codec, int], event_types: dict[int, int]
) -> tuple[list[tuple[int, Codec]], list[tuple[int, int]]]:
    """Numbers for an offer: (payload type, codec) and, for each clock rate, (payload type, clock rate) of the events.

    `codec_types` and `event_types` (by clock rate) are those in use: within a session a number never gets another
    meaning (RFC 3264 §8.3.2).
    """
    codec_types, event_types = dict(codec_types), dict(event_types)
    taken = {*codec_types.values(), *event_types.values()}

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
            event_types[codec.clock_rate] = take(_EVENT_PAYLOAD_TYPE)
    rates = dict.fromkeys(codec.clock_rate for codec in codecs)
    return [(codec_types[codec], codec) for codec in codecs], [(event_types[rate], rate) for rate in rates]


def describe_formats(
    formats: Iterable[tuple[int, Codec]], events: Iterable[tuple[int, int]]
) -> tuple[tuple[str, ...], list[Attribute]]:
    """An m= line's formats, and the attributes that say what they are; `events` are (payload type, clock rate)."""
    encodings = [Encoding(value, codec.name, codec.clock_rate, codec.channels) for value, codec in formats]
    key_encodings = [Encoding(value, _EVENT_NAME, clock_rate) for value, clock_rate in events]
    attributes: list[Attribute] = [("rtpmap", str(encoding)) for encoding in encodings + key_encodings]
    attributes += [("fmtp", f"{encoding.payload_type} {_KEY_EVENTS}") for encoding in key_encodings]
    return tuple(str(encoding.payload_type) for encoding in encodings + key_encodings), attributes
