"""Realtime models as dialects of the agent interface: the seam, and the table from slug to dialect.

A `Dialect` is one vendor's wire protocol with the same verbs as the SIP core: it is fed messages and time and hands
back messages, a timer and `AgentEvent`s. It has no socket and no clock. `sipbridge.providers.session` is the one
adapter that connects a dialect to the world and makes an `Agent` of it.

A new vendor is one file with a dialect in it and one line in `_providers` below (or one call of `register`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from sipbridge.agent import Agent, AgentEvent, AgentOptions, Capabilities, ToolDeclaration
from sipbridge.audio import Played
from sipbridge.errors import UnknownProviderError

if TYPE_CHECKING:
    from sipbridge.providers.breaker import Breaker

__all__ = [
    "BedrockEndpoint",
    "Dialect",
    "Endpoint",
    "HttpEnd",
    "HttpEndpoint",
    "Lifetime",
    "Outgoing",
    "ProgramEndpoint",
    "Provider",
    "WebSocketEndpoint",
    "capabilities_of",
    "lookup",
    "new_agent_from_credential",
    "new_dialect",
    "register",
    "registered_providers",
    "tools_for_session",
]

# --- what a dialect wants opened --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WebSocketEndpoint:
    url: str = field(repr=False)
    """With its query. Printed only without it, and never with the headers: either may hold a secret."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    subprotocols: tuple[str, ...] = field(default=(), repr=False)
    """Browsers' way to send a key: never printed either."""
    ping_interval: float | None = 20.0
    """Seconds between our pings; None: none are sent."""
    pong_seconds: float = 20.0
    """How long a ping may stay without an answer, and without anything else that is heard of the server."""
    text: bool = False
    """Every message sent is a text frame, also one given as bytes (UTF-8 already); what is received comes as bytes."""


@dataclass(frozen=True, slots=True)
class ProgramEndpoint:
    """A program on this machine. Each message sent is one run of it with the message as its standard input.

    For each run, in the order sent, exactly one `bytes` message comes back: its standard output, or `b""` where the run
    failed (no such program, exit status, time or size exceeded).
    """

    argv: tuple[str, ...]
    timeout: float = 10.0
    max_output: int = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class HttpEndpoint:
    """An address that is asked over HTTP. Each message sent is the body of one POST; they are asked one after another.

    What comes back while the answer streams: of an event stream (`text/event-stream`) a `str` "data:..." for each
    event, of any other body `bytes` in pieces as they come; then, for each message sent and in that order, exactly one
    `str` that `HttpEnd.parse` reads. An empty message sent cancels all that were sent before it and have not ended.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content_type: str = "application/json"
    timeout: float = 10.0
    """Seconds without a word from the server until it is given up."""
    max_answer: int = 32 * 1024 * 1024


class HttpEnd(NamedTuple):
    """How a request to an `HttpEndpoint` ended."""

    code: str
    """"": it went well; "cancelled"; the HTTP status as text; or the transport's word: refused, timeout, closed, ..."""
    message: str = ""
    """For the operator; no secret in it."""

    @classmethod
    def parse(cls, message: str | bytes) -> HttpEnd | None:
        """None where this is a part of an answer, not its end."""
        if not isinstance(message, str) or not message.startswith(_HTTP_END):
            return None
        code, _, words = message.removeprefix(_HTTP_END).partition(" ")
        return cls(code, words)

    def __str__(self) -> str:
        return f"{_HTTP_END}{self.code} {self.message}"

    @property
    def again(self) -> bool:
        """Whether the same request may well succeed later."""
        return self.code in ("429", "408") or self.code.startswith("5") or not self.code.isdigit()


_HTTP_END = "end:"


@dataclass(frozen=True, slots=True)
class BedrockEndpoint:
    """A bidirectional stream to a model on Amazon Bedrock, through the vendor's SDK (the extra `nova`).

    Each message sent is one chunk of input. What comes back is one empty message as soon as the service has taken the
    stream, then `bytes` for each chunk of output. Its close code is 1000, 1006, or the HTTP status of what went wrong.
    """

    region: str
    model: str
    url: str = ""
    """The service's address, where it is not the region's own."""
    access_key_id: str = field(default="", repr=False)
    """"": the credentials are looked for where the SDK does: environment, profiles, the machine's role."""
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)


