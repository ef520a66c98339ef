"""Session timers (RFC 4028), both roles: pure, header fields and time in, header fields and deadlines out.

Each 2xx to INVITE or UPDATE says how long the session lasts from then on and who refreshes it. Half-way the refresher
sends a re-INVITE or an UPDATE; whoever sees no refresh hangs up a little before the end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from sipbridge.errors import SipParseError
from sipbridge.sip.message import Message, Request, Response
from sipbridge.sip.reliable import has_option

OPTION = "timer"

SMALLEST = 90
"""Seconds: what Min-SE means where it is left out, and the least that it may be (§5)."""
_FLOOR = 20
"""A peer that agrees to less than this, against §5, is refreshed at this rate all the same, and no faster."""
_LONGEST = 2**31 - 1

_seconds = re.compile(r"[ \t]*+0*([0-9]{1,10})[ \t]*+((?:;.*)?+)")
_refresher = re.compile(r";[ \t]*+refresher[ \t]*+=[ \t]*+(uac|uas)[ \t]*+(?:;|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SessionTimers:
    """Settings of the user agent. As callee it accepts what the caller wants; these are its own wishes."""

    expires_s: int = 1800
    """What a call of ours asks for; 0: it asks for nothing, and follows where the other side does."""
    min_s: int = SMALLEST
    """Callers that want less are told so with 422."""
    prefer: Literal["us", "peer"] | None = None
    """Who is to refresh where we have the choice. None: as callee, the peer; as caller, it is left to the callee."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The value of Session-Expires (§4). The refresher is told by its role in this very request."""

    seconds: int
    refresher: Literal["uac", "uas"] | None = None

    def __str__(self) -> str:
        return f"{self.seconds};refresher={self.refresher}" if self.refresher else str(self.seconds)


def session_expires(message: Message) -> Interval | None:
    """Raises SipParseError where it is malformed."""
    value = message.headers.get("Session-Expires")
    if value is None:
        return None
    seconds, params = _parse(value)
    match = _refresher.search(params)
    role: Literal["uac", "uas"] | None = None
    if match is not None:
        role = "uac" if match[1].lower() == "uac" else "uas"
    return Interval(seconds, role)


def min_se(message: Message) -> int:
    """Raises SipParseError where it is malformed."""
    value = message.headers.get("Min-SE")
    return SMALLEST if value is None else max(SMALLEST, _parse(value)[0])


def check(request: Request) -> None:
    """Raises SipParseError where the fields that are gone by here are malformed."""
    _ = session_expires(request), min_se(request)


def is_too_brief(request: Request, settings: SessionTimers) -> bool:
    """§9: whether a request is to be refused with 422 and our Min-SE. Only a sender that knows timers can heed it."""
    wanted = session_expires(request)
    return wanted is not None and wanted.seconds < settings.min_s and has_option(request.supported, OPTION)


def _parse(value: str) -> tuple[int, str]:
    match = _seconds.fullmatch(value)
    if match is None:
        raise SipParseError(f"malformed session interval: {ascii(value[:60])}")
    return min(int(match[1]), _LONGEST), match[2]


class Due(Enum):
    REFRESH = "refresh"
    EXPIRED = "expired"


class SessionTimer:
    """The timer of one session. It does not run before a 2xx has set it going."""

    def __init__(self, settings: SessionTimers) -> None:
        self._settings = settings
        self._interval = settings.expires_s
        self._min_se = settings.min_s
        self._running = False
        self._agreed = False
        """The peer has had its say. If not, we refresh all the same, to learn of a peer that is gone, and any answer
        of its will do."""
        self._ours = False
        """We are the refresher."""
        self._refresh_at: float | None = None
        self._expires_at: float | None = None

    # what our requests and answers say

    def request_headers(self) -> list[tuple[str, str]]:
        """Of an INVITE, re-INVITE or UPDATE of ours (§7.1, §7.4)."""
        headers = []
        if self._interval:
            role: Literal["uac", "uas"] | None = None
            if self._agreed:
                role = "uac" if self._ours else "uas"  # §7.4: whoever refreshes goes on doing so
            elif self._settings.prefer is not None:
                role = "uac" if self._settings.prefer == "us" else "uas"
            headers.append(("Session-Expires", str(Interval(max(self._interval, self._min_se), role))))
        if self._min_se > SMALLEST:
            headers.append(("Min-SE", str(self._min_se)))
        return headers

    def accept(self, request: Request, now: float) -> list[tuple[str, str]]:
        """We give a 2xx to this request, with these headers (§9); from now on the timer runs as they say."""
        wanted = session_expires(request)
        supported = has_option(request.supported, OPTION)
        if wanted is None and not self._running:
            return []
        seconds = self._interval if wanted is None else max(wanted.seconds, min_se(request))
        role = self._choose(wanted, supported=supported)
        self._start(seconds, now, ours=role == "uas", agreed=True)
        headers = [("Session-Expires", str(Interval(self._interval, role)))]
        if supported:
            headers.append(("Require", OPTION))
        return headers

    def accepted(self, request: Request, response: Response, now: float) -> None:
        """The peer gave a 2xx to a request of ours (§7.2)."""
        try:
            granted = session_expires(response)
        except SipParseError:
            granted = None
        if granted is not None:
            self._start(granted.seconds, now, ours=granted.refresher != "uas", agreed=True)
        elif "Session-Expires" in request.headers:
            # §7.2: the session does not expire. We asked because we want to know, so we go on asking.
            self._start(self._interval, now, ours=True, agreed=False)

    def raise_to(self, response: Response) -> bool:
        """A 422 (§7.3): ask for what it demands. False: there is no sense in asking again."""
        try:
            demanded = min_se(response)
        except SipParseError:
            return False
        if demanded <= max(self._interval, self._min_se):
            return False
        self._interval = self._min_se = demanded
        return True

    # time

    def get_timer(self) -> float | None:
        return self._refresh_at if self._refresh_at is not None else self._expires_at

    def due(self, now: float) -> Due | None:
        """What is to be done now; told once, so a refresh that fails has to be asked for again (`refresh_failed`)."""
        if self._expires_at is not None and now >= self._expires_at:
            self.stop()
            return Due.EXPIRED
        if self._refresh_at is not None and now >= self._refresh_at:
            self._refresh_at = None
            return Due.REFRESH
        return None

    def refresh_failed(self, now: float) -> None:
        """The refresh was refused, by a peer that is there: it is tried again while there is time (§10)."""
        if not self._running or self._expires_at is None:
            return
        if not self._agreed:
            self._start(self._interval, now, ours=True, agreed=False)
        elif self._ours and (remaining := self._expires_at - now) > 1:
            self._refresh_at = now + remaining / 2

    def stop(self) -> None:
        self._running = False
        self._refresh_at = self._expires_at = None

    # private

    def _choose(self, wanted: Interval | None, *, supported: bool) -> Literal["uac", "uas"]:
        """§9, table 2. A running timer goes on as it was where the request says nothing about it."""
        if not supported:
            return "uas"
        if wanted is not None and wanted.refresher is not None:
            return wanted.refresher
        if self._running and self._agreed:
            return "uas" if self._ours else "uac"
        return "uas" if self._settings.prefer == "us" else "uac"

    def _start(self, seconds: int, now: float, *, ours: bool, agreed: bool) -> None:
        self._interval = seconds = max(seconds, _FLOOR)
        self._running, self._ours, self._agreed = True, ours, agreed
        self._refresh_at = now + seconds / 2 if ours else None
        self._expires_at = now + seconds - min(32, seconds / 3)  # §10
