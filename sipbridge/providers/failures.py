"""What a connection that could not be made is called, and how no secret gets into the words for it.

One kind, one code, wherever it happens (a WebSocket, a request before it): `dns`, `refused`, `unreachable`, `tls`,
`timeout`, `closed`, `url`, `handshake`, or the HTTP status as text. Whether the same again has a chance goes with it.
"""

from __future__ import annotations

import errno
import json
import logging
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from sipbridge.errors import AgentStartError

# At INFO it prints the URL of each request, with its query, and that may hold a key.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

_SHORTEST_SECRET = 6
_MOST_WORDS = 200
_HARMLESS = frozenset({"model", "deployment", "language", "version", "api-version", "cartesia_version", "intent"})
"""Query parameters that may be printed; of any other the value may be a key."""

_STATUS_WORDS = {
    400: "refused the request (is the model right?)",
    401: "does not accept the key",
    403: "denies access with this key",
    404: "does not know this model or address",
    408: "gave up waiting for the request",
    429: "takes no more sessions at the moment",
}
_AGAIN = frozenset({408, 425, 429})
"""Statuses below 500 that another attempt may not meet."""


class Secrets:
    """What must not be repeated, though a server may quote it: keys in headers, subprotocols and queries."""

    def __init__(self, url: str = "", values: Iterable[str] = ()) -> None:
        where = urlsplit(url)
        found = [value for key, value in parse_qsl(where.query) if key.lower() not in _HARMLESS]
        found += [unquote(part) for part in (where.username, where.password) if part]
        for value in values:
            found += [value, value.rpartition(" ")[2], value.rpartition(".")[2] if value.startswith("openai-") else ""]
        forms = {form for value in found for form in (value, quote(value, safe=""))}
        # The longest first: one may be part of another.
        self._values = sorted((form for form in forms if len(form) >= _SHORTEST_SECRET), key=len, reverse=True)

    def redact(self, text: str) -> str:
        for value in self._values:
            text = text.replace(value, "***")
        return text


def secrets_in(credential: Mapping[str, Any]) -> Secrets:
    """All in it that may not be repeated, by the names of its keys, sections included."""
    return Secrets("", _secret_values(credential))


def _secret_values(section: Mapping[str, Any]) -> Iterator[str]:
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from _secret_values(value)
        elif isinstance(value, str) and name.lower().endswith(("key", "token", "secret", "password")):
            yield value


def place_of(url: str) -> str:
    """A URL as it may be printed: without its user, query and fragment."""
    where = urlsplit(url)
    return f"{where.scheme}://{where.netloc.rpartition('@')[2]}{where.path}"


def refused_by_status(place: str, status: int, body: bytes, secrets: Secrets) -> AgentStartError:
    """The server has answered, but not with what was asked for."""
    words = _STATUS_WORDS.get(status) or ("is in trouble" if status >= 500 else "refused the connection")
    said = " ".join(secrets.redact(_words_of(body)).split())[:_MOST_WORDS]
    message = f"{place} {words}: HTTP {status}{' ' + said if said else ''}"
    return AgentStartError(message, code=str(status), again=status in _AGAIN or status >= 500)


def _words_of(body: bytes) -> str:
    """What an error's body says: `error.message` or the like where it is such JSON, else all of it."""
    text = body.decode("utf-8", "replace")
    with suppress(ValueError, RecursionError):
        content = json.loads(text)
        error = content.get("error", content) if isinstance(content, Mapping) else content
        words = error.get("message") or error.get("detail") if isinstance(error, Mapping) else error
        if isinstance(words, str) and words:
            return words
    return text


def not_connected(place: str, error: BaseException) -> AgentStartError:
    """No answer at all: the code is that of the first cause that is known."""
    for cause in _causes(error):
        if (found := _kind(cause)) is not None:
            code, words, again = found
            return AgentStartError(f"{place}: {words}", code=code, again=again)
    return AgentStartError(f"{place}: the handshake failed ({type(error).__name__})", code="handshake")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The innermost first: what lies outside says less."""
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    for found in reversed(chain):
        if isinstance(found, BaseExceptionGroup):
            yield from found.exceptions
        yield found


def _kind(error: BaseException) -> tuple[str, str, bool] | None:
    if isinstance(error, socket.gaierror):
        return "dns", f"the host name can't be resolved ({error.strerror})", True
    if isinstance(error, ssl.SSLCertVerificationError):
        return "tls", f"its certificate is not trusted ({error.verify_message})", False
    if isinstance(error, ssl.SSLError):
        cut = isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
        return "tls", f"TLS failed ({error.reason or type(error).__name__})", cut
    if isinstance(error, TimeoutError):
        return "timeout", "no answer", True
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return "refused", "connection refused", True
    if isinstance(error, ConnectionError | EOFError):
        return "closed", "the connection closed before the handshake was done", True
    if isinstance(error, OSError) and error.errno != errno.ENOENT:
        return "unreachable", f"can't be reached ({error.strerror or type(error).__name__})", True
    return None
