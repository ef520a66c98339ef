"""Our parser and aiosipua's (a development dependency, otherwise of no use here), side by side: in what they differ."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from aiosipua import SipMessage

from sipbridge.errors import SipParseError
from sipbridge.sip.headers import NameAddr
from sipbridge.sip.message import Message, Request, Response, parse_message

# It tells of every oddity of a message, which is what we make here.
logging.getLogger("aiosipua").setLevel(logging.CRITICAL)


def differences(data: bytes) -> dict[str, tuple[object, object]]:
    """By name: what we read and what they read. `refused by us: FAULT` and `refused by them` stand alone."""
    try:
        ours: Message | None = parse_message(data)
    except SipParseError as error:
        ours, fault = None, error.fault
    try:
        theirs: Any = SipMessage.parse(data)
    except Exception:  # whatever it raises, it is its refusal
        theirs = None
    if ours is None:
        return {} if theirs is None else {f"refused by us: {fault}": (None, theirs)}
    if theirs is None:
        return {"refused by them": (ours, None)}
    found = {}
    for name, (read_ours, read_theirs) in _FIELDS.items():
        pair = (_attempt(read_ours, ours), _attempt(read_theirs, theirs))
        if pair[0] != pair[1]:
            found[name] = pair
    return found


def _attempt(read: Callable[[Any], object], message: object) -> object:
    try:
        return read(message)
    except Exception as error:  # a field that cannot be read, in whichever way its library says so
        return "unreadable" if isinstance(error, SipParseError | ValueError) else f"{type(error).__name__}"


def _our_start(message: Message) -> object:
    if isinstance(message, Request):
        return message.method, message.uri
    assert isinstance(message, Response)
    return message.status, message.reason


def _their_start(message: Any) -> object:
    if hasattr(message, "method"):
        return message.method, message.uri
    return message.status_code, message.reason_phrase


def _our_address(address: NameAddr | None) -> object:
    if address is None:
        return None
    uri = address.uri
    return address.display or None, uri.scheme, uri.user, uri.host, uri.port, dict(uri.params), address.tag


def _their_address(address: Any) -> object:
    if address is None:
        return None
    uri = address.uri
    # A password, which they leave in the user part, is none in ours: compared as text before the "@".
    return address.display_name or None, uri.scheme, uri.user, uri.host.strip("[]"), uri.port, uri.params, address.tag


_FIELDS: dict[str, tuple[Callable[[Any], object], Callable[[Any], object]]] = {
    "start line": (_our_start, _their_start),
    "Via": (
        lambda message: [(via.transport, via.host, via.port, via.branch) for via in message.vias],
        lambda message: [(via.transport.upper(), via.host.strip("[]"), via.port, via.branch) for via in message.via],
    ),
    "From": (lambda message: _our_address(message.from_), lambda message: _their_address(message.from_addr)),
    "To": (lambda message: _our_address(message.to), lambda message: _their_address(message.to_addr)),
    "CSeq": (
        lambda message: (message.cseq.number, message.cseq.method),
        lambda message: (message.cseq.seq, message.cseq.method),
    ),
    "Call-ID": (lambda message: message.call_id, lambda message: message.call_id),
    "Contact": (
        lambda message: [_our_address(address) for address in message.contacts],
        lambda message: [_their_address(address) for address in message.contact],
    ),
    "Content-Type": (
        lambda message: message.content_type,
        lambda message: message.content_type and message.content_type.partition(";")[0].strip().lower(),
    ),
    "body": (lambda message: message.body, lambda message: message.body),
}
