"""A small registrar (RFC 3261 §10.3, RFC 3327): which addresses a user can be reached at, until when. Pure.

It serves users who have authenticated, each for his own address-of-record: `sip:USER@` whatever domain. What a Contact
says is kept as it came and given back unchanged, but for `expires`. A request is carried out as a whole or not at all.
Nothing here survives a restart: phones register again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import TypeAlias

from sipbridge.errors import SipParseError
from sipbridge.sip.flow import Flow
from sipbridge.sip.headers import NameAddr
from sipbridge.sip.message import Request
from sipbridge.sip.replies import Reply

EXTENSIONS = frozenset({"path"})
"""What a REGISTER may require."""
_MAX_CONTACT = 2_048
_MAX_PATH = 8
_SCHEMES = frozenset({"sip", "sips"})


@dataclass(frozen=True, slots=True)
class RegistrarSettings:
    default_seconds: int = 3600
    """Where the client asks for nothing."""
    min_seconds: int = 60
    """Less is refused (423): it is a load, and nobody's NAT needs it."""
    max_seconds: int = 3600
    """More is shortened, without a word but the `expires` in the answer."""
    max_bindings: int = 10
    """Of one user; beyond that, the one that was refreshed longest ago is dropped."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One address of a user's."""

    contact: NameAddr
    """As it came, without `expires`."""
    expires_at: float
    registered_at: float
    call_id: str
    sequence: int
    path: tuple[str, ...]
    """The proxies on the way to it, as Route values, nearest first."""
    flow: Flow
    """By which it was registered: behind a NAT, the only way back."""

    @property
    def q(self) -> float:
        """How much the user wants to be called there; 1 where he does not say."""
        try:
            q = float(self.contact.params.get("q") or 1)
        except ValueError:
            return 1.0
        return min(max(q, 0.0), 1.0) if q == q else 1.0

    @property
    def instance(self) -> tuple[str, str] | None:
        """RFC 5626 §4.2: the device and which of its flows; the same one replaces its old address by the new one."""
        instance, number = self.contact.params.get("+sip.instance"), self.contact.params.get("reg-id")
        return (instance, number) if instance and number else None


Changed: TypeAlias = Callable[[str, tuple[Binding, ...]], None]


