"""What the parts of an agent have in common: one channel, an outbox, events, and input that may be wrong."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Generic, TypeVar

import structlog

from sipbridge.errors import UnknownProviderError
from sipbridge.providers import Endpoint, HttpEndpoint, Outgoing
from sipbridge.providers.access import authorization
from sipbridge.providers.base import REFUSALS
from sipbridge.providers.wire import UNREADABLE, Json, encode

log = structlog.get_logger(__name__)

Event = TypeVar("Event")

FATAL_STATUS = frozenset({"400", "401", "402", "403", "404", "405", "422"})
"""HTTP statuses that the same request would get again: the key, the model, the money or what we ask for."""


@dataclass(frozen=True, slots=True)
class PartFailed:
    """This part is of no more use. `again`: a new one may be."""

    message: str
    code: str
    again: bool = False


class Part(Generic[Event]):
    """Driven like a `Dialect`, over one channel: after each call that takes `now` its messages, timer and events are
    looked at. Nothing that a vendor sends makes a method raise."""

    name = "part"
    """What it is called in errors: voice, stt, llm."""

    def __init__(self, section: Mapping[str, Any]) -> None:
        self._section = section
        self.counters: Counter[str] = Counter()
        self._events: deque[Event | PartFailed] = deque()
        self._outbox: list[Outgoing] = []
        self._logged: set[str] = set()

    @property
    def model(self) -> str:
        """For prices and logs."""
        return str(self._section.get("model") or "")

    def endpoint(self) -> Endpoint:
        raise NotImplementedError

    def opened(self, now: float) -> None:
        """The channel is open, perhaps not for the first time."""

    def closed(self, code: int, reason: str, now: float) -> None:
        """The channel is gone, or could not be opened again. A message sent later opens it."""

    def receive(self, message: str | bytes, now: float) -> None:
        try:
            self.on_message(message, now)
        except UNREADABLE as error:
            self.counters["malformed"] += 1
            self._log_once("malformed", "malformed message passed over", error=type(error).__name__)

    def on_message(self, message: str | bytes, now: float) -> None:
        """May raise what reading it wrongly raises: it is counted as malformed."""
        raise NotImplementedError

    def messages_to_send(self) -> list[Outgoing]:
        """Whose channel's name is left to whoever holds the part."""
        messages, self._outbox = self._outbox, []
        return messages

    def get_timer(self) -> float | None:
        return None

    def handle_timer(self, now: float) -> None:
        """Overridden with `get_timer`."""

    def next_event(self) -> Event | PartFailed | None:
        return self._events.popleft() if self._events else None

    # --- for those that derive from it --------------------------------------------------------------------------------

    def _send(self, message: Json) -> None:
        self._outbox.append(Outgoing("", encode(message)))

    def _fail(self, message: str, code: str, *, again: bool) -> None:
        self._events.append(PartFailed(f"{self.name}: {message}", code, again))

    def _lost(self, code: int, reason: str) -> None:
        """The connection closed, which it should not have."""
        why = f"{code} {reason}".strip()
        self._fail(f"the connection closed: {why}", "closed", again=code not in REFUSALS)

    def _unknown(self, kind: object) -> None:
        self.counters["unknown"] += 1
        self._log_once(str(kind), "unknown event passed over", type=str(kind)[:80])

    def _log_once(self, key: str, text: str, **values: str) -> None:
        if key not in self._logged and len(self._logged) < 100:
            self._logged.add(key)
            log.warning(text, part=self.name, **values)


def service_class(table: Mapping[str, str], section: Mapping[str, Any], place: str) -> Any:
    """What the table has for the section's provider. Raises `UnknownProviderError`, which names those there are."""
    slug = str(section.get("provider") or "").lower()
    if slug not in table:
        near = get_close_matches(slug, table, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnknownProviderError(f"{place}.provider: there is no {slug!r}, but {', '.join(sorted(table))}{hint}")
    module, _, name = table[slug].partition(":")
    return getattr(import_module(module), name)


def short_language(language: object) -> str:
    """ISO 639-1 of a BCP 47 tag; "" where there is none."""
    return language.partition("-")[0].lower() if isinstance(language, str) else ""


def http_endpoint(url: str, key: str, content_type: str = "application/json") -> HttpEndpoint:
    """One that takes a key as a bearer's, as OpenAI and those who follow it do."""
    return HttpEndpoint(url, authorization(key), content_type)
