"""The readers of single header fields above the message: who is calling, why it ended, credentials, intervals."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from itertools import count

from sipbridge.errors import SipParseError, StreamFramingError
from sipbridge.sip.digest import Credentials, DigestClient, parse_challenges
from sipbridge.sip.digest_server import DigestServer, Verdict
from sipbridge.sip.diversion import Diversion, HistoryEntry
from sipbridge.sip.headers import Uri
from sipbridge.sip.identity import CallerIdentity
from sipbridge.sip.message import Headers, Request, Response, parse_message
from sipbridge.sip.number import Number
from sipbridge.sip.passport import read_unverified
from sipbridge.sip.reason import outcome_of_bye, outcome_of_cancel, outcome_of_failure, parse_reasons
from sipbridge.sip.reliable import RAck, rseq_of
from sipbridge.sip.session_timer import SessionTimer, SessionTimers, is_too_brief
from sipbridge.sip.session_timer import check as check_session_timer
from sipbridge.sip.websocket import WebSocketFramer
from tests.fuzz.corpus import REQUESTS
from tests.fuzz.engine import Target

_INVITE = parse_message(REQUESTS[0])


def _request(data: bytes) -> Request:
    """The INVITE of the corpus with the header fields that the input has, as the parser would have let them through."""
    assert isinstance(_INVITE, Request)
    headers = _INVITE.headers.copy()
    for line in data.decode("utf-8", "surrogateescape").split("\r\n")[:200]:
        name, colon, value = line.partition(":")
        if colon and name.replace("-", "").isalnum() and name.isascii() and not {"\r", "\n", "\0"} & set(value):
            headers.add(name, value)
    return Request("INVITE", _INVITE.uri, headers, b"")


def _value(data: bytes) -> str:
    """A header field's value, as the parser lets it through."""
    return re.sub(r"[\r\n\0]", " ", data.decode("utf-8", "surrogateescape"))


def _fault(function: Callable[[], object]) -> Hashable:
    try:
        value = function()
    except SipParseError as error:
        return error.fault
    return value is not None


def identity(data: bytes) -> Hashable:
    """Nothing that is said about a caller can keep the call from being read; text is fit to be shown and bounded."""
    request = _request(data)
    outcomes: list[Hashable] = []
    for trusted in (False, True):
        who = CallerIdentity.of(request, trusted=trusted)
        shown = who.shown
        assert len(who.display) < 1_000
        str(who.caller.uri if hasattr(who.caller, "uri") else who.caller).encode("utf-8", "surrogateescape")
        who.display.encode()
        outcomes.append((who.is_private, shown is None, len(who.x_headers) > 0, bool(who.unverified_attestation)))
    value = request.headers.get_all("X-Value")[-1:] or [""]
    outcomes.append(_fault(lambda: Diversion.parse(value[0])))
    outcomes.append(_fault(lambda: HistoryEntry.parse(value[0])))
    outcomes.append(read_unverified(value[0]) is None)
    outcomes.append(_fault(lambda: Number.of(Uri.parse(value[0]))))
    return tuple(outcomes)


def reason(data: bytes) -> Hashable:
    reasons = parse_reasons(_value(data))
    written = ", ".join(map(str, reasons))
    assert parse_reasons(written) == reasons
    assert "\r" not in written
    assert "\n" not in written
    return len(reasons), outcome_of_bye(reasons), outcome_of_cancel(reasons), outcome_of_failure(486, reasons)


def digest(data: bytes) -> Hashable:
    """A challenge that a stranger wrote is answered or not; credentials that he wrote are judged, and never right."""
    text = _value(data)
    outcomes: list[Hashable] = [_fault(lambda: parse_challenges(text))]
    numbers = count()

    def token() -> str:
        return f"token{next(numbers)}"

    client, request = DigestClient(Credentials("alice", "secret")), _request(b"")
    for status, name in ((401, "WWW-Authenticate"), (407, "Proxy-Authenticate")):
        response = Response(status, "", Headers([(name, text)]))
        outcomes.append(client.authorize(request, response, token))
        parse_message(request.serialize())
        client.receive(Response(200, "", Headers([("Authentication-Info", text)])))
        client.apply(request)
    server = DigestServer("example.com", b"k" * 32, token)
    claimed = _request(b"")
    claimed.headers.add("Authorization", text)
    verdict = server.check(claimed, "secret", 1.0)
    assert verdict is not Verdict.OK
    outcomes.append(verdict)
    return tuple(outcomes)


