"""The configuration's shape: `webhooks:` of sipbridge.yaml."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator

from sipbridge.configfile import Patterns, Section
from sipbridge.history.facts import KINDS
from sipbridge.logins import Secret


def _an_address(url: str) -> str:
    """Raises `ValueError`, which never quotes it: there may be a password in it."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not re.search(r"\s", url)
    except ValueError:  # a port that is none, half an IPv6 address
        usable = False
    if not usable:
        raise ValueError("http://HOST[:PORT]/PATH or https:// is expected")
    return url


class WebhookConfig(Section):
    url: Annotated[str, Field(max_length=2000), AfterValidator(_an_address)]
    """May contain `${NAME}`."""
    secret: Secret | None = None
    events: Annotated[Patterns, Field(min_length=1)] = ("call.*", "recording.*")
    """Kinds of facts, as globs; `call.` may be left out."""
    tenants: Annotated[Patterns, Field(min_length=1)] = ("*",)
    """Those whose calls it is told of, as globs."""
    timeout_seconds: float = Field(default=10, gt=0, le=50, allow_inf_nan=False)

    @field_validator("events")
    @classmethod
    def _known_events(cls, events: tuple[str, ...]) -> tuple[str, ...]:
        for event in events:
            if not kinds_of([event]):
                near = difflib.get_close_matches(event, (*KINDS, *map(_short, KINDS)), n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else "there are " + ", ".join(KINDS)
                raise ValueError(f"there is no event {event!r}; {hint}")
        return events

    @property
    def kinds(self) -> tuple[str, ...]:
        return kinds_of(self.events)


def kinds_of(events: Iterable[str]) -> tuple[str, ...]:
    """The kinds of facts that are meant."""
    patterns = tuple(events)
    return tuple(
        kind
        for kind in KINDS
        if any(fnmatchcase(kind, pattern) or fnmatchcase(_short(kind), pattern) for pattern in patterns)
    )


def _short(kind: str) -> str:
    return kind.removeprefix("call.")
