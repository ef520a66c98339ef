"""Digest authentication, the server's side (RFC 3261 §22.4, RFC 8760, RFC 7616 §3.4.6).

Pure: time and tokens come in. What is done with a verdict is the business of `authentication`.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from sipbridge.errors import SipParseError
from sipbridge.sip.digest import (
    ALGORITHMS,
    ANSWER_FIELDS,
    algorithm_of,
    digest_hash,
    parameter,
    parse_challenges,
    response_digest,
)
from sipbridge.sip.headers import Uri, quote
from sipbridge.sip.message import Request
from sipbridge.sip.nonces import Nonces

_count = re.compile(r"[0-9A-Fa-f]{1,8}")


class Verdict(Enum):
    OK = "ok"
    NO_CREDENTIALS = "no_credentials"
    """None for our realm, or none with an algorithm that we offer: challenge."""
    STALE = "stale"
    """The nonce is too old, was used before or is none of ours: challenge again with `stale`, so that the user is not
    asked for another password."""
    WRONG = "wrong"
    """Unknown user or wrong password, with a good nonce; nothing tells which."""
    MALFORMED = "malformed"
    """Credentials that are none (400)."""


@dataclass(frozen=True, slots=True)
class Ha1:
    """A password that is kept hashed: H(username ":" realm ":" password) by algorithm, "MD5" or "SHA-256" ..."""

    by_algorithm: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """Credentials as somebody sent them: nothing about them has been proven."""

    username: str
    nonce: str
    uri: str
    response: str
    algorithm: str
    session: bool
    qop: tuple[str, str] | None
    """Nonce count as written, and cnonce; None where the client does not know qop."""
    cnonce: str

    @classmethod
    def read(cls, params: Mapping[str, str], algorithm: tuple[str, bool]) -> Claim:
        """Raises SipParseError."""
        username, nonce, uri = (parameter(params, name) for name in ("username", "nonce", "uri"))
        response, qop, cnonce = (parameter(params, name) for name in ("response", "qop", "cnonce"))
        if username is None or nonce is None or uri is None or response is None:
            raise SipParseError("credentials without username, nonce, uri or response")
        counted = None
        if qop is not None:
            count = parameter(params, "nc") or ""
            if qop.lower() != "auth" or cnonce is None or _count.fullmatch(count) is None or int(count, 16) == 0:
                raise SipParseError("credentials with a qop, nc or cnonce that cannot be")
            counted = (count, cnonce)
        return cls(username, nonce, uri, response.lower(), *algorithm, counted, cnonce or "")


_DUMMY_PASSWORD = "no such user"


class DigestServer:
    """Challenges and checks of one realm. What it offers first is what it likes best (RFC 8760 §2.3).

    `secret` makes nonces ours; nodes that share it, and the time (`epoch` plus `now`), accept each other's.
    """

    def __init__(
        self,
        realm: str,
        secret: bytes,
        new_token: Callable[[], str],
        *,
        algorithms: Sequence[str] = ("SHA-256", "MD5"),
        nonce_seconds: float = 300.0,
        epoch: float = 0.0,
        remembered_nonces: int = 20_000,
    ) -> None:
        self.realm = realm
        self.algorithms = tuple(name for name in algorithms if name in ALGORITHMS)
        self._nonces = Nonces(
            secret, realm, new_token, lifetime_seconds=nonce_seconds, epoch=epoch, remembered=remembered_nonces
        )

    def challenge(self, now: float, *, source: str = "", stale: bool = False) -> list[str]:
        """The values of WWW-Authenticate (or Proxy-Authenticate), one for each algorithm, best first. The answer has to
        come from the same source."""
        nonce, ending = self._nonces.new(source, now), ", stale=true" if stale else ""
        return [
            f'Digest realm={quote(self.realm)}, nonce="{nonce}", algorithm={name}, qop="auth"{ending}'
            for name in self.algorithms
        ]

    def claim(self, request: Request, *, proxy: bool = False) -> Claim | Verdict:
        """Who the request says it is from; or that there are no credentials for our realm, or malformed ones."""
        for value in request.headers.get_all(ANSWER_FIELDS[407 if proxy else 401]):
            try:
                found = parse_challenges(value)
                for scheme, params in found:
                    if scheme != "digest" or parameter(params, "realm") != self.realm:
                        continue
                    algorithm = algorithm_of(params)
                    if algorithm is None or algorithm[0] not in self.algorithms:
                        continue
                    claim = Claim.read(params, algorithm)
                    return claim if covers(claim.uri, request) else Verdict.MALFORMED
            except SipParseError:
                return Verdict.MALFORMED
        return Verdict.NO_CREDENTIALS

    def check(
        self, request: Request, password: str | Ha1 | None, now: float, *, source: str = "", proxy: bool = False
    ) -> Verdict:
        """Judge the credentials of a request; `password` None: there is no such user, which takes the same way."""
        claim = self.claim(request, proxy=proxy)
        if isinstance(claim, Verdict):
            return claim
        if not self.is_fresh(claim, source, now):
            return Verdict.STALE
        return self.check_claim(claim, request.method, password, now)

    def is_fresh(self, claim: Claim, source: str, now: float) -> bool:
        """If not, the answer is STALE before any password is looked at: guesses are made with nonces that we gave, and
        to an address that gets our answers. (§3.3 would have `stale` only where the password was right.)"""
        return self._nonces.is_fresh(claim.nonce, source, now)

    def check_claim(self, claim: Claim, method: str, password: str | Ha1 | None, now: float) -> Verdict:
        """The last step of `check`, for who has to look the password up first."""
        if isinstance(password, Ha1):
            password = password if claim.algorithm in password.by_algorithm else None
        expected = response_digest(
            claim.algorithm, self._ha1(claim, password), claim.nonce, method, claim.uri, qop=claim.qop
        )
        proven = hmac.compare_digest(expected.encode(), claim.response.encode("utf-8", "surrogateescape"))
        if not proven or password is None:
            return Verdict.WRONG
        # A client that does not know qop does not count: then every nonce is good for one request.
        count = 1 if claim.qop is None else int(claim.qop[0], 16)
        return Verdict.OK if self._nonces.use(claim.nonce, count, now) else Verdict.STALE

    def _ha1(self, claim: Claim, password: str | Ha1 | None) -> str:
        """As many hashes for somebody unknown as for everybody else."""
        if isinstance(password, Ha1):
            ha1 = password.by_algorithm[claim.algorithm]
        else:
            secret = _DUMMY_PASSWORD if password is None else password
            ha1 = digest_hash(claim.algorithm, claim.username, self.realm, secret)
        return digest_hash(claim.algorithm, ha1, claim.nonce, claim.cnonce) if claim.session else ha1


def covers(digest_uri: str, request: Request) -> bool:
    """Were the credentials made for this request (§3.4.6)? Proxies rewrite host, port and parameters of the
    Request-URI, so these may differ; whom the request is for may not, or credentials for one call would pay another.
    Credentials that name nobody are made by phones that know their server only (pyVoIP): they are for that very host,
    by the method that they are hashed with, and once."""
    if digest_uri == request.uri:
        return True
    try:
        claimed, asked = Uri.parse(digest_uri), request.request_uri
    except SipParseError:
        return False
    if claimed.user is None:
        return asked.user is None or claimed.host.lower() == asked.host.lower()
    return claimed.username == asked.username
