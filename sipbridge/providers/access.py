"""Where a vendor is reached and what shows it who we are, from a section of a tenant's file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from sipbridge.errors import ConfigError

SOCKET = ("wss", "ws")
REQUESTS = ("https", "http")


def check_url(url: str, place: str = "", schemes: tuple[str, ...] = SOCKET) -> None:
    """Raises `ConfigError` where it is of another kind. `place`: of its section, with a dot."""
    if urlsplit(url).scheme not in schemes:
        raise ConfigError(f"{place}url: must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")


def url_and_key(
    section: Mapping[str, Any], default_url: str, place: str = "", schemes: tuple[str, ...] = SOCKET
) -> tuple[str, str]:
    """`place`: the section's name in the file, where it is not the agent's own. Raises `ConfigError`: the URL is of
    another kind, or the vendor's own endpoint lacks a key."""
    url, key = str(section.get("url") or default_url), str(section.get("api_key") or "")
    before = f"{place}." if place else ""
    check_url(url, before, schemes)
    if url == default_url and not key:
        raise ConfigError(f"{before}api_key: is needed for the vendor's own endpoint")
    return url, key


def authorization(key: str, scheme: str = "Bearer") -> dict[str, str]:
    """The header; none without a key."""
    return {"Authorization": f"{scheme} {key}"} if key else {}


def with_query(url: str, query: Mapping[str, Any]) -> str:
    """Behind what the URL asks for already; a list is asked for once for each entry."""
    if not query:
        return url
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(query, doseq=True, quote_via=quote)}"
