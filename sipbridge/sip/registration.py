"""Being registered somewhere (RFC 3261 §10.2; RFC 3327, 3608, 5626 §4 in part): one account, kept alive.

A registration is refreshed well before it runs out, again at once where its connection breaks or a NAT turns out to
have given us another address, and tried again for ever where it fails: soon and then ever later after what passes by
itself, rarely after what somebody has to set right. Where the request goes, and to whom next, is decided below, as for
any request (`client_request.py`), and so are challenges.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from sipbridge.errors import SipParseError
from sipbridge.sip.dialog import MAX_FORWARDS, request_uri
from sipbridge.sip.digest import Credentials, DigestClient
from sipbridge.sip.events import Registered, RegistrationFailed, Unregistered
from sipbridge.sip.flow import Flow
from sipbridge.sip.headers import NameAddr, Uri, delta_seconds
from sipbridge.sip.message import Headers, Request, Response
from sipbridge.sip.status import reason_phrase

if TYPE_CHECKING:
    from sipbridge.sip.client_request import ClientRequest
    from sipbridge.sip.core import Core


class RegistrationState(Enum):
    REGISTERING = "registering"
    REGISTERED = "registered"
    WAITING = "waiting"
    """It failed, and is tried again at `next_at`; what was granted before may hold still (`expires_at`)."""
    UNREGISTERING = "unregistering"
    ENDED = "ended"


class Input(Enum):
    GRANTED = "granted"
    TOO_BRIEF = "too brief"
    FAILED = "failed"
    DUE = "due"
    """A refresh, or the next attempt; also because a connection was lost."""
    STOP = "stop"
    GONE = "gone"
    """The answer to the de-registration, or none."""


TABLE: dict[RegistrationState, dict[Input, tuple[RegistrationState, str]]] = {
    RegistrationState.REGISTERING: {
        Input.GRANTED: (RegistrationState.REGISTERED, "keep"),
        Input.TOO_BRIEF: (RegistrationState.REGISTERING, "send"),
        Input.FAILED: (RegistrationState.WAITING, "wait"),
        Input.STOP: (RegistrationState.UNREGISTERING, "remove"),
    },
    RegistrationState.REGISTERED: {
        Input.DUE: (RegistrationState.REGISTERING, "send"),
        Input.STOP: (RegistrationState.UNREGISTERING, "remove"),
    },
    RegistrationState.WAITING: {
        Input.DUE: (RegistrationState.REGISTERING, "send"),
        Input.STOP: (RegistrationState.UNREGISTERING, "remove"),
    },
    RegistrationState.UNREGISTERING: {
        Input.GONE: (RegistrationState.ENDED, "end"),
    },
}

_PASSING = frozenset({408, 480, 491, 500, 502, 503, 504})
"""What may be over in a moment. All other refusals wait for a person: a password, an account, a configuration."""
_MAX_TOO_BRIEF = 3
_MAX_SECONDS = 7 * 86_400
_MAX_ROUTES = 8


@dataclass(frozen=True, slots=True)
class RetryTimes:
    """Seconds; every wait is shortened by up to half of it at random, so that many clients don't come back at once."""

    first: float = 4.0
    longest: float = 300.0
    first_slow: float = 120.0
    longest_slow: float = 3600.0
    longest_asked: float = 3600.0
    """Of a Retry-After."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where to be registered, and as whom."""

    server: Uri
    """The registrar, or the domain whose registrar DNS knows."""
    credentials: Credentials
    aor: NameAddr
    """The address-of-record."""
    contact_user: str
    """The user part of our Contact: what calls to us are addressed to."""
    expires_s: int = 300
    transport: str | None = None
    proxy: Uri | None = None
    instance: str | None = None
    """A URN that stays the same for this node (RFC 5626 §4.1), such as `urn:uuid:...`."""


