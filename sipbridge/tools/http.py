"""HTTP tools: a tool call becomes a request, its answer the result.

What a model says never chooses where the request goes: host and port stand in the file, every value in the path and the
query is percent-encoded. The host's addresses are looked up once for each request, all of them have to be public
(unless `allow_private`), and the connection is made to one that was checked: a name that means another address a
moment later changes nothing. Redirects are followed within the same origin only.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit, urlunsplit

import httpx
import structlog

from sipbridge import __version__
from sipbridge.agent import ToolCall
from sipbridge.errors import ConfigError
from sipbridge.http_client import new_client
from sipbridge.providers.failures import Secrets
from sipbridge.providers.websocket import tls_context
from sipbridge.tenant_file.tool_sources import HttpToolConfig
from sipbridge.tools import MAX_RESULT_BYTES, CallControl, Tool, ToolError
from sipbridge.tools.addresses import Address, is_public, resolve
from sipbridge.tools.templates import TemplateFault, arguments_in, fill_json, fill_url

log = structlog.get_logger(__name__)

Resolve = Callable[[str, int], Awaitable[tuple[Address, ...]]]

_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})  # RFC 9110 §9.2.2
_QUERY = frozenset({"GET", "HEAD", "DELETE"})
"""Methods whose arguments go into the query, where the URL does not name them."""
_CHARSETS = frozenset({"iso-8859-1", "iso-8859-15", "windows-1252", "utf-16", "shift_jis", "euc-jp", "gb18030", "big5"})
"""That answers come in beside UTF-8. Python knows others, some of which take a second for what is read."""
_AGAIN = frozenset({429, 502, 503, 504})
_BACKOFF_S = 0.2
_CONNECT_S = 3.0
_KEPT_OPEN_S = 30.0
_MAX_CONNECTIONS = 20
_MAX_REDIRECTS = 3
_MAX_ADDRESSES = 3
_MAX_ERROR = 1_000


class _Again(Exception):
    """It did not go well, and may go well another time. The message is for the model."""


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes | None
    secrets: Secrets


class HttpTool:
    """One tool of a tenant's, for all of its calls. `close` it when no call uses it any more."""

    def __init__(self, config: HttpToolConfig, *, resolve: Resolve = resolve) -> None:
        self._config = config
        self._resolve = resolve
        default = 2 if config.method in _IDEMPOTENT else 0
        self._attempts = 1 + (default if config.retries is None else config.retries)
        self._in_url = arguments_in(config.url)
        self._verify = tls_context() if config.url.startswith("https:") else False  # 30 ms that no call has to wait for

    @property
    def tool(self) -> Tool:
        config = self._config
        return Tool(
            config.name, config.description, config.parameters, self._run, timeout_seconds=config.timeout_seconds
        )

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        """Of this tool alone: connections are made to addresses, and another host may have the same."""
        return new_client(
            self._verify,
            connections=_MAX_CONNECTIONS,
            connect_seconds=_CONNECT_S,  # the tool's own time-out is around it
            kept_open_seconds=_KEPT_OPEN_S,
        )

    async def close(self) -> None:
        if "_client" in self.__dict__:
            await self._client.aclose()

    # --- the request --------------------------------------------------------------------------------------------------

    async def _run(self, control: CallControl, request: ToolCall, arguments: dict[str, Any]) -> str:
        asked = self._request(arguments, control.fields.template_names())
        for attempt in range(1, self._attempts + 1):
            try:
                return await self._ask(asked)
            except _Again as error:
                if attempt == self._attempts:
                    raise ToolError(str(error)) from None
                await asyncio.sleep(_BACKOFF_S * 2 ** (attempt - 1))
        raise AssertionError

    def _request(self, arguments: dict[str, Any], call: Mapping[str, Any]) -> _Request:
        config, values = self._config, {"arguments": arguments, **call}
        try:
            headers = {name: secret.reveal() for name, secret in config.headers.items()}
            url = fill_url(config.url, values)
            body = None if config.body is None else fill_json(config.body, values)
        except ConfigError as error:
            log.error("tool cannot be used", tool=config.name, error=str(error))
            raise ToolError(f"{config.name} is not set up") from None
        except TemplateFault as error:
            raise ToolError(str(error)) from None
        rest = {name: value for name, value in arguments.items() if name not in self._in_url}
        content = None
        if body is None and config.method in _QUERY:
            url = _with_query(url, rest)
        else:
            content = json.dumps(rest if body is None else body, ensure_ascii=False).encode("utf-8", "replace")
            headers = {"Content-Type": "application/json", **headers}
        headers = {
            "User-Agent": f"sipbridge/{__version__}",
            "Accept": "application/json, text/*;q=0.9, */*;q=0.1",
            "Accept-Encoding": "identity",  # a few bytes that unpack to gigabytes are no answer
            **headers,
        }
        return _Request(config.method, url, headers, content, Secrets("", headers.values()))

    async def _ask(self, asked: _Request) -> str:
        """One attempt, with the redirects that it leads through."""
        for _ in range(_MAX_REDIRECTS + 1):
            answer = await self._send(asked)
            if isinstance(answer, str):
                return answer
            asked = answer
        raise ToolError("the server redirects without end")

    async def _send(self, asked: _Request) -> str | _Request:
        parts = urlsplit(asked.url)
        addresses = await self._addresses(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        for address in addresses[:_MAX_ADDRESSES]:
            try:
                async with self._client.stream(
                    asked.method,
                    _at(asked.url, address),
                    headers={**asked.headers, "Host": parts.netloc},
                    content=asked.content,
                    extensions={"sni_hostname": parts.hostname},
                ) as answer:
                    return await self._answer(asked, answer)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue  # nothing has been asked yet: the next address may be better
            except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
                raise _Again(f"the connection to the server broke ({type(error).__name__})") from None
        raise _Again("the server cannot be reached")

    async def _addresses(self, host: str, port: int) -> tuple[Address, ...]:
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError):  # a label that is too long is not even asked for
            raise _Again("the server's name cannot be looked up") from None
        if not self._config.allow_private and not all(is_public(address) for address in addresses):
            log.warning("tool not asked: its address is private", tool=self._config.name, host=host)
            raise ToolError("the server's address is not a public one, which is not allowed")
        return addresses

    # --- the answer ---------------------------------------------------------------------------------------------------

    async def _answer(self, asked: _Request, answer: httpx.Response) -> str | _Request:
        if answer.next_request is not None or answer.status_code in (301, 302, 303, 307, 308):
            return _redirected(asked, answer)
        text = await self._text(answer)
        status = answer.status_code
        if 200 <= status < 300:
            return asked.secrets.redact(text) or "done"
        message = asked.secrets.redact(f"the server answered {status}: {text[:_MAX_ERROR]}".removesuffix(": "))
        raise _Again(message) if status in _AGAIN else ToolError(message)

    async def _text(self, answer: httpx.Response) -> str:
        """As much as a model is given, and a little more to know that there is more."""
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ToolError("the server sent a compressed answer, which it was not asked for")
        data = b""
        async for piece in answer.aiter_raw():
            data += piece
            if len(data) > MAX_RESULT_BYTES:
                break
        charset = (answer.charset_encoding or "").lower()
        text = data.decode(charset if charset in _CHARSETS else "utf-8", "replace")
        if "\0" in text or text.count("\ufffd") > len(text) / 10:
            raise ToolError(f"the answer is no text but {answer.headers.get('Content-Type', 'something else')[:80]}")
        return text