Endpoint: TypeAlias = WebSocketEndpoint | ProgramEndpoint | HttpEndpoint | BedrockEndpoint


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A session's known end, on the clock of `now`. From `rotate_at` on its successor is opened at the first quiet
    moment, at the latest so that it has taken over at `expires_at`."""

    rotate_at: float
    expires_at: float


class Outgoing(NamedTuple):
    """A message to send on a channel. `audio_ms` > 0 marks caller audio, which may be dropped, oldest first."""

    channel: str
    data: str | bytes
    audio_ms: float = 0.0


# --- the seam ---------------------------------------------------------------------------------------------------------


class Dialect(Protocol):
    """One conversation in one vendor's protocol, without I/O.

    Driven in this order: `await prepare()`, `start(now)`, then every channel of `endpoints()` is opened and reported
    with `channel_opened`. After every call that takes `now`, the driver must send `messages_to_send()`, re-arm one
    timer from `get_timer()` and take `next_event()` until it is None. The order of events that `sipbridge.agent`
    promises is kept here, not in the driver: `SessionOpen` first, `SessionClosed` last and once.

    Nothing a vendor sends may make a method raise.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def counters(self) -> Counter[str]:
        """What was dropped, ignored or retried, by reason."""

    async def prepare(self) -> None:
        """Fetch what must be known before `endpoints()`: a token, a session URL, a program's path. Often nothing.

        Raises `AgentStartError`.
        """

    def start(self, now: float) -> None:
        """The session begins. A dialect without endpoints has its `SessionOpen` pending after this."""

    def endpoints(self) -> Mapping[str, Endpoint]:
        """Channel name -> what to open for it. Asked once, after `start`."""

    # what comes in

    def channel_opened(self, channel: str, now: float) -> None: ...

    def receive(self, channel: str, message: str | bytes, now: float) -> None: ...

    def channel_closed(self, channel: str, code: int, reason: str, now: float) -> None:
        """Where the session can't go on without this channel, `SessionClosed` is pending after this."""

    # what goes out

    @property
    def lifetime(self) -> Lifetime | None:
        """When this session has to end, as far as that is known by now."""

    @property
    def resume_handle(self) -> str:
        """What a successor may be given as `AgentOptions.resume_handle`; "" where there is no such thing."""

    def messages_to_send(self) -> list[Outgoing]:
        """Takes what is to be sent, in order."""

    def get_timer(self) -> float | None:
        """When `handle_timer` wants to be called, on the clock of `now`; None: no need."""

    def handle_timer(self, now: float) -> None: ...

    def next_event(self) -> AgentEvent | None: ...

    # the commands of `Agent`, with the time

    def push_audio(self, pcm: bytes, now: float) -> None:
        """Only called after `SessionOpen`: until then the driver keeps the last 500 ms."""

    def commit_input_audio(self, now: float) -> None: ...

    def cancel(self, played: Sequence[Played], now: float) -> None: ...

    def heard(self, reply_id: str, text: str, now: float) -> None:
        """Where another voice speaks what this session writes: of all that this reply wrote, only these words were
        heard. Given after `cancel`; nothing to do where the vendor can't be told."""

    def update_instructions(self, text: str, now: float) -> None: ...

    def send_text(self, text: str, now: float) -> None: ...

    def send_image(self, data: bytes, media_type: str, now: float) -> None: ...

    def say(self, text: str, now: float) -> None: ...

    def create_response(self, now: float) -> None: ...

    def send_tool_result(self, call_id: str, output: str, now: float) -> None: ...

    def close(self, now: float) -> None:
        """We end it. A goodbye, where the vendor knows one, is in `messages_to_send()`; open replies are ended and
        `SessionClosed("closed", expected=True)` is pending, unless it was already handed out. The channels are closed
        by the driver."""


class Provider(Protocol):
    """What the registry holds: in practice a dialect's class, whose `capabilities` is a class attribute."""

    @property
    def capabilities(self) -> Capabilities: ...

    def __call__(self, credential: Mapping[str, Any], options: AgentOptions) -> Dialect:
        """Raises `ConfigError` where the credential lacks what the vendor needs."""

    def capabilities_for(self, credential: Mapping[str, Any]) -> Capabilities:
        """What this model can do, where that depends on the model or on other keys of the credential. Never raises."""

    def tools_for_session(self, tools: Sequence[ToolDeclaration]) -> list[dict[str, Any]]:
        """The vendor's tools array."""


# --- the registry -----------------------------------------------------------------------------------------------------

