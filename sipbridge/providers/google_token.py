"""An access token for Vertex from a service account's key file (RFC 7523: a signed assertion for a bearer token)."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from sipbridge.errors import AgentStartError
from sipbridge.providers.fetch import fetch_json

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_LIFE_S = 3600
_MARGIN_S = 300
_MOST = 100


@dataclass(frozen=True, slots=True)
class AccountToken:
    token: str = field(repr=False)
    quota_project: str
    expires_at: float


_tokens: dict[tuple[str, int], AccountToken] = {}
"""By key file and its modification time: a call's set-up does not wait for a token that the last one has got."""


async def service_account_token(path: str) -> AccountToken:
    """A token that is good for at least five more minutes. Raises `AgentStartError`, which never quotes the file."""
    try:
        modified = (await asyncio.to_thread(Path(path).stat)).st_mtime_ns
        known = _tokens.get((path, modified))
        if known is not None and known.expires_at - time.time() > _MARGIN_S:
            return known
        account, assertion = await asyncio.to_thread(_signed, path)
    except ImportError:
        raise AgentStartError("vertex: google-auth is not installed (the extra vertex)", code="google_auth") from None
    except OSError as error:
        raise AgentStartError(f"vertex: service_account: {path}: {error.strerror}", code="service_account") from None
    except (ValueError, KeyError, TypeError):
        raise AgentStartError(f"vertex: service_account: {path} is no key file", code="service_account") from None
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
    answer = await fetch_json("POST", account["token_uri"], form=form)
    token = answer.get("access_token")
    if not isinstance(token, str) or not token:
        raise AgentStartError("vertex: the answer to the service account has no token in it", code="service_account")
    life = answer.get("expires_in")
    expires_at = time.time() + (life if isinstance(life, int) else _LIFE_S)
    fresh = AccountToken(token, str(account.get("quota_project_id") or ""), expires_at)
    if len(_tokens) >= _MOST:
        _tokens.clear()
    _tokens[path, modified] = fresh
    return fresh


def _signed(path: str) -> tuple[dict[str, Any], str]:
    crypt: Any = import_module("google.auth.crypt")  # takes its time to load, and is there only with the extra
    jwt: Any = import_module("google.auth.jwt")
    account: dict[str, Any] = json.loads(Path(path).read_text())
    now = int(time.time())
    claims = {
        "iss": account["client_email"],
        "scope": _SCOPE,
        "aud": account["token_uri"],
        "iat": now,
        "exp": now + _LIFE_S,
    }
    signed: bytes = jwt.encode(crypt.RSASigner.from_service_account_info(account), claims)
    return account, signed.decode("ascii")
