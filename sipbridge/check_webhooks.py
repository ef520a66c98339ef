"""Can those be reached who are told of calls, or keep them? A part of `check`: connections are opened and closed again,
nothing is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from sipbridge.config import Config
from sipbridge.errors import ConfigError
from sipbridge.finding import Finding
from sipbridge.history.sink import SinkUnavailableError
from sipbridge.logins import Secret

_CONNECT_S = 5.0


async def look_at_webhooks(config: Config) -> list[Finding]:
    looks: list[Coroutine[Any, Any, Finding]] = []
    if config.history.enabled and config.history.store.startswith("http"):
        looks.append(_look("history.store", config.history.store, config.history.secret))
    for number, webhook in enumerate(config.webhooks):
        looks.append(_look(f"webhooks[{number}]", webhook.url, webhook.secret))
    return list(await asyncio.gather(*looks))


async def _look(subject: str, url: str, secret: Secret | None) -> Finding:
    from sipbridge.history.http import HttpPeer  # its library takes time to import

    try:
        peer = HttpPeer(url, secret, kind=subject, seconds=_CONNECT_S, connections=1)
        await peer.reach()
    except ConfigError as error:
        return Finding("failed", subject, str(error), "serve does not start without it")
    except SinkUnavailableError as error:
        return Finding("failed", subject, str(error), "what it is to get waits in the outbox until it is there")
    if secret is None:
        return Finding("warning", subject, f"{peer.place} is there; requests are not signed", "set its secret")
    if url.startswith("http:") and not _is_near(url):
        return Finding("warning", subject, f"{peer.place} is there; what callers say goes in clear", "https://")
    return Finding("ok", subject, f"{peer.place} is there")


def _is_near(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_private
    except ValueError:
        return host == "localhost"