def intervals(data: bytes) -> Hashable:
    """Session-Expires, Min-SE, RAck and RSeq: numbers that are timers of ours afterwards."""
    request = _request(data)
    outcomes: list[Hashable] = [_fault(lambda: RAck.of(request)), _fault(lambda: check_session_timer(request))]
    settings = SessionTimers()
    timer = SessionTimer(settings)
    try:
        check_session_timer(request)
        outcomes.append(brief := is_too_brief(request, settings))
        if not brief:
            timer.accept(request, 0.0)
            deadline = timer.get_timer()
            assert deadline is None or 0 < deadline < 2**32
            outcomes.append(deadline is None)
    except SipParseError as error:
        outcomes.append(error.fault)
    response = request.response(183, to_tag="t")
    for name, value in request.headers:
        if name == "RSeq":
            response.headers.add(name, value)
    outcomes.append(_fault(lambda: rseq_of(response)))
    return tuple(outcomes)


def websocket(data: bytes) -> Hashable:
    """A handshake and frames from a stranger: messages, or a connection that is broken."""
    outcomes: list[Hashable] = []
    for opening in (b"", _HANDSHAKE):
        framer = WebSocketFramer(65_536)
        try:
            found = framer.feed(opening)
            for start in range(0, min(len(data), 4_000), 50):
                found += framer.feed(data[start : start + 50])
            outcomes.append(min(len(found), 3))
        except StreamFramingError as error:
            outcomes.append(error.fault)
        framer.data_to_send()
        framer.wrap(b"SIP/2.0 200 OK\r\n\r\n")
        framer.close()
    return tuple(outcomes)


_HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
)
_FRAME = b"\x81\x84\0\0\0\0\r\n\r\n" + b"\x01\x82\1\2\3\4ab" + b"\x80\x81\0\0\0\0c" + b"\x89\x80\0\0\0\0"

CALLERS = [
    b'P-Asserted-Identity: "A" <sip:+15550100@h;verstat=TN-Validation-Passed-A>, <tel:+15550100>\r\nPrivacy: id;header',
    b'Diversion: <sip:b@h>;reason=user-busy;counter=2;privacy=off\r\nX-Value: <tel:+15550100;cpc=x>;reason="no answer"',
    b"History-Info: <sip:a@h?Reason=SIP%3Bcause%3D302>;index=1, <sip:b@h>;index=1.1;rc=1\r\n"
    b"X-Value: <sip:b@h>;index=1.2.3",
    b"Remote-Party-ID: <sip:a@h>;party=calling;privacy=full\r\nX-Trunk: 1\r\nX-Value: tel:+1-555-0100;ext=5",
    b"Identity: eyJhbGciOiJFUzI1NiJ9.eyJhdHRlc3QiOiJBIn0.c2ln;info=<https://c.example.com/c>;alg=ES256;ppt=shaken",
    b"X-Value: eyJhbGciOiJFUzI1NiJ9.eyJhdHRlc3QiOiJBIiwib3JpZyI6eyJ0biI6IjEifX0.c2ln;info=<https://c.example.com/c>",
]
REASONS = [
    b'Q.850;cause=16;text="Normal, \\"clear\\""',
    b"SIP;cause=200;text=x, Q.850 ; cause = 34, Other;x",
    b"SIP;cause=600",
]
CREDENTIALS = [
    b'Digest realm="example.com", nonce="n", algorithm=SHA-256, qop="auth,auth-int", opaque="o", stale=FALSE',
    b'Digest realm="a", nonce="b", Digest realm="a", nonce="c", algorithm=MD5-sess, qop=auth, Basic realm="x"',
    b'Digest username="alice", realm="example.com", nonce="n", uri="sip:+15550100@gw.example.com", response="'
    + b"a" * 32
    + b'", algorithm=MD5, cnonce="c", qop=auth, nc=00000001',
    b'nextnonce="n2", qop=auth, rspauth="x", cnonce="c", nc=00000001',
]
INTERVALS = [
    b"Session-Expires: 90;refresher=uas\r\nMin-SE: 90\r\nSupported: timer",
    b"RAck: 1 1 INVITE\r\nRSeq: 4294967295",
]

SERVICE_TARGETS = [
    Target("identity", identity, CALLERS, [b"X-Value: ", b"tel:", b"verstat", b"index=", b"%3B", b"eyJ", b"=="], 1_500),
    Target("reason", reason, REASONS, [b"Q.850", b"cause=", b"text=", b'"'], 2_000),
    Target(
        "digest", digest, CREDENTIALS, [b"Digest ", b"nonce=", b"nc=", b"MD5-sess", b"SHA-512-256", b"qop=auth"], 1_500
    ),
    Target("intervals", intervals, INTERVALS, [b"Session-Expires: ", b"RAck: ", b"RSeq: ", b";refresher=uac"], 1_500),
    Target(
        "websocket",
        websocket,
        [_FRAME, _HANDSHAKE + _FRAME, REQUESTS[1]],
        [b"\x88\x80", b"\x82\xfe", b"\x81\xff"],
        1_500,
    ),
]
