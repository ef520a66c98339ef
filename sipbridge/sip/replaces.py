"""Replaces (RFC 3891): a call that is to take the place of another, both ways.

Ours: in the Refer-To of an attended transfer, we tell the peer which of our calls the new one is to replace (RFC 5589
§7). Theirs: an INVITE names a call that we have; `replaced_call` finds it, or says what to answer. Nothing is replaced
by that: the new call is told of like any other, with the old one beside it, and **whoever owns the two answers the new
call and then hangs up the old one** (BYE, or CANCEL where it still rings), as §3 of the RFC wants.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipbridge.errors import SipParseError
from sipbridge.sip.dialog import Dialog, DialogId
from sipbridge.sip.flow import Flow
from sipbridge.sip.message import Request
from sipbridge.sip.replies import Reply

if TYPE_CHECKING:
    from sipbridge.sip.core import Core
    from sipbridge.sip.invite import Invite

OPTION = "replaces"
MAX_LENGTH = 1024

_call_id = re.compile(r"[^\x00-\x20\x7f;,]++")
_tag = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]{1,256}")


@dataclass(frozen=True, slots=True)
class Replaces:
    """Which call is to be replaced, as its two ends name it. `to_tag` is that of whoever is to look it up."""

    call_id: str
    to_tag: str
    from_tag: str
    early_only: bool = False
    """Only while it rings."""

    @classmethod
    def parse(cls, text: str) -> Replaces:
        """Raises SipParseError."""
        call_id, *params = (part.strip(" \t") for part in text[: MAX_LENGTH + 1].split(";"))
        tags: dict[str, str] = {}
        for param in params:
            name, _, value = (part.strip(" \t") for part in param.partition("="))
            if tags.setdefault(name.lower(), value) != value:
                raise SipParseError("a parameter of Replaces given twice")
        to_tag, from_tag = tags.get("to-tag", ""), tags.get("from-tag", "")
        whole = len(text) <= MAX_LENGTH and _call_id.fullmatch(call_id)
        if not whole or not _tag.fullmatch(to_tag) or not _tag.fullmatch(from_tag):
            raise SipParseError(f"malformed Replaces: {ascii(text[:60])}")
        return cls(call_id, to_tag, from_tag, "early-only" in tags)

    @classmethod
    def of_dialog(cls, dialog: Dialog) -> Replaces:
        """A dialog of ours, as its peer has to look it up."""
        call_id, local_tag, remote_tag = dialog.id
        return cls(call_id, to_tag=remote_tag or "0", from_tag=local_tag)

    @classmethod
    def of(cls, request: Request) -> Replaces | None:
        """What a request says. Raises SipParseError where it says it twice (§3: 400)."""
        values = request.headers.get_list("Replaces")
        if len(values) > 1:
            raise SipParseError("more than one Replaces")
        return cls.parse(values[0]) if values else None

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Of an INVITE that is to replace a call: a callee that does not know how must not take it for a new one."""
        return ("Replaces", str(self)), ("Require", OPTION)

    def __str__(self) -> str:
        early = ";early-only" if self.early_only else ""
        return f"{self.call_id};to-tag={self.to_tag};from-tag={self.from_tag}{early}"


def replaced_call(request: Request, flow: Flow, core: Core) -> Invite | Reply | None:
    """The call that an INVITE outside any dialog wants to replace; None: it is an ordinary one."""
    if "Replaces" not in request.headers:
        return None
    policy = core.transfer_policy.replace
    if policy is None:
        # To take it for a new call would be worse than to refuse it: somebody waits to be connected with somebody.
        return Reply(403)
    try:
        wanted = Replaces.of(request)
    except SipParseError as error:
        return Reply(400, reason=f"Bad Request: {error}")
    found = None if wanted is None else _find(wanted, core)
    if wanted is None or found is None:
        return Reply(481)
    dialog, call = found
    if call.is_over:
        return Reply(603)
    if not dialog.confirmed and not call.made_call_id:
        return Reply(481)  # §3: nobody but the caller may have a ringing call replaced
    if dialog.confirmed and wanted.early_only:
        return Reply(486)
    return call if policy(call, request, flow) else Reply(403)


def _find(wanted: Replaces, core: Core) -> tuple[Dialog, Invite] | None:
    """By the three parts of the dialog's ID. A peer from before tags existed has the tag "0" here (§4)."""
    remote_tags = (wanted.from_tag, "") if wanted.from_tag == "0" else (wanted.from_tag,)
    for remote_tag in remote_tags:
        found = core.dialogs.get(DialogId(wanted.call_id, wanted.to_tag, remote_tag))
        if found is not None:
            return found
    return None
