"""Trunks: who comes by one, what may be called over it, does it answer, how much may it be used. Pure, in virtual time.

A transfer, a redirection and an outbound call are one risk: somebody makes us place a call that costs money. Therefore
a far end's wish is measured by the trunk's list of targets, and what is called is built here from the checked number
and the trunk's own proxy: nothing else of what was asked for (host, parameters, headers) gets into a request.
"""

from __future__ import annotations

import enum
import fnmatch
import ipaddress
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from sipbridge.errors import CallNotPlacedError, ConfigError, SipParseError
from sipbridge.gateway_file.trunks import Outbound, Trunk
from sipbridge.sip.admission import source_address
from sipbridge.sip.digest import Credentials
from sipbridge.sip.headers import NameAddr, Uri

_separators = re.compile(r"[-.() ]")
_number = re.compile(r"\+?[0-9*#]{1,32}")
_user = re.compile(r"[A-Za-z0-9+*#._~!'-]{1,64}")

_NO_COUNTRY = "+979 +808 +870 +881 +882 +883 +878"
_PREMIUM = """
    +1900 +1976 +31900 +31906 +31909 +3290 +3389 +34803 +34806 +34807 +39892 +39899 +41900 +41901 +41906
    +43900 +43901 +43930 +43931 +449 +4470 +46900 +46939 +46944 +49900 +6119
"""
_OVERSEAS = "242 246 264 268 284 345 441 473 649 658 664 721 758 767 784 809 829 849 868 869 876"
COSTLY = (*_NO_COUNTRY.split(), *_PREMIUM.split(), *(f"+1{area}" for area in _OVERSEAS.split()))
"""Satellites and networks of no country, premium rate, and the islands that look like numbers of North America: a
wildcard does not reach them, whichever way they are dialled."""
_DIALLED = (("+", ""), ("00", ""), ("011", ""), ("1", "1"), ("", "1"))
"""What a number may begin with, and what is in its place after the plus sign; North America's own forms at the end."""
_NORTH_AMERICAN = 10  # digits after the 1


def is_from(trunk: Trunk, address: str) -> bool:
    """Whether what comes from this address comes by the trunk."""
    source = source_address(address)
    return any(source in ipaddress.ip_network(network) for network in trunk.sources)


# --- what may be called -----------------------------------------------------------------------------------------------


def dialled_user(uri: Uri) -> str | None:
    """The number or name that a sip or tel URI asks for: escapes undone, visual separators (RFC 3966 §5.1.1) and
    parameters left out. None where it is neither."""
    user = uri.username.partition(";")[0]
    if uri.scheme not in ("sip", "sips", "tel"):
        return None
    number = _separators.sub("", user)
    if _number.fullmatch(number):
        return number
    return user if uri.scheme != "tel" and _user.fullmatch(user) else None


def permitted_target(trunk: Trunk, uri: Uri) -> Uri | None:
    """What to call where a far end on this trunk asks for `uri`, or None: it must not be called."""
    user = dialled_user(uri)
    if trunk.outbound is None or user is None:
        return None
    if uri.scheme != "tel" and not _is_of(trunk, uri.host):
        return None
    if not any(_permits(trunk, pattern, user) for pattern in trunk.refer_targets):
        return None
    return _over(trunk.outbound, user)


def _permits(trunk: Trunk, pattern: str, user: str) -> bool:
    if pattern.startswith(("sip:", "sips:", "tel:")):
        wanted = Uri.parse(pattern)
        return dialled_user(wanted) == user and (not wanted.host or _is_of(trunk, wanted.host))
    if not fnmatch.fnmatchcase(user, pattern):
        return False
    literal = re.split(r"[*?]", pattern, maxsplit=1)[0]
    if literal == pattern:
        return True
    return not any(
        number.startswith(prefix) and not wanted.startswith(prefix)
        for number, wanted in _as_international(user, literal)
        for prefix in COSTLY
    )


def _as_international(user: str, literal: str) -> Iterator[tuple[str, str]]:
    """What a switch may take a dialled number for, with what a pattern says of it word by word."""
    for dialled, digits in _DIALLED:
        if not user.startswith(dialled):
            continue
        national = user[len(dialled) :]
        if digits and (len(national) != _NORTH_AMERICAN or not national.isdigit()):
            continue
        # Where the wildcard stands within the prefix, the pattern says nothing of the number.
        wanted = f"+{digits}{literal[len(dialled) :]}" if literal.startswith(dialled) else ""
        yield f"+{digits}{national}", wanted


def _is_of(trunk: Trunk, host: str) -> bool:
    """Whether a host is the trunk's: its proxy's name, or one of its addresses."""
    if trunk.outbound is not None and host.lower() == proxy_of(trunk.outbound).host.lower():
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(source) for source in trunk.sources)


# --- what is put into an INVITE ---------------------------------------------------------------------------------------


def proxy_of(outbound: Outbound) -> Uri:
    """The next hop, with its transport."""
    proxy = Uri.parse(outbound.proxy)
    if outbound.transport == "udp" or "transport" in proxy.params:
        return proxy
    return replace(proxy, params={**proxy.params, "transport": outbound.transport})


