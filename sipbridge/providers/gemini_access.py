"""Where a Gemini Live session is opened and with what: Developer API or Vertex; a key, an ephemeral or an access token.

Source: the vendor's SDK google-genai 3.4, `AsyncLive.connect`. Secrets go into headers, never into the URL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sipbridge.errors import ConfigError
from sipbridge.providers import WebSocketEndpoint
from sipbridge.providers.access import authorization, check_url
from sipbridge.providers.gemini_wire import DEFAULT_MODEL, family_of
from sipbridge.providers.google_token import service_account_token

_EPHEMERAL = "auth_tokens/"


class Access:
    """Made from the credential. Raises `ConfigError` where that lacks what is needed."""

    def __init__(self, credential: Mapping[str, Any]) -> None:
        self._vertex: Mapping[str, Any] = credential.get("vertex") or {}
        self._url = str(credential.get("url") or "")
        self._key = str((self._vertex.get("token") if self._vertex else credential.get("api_key")) or "")
        self._user_project = str(self._vertex.get("quota_project") or "")
        self._model = str(credential.get("model") or DEFAULT_MODEL)
        self.family = family_of(self._model, vertex=bool(self._vertex))
        if self._url:
            check_url(self._url)
        if self._vertex:
            if not self._vertex.get("project") or not self._vertex.get("location"):
                raise ConfigError("vertex: project and location are needed")
            if not self._key and not self._vertex.get("service_account") and not self._url:
                raise ConfigError("vertex: service_account (a key file) or token is needed")
        elif not self._key and not self._url:
            raise ConfigError("api_key: is needed for the vendor's own endpoint (or vertex)")

    async def prepare(self) -> None:
        """An access token, where a service account is to give one. Raises `AgentStartError`."""
        path = self._vertex.get("service_account")
        if path and not self._key:
            account = await service_account_token(str(path))
            self._key = account.token
            self._user_project = self._user_project or account.quota_project

    def endpoint(self) -> WebSocketEndpoint:
        """Without pings: the service has answered them after half a minute."""
        url = self._url or (self._vertex_url() if self._vertex else self._developer_url())
        return WebSocketEndpoint(url, self._headers(), ping_interval=None, text=True)

    def _headers(self) -> dict[str, str]:
        if not self._key:
            return {}
        if not self._vertex:
            ephemeral = self._key.startswith(_EPHEMERAL)
            return authorization(self._key, "Token") if ephemeral else {"x-goog-api-key": self._key}
        headers = authorization(self._key)
        if self._user_project:
            headers["x-goog-user-project"] = self._user_project
        return headers

    def _developer_url(self) -> str:
        """Ephemeral tokens are known to v1alpha only."""
        constrained = self._key.startswith(_EPHEMERAL)
        service = f"google.ai.generativelanguage.{'v1alpha' if constrained else 'v1beta'}.GenerativeService"
        method = "BidiGenerateContentConstrained" if constrained else "BidiGenerateContent"
        return f"wss://generativelanguage.googleapis.com/ws/{service}.{method}"

    def _vertex_url(self) -> str:
        """The location `global` has a host without prefix."""
        location = self._vertex["location"]
        host = "aiplatform.googleapis.com" if location == "global" else f"{location}-aiplatform.googleapis.com"
        return f"wss://{host}/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent"

    @property
    def model_path(self) -> str:
        """As the SDK names it: on Vertex a bare name is one of Google's own, in this project and location."""
        model = self._model
        if not self._vertex:
            return model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"
        if model.startswith("projects/"):
            return model
        named = (
            model if model.startswith("publishers/") else f"publishers/google/models/{model.removeprefix('models/')}"
        )
        return f"projects/{self._vertex['project']}/locations/{self._vertex['location']}/{named}"

    def redacted(self, text: str) -> str:
        """A server may quote the key that it refuses."""
        return text.replace(self._key, "***") if self._key else text
