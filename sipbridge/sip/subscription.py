"""Both ends of the subscription that a REFER makes (RFC 3515 §2.4, RFC 6665): pure, NOTIFYs and time in and out.

`ReferSubscription` is ours: how a transfer that we asked for goes on. `ReferReports` is theirs: what we have to tell of
a call that they asked us to make. Who sends, answers and keeps the time is `transfers.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sipbridge.sip.message import Request
from sipbridge.sip.refer import EVENT, event_of, read_sipfrag
from sipbridge.sip.status import reason_phrase

UNTOLD = 300.0
"""Seconds that a subscription lasts whose notifier does not say."""
LONGEST = 3600.0
DURATION = 180
"""Seconds for which we report, unless they ask for more: a phone does not ring longer."""

_expires = re.compile(r";[ \t]*+expires[ \t]*+=[ \t]*+([0-9]{1,9})[ \t]*+(?:;|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Notification:
    status: int
    reason: str
    final: bool


class ReferSubscription:
    """Made by our REFER. It ends when they say so, or when they have said nothing for too long."""

    def __init__(self, refer: Request) -> None:
        self.refer = refer
        self.finished = False
        """A final status, or the end, has been reported: later NOTIFYs are answered and say nothing new."""
        self.terminated = False
        self.expires_at: float | None = None
        """None before there is anything to wait for: the REFER is being sent."""
        self._last = Notification(100, "Trying", False)
        self._heard_from = False

    def matches(self, notify: Request) -> bool:
        """RFC 3515 §2.4.6: the `id` is the CSeq number of the REFER, as it was sent last, and may be left out."""
        event, id_ = event_of(notify)
        return event == EVENT and id_ in (None, str(self.refer.cseq.number))

    def accepted(self, now: float, patience: float) -> None:
        """The REFER got its 2xx: the first NOTIFY is to come soon (RFC 6665 §4.1.2.4, Timer N)."""
        if self.expires_at is None:
            self.expires_at = now + patience

    def receive(self, notify: Request, now: float) -> Notification | None:
        """None: it says nothing new. A body that is no sipfrag with a status line leaves the status as it was."""
        state = notify.headers.get("Subscription-State") or ""
        self.terminated = self.terminated or state.partition(";")[0].strip().lower() == "terminated"
        match = _expires.search(state)
        self.expires_at = now + min(LONGEST, float(match[1]) if match else UNTOLD)
        if self.finished:
            return None
        status, reason = read_sipfrag(notify.body) or (self._last.status, self._last.reason)
        return self._say(Notification(status, reason, final=status >= 200 or self.terminated))

    def expire(self) -> Notification | None:
        """They say no more: what was told last is the last word. None: it had been said."""
        self.terminated = True
        if self.finished:
            return None
        return self._say(Notification(self._last.status, self._last.reason, final=True))

    def limit(self, until: float) -> None:
        """It is not waited for longer than that."""
        self.expires_at = until if self.expires_at is None else min(until, self.expires_at)

    def _say(self, notification: Notification) -> Notification | None:
        if notification == self._last and self._heard_from:
            return None
        self._last, self._heard_from = notification, True
        self.finished = notification.final
        return notification


@dataclass(frozen=True, slots=True)
class Report:
    """What the next NOTIFY says."""

    status: int
    reason: str
    state: str
    """The value of Subscription-State."""
    final: bool


class ReferReports:
    """Made by their REFER. One NOTIFY at a time, so that none can overtake another: what happens meanwhile is told
    afterwards, the newest of it only."""

    def __init__(self, now: float) -> None:
        self.expires_at = now + DURATION
        self.over = False
        """The last NOTIFY is under way, or will never be."""
        self._status, self._reason = 100, reason_phrase(100)
        self._untold = True
        self._expired = False
        self._waiting = False

    def happened(self, status: int, reason: str) -> None:
        """A response to the call that they asked for; nothing follows on a final one."""
        if self._status >= 200 or (status, reason) == (self._status, self._reason):
            return
        self._status, self._reason, self._untold = status, reason or reason_phrase(status), True

    def renewed(self, seconds: int, now: float) -> int:
        """They subscribe again (RFC 3515 §2.4.4), for so long, or unsubscribe with 0. Returns what is granted."""
        granted = min(seconds, int(LONGEST))
        self.expires_at = now + granted
        self._untold, self._expired = True, granted == 0
        return granted

    def next(self, now: float) -> Report | None:
        """What to send now, if anything; to be followed by `answered`."""
        if self._waiting or self.over:
            return None
        expired = self._expired or now >= self.expires_at
        if not self._untold and not expired:
            return None
        self._untold, self._waiting = False, True
        self.over = expired or self._status >= 200
        if not self.over:
            state = f"active;expires={max(1, int(self.expires_at - now))}"
        else:
            state = f"terminated;reason={'noresource' if self._status >= 200 else 'timeout'}"
        return Report(self._status, self._reason, state, final=self.over)

    def answered(self) -> None:
        self._waiting = False

    def refused_for_now(self) -> None:
        """The NOTIFY came at a bad time: it has still to be told."""
        self._waiting = self.over = False
        self._untold = True

    def end(self) -> None:
        """They want to hear no more."""
        self.over, self._waiting = True, False
