"""OpenAI's realtime models in Azure: the same protocol at the operator's own resource.

Two URL forms, told apart by the path: `/openai/v1/realtime?model=DEPLOYMENT` speaks the GA shape,
`/openai/realtime?api-version=...&deployment=DEPLOYMENT`, the preview, the older one. What is called a model is the name
of a deployment, also for transcription. Source: Microsoft's "Use the GPT Realtime API" and its reference of the events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar
from urllib.parse import urlsplit

from sipbridge.agent import AgentOptions, Capabilities
from sipbridge.errors import ConfigError
from sipbridge.providers import openai_wire as wire
from sipbridge.providers.entra import check_entra, entra_token
from sipbridge.providers.openai import OpenAIDialect
from sipbridge.providers.openai_beta import BETA_CAPABILITIES, OPENAI_BETA

_GA_PATH = "/openai/v1/realtime"
_PREVIEW_PATH = "/openai/realtime"
_PREVIEW_VERSION = "2025-04-01-preview"

AZURE_GA = wire.Shape(default_url="", default_model="", key_header="api-key", key_prefix="")
AZURE_PREVIEW = replace(OPENAI_BETA, key_header="api-key", key_prefix="", model_parameter="deployment")


class AzureDialect(OpenAIDialect):
    """What Azure's services have in common: the operator's own resource, and who may use it."""

    path: ClassVar[str]
    """Of the service in the resource; put behind a `url` that names none."""

    def __init__(self, credential: Mapping[str, Any], options: AgentOptions) -> None:
        self._entra: Mapping[str, Any] = credential.get("entra") or {}
        self._token = str(credential.get("token") or "")
        super().__init__(credential, options)
        if urlsplit(self._url).path in ("", "/"):
            self._url = self._url.rstrip("/") + self.path
        if self._entra:
            check_entra(self._entra)
        elif not (self._key or self._token) and (urlsplit(self._url).hostname or "").endswith(".azure.com"):
            raise ConfigError("api_key: is needed, or token, or entra")

    async def prepare(self) -> None:
        if self._entra:
            self._token = await entra_token(self._entra)

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else super().headers()


class AzureOpenAIDialect(AzureDialect):
    """GA or preview, by the URL. Without `transcription_model` nobody writes down what the caller says."""

    shape = AZURE_GA
    capabilities = wire.GA_CAPABILITIES
    path = _GA_PATH

    def __init__(self, credential: Mapping[str, Any], options: AgentOptions) -> None:
        self._preview = _is_preview(credential)
        self._api_version = str(credential.get("api_version") or _PREVIEW_VERSION)
        if self._preview:
            self.shape = AZURE_PREVIEW
        if not credential.get("transcription_model"):
            options = replace(options, transcription=False)
        super().__init__(credential, options)
        if not self._model:
            raise ConfigError("model: is needed: the name of the deployment")

    @classmethod
    def capabilities_for(cls, credential: Mapping[str, Any]) -> Capabilities:
        possible = BETA_CAPABILITIES if _is_preview(credential) else wire.GA_CAPABILITIES
        return replace(possible, transcribes=bool(credential.get("transcription_model")))

    def default_url(self, credential: Mapping[str, Any]) -> str:
        raise ConfigError(f"url: is needed, e.g. wss://RESOURCE.openai.azure.com{_GA_PATH}")

    def query(self) -> dict[str, str]:
        return ({"api-version": self._api_version} if self._preview else {}) | super().query()


def _is_preview(credential: Mapping[str, Any]) -> bool:
    return urlsplit(str(credential.get("url") or "")).path.rstrip("/").endswith(_PREVIEW_PATH)
