"""Tokens of Microsoft Entra for an application: the client credentials flow (RFC 6749 §4.4), for Azure's models."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from sipbridge.errors import AgentStartError, ConfigError
from sipbridge.providers.fetch import fetch_json

_TOKEN_URL = "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"
_SCOPE = "https://ai.azure.com/.default"
_MARGIN = 300.0
"""Seconds before its end from which a token is not used for a new session any more."""
_KEPT = 64

_tokens: dict[tuple[str, ...], tuple[str, float]] = {}
"""What was asked for -> the token and when to ask again. A call need not wait for what the one before it was given."""


def check_entra(entra: Mapping[str, Any]) -> None:
    """Raises `ConfigError` where something is missing."""
    for name in ("tenant_id", "client_id", "client_secret"):
        if not entra.get(name):
            raise ConfigError(f"entra.{name}: is needed")


async def entra_token(entra: Mapping[str, Any]) -> str:
    """A token that lives for some minutes yet. Raises `AgentStartError`."""
    url = str(entra.get("token_url") or _TOKEN_URL.format(tenant=quote(str(entra["tenant_id"]), safe="")))
    form = {
        "grant_type": "client_credentials",
        "client_id": str(entra["client_id"]),
        "client_secret": str(entra["client_secret"]),
        "scope": str(entra.get("scope") or _SCOPE),
    }
    key = (url, *form.values())
    known, until = _tokens.get(key, ("", 0.0))
    if time.monotonic() < until:
        return known
    answer = await fetch_json("POST", url, form=form)
    token, seconds = answer.get("access_token"), answer.get("expires_in")
    if not isinstance(token, str) or not token:
        raise AgentStartError("the token endpoint gave no access_token", code="answer")
    _tokens.pop(key, None)
    if isinstance(seconds, (int, float)):
        while len(_tokens) >= _KEPT:
            del _tokens[next(iter(_tokens))]
        _tokens[key] = token, time.monotonic() + seconds - _MARGIN
    return token