def _redirected(asked: _Request, answer: httpx.Response) -> _Request:
    """RFC 9110 §15.4; to nowhere but where the file says."""
    target = urlsplit(urljoin(asked.url, answer.headers.get("Location", "")))
    here = urlsplit(asked.url)
    if (target.scheme, target.netloc.lower()) != (here.scheme, here.netloc.lower()):
        raise ToolError("the server redirects to another one, which is not followed")
    as_get = answer.status_code == 303 or (answer.status_code in (301, 302) and asked.method == "POST")
    headers = {name: value for name, value in asked.headers.items() if not as_get or name != "Content-Type"}
    return _Request(
        "GET" if as_get and asked.method != "HEAD" else asked.method,
        urlunsplit(target._replace(fragment="")),
        headers,
        None if as_get else asked.content,
        asked.secrets,
    )


def _at(url: str, address: Address) -> str:
    """The same at one of the host's addresses."""
    parts = urlsplit(url)
    host = f"[{address}]" if address.version == 6 else str(address)
    return urlunsplit(parts._replace(netloc=host if parts.port is None else f"{host}:{parts.port}"))


def _with_query(url: str, arguments: Mapping[str, Any]) -> str:
    if not arguments:
        return url
    single = {name: value if isinstance(value, list) else [value] for name, value in arguments.items()}
    plain = [(name, value) for name, values in single.items() for value in values]
    texts = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in plain]
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, urlencode(texts))))))
