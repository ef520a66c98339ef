"""What a UAS looks at before it serves a request (RFC 3261 §8.2), in the RFC's order: pure, request in, refusal out.

A refusal made here needs no transaction: a repetition of the request is refused in the same words.
"""

from __future__ import annotations

from sipbridge.errors import SipParseError
from sipbridge.sip import refer, reliable, replaces, session_timer
from sipbridge.sip.body import is_understood, takes_session_descriptions
from sipbridge.sip.faults import Fault
from sipbridge.sip.message import Request
from sipbridge.sip.replies import Reply
from sipbridge.sip.transaction_layer import is_modern

METHODS = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "PRACK", "UPDATE", "INFO", "NOTIFY", "SUBSCRIBE", "REFER")
ALLOW = ", ".join(METHODS)
ACCEPT = "application/sdp"
EXTENSIONS = (reliable.OPTION, session_timer.OPTION, replaces.OPTION, refer.OPTION, "199")
"""The option tags that we know (§19.2), in lower case: what we say in Supported and take in Require."""
SUPPORTED = ", ".join(EXTENSIONS)

OPTIONS_HEADERS = (
    ("Allow", ALLOW),
    ("Accept", ACCEPT),
    ("Accept-Encoding", "identity"),
    ("Supported", SUPPORTED),
    ("Allow-Events", refer.EVENT),
)

_SCHEMES = frozenset({"sip", "sips", "tel"})


def screen(request: Request) -> Reply | None:
    """None: it may be served. Never used for ACK, which is not answered, whatever is wrong with it."""
    try:
        return _screen(request)
    except SipParseError as error:
        # One of the optional header fields that we go by is malformed.
        reason = f"Bad Request: {error}"[:120].encode("ascii", "replace").decode()
        return Reply(error.sip_status, reason=reason, fault=error.fault)


def _screen(request: Request) -> Reply | None:
    method = request.method
    if method not in METHODS:
        return Reply(405, (("Allow", ALLOW),))
    # The URI's grammar has been checked where it is a SIP URI; of other schemes only the name matters.
    scheme, colon, _ = request.uri.partition(":")
    if not colon or scheme.lower() not in _SCHEMES:
        return Reply(416)
    _ = request.request_uri, request.max_forwards
    if method != "CANCEL":  # §8.2.2.3: to be ignored in CANCEL
        unknown = [tag for tag in request.require if tag.lower() not in EXTENSIONS]
        if unknown:
            return Reply(420, (("Unsupported", ", ".join(unknown)),))
    if "Replaces" in request.headers and method not in ("INVITE", "CANCEL"):
        return Reply(400, reason="Bad Request: Replaces belongs to INVITE")  # RFC 3891 §3
    if method == "INFO":
        _ = request.content_type
    if method in ("INVITE", "UPDATE", "PRACK"):
        _ = request.supported, request.contact
        session_timer.check(request)
        if not is_understood(request):
            return Reply(415, (("Accept", ACCEPT), ("Accept-Encoding", "identity")))
    if method == "INVITE":
        # §8.1.1.8: exactly one Contact, with a URI that requests can be sent to. RFC 2543 could do without.
        targets = request.contacts or (() if is_modern(request.via) else (request.from_,))
        if len(targets) != 1 or targets[0].uri.scheme not in ("sip", "sips"):
            return Reply(400, reason="Bad Request: INVITE needs one Contact with a SIP URI", fault=Fault.CONTACT)
        _ = request.record_routes
        if not takes_session_descriptions(request):
            return Reply(406)
    return None
