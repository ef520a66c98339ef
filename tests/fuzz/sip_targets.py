"""The parsers of `sipbridge/sip/`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from random import Random
from typing import TypeVar

from sipbridge.errors import SipParseError, StreamFramingError
from sipbridge.sip.body import is_understood, session_description
from sipbridge.sip.fields import parse_fields
from sipbridge.sip.framing import Keepalive, StreamFramer
from sipbridge.sip.headers import CSeq, NameAddr, Uri, Via, parse_addresses, readable, split_list, unescape
from sipbridge.sip.ladder import redact
from sipbridge.sip.message import Message, Request, parse_message, refusal
from sipbridge.sip.screening import screen
from sipbridge.sip.subscription import ReferSubscription
from tests.fuzz.corpus import MESSAGES, REQUESTS, SIP_WORDS
from tests.fuzz.engine import Target

T = TypeVar("T")

_MANDATORY = ("via", "from_", "to", "call_id", "cseq")
_OPTIONAL = (
    "vias", "contact", "contacts", "routes", "record_routes", "max_forwards", "require", "supported", "content_type",
)  # fmt: skip


def message(data: bytes) -> Hashable:
    """Parses or SipParseError; what it parses to is serialized to the same; every accessor keeps its promise."""
    try:
        parsed = parse_message(data)
    except SipParseError as error:
        answer = refusal(error, to_tag="t")
        if answer is not None:
            text = answer.serialize()
            assert text.count(b"\n") == len(answer.headers) + 3, "a line was smuggled into our answer"
        return error.fault, error.sip_status, answer is None
    touched = tuple(outcome(getattr, parsed, name) for name in _OPTIONAL)
    for name in _MANDATORY:
        getattr(parsed, name)
    refused = None
    if isinstance(parsed, Request):
        found = screen(parsed)
        refused = found and found.status
    with suppress(SipParseError):
        session_description(parsed)
        is_understood(parsed)
    _again(parsed)
    return type(parsed), touched, refused


def _again(parsed: Message) -> None:
    wire = parsed.serialize()  # type: ignore[attr-defined]
    again = parse_message(wire)
    parsed.headers.set("Content-Length", str(len(parsed.body)))
    assert sorted(again.headers) == sorted(parsed.headers)
    assert again.body == parsed.body
    assert again.serialize() == wire


def outcome(function: Callable[..., object], *arguments: object) -> Hashable:
    """None, or the fault of a SipParseError."""
    try:
        function(*arguments)
    except SipParseError as error:
        return error.fault
    return None


def values(data: bytes) -> Hashable:
    """One text, taken for every kind of value; what parses is written as something that parses to the same."""
    text = data.decode("utf-8", "surrogateescape")
    readable(text).encode()
    unescape(text)
    faults: list[Hashable] = []
    for parse in (Uri.parse, NameAddr.parse, Via.parse, CSeq.parse):
        value = _parsed(parse, text, faults)
        if value is not None:
            assert parse(str(value)) == value, f"{parse.__qualname__}: {value!s}"
    uri = _parsed(Uri.parse, text, [])
    if uri is not None:
        assert uri.matches(uri)
        hash(uri)
    via = _parsed(Via.parse, text, [])
    if via is not None:
        _ = via.rport, via.received, via.branch, via.wants_rport
    elements = _parsed(split_list, text, faults)
    if elements is not None:
        assert split_list(", ".join(elements)) == elements
    faults.append(outcome(parse_addresses, text))
    faults.append(outcome(parse_fields, text))
    return tuple(faults)


def _parsed(parse: Callable[[str], T], text: str, faults: list[Hashable]) -> T | None:
    try:
        value = parse(text)
    except SipParseError as error:
        faults.append(error.fault)
        return None
    faults.append(None)
    return value


def framing(data: bytes) -> Hashable:
    """The cut does not depend on how the octets came; what is cut out, a datagram parser reads without a rest."""
    whole = _frames([data])
    random = Random(len(data))
    cuts = sorted(random.randint(0, len(data)) for _ in range(random.randint(1, 12)))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert _frames(pieces) == whole
    if len(data) < 600:
        assert _frames([data[at : at + 1] for at in range(len(data))]) == whole
    for frame in whole:
        if isinstance(frame, bytes) and not isinstance(outcome(parse_message, frame), str):
            parsed = parse_message(frame)
            assert frame.endswith(b"\r\n\r\n" + parsed.body), "an octet that is a body to one and a header to the other"
    return tuple(frame if isinstance(frame, str | Keepalive) else "message" for frame in whole)[:20]


def _frames(pieces: Sequence[bytes]) -> list[bytes | Keepalive | str]:
    framer = StreamFramer()
    found: list[bytes | Keepalive | str] = []
    try:
        for piece in pieces:
            found += framer.feed(piece)
        found += framer.feed(b"")
    except StreamFramingError as error:
        found.append(error.fault)
    assert len(framer._buffer) <= 2 * 65_536 + 4
    return found


def sipfrag(data: bytes) -> Hashable:
    """NOTIFYs of a transfer: a status, or nothing new."""
    refer = parse_message(REQUESTS[-3])
    assert isinstance(refer, Request)
    subscription = ReferSubscription(refer)
    told = []
    for part in (data, data[: len(data) // 2], data):
        notify = parse_message(REQUESTS[-2])
        assert isinstance(notify, Request)
        head, _, body = part.partition(b"\r\n\r\n")
        for line in head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(":")
            if name in ("Event", "Subscription-State") and "\n" not in value and "\r" not in value:
                notify.headers.set(name, value)
        notify.body = body
        if subscription.matches(notify):
            told.append(subscription.receive(notify, 0.0))
    finals = [notification for notification in told if notification is not None and notification.final]
    assert len(finals) <= 1, "an end came twice"
    return tuple(notification and (notification.status // 100, notification.final) for notification in told)


def ladder(data: bytes) -> Hashable:
    """What is kept for people to read shows no credentials, whatever the message is."""
    text = redact(data.decode("utf-8", "surrogateescape"))
    return min(text.count("\n") // 10, 5), min(len(text) // 1000, 5)


VALUES = [
    b"sip:alice@example.com", b"sips:a:pw@[2001:db8::1]:5061;transport=tls;lr;ttl=1?Subject=x&Replaces=a%3Bb",
    b"tel:+1-555-0100;ext=1;phone-context=+1", b"urn:service:sos", b'"A \\"B\\" C" <sip:a@h;user=phone>;tag=1;q="x,y"',
    b"A B<sip:a%40b@h>;expires=60", b"<sip:a@h>,sip:b@h;x,*", b"*",
    b"SIP / 2.0 / UDP h:5060 ;branch=z9hG4bK1;rport=5;ttl=2",
    b"SIP/2.0/TCP [2001:db8::9:1];received=[::1], SIP/2.0/UDP b", b"4711 INVITE",
    b"X-Name: a\r\nv: b\r\nFrom: <sip:a@h>",
    b"gzip, deflate;q=0.5,, identity",
]  # fmt: skip
FRAGMENTS = [
    b"Event: refer;id=2\r\nSubscription-State: active;expires=60\r\n\r\nSIP/2.0 180 Ringing\r\nTo: <sip:a@h>\r\n",
    b"Event: refer\r\nSubscription-State: terminated;reason=noresource\r\n\r\nSIP/2.0 603 Decline\r\n",
    b"Subscription-State: terminated\r\n\r\n",
]

SIP_TARGETS = [
    Target("message", message, MESSAGES, SIP_WORDS),
    Target("values", values, VALUES, SIP_WORDS),
    Target(
        "framing", framing, [*MESSAGES[:20], b"\r\n\r\n".join(REQUESTS[:4]), b"\r\n\r\n\r\n"], SIP_WORDS, inputs=1_500
    ),
    Target(
        "sipfrag", sipfrag, FRAGMENTS, [b"SIP/2.0 ", b"terminated", b"active", b"Event: refer;id=2\r\n"], inputs=1_500
    ),
    Target("ladder", ladder, MESSAGES, SIP_WORDS, inputs=1_500),
]
