"""The HTTP client of whoever speaks with servers that others run: tools, the tenants' backend, who is told of calls.

It goes where its user says and nowhere else: no proxies of the environment, no redirects of its own. What a server
gives along with one call (cookies) is not shown to it along with another's.
"""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from ssl import SSLContext

import httpx


def new_client(
    verify: SSLContext | bool, *, connections: int, connect_seconds: float | None, kept_open_seconds: float
) -> httpx.AsyncClient:
    """The whole of a request is for its user to bound."""
    client = httpx.AsyncClient(
        verify=verify,
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(None, connect=connect_seconds),
        limits=httpx.Limits(max_connections=connections, keepalive_expiry=kept_open_seconds),
    )
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return client