def target_of(outbound: Outbound, to: str) -> Uri:
    """The Request-URI of a call to `to`: a number, a user part, a tel URI or a sip URI, of which the last is called as
    it is (by way of the proxy). Raises `CallNotPlacedError`."""
    number = _separators.sub("", to)
    if _number.fullmatch(number) or _user.fullmatch(to):
        return _over(outbound, number if _number.fullmatch(number) else to)
    try:
        uri = Uri.parse(to)
    except SipParseError as error:
        raise CallNotPlacedError(f"{to!r} cannot be called: {error}") from error
    user = dialled_user(uri)
    if user is None:
        raise CallNotPlacedError(f"{to!r} is neither a number nor a name that can be called")
    return _over(outbound, user) if uri.scheme == "tel" else replace(uri, headers=(), password=None)


def caller_of(trunk: Trunk, outbound: Outbound, from_: str | None) -> NameAddr:
    """The From of a call: `from_`, or what the configuration says, or whom we are registered as; at the proxy's domain
    where that names none. Raises `CallNotPlacedError`."""
    registered = trunk.register_at and (trunk.register_at.user or trunk.register_at.username)
    text = from_ or outbound.caller or registered or "sipbridge"
    try:
        if _user.fullmatch(text):
            return NameAddr("", replace(_over(outbound, text), port=None))
        return replace(NameAddr.parse(text), params={})
    except SipParseError as error:
        raise CallNotPlacedError(f"{text!r} cannot be a caller: {error}") from error


def credentials_of(trunk: Trunk) -> Credentials | None:
    """What our calls over a trunk answer challenges with. Raises `CallNotPlacedError` where the password is not to be
    had."""
    login = (trunk.outbound and trunk.outbound.auth) or trunk.register_at
    if login is None:
        return None
    try:
        return Credentials(login.username, login.password.reveal())
    except ConfigError as error:
        raise CallNotPlacedError(f"trunk {trunk.name}: {error}") from error


def _over(outbound: Outbound, user: str) -> Uri:
    proxy = proxy_of(outbound)
    return Uri("sip", user.replace("#", "%23"), proxy.host, proxy.port)


# --- does it answer? --------------------------------------------------------------------------------------------------


class Reachable(enum.Enum):
    UNKNOWN = "unknown"
    """Nothing has been heard yet, or nobody asks."""
    UP = "up"
    BUSY = "busy"
    """It answers, and takes no calls at present (503)."""
    DOWN = "down"
    """Silence."""


_FALL, _RISE = 3, 2
_SOONER = 3.0


class Health:
    """A trunk's state by its answers to OPTIONS. One odd answer changes nothing: away from UP it takes three of a kind
    in a row, back to UP two. Before the first answer any will do."""

    def __init__(self, interval: float) -> None:
        self.state = Reachable.UNKNOWN
        self._interval = interval
        self._odd = 0
        self._heard = Reachable.UNKNOWN

    def heard(self, status: int | None) -> bool:
        """`status` as the trunk answered, None for silence. Returns whether the state has changed by it.

        Any answer but 503 says that somebody is there: a trunk that knows no OPTIONS says 405, one that wants
        credentials 401.
        """
        said = Reachable.DOWN if status is None else Reachable.BUSY if status == 503 else Reachable.UP
        self._odd = self._odd + 1 if said is self._heard else 1
        self._heard = said
        if said is self.state:
            return False
        if self.state is not Reachable.UNKNOWN and self._odd < (_RISE if said is Reachable.UP else _FALL):
            return False
        self.state = said
        return True

    def next_after(self, share: float) -> float:
        """Seconds until the next OPTIONS. `share`, evenly random in 0..1, keeps trunks (and nodes) from asking in step.
        Sooner where the last answer speaks against the state."""
        sooner = self.state is not self._heard and self.state is not Reachable.UNKNOWN
        return self._interval * (0.8 + 0.4 * share) / (_SOONER if sooner else 1)


# --- how much may it be used? -----------------------------------------------------------------------------------------


class Budget:
    """Of calls that we place over one trunk: so many at a time, so many an hour."""

    def __init__(self, calls: int, per_hour: int) -> None:
        self.up = 0
        self._most = calls
        self._per_hour = per_hour
        self._placed: deque[float] = deque()

    def take(self, now: float) -> None:
        """A call is about to be placed; `give_back` when it is over. Raises `CallNotPlacedError`."""
        while self._placed and self._placed[0] <= now - 3600:
            self._placed.popleft()
        if self.up >= self._most:
            raise CallNotPlacedError(f"the trunk carries {self.up} calls of ours already (outbound.max_calls)")
        if len(self._placed) >= self._per_hour:
            raise CallNotPlacedError(f"{self._per_hour} calls were placed within an hour (outbound.calls_per_hour)")
        self._placed.append(now)
        self.up += 1

    def give_back(self) -> None:
        self.up -= 1