class Registrar:
    """`changed` is told a user's name and bindings whenever these are others than before."""

    def __init__(
        self, settings: RegistrarSettings | None = None, changed: Changed = lambda username, bindings: None
    ) -> None:
        self._settings = settings or RegistrarSettings()
        self._changed = changed
        self._bindings: dict[str, tuple[Binding, ...]] = {}
        self._expiries: list[tuple[float, str]] = []

    def __len__(self) -> int:
        """How many users are registered."""
        return len(self._bindings)

    @property
    def users(self) -> Iterable[str]:
        return self._bindings.keys()

    def find(self, username: str, now: float) -> list[Binding]:
        """Where to call a user, best first."""
        bindings = [binding for binding in self._bindings.get(username, ()) if binding.expires_at > now]
        return sorted(bindings, key=lambda binding: (-binding.q, -binding.registered_at))

    def uses(self, flow: Flow) -> bool:
        """Somebody is registered by this connection, and perhaps reached by no other."""
        return any(binding.flow == flow for bindings in self._bindings.values() for binding in bindings)

    def register(self, request: Request, username: str | None, flow: Flow, now: float) -> Reply:
        """Carry out a REGISTER of a user who has authenticated; the answer, be it 200 or a refusal."""
        try:
            return self._register(request, username, flow, now)
        except SipParseError as error:
            return Reply(error.sip_status)

    # time

    def get_timer(self) -> float | None:
        while self._expiries and self._expiries[0][0] != self._next_expiry(self._expiries[0][1]):
            heappop(self._expiries)
        return self._expiries[0][0] if self._expiries else None

    def handle_timer(self, now: float) -> None:
        while (deadline := self.get_timer()) is not None and deadline <= now:
            username = self._expiries[0][1]
            self._store(username, [b for b in self._bindings[username] if b.expires_at > now])

    # private

    def _register(self, request: Request, username: str | None, flow: Flow, now: float) -> Reply:
        unsupported = [tag for tag in request.require if tag.lower() not in EXTENSIONS]
        if unsupported:
            return Reply(420, (("Unsupported", ", ".join(unsupported)),))
        if request.uri.partition(":")[0].lower() not in _SCHEMES:
            return Reply(416)
        user = request.to.uri
        if username is None or user.scheme not in _SCHEMES or user.username != username:
            return Reply(403)  # §10.3 step 4: nobody registers somebody else
        path = tuple(request.headers.get_list("Path"))
        if len(path) > _MAX_PATH or any(len(value) > _MAX_CONTACT for value in path):
            return Reply(400)
        for value in path:
            NameAddr.parse(value)  # raises
        current = [binding for binding in self._bindings.get(username, ()) if binding.expires_at > now]
        bindings = self._updated(current, request, path, flow, now)
        if isinstance(bindings, Reply):
            return bindings
        if bindings != list(self._bindings.get(username, ())):
            self._store(username, bindings)
        headers = [("Contact", _contact(binding, now)) for binding in bindings]
        if path and "path" in {tag.lower() for tag in (*request.supported, *request.require)}:
            headers += [("Path", value) for value in path]
        return Reply(200, tuple(headers))

    def _updated(
        self, bindings: list[Binding], request: Request, path: tuple[str, ...], flow: Flow, now: float
    ) -> list[Binding] | Reply:
        """§10.3 steps 6 and 7: the bindings as the request wants them."""
        contacts = request.contacts
        expires = request.headers.get("Expires")
        if any(contact.is_wildcard for contact in contacts):
            if len(contacts) != 1 or expires != "0":
                return Reply(400)
            return _OUT_OF_ORDER if any(_is_newer(binding, request) for binding in bindings) else []
        if len(contacts) > self._settings.max_bindings:
            return Reply(400, reason="Too many Contacts")
        for contact in contacts:
            seconds = self._seconds(contact.params.get("expires", expires))
            if seconds is None:
                return Reply(423, (("Min-Expires", str(self._settings.min_seconds)),))
            if contact.uri.scheme not in _SCHEMES or len(str(contact)) > _MAX_CONTACT:
                return Reply(400, reason="Bad Contact")
            kept = replace(contact, params={k: v for k, v in contact.params.items() if k != "expires"})
            new = Binding(kept, now + seconds, now, request.call_id, request.cseq.number, path, flow)
            same = [old for old in bindings if _is_same(old, new)]
            if any(_is_newer(old, request) for old in same):
                return _OUT_OF_ORDER
            bindings = [old for old in bindings if old not in same] + ([new] if seconds else [])
        return bindings[-self._settings.max_bindings :]

    def _seconds(self, text: str | None) -> int | None:
        """What is granted for what was asked; None: too little. A malformed value is none (§10.2.1.1)."""
        settings = self._settings
        if text is None or not (text.isascii() and text.isdigit() and len(text) <= 10):
            return settings.default_seconds
        asked = int(text)
        if 0 < asked < settings.min_seconds:
            return None
        return min(asked, settings.max_seconds)

    def _store(self, username: str, bindings: list[Binding]) -> None:
        if bindings:
            self._bindings[username] = tuple(bindings)
            heappush(self._expiries, (min(binding.expires_at for binding in bindings), username))
            if len(self._expiries) > 64 + 2 * len(self._bindings):
                self._expiries = sorted((self._next_expiry(user) or 0.0, user) for user in self._bindings)
        else:
            self._bindings.pop(username, None)
        self._changed(username, tuple(bindings))

    def _next_expiry(self, username: str) -> float | None:
        return min((binding.expires_at for binding in self._bindings.get(username, ())), default=None)


_OUT_OF_ORDER = Reply(500, reason="Requests Out Of Order")


def _is_newer(binding: Binding, request: Request) -> bool:
    """The binding was made by a later request of the same client, which has overtaken this one (§10.3 step 7)."""
    return binding.call_id == request.call_id and binding.sequence > request.cseq.number


def _is_same(old: Binding, new: Binding) -> bool:
    if old.instance is not None and old.instance == new.instance:
        return True
    return old.contact.uri.matches(new.contact.uri)


def _contact(binding: Binding, now: float) -> str:
    seconds = str(max(1, math.ceil(binding.expires_at - now)))
    return str(replace(binding.contact, params={**binding.contact.params, "expires": seconds}))
