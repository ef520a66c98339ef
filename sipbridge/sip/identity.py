"""Who is calling, whom, and which way the call came: everything that an INVITE says of it, as one frozen value.

From, P-Asserted-Identity and Privacy (RFC 3325, 3323), Remote-Party-ID, the dialled number (RFC 3966), Diversion and
History-Info (RFC 5806, 7044), Identity and verstat (RFC 8224, 3GPP TS 24.229), and what vendors put into X- fields.

Anybody can write anything into these fields. Those that carry a network's word, not the caller's, are read from trusted
peers only; P-Preferred-Identity and P-Charging-Vector are never read. A malformed field is left out, and named in
`malformed`; reading never raises. Texts are fit for logs and models: UTF-8, no control characters, of bounded length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar

from sipbridge.errors import SipParseError
from sipbridge.sip.diversion import MAX_ENTRIES, Diversion, HistoryEntry, first_target
from sipbridge.sip.headers import NameAddr, Uri, readable, split_list
from sipbridge.sip.message import Headers, Request
from sipbridge.sip.number import Number, user_params
from sipbridge.sip.passport import MAX_PASSPORTS, UnverifiedPassport, read_unverified

T = TypeVar("T")

MAX_X_HEADERS = 64
_MAX_TEXT = 1024
_MAX_NAME = 256
_MAX_ASSERTED = 4
_UNSHOWN: Final = frozenset({"id", "user", "header"})
"""Privacy values by which the caller wants nobody at our end to see who it is."""
_PRIVACY_OF_RPID: Final = frozenset({"full", "name", "uri"})
_ANONYMOUS_USERS: Final = frozenset({"anonymous", "restricted"})

_unprintable = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_verstat = re.compile(r"[A-Za-z0-9\-]{1,64}")


def _text(value: str, limit: int = _MAX_TEXT) -> str:
    return _unprintable.sub("", readable(value))[:limit].strip()


@dataclass(frozen=True, slots=True)
class Party:
    """One end of a call, as a header field names it."""

    display: str
    uri: Uri
    number: Number | None
    """None: it is a name, not a number."""

    @classmethod
    def of(cls, address: NameAddr) -> Party:
        return cls(_text(address.display, _MAX_NAME), address.uri, Number.of(address.uri))

    @property
    def user(self) -> str:
        """The number without its separators, else the user part, readable; "" where there is neither."""
        if self.number is not None:
            return self.number.digits
        return _text(self.uri.username, _MAX_NAME)

    @property
    def is_anonymous(self) -> bool:
        """The sender hides it (RFC 3323 §4.1.1.3, and how it is done in practice)."""
        user, host = self.uri.username.lower(), self.uri.host.lower()
        return host == "anonymous.invalid" or user in _ANONYMOUS_USERS

    def __str__(self) -> str:
        return self.user or _text(str(self.uri), _MAX_NAME)


@dataclass(frozen=True, slots=True)
class CallerIdentity:
    """What is known of an incoming call before a word has been said. `CallerIdentity.of(request, trusted=...)`."""

    from_: Party
    """The caller's own word."""
    dialled: Party
    """The Request-URI: whom the call was sent to at last."""
    to: Party
    """Whom it was meant for. Some trunks send every call to the user we registered as, and the number is only here."""
    trusted: bool
    asserted: tuple[Party, ...] = ()
    """The network's word (P-Asserted-Identity, else Remote-Party-ID): mostly a sip URI, a number, or both."""
    privacy: frozenset[str] = frozenset()
    """In lower case: `id`, `header`, `user`, `session`, `history`, `critical`, `none`."""
    diversions: tuple[Diversion, ...] = ()
    """The latest first."""
    history: tuple[HistoryEntry, ...] = ()
    """In the tree's order: where the call began first."""
    verstat: str = ""
    """What the network that checked the caller's number found, as it puts it: `TN-Validation-Passed`, ..."""
    unverified_passports: tuple[UnverifiedPassport, ...] = ()
    referred_by: Party | None = None
    """Who is said to have transferred the caller to us (RFC 3892)."""
    subject: str = ""
    user_agent: str = ""
    call_info: tuple[str, ...] = ()
    alert_info: tuple[str, ...] = ()
    x_headers: tuple[tuple[str, str], ...] = ()
    """X- fields in order."""
    malformed: tuple[str, ...] = ()
    """Names of the fields of which a value was left out."""

    @classmethod
    def of(cls, request: Request, *, trusted: bool) -> CallerIdentity:
        reader = _Reader(request.headers)
        dialled = Party.of(NameAddr("", request.request_uri))
        asserted, privacy = reader.asserted() if trusted else ((), frozenset[str]())
        referred_by = reader.each("Referred-By", NameAddr.parse, 1)
        return cls(
            from_=Party.of(request.from_),
            dialled=dialled,
            to=Party.of(request.to),
            trusted=trusted,
            asserted=asserted,
            privacy=privacy | reader.privacy(),
            diversions=reader.each("Diversion", Diversion.parse, MAX_ENTRIES),
            history=reader.history(),
            verstat=_verstat_of([*asserted, Party.of(request.from_)], request.from_) if trusted else "",
            unverified_passports=reader.passports(),
            referred_by=Party.of(referred_by[0]) if referred_by else None,
            subject=reader.text("Subject"),
            user_agent=reader.text("User-Agent"),
            call_info=reader.texts("Call-Info"),
            alert_info=reader.texts("Alert-Info"),
            x_headers=reader.x_headers(),
            malformed=tuple(reader.malformed),
        )

    @property
    def caller(self) -> Party:
        """Who calls, as well as it is known: the network's word before the caller's own, a number before a name. It is
        what calls are sorted by; whether anybody may be told is `is_private`'s affair."""
        numbers = [party for party in self.asserted if party.number is not None]
        return next(iter(numbers or self.asserted), self.from_)

    @property
    def display(self) -> str:
        """The caller's name, or "" where there is none."""
        return self.from_.display or next((party.display for party in self.asserted if party.display), "")

    @property
    def is_private(self) -> bool:
        """The caller does not want to be named: it belongs neither before people nor into logs (RFC 3323, 3325)."""
        return self.from_.is_anonymous or not self.privacy.isdisjoint(_UNSHOWN)

    @property
    def shown(self) -> Party | None:
        """The caller, where it may be named."""
        return None if self.is_private else self.caller

    @property
    def first_dialled(self) -> Party:
        """Whom the caller dialled, before anybody diverted the call: the first of the history, the last Diversion."""
        entry = first_target(self.history)
        if entry is not None:
            return Party.of(entry.party)
        return Party.of(self.diversions[-1].party) if self.diversions else self.dialled

    @property
    def unverified_attestation(self) -> str:
        """A, B or C as the first SHAKEN PASSporT claims, whose signature nobody here has checked; "" without one."""
        return next((passport.attestation for passport in self.unverified_passports if passport.attestation), "")


