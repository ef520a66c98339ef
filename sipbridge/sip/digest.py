"""Digest authentication: its grammar, its arithmetic and the client (RFC 3261 §22, RFC 8760, RFC 7616; without qop as
RFC 2617 §3.2.2.1 left it). The server's side is in `digest_server`.

Pure: tokens come in. MD5, SHA-256 and SHA-512-256, each also as -sess; qop=auth or none. Not here: auth-int, which
needs the body that an SBC may change, and userhash; we neither answer nor offer them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sipbridge.errors import SipParseError
from sipbridge.sip.headers import TOKEN, quote
from sipbridge.sip.message import Request, Response

_element = re.compile(
    rf"[ \t,]*+(?:({TOKEN}++)(?:[ \t]++(?!=)|(?=,|$)))?+"  # a scheme, where a challenge begins
    rf'(?:({TOKEN}++)[ \t]*+=[ \t]*+("(?:[^"\\]++|\\.)*+"|[^ \t",]*+))?+[ \t]*+(?=,|$)',
    re.DOTALL,
)
_quoted_pair = re.compile(r"\\(.)", re.DOTALL)

MAX_CHALLENGE = 4_096
"""Characters; what is longer is not answered: the answer would have to carry most of it back."""


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sha512_256(data: bytes) -> str:
    return hashlib.new("sha512_256", data).hexdigest()


def available_algorithms() -> dict[str, Callable[[bytes], str]]:
    """Weakest first, under the names of RFC 8760 §2. Some builds of OpenSSL lack SHA-512/256, hardened ones MD5."""
    algorithms: dict[str, Callable[[bytes], str]] = {}
    for name, function in (("MD5", _md5), ("SHA-256", _sha256), ("SHA-512-256", _sha512_256)):
        try:
            function(b"")
        except ValueError:
            continue
        algorithms[name] = function
    return algorithms


ALGORITHMS: Mapping[str, Callable[[bytes], str]] = available_algorithms()


def digest_hash(algorithm: str, *parts: str) -> str:
    """H(part ":" part ...) in hexadecimal. Text is UTF-8; octets that are none come through as they came."""
    return ALGORITHMS[algorithm](":".join(parts).encode("utf-8", "surrogateescape"))


_MAX_VALUE = 8_192
"""Characters of one header value: each parameter costs a microsecond."""


def parse_challenges(text: str) -> list[tuple[str, dict[str, str]]]:
    """The challenges (or credentials) of one header value: schemes and parameter names in lower case, values raw.

    RFC 3261 has one challenge per header field; HTTP joins several with commas, and so do some peers. Raises
    SipParseError, also where a parameter is given twice with different values.
    """
    if len(text) > _MAX_VALUE:
        raise SipParseError(f"{len(text)} characters of challenge or credentials")
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while position < len(text):
        match = _element.match(text, position)
        if match is None or match.end() == position:
            raise SipParseError(f"malformed challenge or credentials: {ascii(text[:60])}")
        scheme, name, value = match.groups()
        if scheme is not None:
            found.append((scheme.lower(), {}))
        if name is not None:
            if not found:
                raise SipParseError(f"no authentication scheme: {ascii(text[:60])}")
            if found[-1][1].setdefault(name.lower(), value) != value:
                raise SipParseError(f"authentication parameter given twice: {ascii(name[:60])}")
        position = match.end() + 1
    return found


def unquoted(raw: str) -> str:
    """What a parameter says: without quotes, quoted pairs undone. Some peers quote tokens, others leave quotes out."""
    if raw[:1] != '"':
        return raw
    return _quoted_pair.sub(r"\1", raw[1:-1])


def parameter(params: Mapping[str, str], name: str) -> str | None:
    raw = params.get(name)
    return None if raw is None else unquoted(raw)


def algorithm_of(params: Mapping[str, str]) -> tuple[str, bool] | None:
    """The hash and whether it is -sess; None for one that we do not have. Without the parameter it is MD5."""
    name = (parameter(params, "algorithm") or "MD5").upper()
    session = name.endswith("-SESS")
    name = name.removesuffix("-SESS")
    return (name, session) if name in ALGORITHMS else None


def response_digest(algorithm: str, ha1: str, nonce: str, method: str, uri: str, *, qop: tuple[str, str] | None) -> str:
    """The response (§3.4.1); `qop` is the nonce count as it stands on the wire, and the cnonce; None: no qop."""
    ha2 = digest_hash(algorithm, method, uri)
    if qop is None:
        return digest_hash(algorithm, ha1, nonce, ha2)
    return digest_hash(algorithm, ha1, nonce, *qop, "auth", ha2)


@dataclass(frozen=True, slots=True)
class Credentials:
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Challenge:
    realm: str
    nonce: str
    algorithm: str
    session: bool
    qop: bool
    stale: bool
    echoed: tuple[tuple[str, str], ...]
    """Realm, opaque and algorithm as they came: they go back unchanged."""

    @property
    def rank(self) -> tuple[int, bool]:
        return tuple(ALGORITHMS).index(self.algorithm), self.qop

    @classmethod
    def read(cls, params: Mapping[str, str]) -> _Challenge | None:
        """None: one that we cannot answer."""
        realm, nonce, algorithm = parameter(params, "realm"), parameter(params, "nonce"), algorithm_of(params)
        if realm is None or nonce is None or algorithm is None or sum(map(len, params.values())) > MAX_CHALLENGE:
            return None
        offered = {option.strip(" \t").lower() for option in (parameter(params, "qop") or "").split(",")} - {""}
        if offered and "auth" not in offered:
            return None
        echoed = [("realm", quote(realm) if params["realm"][:1] != '"' else params["realm"])]
        echoed += [(name, params[name]) for name in ("opaque", "algorithm") if name in params]
        stale = (parameter(params, "stale") or "").lower() == "true"
        return cls(realm, nonce, *algorithm, bool(offered), stale, tuple(echoed))


class _Session:
    """What goes on under one challenge: its nonce, how often it was used, and our cnonce (§3.4.2)."""

    def __init__(self, challenge: _Challenge, credentials: Credentials, cnonce: str) -> None:
        self.challenge = challenge
        self.nonce = challenge.nonce
        self.count = 0
        self._username = credentials.username
        self._cnonce = cnonce
        self._ha1 = digest_hash(challenge.algorithm, credentials.username, challenge.realm, credentials.password)
        if challenge.session:
            self._ha1 = digest_hash(challenge.algorithm, self._ha1, challenge.nonce, cnonce)

    def answer(self, method: str, uri: str) -> str:
        """The value of the Authorization header for the next request."""
        self.count += 1
        challenge, count = self.challenge, f"{self.count:08x}"
        qop = (count, self._cnonce) if challenge.qop else None
        params = [("username", quote(self._username)), *challenge.echoed, ("nonce", quote(self.nonce))]
        params.append(("uri", quote(uri)))
        params.append(
            ("response", f'"{response_digest(challenge.algorithm, self._ha1, self.nonce, method, uri, qop=qop)}"')
        )
        if challenge.qop:
            params += [("qop", "auth"), ("nc", count)]
        if challenge.qop or challenge.session:
            params.append(("cnonce", quote(self._cnonce)))
        return "Digest " + ", ".join(f"{name}={value}" for name, value in params)


CHALLENGE_FIELDS = {401: "WWW-Authenticate", 407: "Proxy-Authenticate"}
ANSWER_FIELDS = {401: "Authorization", 407: "Proxy-Authorization"}
_INFOS = {401: "Authentication-Info", 407: "Proxy-Authentication-Info"}
_MAX_REALMS = 8
_MAX_ANSWERED = 256
_MAX_STALE = 2


class DigestClient:
    """One user's answers, for any number of requests; one realm's nonce serves until its server wants another."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self._sessions: dict[tuple[int, str], _Session] = {}
        """By 401 or 407, and realm."""
        self._answered: dict[tuple[object, ...], tuple[int, int, str]] = {}
        """Which requests have been answered for: CSeq number, how many stale answers before it, and the nonce."""

    def authorize(self, request: Request, response: Response, new_token: Callable[[], str]) -> bool:
        """Answer a 401 or 407 to `request`, whose header fields still are those that were refused.

        True: `request` carries the answer, and may be sent again with a new branch and the next CSeq number. False:
        there is no challenge that we can answer, or our answer to it was refused: to try again would go on for ever.
        """
        status = response.status
        if status not in ANSWER_FIELDS:
            return False
        challenges = self._choose(response.headers.get_all(CHALLENGE_FIELDS[status]))
        answered = [self._begin(request, status, challenge, new_token) for challenge in challenges]
        if not answered or not all(answered):
            return False
        self.apply(request)
        return True

    def apply(self, request: Request) -> None:
        """Authorize a request before it is challenged, where a nonce is known (§22.3 allows it, RFC 7616 §3.6)."""
        for name in ANSWER_FIELDS.values():
            request.headers.remove(name)  # perhaps it goes to another server now
        for (status, _), session in self._sessions.items():
            request.headers.add(ANSWER_FIELDS[status], session.answer(request.method, request.uri))

    def receive(self, response: Response) -> None:
        """Look at a response for the nonce to be used next (RFC 7616 §3.5). A fault in it is ignored."""
        for status, name in _INFOS.items():
            value = response.headers.get(name)
            sessions = [session for (kind, _), session in self._sessions.items() if kind == status]
            if value is None or len(sessions) != 1:
                continue  # the header names no realm
            try:
                found = parse_challenges(f"Digest {value}")
            except SipParseError:
                continue
            # A second scheme in it is nothing that this header can have.
            nonce = parameter(found[0][1], "nextnonce") if len(found) == 1 else None
            if nonce and len(nonce) <= MAX_CHALLENGE and nonce != sessions[0].nonce:
                sessions[0].nonce, sessions[0].count = nonce, 0

    def forget(self) -> None:
        """Begin anew: the next request goes out without credentials."""
        self._sessions.clear()
        self._answered.clear()

    def _choose(self, values: list[str]) -> list[_Challenge]:
        """The strongest challenge of each realm; among equals the topmost (RFC 8760 §2.4)."""
        best: dict[str, _Challenge] = {}
        for params in _digests(values):
            challenge = _Challenge.read(params)
            if challenge is not None and (challenge.realm not in best or challenge.rank > best[challenge.realm].rank):
                best[challenge.realm] = challenge
        return list(best.values())[:_MAX_REALMS]

    def _begin(self, request: Request, status: int, challenge: _Challenge, new_token: Callable[[], str]) -> bool:
        """A session for a new challenge; False where it says that our answer to the last one was wrong.

        A challenge refuses our answer if the request carries one, to the last challenge of the same realm, and used
        that nonce first. Where the nonce is not counted its CSeq tells: the number is the answered one or the next.
        Anything else was authorized in advance, with a nonce that has grown old meanwhile or is another server's, and
        not every server says `stale` then.
        """
        identity = (status, challenge.realm, request.call_id, request.from_.tag, request.method)
        sequence = request.cseq.number
        last, stale, nonce = self._answered.pop(identity, (-2, 0, ""))
        direct = False
        for value in request.headers.get_all(ANSWER_FIELDS[status]):
            if f"nonce={quote(nonce)}" in value:
                direct = "nc=00000001" in value or ("nc=" not in value and last <= sequence <= last + 1)
        if direct and (not challenge.stale or stale >= _MAX_STALE):
            self._sessions.pop((status, challenge.realm), None)
            return False
        self._answered[identity] = (sequence, stale + 1 if direct else 0, challenge.nonce)
        if len(self._answered) > _MAX_ANSWERED:
            del self._answered[next(iter(self._answered))]
        self._sessions.pop((status, challenge.realm), None)
        self._sessions[status, challenge.realm] = _Session(challenge, self.credentials, new_token())
        if len(self._sessions) > _MAX_REALMS:
            del self._sessions[next(iter(self._sessions))]
        return True


def _digests(values: Sequence[str]) -> Iterator[dict[str, str]]:
    """The parameters of every Digest challenge; a malformed header field is as if it were not there."""
    for value in values:
        try:
            found = parse_challenges(value)
        except SipParseError:
            continue
        yield from (params for scheme, params in found if scheme == "digest")