class Registration:
    """Made by `UserAgent.register`; its events are `Registered`, `RegistrationFailed` and `Unregistered`."""

    def __init__(self, core: Core, account: Account, times: RetryTimes) -> None:
        self.account = account
        self.state = RegistrationState.WAITING
        self.expires_at: float | None = None
        """Until when we are registered; None: we are not, or no more."""
        self.next_at: float | None = None
        self.failures = 0
        self.status: int | None = None
        """Of the last answer, 408 and 503 also where there was none."""
        self.reason = ""
        self.contact: Uri | None = None
        """Where the registrar sends calls."""
        self.service_route: tuple[str, ...] = ()
        """The Route of requests through this registrar's proxies (RFC 3608)."""
        self.path: tuple[str, ...] = ()
        self.flow: Flow | None = None
        """By which it was registered; calls come back by it, if the registrar is one that keeps connections."""
        self._core = core
        self._times = times
        self._digest = DigestClient(account.credentials)
        self._call_id = core.new_token()
        self._from = str(account.aor.with_tag(core.new_token()))
        self._sequence = 0
        self._expires = account.expires_s
        self._too_brief = 0
        self._sending: ClientRequest | None = None
        self._request: Request | None = None
        """The one under way; None: none is."""
        self._asked: Uri | None = None
        """The Contact of the request that is under way."""
        self._moved = False
        self._granted = 0
        self._response: Response | None = None
        self._flow_ping_at: float | None = None
        self._ping_interval = 0.0

    def __repr__(self) -> str:
        return f"<Registration {self.account.aor.uri} {self.state.value}>"

    def is_registered(self, now: float) -> bool:
        return self.expires_at is not None and now < self.expires_at

    # commands

    def start(self, now: float) -> None:
        self._step(Input.DUE, now)

    def stop(self, now: float) -> None:
        """De-register (§10.2.2). `Unregistered` follows, at the latest when nobody has answered: 32 s over UDP."""
        self._step(Input.STOP, now)

    def flow_closed(self, flow: Flow, now: float) -> None:
        """The connection that calls would come by is gone: register again, by another one (RFC 5626 §4.4)."""
        if flow == self.flow and self.state is RegistrationState.REGISTERED:
            self.next_at = min(self.next_at or now, now + self._jittered(1.0))
            self._core.schedule.update(self)

    def uses(self, flow: Flow) -> bool:
        return flow == self.flow and self.state not in (RegistrationState.WAITING, RegistrationState.ENDED)

    # input, from the request that is under way

    def receive_response(self, request: Request, response: Response, now: float) -> None:
        if request is not self._request or response.status < 200:
            return
        self._request = None
        self._response = response
        self.status, self.reason = response.status, response.reason
        self._sequence = request.cseq.number
        if self.state is RegistrationState.UNREGISTERING:
            self._step(Input.GONE, now)
        elif response.status < 300:
            self._granted = self._granted_by(response)
            self._step(Input.GRANTED if self._granted > 0 else Input.FAILED, now)
        elif response.status == 423 and self._too_brief < _MAX_TOO_BRIEF:
            self._too_brief += 1
            asked = delta_seconds(response.headers.get("Min-Expires"))
            self._expires = min(max(asked or 0, 2 * self._expires if asked is None else self._expires), _MAX_SECONDS)
            self._step(Input.TOO_BRIEF, now)
        else:
            self._step(Input.FAILED, now)

    def request_failed(self, request: Request, status: int, now: float) -> None:
        if request is not self._request:
            return
        self._request = self._response = None
        trouble = "" if self._sending is None else self._sending.trouble
        text = f"cannot be reached{': ' if trouble else ''}{trouble}"
        self.status, self.reason = status, "no answer" if status == 408 else text
        self._sequence = request.cseq.number
        self._step(Input.GONE if self.state is RegistrationState.UNREGISTERING else Input.FAILED, now)

    # time

    def get_timer(self) -> float | None:
        deadlines = (self.next_at, self._flow_ping_at)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def handle_timer(self, now: float) -> None:
        if self._flow_ping_at is not None and now >= self._flow_ping_at:
            self._ping(now)
        if self.next_at is not None and now >= self.next_at:
            self._step(Input.DUE, now)

    # private

    def _step(self, received: Input, now: float) -> None:
        entry = TABLE.get(self.state, {}).get(received)
        if entry is None:
            return
        self.state, action = entry
        self.next_at = None
        getattr(self, f"_{action}")(now)
        self._core.schedule.update(self)

    def _send(self, now: float) -> None:
        self._send_register(self._expires, now)

    def _remove(self, now: float) -> None:
        self._flow_ping_at = None
        if self._request is not None and self._sending is not None:
            # Its answer may never come; the registrar tells the two apart by their CSeq.
            self._sending.abandon()
            self._sequence = self._request.cseq.number
        elif self.contact is None:
            self._end(now)
            return
        self._send_register(0, now)

    def _end(self, now: float) -> None:
        self.state = RegistrationState.ENDED
        self.expires_at = self.flow = None
        self._core.registrations.discard(self)
        self._core.emit(Unregistered(self, self.status))

    def _keep(self, now: float) -> None:
        """Registered. Refreshed after two thirds to three quarters of what was granted."""
        response, sending = self._response, self._sending
        assert response is not None
        first = not self.is_registered(now) or self.contact != self._asked
        self.failures = self._too_brief = 0
        self.contact = self._asked
        self.flow = None if sending is None else sending.flow
        self.expires_at = now + self._granted
        self.next_at = now + self._granted * (0.75 - 0.08 * self._core.draw())
        self.service_route = _routes(response.headers, "Service-Route")
        self.path = _routes(response.headers, "Path")
        self._set_pings(response, now)
        self._core.emit(Registered(self, self._granted, first))
        # RFC 3581: the answer told how we are seen. Once at a time, or two NATs would keep us busy.
        if self.flow is not None and self._contact(self.flow) != self.contact and not self._moved:
            self._moved = True
            self.next_at = now
        else:
            self._moved = False

    def _wait(self, now: float) -> None:
        assert self.status is not None
        self.failures += 1
        times, granted_nothing = self._times, self.status < 300
        passing = self.status in _PASSING
        first, longest = (times.first, times.longest) if passing else (times.first_slow, times.longest_slow)
        seconds = self._jittered(min(first * 2 ** min(self.failures - 1, 16), longest))
        if self._response is not None and (asked := self._response.retry_after) is not None:
            seconds = max(seconds, min(asked, times.longest_asked))
        if self.status in (401, 407):
            self._digest.forget()
        if not passing:
            self.expires_at = None
        self._flow_ping_at = None
        self.next_at = now + seconds
        reason = "the answer has no binding of ours" if granted_nothing else self.reason or reason_phrase(self.status)
        self._core.emit(RegistrationFailed(self, self.status, reason, seconds))

    def _send_register(self, expires: int, now: float) -> None:
        account = self.account
        self._sequence += 1
        headers = Headers()
        headers.add("Max-Forwards", MAX_FORWARDS)
        headers.add("From", self._from)
        headers.add("To", str(account.aor))
        headers.add("Call-ID", self._call_id)
        headers.add("CSeq", f"{self._sequence} REGISTER")
        headers.add("Expires", str(expires))
        headers.add("Supported", "path" if account.instance is None else "path, outbound")
        uri = request_uri(replace(account.server, user=None, password=None))
        request = self._request = Request("REGISTER", str(uri), headers)
        # What fails at once is told before this returns.
        self._sending = self._core.send_out_of_dialog(
            request,
            account.server,
            self,
            now,
            credentials=self._digest,
            transport=account.transport,
            proxy=account.proxy,
            prepare=lambda request, flow: self._set_contact(request, flow, expires),
        )

    def _set_contact(self, request: Request, flow: Flow, expires: int) -> None:
        """Ours as seen from where this goes. One that was registered before and is no more goes out with it."""
        uri = self.contact if expires == 0 and self.contact is not None else self._contact(flow)
        params: dict[str, str | None] = {"expires": str(expires)}
        if self.account.instance is not None:
            params |= {"+sip.instance": f'"<{self.account.instance}>"', "reg-id": "1"}
        value = str(NameAddr("", uri, params))
        if expires and self.contact is not None and self.contact != uri and self.expires_at is not None:
            value += ", " + str(NameAddr("", self.contact, {"expires": "0"}))
        request.headers.set("Contact", value)
        self._asked = uri

    def _contact(self, flow: Flow) -> Uri:
        return replace(NameAddr.parse(self._core.own.contact(flow)).uri, user=self.account.contact_user)

    def _granted_by(self, response: Response) -> int:
        """How long our own Contact holds (§10.2.4): others may be registered for the same user. A registrar that has
        rewritten it is found out by the user part, or by there being only one."""
        expires = delta_seconds(response.headers.get("Expires"))
        default = self._expires if expires is None else expires
        try:
            contacts = [contact for contact in response.contacts if not contact.is_wildcard]
        except SipParseError:
            return default
        asked = self._asked
        assert asked is not None
        ours = [contact for contact in contacts if contact.uri.matches(asked)]
        ours = ours or [
            c for c in contacts if (c.uri.host, c.uri.port, c.uri.user) == (asked.host, asked.port, asked.user)
        ]
        ours = ours or [contact for contact in contacts if contact.uri.user == asked.user]
        if not ours:
            # Some registrars list nothing; one that lists only others has not taken ours.
            return 0 if len(contacts) > 1 else default
        return min(
            max(
                delta_seconds(contact.params.get("expires")) or 0 if "expires" in contact.params else default
                for contact in ours
            ),
            _MAX_SECONDS,
        )

    # keeping a NAT's mapping open

    def _set_pings(self, response: Response, now: float) -> None:
        """A stream is pinged by its connection. Over UDP there is nobody else, and a NAT forgets within half a minute
        (RFC 5626 §4.4.2 would use STUN; what everybody sends is line ends)."""
        self._flow_ping_at = None
        flow = self.flow
        if flow is None or flow.transport != "udp":
            return
        self._ping_interval = 0.0
        asked = delta_seconds(response.headers.get("Flow-Timer"))
        if asked:
            self._ping_interval = max(0.8 * asked, 5.0)
        elif self.contact is not None and (self.contact.host, self.contact.port or 5060) != self._core.own.address(
            flow
        ):
            self._ping_interval = 25.0
        if self._ping_interval:
            self._flow_ping_at = now + self._ping_interval

    def _ping(self, now: float) -> None:
        if self.flow is None:
            self._flow_ping_at = None
            return
        self._core.transmit(self.flow, b"\r\n\r\n", None, now)
        self._flow_ping_at = now + self._ping_interval

    def _jittered(self, seconds: float) -> float:
        return seconds * (1.0 - 0.5 * self._core.draw())


def _routes(headers: Headers, name: str) -> tuple[str, ...]:
    """Addresses that can be routes; a malformed or endless list is none."""
    try:
        routes = tuple(headers.get_list(name))
        for route in routes:
            NameAddr.parse(route)
    except SipParseError:
        return ()
    return routes if len(routes) <= _MAX_ROUTES else ()