_MAX_LOOKED_AT = 256
"""Values of one header: a datagram has room for twenty thousand malformed ones."""


class _Reader:
    """Header fields that may be malformed, each value by itself."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers
        self.malformed: list[str] = []

    def each(self, name: str, parse: Callable[[str], T], limit: int) -> tuple[T, ...]:
        """What `parse` makes of the values of these fields, but for the malformed ones."""
        found: list[T] = []
        for value in islice(self._values(name), _MAX_LOOKED_AT):
            if len(found) == limit:
                break
            try:
                found.append(parse(value))
            except SipParseError:
                self._note(name)
        return tuple(found)

    def asserted(self) -> tuple[tuple[Party, ...], frozenset[str]]:
        addresses = self.each("P-Asserted-Identity", NameAddr.parse, _MAX_ASSERTED)
        if addresses:
            return tuple(map(Party.of, addresses)), frozenset()
        callers = [
            address
            for address in self.each("Remote-Party-ID", NameAddr.parse, _MAX_ASSERTED)
            if (address.params.get("party") or "calling").strip('"').lower() == "calling"
        ]
        wishes = {(address.params.get("privacy") or "").strip('"').lower() for address in callers}
        hidden = not wishes.isdisjoint(_PRIVACY_OF_RPID)
        return tuple(map(Party.of, callers)), frozenset({"id"}) if hidden else frozenset()

    def privacy(self) -> frozenset[str]:
        """RFC 3323 §4.2 separates by semicolon; commas are seen as well."""
        text = ";".join(self._headers.get_all("Privacy"))[:_MAX_TEXT].replace(",", ";")
        return frozenset(value for part in text.split(";") if (value := part.strip().lower()) and value.isalpha())

    def history(self) -> tuple[HistoryEntry, ...]:
        entries = self.each("History-Info", HistoryEntry.parse, MAX_ENTRIES)
        return tuple(sorted(entries, key=lambda entry: (not entry.index, entry.index)))

    def passports(self) -> tuple[UnverifiedPassport, ...]:
        found = []
        for value in list(self._values("Identity"))[:MAX_PASSPORTS]:
            passport = read_unverified(value)
            if passport is None:
                self._note("Identity")
            else:
                found.append(passport)
        return tuple(found)

    def text(self, name: str) -> str:
        return _text(self._headers.get(name) or "")

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(_text(value) for value in self._headers.get_all(name)[:4])

    def x_headers(self) -> tuple[tuple[str, str], ...]:
        fields = [(name[:_MAX_NAME], _text(value)) for name, value in self._headers if name[:2] in ("X-", "x-")]
        return tuple(fields[:MAX_X_HEADERS])

    def _values(self, name: str) -> Iterator[str]:
        for field in self._headers.get_all(name):
            try:
                yield from split_list(field)
            except SipParseError:
                self._note(name)

    def _note(self, name: str) -> None:
        if name not in self.malformed:
            self.malformed.append(name)


def _verstat_of(parties: list[Party], from_: NameAddr) -> str:
    """A parameter of the number, wherever a network puts it: of the tel URI, of the user part, of the URI, of From."""
    for party in parties:
        for params in (user_params(party.uri), party.uri.params, from_.params):
            value = params.get("verstat") or ""
            if _verstat.fullmatch(value):
                return value
    return ""
