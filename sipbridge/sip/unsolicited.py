"""NOTIFYs and other requests that nobody asked for (RFC 6665 §4.1.3): pure, request in, answer out.

PBXs and phones send some of them without a subscription: they are let in and forgotten, since a refusal makes many
a PBX take us for unreachable. All others say that we have no such subscription (481) or know no such package (489).
"""

from __future__ import annotations

from typing import Final

from sipbridge.sip.message import Request
from sipbridge.sip.refer import EVENT, event_of
from sipbridge.sip.replies import Reply

ALLOW_EVENTS: Final = EVENT

_ANYWHERE: Final = frozenset(
    {
        "message-summary",  # new messages in a mailbox (RFC 3842)
        "keep-alive",  # against NATs that forget
        "check-sync",  # fetch your configuration again
        "resync",
        "reboot",
        "report",
    }
)
_IN_CALLS: Final = frozenset({"talk", "hold"})
"""Remote control of a phone by its switch: answer, hold."""
_SUBSCRIBABLE: Final = frozenset(
    {EVENT, "dialog", "presence", "reg", "conference", "presence.winfo", "kpml", "call-completion", "ua-profile"}
)
"""Packages that everybody knows: their NOTIFY belongs to a subscription, and we have none."""


def unsolicited(notify: Request, *, in_dialog: bool) -> Reply:
    """The answer to a NOTIFY of no subscription of ours."""
    package, _ = event_of(notify)
    if package in _ANYWHERE or (in_dialog and package in _IN_CALLS):
        return Reply(200)
    if package in _SUBSCRIBABLE or package in _IN_CALLS:
        return Reply(481)
    return Reply(489, (("Allow-Events", ALLOW_EVENTS),))


def outside(request: Request) -> Reply | None:
    """The answer to a request outside any dialog; None: it may begin one, or needs none."""
    match request.method:
        case "INVITE" | "OPTIONS":
            return None
        case "NOTIFY":
            return unsolicited(request, in_dialog=False)
        case "REFER":
            return Reply(403)  # RFC 3515 allows it; to place calls at the word of somebody who is in none, no
        case "SUBSCRIBE" if event_of(request)[0] == EVENT:
            return Reply(403)  # RFC 3515 §2.4.4: only a REFER makes such a subscription
        case "SUBSCRIBE":
            return Reply(489, (("Allow-Events", ALLOW_EVENTS),))
        case _:
            return Reply(481)  # BYE, INFO, PRACK, UPDATE: of no dialog
