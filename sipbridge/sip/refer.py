"""What REFER and its NOTIFYs say (RFC 3515, 3892, 4488): text in, values out, and back. `transfers.py` sends them.

A REFER asks us to call somebody, at our cost. What it may ask for is a policy's affair (`TransferPolicy`); here is made
sure that the policy sees all there is to see: one target, without header fields smuggled into its URI.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from sipbridge.errors import LocalProtocolError, SipParseError
from sipbridge.sip.dialog import request_uri
from sipbridge.sip.flow import Flow
from sipbridge.sip.headers import NameAddr, Uri, unescape
from sipbridge.sip.message import Message, Request
from sipbridge.sip.replaces import Replaces
from sipbridge.sip.status import reason_phrase

if TYPE_CHECKING:
    from sipbridge.sip.invite import Invite

EVENT = "refer"
SIPFRAG = "message/sipfrag;version=2.0"
OPTION = "norefersub"

_status_line = re.compile(rb"SIP/2\.0[ \t]+([1-6][0-9]{2})(?:[ \t]+([^\r\n]*))?(?:\r?\n|$)")
_UNESCAPED = "-_.!~*'()[]/:+$"
"""What may stand in a URI's header parameter as it is (RFC 3261 §25.1), beside letters and digits."""


@dataclass(slots=True)
class TransferPolicy:
    """Whether the peer of a call may make us do things: None, the default, is no. Called before anything is told; what
    they permit is told as `ReferReceived` and in `InviteReceived.replaces`, and may still be refused there."""

    refer: Callable[[Invite, Referral], bool] | None = None
    """The call in which the REFER came, and what it asks for."""
    replace: Callable[[Invite, Request, Flow], bool] | None = None
    """The call that is to be replaced, the INVITE that wants to, and where that came from."""


@dataclass(frozen=True, slots=True)
class Referral:
    """What a REFER asks for."""

    refer_to: NameAddr
    """Whom to call. Its URI has no header parameters; escapes are as they came (`number.Number` undoes them)."""
    replaces: Replaces | None = None
    """Which call of theirs the new one is to take the place of."""
    referred_by: NameAddr | None = None
    """Who is said to have asked; nobody has checked that."""
    subscribes: bool = True
    """They want to be told how it goes on."""

    @classmethod
    def of(cls, request: Request) -> Referral:
        """Raises SipParseError, whose `sip_status` is the answer: 400, 403 for another method than INVITE, 416."""
        values = request.headers.get_list("Refer-To")
        if len(values) != 1:
            raise SipParseError("REFER needs one Refer-To")
        address = NameAddr.parse(values[0])
        uri = address.uri
        if uri.scheme not in ("sip", "sips", "tel"):
            raise SipParseError("Refer-To with a URI that cannot be called", sip_status=416)
        # Without angle brackets the parameter is the header's by the grammar; whoever wrote it meant the URI.
        methods = {unescape(params.get("method") or "INVITE").upper() for params in (uri.params, address.params)}
        if methods != {"INVITE"}:
            raise SipParseError("Refer-To with a method other than INVITE", sip_status=403)
        return cls(
            NameAddr(address.display, request_uri(uri)),
            replaces=_embedded_replaces(uri),
            referred_by=_referred_by(request),
            subscribes=not refuses_subscription(request),
        )


def refer_to(target: str | None, replaced: Replaces | None, remote_target: str = "") -> str:
    """The value of Refer-To: a target, or that of the call that is to be replaced. Raises SipParseError for a target
    that is no URI, LocalProtocolError for one that cannot carry a Replaces."""
    uri = Uri.parse(target or remote_target)
    if replaced is None:
        return f"<{target}>"
    if uri.scheme == "tel":
        raise LocalProtocolError("a tel URI cannot say which call to replace")
    # RFC 3261 §19.1.1: what stands for a header field in a URI is escaped, semicolons and equals signs above all.
    headers = (*uri.headers, ("Replaces", quote(str(replaced), safe=_UNESCAPED, errors="surrogateescape")))
    return f"<{replace(request_uri(uri), headers=headers)}>"


def refuses_subscription(message: Message) -> bool:
    """`Refer-Sub: false` (RFC 4488 §4): in a REFER a wish, in its 2xx a fact."""
    return (message.headers.get("Refer-Sub") or "").partition(";")[0].strip().lower() == "false"


def write_sipfrag(status: int, reason: str) -> bytes:
    """The first line of the response that is told of (RFC 3420); any text is made fit for it."""
    words = "".join(character for character in reason or reason_phrase(status) if character.isprintable())
    return f"SIP/2.0 {status} {words[:120]}\r\n".encode("utf-8", "replace")


def read_sipfrag(body: bytes) -> tuple[int, str] | None:
    match = _status_line.match(body.lstrip())
    return None if match is None else (int(match[1]), (match[2] or b"").decode("utf-8", "replace").strip())


def event_of(request: Request) -> tuple[str, str | None]:
    """Package and `id` of an Event field; ("", None) where there is none."""
    package, *params = (request.headers.get("Event") or "").split(";")
    for param in params:
        name, _, value = param.partition("=")
        if name.strip().lower() == "id":
            return package.strip().lower(), value.strip()
    return package.strip().lower(), None


def _embedded_replaces(uri: Uri) -> Replaces | None:
    """The one header field of those in a URI that is looked at; Route, Via, body and the rest are dropped."""
    values = [value for name, value in uri.headers if unescape(name).strip().lower() == "replaces"]
    if len(values) > 1:
        raise SipParseError("more than one Replaces in Refer-To")
    return Replaces.parse(unescape(values[0])) if values else None


def _referred_by(request: Request) -> NameAddr | None:
    values = request.headers.get_all("Referred-By")
    if len(values) > 1:
        raise SipParseError("more than one Referred-By")
    return NameAddr.parse(values[0]) if values else None
