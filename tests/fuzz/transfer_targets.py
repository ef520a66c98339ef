"""The readers behind transfers, registrations, redirections and keys by INFO."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable

from sipbridge.errors import SipParseError
from sipbridge.sip.info import receive_info
from sipbridge.sip.message import Request, Response, parse_message
from sipbridge.sip.redirection import redirect_contacts
from sipbridge.sip.registrar import Registrar, RegistrarSettings
from sipbridge.sip.replaces import Replaces
from sipbridge.sip.unsolicited import outside, unsolicited
from tests.fuzz.corpus import REQUESTS, RESPONSES, SIP_WORDS
from tests.fuzz.engine import Target
from tests.sip.wire import UDP, request


def _outcome(read: Callable[[], object]) -> Hashable:
    try:
        value = read()
    except SipParseError as error:
        return error.fault
    return value is not None


def requests(data: bytes) -> Hashable:
    """Whatever gets past the parser: each reader gives an answer or a SipParseError."""
    try:
        message = parse_message(data)
    except SipParseError:
        return "refused by the parser"
    if isinstance(message, Response):
        try:
            return len(redirect_contacts(message))
        except SipParseError as error:
            return error.fault
    assert isinstance(message, Request)
    answer = _outcome(lambda: receive_info(message))
    notified = tuple(_outcome(lambda inside=inside: unsolicited(message, in_dialog=inside)) for inside in (True, False))  # type: ignore[misc]
    replaces = _outcome(lambda: Replaces.of(message))
    return answer, notified, _outcome(lambda: outside(message)), replaces


def replaces(data: bytes) -> Hashable:
    """What is written is read as the same."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        wanted = Replaces.parse(text)
    except SipParseError as error:
        return error.fault
    assert Replaces.parse(str(wanted)) == wanted
    return wanted.early_only


def registrar(data: bytes) -> Hashable:
    """REGISTERs of strangers, one after the other: bindings stay bounded, and all of them end."""
    told: Counter[str] = Counter()
    settings = RegistrarSettings()
    bound = Registrar(settings, lambda username, bindings: told.update([username]))
    statuses = []
    for number, piece in enumerate(data.split(b"\n\n")[:8]):
        try:
            message = parse_message(piece)
        except SipParseError:
            continue
        if isinstance(message, Request) and message.method == "REGISTER":
            try:
                statuses.append(bound.register(message, "alice", UDP, float(number)).status)
            except SipParseError as error:
                statuses.append(error.sip_status)
            assert len(bound.find("alice", float(number))) <= settings.max_bindings
    bound.handle_timer(1_000_000.0)
    assert bound.get_timer() is None
    assert not bound.find("alice", 1_000_000.0)
    return tuple(statuses), told["alice"] > 0


def register(*headers: str, call_id: str = "r1", cseq: int = 1) -> bytes:
    return request("REGISTER", call_id=call_id, cseq=cseq, uri="sip:example.com", headers=headers)


REGISTERS = [
    register(
        'Contact: <sip:a@192.0.2.2;ob>;expires=600;q=0.5;+sip.instance="<urn:uuid:1>";reg-id=1', "Supported: path"
    ),
    register("Contact: <sip:a@192.0.2.2>, <sip:b@192.0.2.3>;expires=0", "Expires: 4294967296")
    + b"\n\n"
    + register(cseq=2),
    register("Contact: *", "Expires: 0") + b"\n\n" + register("Contact: *", "Expires: 1", cseq=2),
    register("Path: <sip:p;lr>", "Contact: <sip:a@192.0.2.2>", "Require: path")
    + b"\n\n"
    + register("Contact: <tel:1>", cseq=3),
]
REPLACES = [b"a@h;to-tag=1;from-tag=2", b"a;from-tag=2;early-only;to-tag=1;x=y", b"a@b;to-tag=1"]
WORDS = [*SIP_WORDS, b"to-tag=", b"from-tag=", b"early-only", b"Contact: *\r\n", b";expires=", b"reg-id=", b"\n\n"]

TRANSFER_TARGETS = [
    Target("requests", requests, [*REQUESTS, *RESPONSES], WORDS, inputs=1_500),
    Target("replaces", replaces, REPLACES, WORDS, inputs=1_500),
    Target("registrar", registrar, REGISTERS, WORDS, inputs=1_000),
]
