"""REFER and the subscription it makes (RFC 3515): how a transfer that we asked for goes on, told by NOTIFY.

One `ReferSubscription` per REFER. It reads NOTIFYs; sending and answering is the call's (`invite.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sipbridge.sip.message import Request

_status_line = re.compile(rb"SIP/2\.0[ \t]+([1-6][0-9]{2})(?:[ \t]+([^\r\n]*))?(?:\r?\n|$)")


@dataclass(frozen=True, slots=True)
class Notification:
    status: int
    reason: str
    final: bool


class ReferSubscription:
    """`sequence` is the CSeq number of the REFER, which is the `id` of its subscription (RFC 3515 §2.4.6)."""

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.finished = False
        """A final status, or the end, has been reported: later NOTIFYs are answered and say nothing new."""
        self.terminated = False
        self._last = Notification(100, "Trying", False)

    def matches(self, notify: Request) -> bool:
        event, _, params = (notify.headers.get("Event") or "").partition(";")
        if event.strip().lower() != "refer":
            return False
        for param in params.split(";"):
            name, _, value = param.partition("=")
            if name.strip().lower() == "id":
                return value.strip() == str(self.sequence)
        return True  # the first REFER of a dialog may leave the id out

    def receive(self, notify: Request) -> Notification | None:
        """None: it says nothing new. A body that is no sipfrag with a status line leaves the status as it was."""
        state = (notify.headers.get("Subscription-State") or "").partition(";")[0].strip().lower()
        self.terminated = self.terminated or state == "terminated"
        if self.finished:
            return None
        status, reason = self._last.status, self._last.reason
        match = _status_line.match(notify.body.lstrip())
        if match is not None:
            status = int(match[1])
            reason = (match[2] or b"").decode("utf-8", "replace").strip()
        notification = Notification(status, reason, final=status >= 200 or self.terminated)
        if notification == self._last:
            return None
        self._last = notification
        self.finished = notification.final
        return notification
