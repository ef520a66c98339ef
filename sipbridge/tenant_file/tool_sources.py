"""The configuration's shape: pydantic models of tools that somebody else provides: an HTTP server, an MCP server, an
attached client. See docs/tools.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from sipbridge.configfile import Section, error_at
from sipbridge.logins import Secret
from sipbridge.tenant_file.sounds import ToneOrWav

TOOL_NAME = r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$"
"""What all vendors take."""
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.1


def _schema(parameters: dict[str, Any]) -> dict[str, Any]:
    from sipbridge.tools.arguments import fault_of

    schema = {"type": "object", **parameters}
    if fault := fault_of(schema):
        raise ValueError(fault)
    return schema


ToolName = Annotated[str, Field(pattern=TOOL_NAME)]
Parameters = Annotated[dict[str, Any], AfterValidator(_schema)]
"""A JSON Schema (2020-12) of an object."""
TimeoutSeconds = Annotated[float | None, Field(gt=0, le=600)]
"""None: the tenant's `deadlines.tool_seconds`."""


def _no_strange_names(headers: dict[str, Secret]) -> dict[str, Secret]:
    for name in headers:
        if not _FIELD_NAME.fullmatch(name) or name.lower() in ("host", "content-length", "transfer-encoding"):
            raise ValueError(f"{name!r} cannot be the name of a header field here")
    return headers


Headers = Annotated[dict[str, Secret], AfterValidator(_no_strange_names)]


def check_url(url: str) -> str:
    """Raises `ValueError`, which never quotes it: there may be a password in it."""
    if not re.match(r"https?://[^\s/?#{}]+(?=[/?#]|$)", url):
        raise ValueError("http://HOST or https://HOST is expected, and no template before the first slash")
    try:
        parts = urlsplit(url)
        if not parts.hostname or parts.port == 0:
            raise ValueError
    except ValueError:  # a port that is none, half an IPv6 address
        raise ValueError("http://HOST[:PORT]/PATH is expected, or https://") from None
    if parts.username is not None:
        raise ValueError("no user and password in it; a key belongs into headers")
    if parts.fragment:
        raise ValueError("a fragment (#...) is never sent")
    return url


class HttpToolConfig(Section):
    name: ToolName
    description: str = Field(min_length=1)
    parameters: Parameters = Field(default={}, validate_default=True)
    method: Annotated[
        Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
    ] = "POST"
    url: Annotated[str, AfterValidator(check_url)]
    """A template: `{{ arguments.NAME }}`, `{{ call.from }}` and the like, each value percent-encoded."""
    headers: Headers = {}
    body: dict[str, Any] | list[Any] | None = None
    """Sent as JSON; texts in it are templates. None: all arguments."""
    timeout_seconds: TimeoutSeconds = None
    retries: int | None = Field(default=None, ge=0, le=5)
    """None: twice where repeating does no harm by the method's definition (RFC 9110 §9.2.2), else never."""
    allow_private: bool = False

    @model_validator(mode="after")
    def _templates_can_be_filled_in(self) -> HttpToolConfig:
        from sipbridge.tools.templates import faults

        known = self.parameters.get("properties", {})
        if fault := next(faults(self.url, known), None):
            raise error_at(("url",), fault)
        if self.body is not None and self.method in ("GET", "HEAD"):
            raise error_at(("body",), f"{self.method} has none")
        for text in _texts(self.body):
            if fault := next(faults(text, known), None):
                raise error_at(("body",), fault)
        return self


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


class McpServerConfig(Section):
    """A program that speaks MCP by its standard input and output (`command`), or a server reached by HTTP (`url`)."""

    name: ToolName
    command: str | None = Field(default=None, min_length=1)
    args: tuple[str, ...] = ()
    env: dict[str, Secret] = {}
    url: Annotated[str, AfterValidator(check_url)] | None = None
    headers: Headers = {}
    tools: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Which of its tools the model may use; None: all."""
    timeout_seconds: TimeoutSeconds = None

    @model_validator(mode="after")
    def _one_way(self) -> McpServerConfig:
        if (self.command is None) == (self.url is None):
            raise error_at(("command",), "either command (a program) or url (a server) is expected")
        for key, way in (("args", "command"), ("env", "command"), ("headers", "url")):
            if getattr(self, key) and getattr(self, way) is None:
                raise error_at((key,), f"has a meaning beside {way} only")
        return self


class PassThroughConfig(Section):
    """A tool whose calls are handed to the client that is attached to the call."""

    name: ToolName
    description: str = Field(min_length=1)
    parameters: Parameters = Field(default={}, validate_default=True)
    timeout_seconds: TimeoutSeconds = None


class QuotasConfig(Section):
    """`hang_up` and what else is done to the call itself is not counted."""

    per_call: int = Field(default=50, ge=0)
    per_minute: int = Field(default=600, ge=0)


class WaitingConfig(Section):
    """What the caller hears while a tool takes its time."""

    after_seconds: float = Field(default=2, ge=0, le=60)
    sound: ToneOrWav | None = None
    say: str | None = Field(default=None, min_length=1)
    """Words for the agent to say."""

    @model_validator(mode="after")
    def _something(self) -> WaitingConfig:
        if self.sound is None and self.say is None:
            raise error_at(("sound",), "sound (tone, or a WAV file) or say is expected")
        return self