_providers: dict[str, Provider | str] = {
    "azure_openai": "sipbridge.providers.azure_openai:AzureOpenAIDialect",
    "azure_voice_live": "sipbridge.providers.azure_voice_live:VoiceLiveDialect",
    "cascade": "sipbridge.providers.cascade:CascadeDialect",
    "dashscope": "sipbridge.providers.dashscope:DashScopeDialect",
    "deepgram": "sipbridge.providers.deepgram:DeepgramDialect",
    "elevenlabs": "sipbridge.providers.elevenlabs:ElevenLabsDialect",
    "gemini": "sipbridge.providers.gemini:GeminiDialect",
    "nova_sonic": "sipbridge.providers.nova_sonic:NovaSonicDialect",
    "offline": "sipbridge.providers.offline:OfflineDialect",
    "openai": "sipbridge.providers.openai:OpenAIDialect",
    "openai_compatible": "sipbridge.providers.openai_compatible:CompatibleDialect",
    "openai_live": "sipbridge.providers.openai_live:OpenAILiveDialect",
    "ultravox": "sipbridge.providers.ultravox:UltravoxDialect",
    "xai": "sipbridge.providers.xai:XaiDialect",
}
"""Slug -> dialect, or where to import it from when it is first asked for."""
BUILT_IN = frozenset(_providers)
"""Those of this package."""


def register(provider: Provider, *slugs: str) -> None:
    """Make a dialect known under these slugs, lower-cased; a later one replaces an earlier one."""
    for slug in slugs:
        _providers[slug.lower()] = provider


def registered_providers() -> list[str]:
    return sorted(_providers)


def lookup(slug: str) -> Provider:
    """Raises `UnknownProviderError`, whose message names the slugs that exist."""
    key = slug.lower()
    entry = _providers.get(key)
    if entry is None:
        near = get_close_matches(key, _providers, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnknownProviderError(f"unknown provider {slug!r}: there are {', '.join(registered_providers())}{hint}")
    if isinstance(entry, str):
        module, _, name = entry.partition(":")
        entry = _providers[key] = _as_provider(getattr(import_module(module), name))
    return entry


def _as_provider(value: Any) -> Provider:
    provider: Provider = value
    return provider


def capabilities_of(slug: str, credential: Mapping[str, Any] | None = None) -> Capabilities:
    """What the provider's models can do, known without a session or a key; with a credential: what its model can."""
    provider = lookup(slug)
    if credential is None:
        return provider.capabilities
    capabilities = provider.capabilities_for(credential)
    if section := credential.get("voice_provider"):
        from sipbridge.providers.speech.voice import voice_class
        from sipbridge.providers.speech.voiced import capabilities_with_voice

        return capabilities_with_voice(capabilities, voice_class(section))
    return capabilities


def new_dialect(credential: Mapping[str, Any], options: AgentOptions) -> Dialect:
    """The dialect of `credential["provider"]`, behind the voice of its `voice_provider` where it has one. Raises
    `ConfigError`."""
    provider = lookup(str(credential.get("provider") or ""))
    if credential.get("voice_provider"):
        from sipbridge.providers.speech.voiced import with_voice

        return with_voice(provider, credential, options)
    return provider(credential, options)


def tools_for_session(slug: str, tools: Sequence[ToolDeclaration]) -> list[dict[str, Any]]:
    return lookup(slug).tools_for_session(tools)


def new_agent_from_credential(
    credential: Mapping[str, Any],
    options: AgentOptions,
    *,
    connect_timeout: float = 3.0,
    clock: Callable[[], float] = time.monotonic,
    breaker: Breaker | None = None,
) -> Agent:
    """An agent, not yet started. `credential["provider"]` is the slug; the other keys (`api_key`, `url`, `model`, ...)
    are the provider's. `breaker` is shared by all agents that are to learn of each other's failures."""
    from sipbridge.providers.breaker import server_of
    from sipbridge.providers.failures import secrets_in
    from sipbridge.providers.link import Guard
    from sipbridge.providers.session import Session

    slug = str(credential.get("provider") or "")
    return Session(
        new_dialect(credential, options),
        slug=slug.lower(),
        options=options,
        connect_timeout=connect_timeout,
        clock=clock,
        successor=partial(new_dialect, credential),
        guard=Guard(breaker, server_of(str(credential.get("url") or "")), secrets_in(credential)),
    )
