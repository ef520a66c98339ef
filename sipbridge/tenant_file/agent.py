"""The configuration's shape: pydantic models of an agent, `agent:` and `agents:` in a tenant's file."""

from __future__ import annotations

import re
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from sipbridge.configfile import Section, beside
from sipbridge.logins import Secret


class TurnDetectionConfig(Section):
    type: Literal["server_vad", "semantic_vad", "local_vad", "none"] = "server_vad"
    threshold: float | None = Field(default=None, ge=0, le=1)
    prefix_ms: int | None = Field(default=None, ge=0)
    silence_ms: int | None = Field(default=None, ge=0)
    eagerness: Literal["low", "medium", "high", "auto"] | None = None


class Transcripts(Section):
    interim: bool = False


def _address(url: str) -> str:
    """Raises `ValueError`, which never quotes it: there may be a password in it."""
    try:
        parts = urlsplit(url)
        right = (
            parts.scheme in ("wss", "ws", "https", "http")
            and parts.hostname
            and parts.port != 0
            and not re.search(r"[\s?#]", url)
        )
    except ValueError:  # a port that is none, half an IPv6 address
        right = False
    if not right:
        raise ValueError("a full URL without query is expected: wss://HOST[:PORT]/PATH, or https://")
    if parts.username is not None:
        raise ValueError("no user and password in it; a key belongs into api_key")
    return url


class ServiceConfig(Section):
    """One part of an agent that is made of several: a transcriber, a language model, a voice."""

    provider: str = Field(min_length=1)
    api_key: Secret | None = None
    url: str | None = None
    model: str | None = None
    voice: str | None = None
    language: str | None = None
    extra: dict[str, Any] = {}

    @field_validator("url")
    @classmethod
    def _full_url(cls, url: str | None) -> str | None:
        return None if url is None else _address(url)


class DelegationConfig(Section):
    """Who does the work that a voice delegates (openai_live)."""

    model: str | None = None
    instructions: str | None = Field(default=None, max_length=200_000)


class ThinkConfig(Section):
    """The language model of an agent whose vendor has several vendors' (deepgram)."""

    provider: str | None = None
    model: str | None = None


class VertexConfig(Section):
    """Gemini on Vertex AI: whose project, and who may."""

    project: str = Field(min_length=1)
    location: str = Field(pattern=r"^[a-z0-9-]+$")
    service_account: str | None = None
    """Path of a service account's key file."""
    token: Secret | None = None
    """An access token of one's own, instead; it lives an hour."""
    quota_project: str | None = None
    """Another project that pays, and counts against its quota."""

    @field_validator("service_account")
    @classmethod
    def _beside_the_tenant_s_file(cls, path: str | None, info: ValidationInfo) -> str | None:
        return None if path is None else str(beside(path, info))


class AwsConfig(Section):
    """Amazon Bedrock (nova_sonic): without keys the environment's, a profile's or the machine's role's are taken."""

    region: str = Field(default="us-east-1", pattern=r"^[a-z0-9-]+$")
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None


class EntraConfig(Section):
    """An application of Microsoft Entra that may use a model (azure_openai, azure_voice_live)."""

    tenant_id: str = Field(min_length=1)
    client_id: str = Field(min_length=1)
    client_secret: Secret
    token_url: str | None = None
    scope: str | None = None


class AgentConfig(Section):
    provider: str = Field(min_length=1)
    description: str | None = Field(default=None, min_length=1)
    """What the tenant's other agents are told of it, who may hand the caller over to it."""
    tools: tuple[str, ...] | None = None
    """Which of the tenant's tools it may use, by name; None: all."""
    greet: bool = False
    """Where the caller is handed over to it, it says its greeting instead of just going on."""
    api_key: Secret | None = None
    url: str | None = None
    model: str | None = None
    agent_id: str | None = None
    """Of an agent that was made at the vendor's, where there are such (`elevenlabs`)."""
    agent_name: str | None = None
    agent_project: str | None = None
    """The same where it has a name in a project (azure_voice_live)."""
    region: str | None = None
    """Where the vendor is asked, where it has several places."""
    workspace: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]+$")
    """Which part of the account the key is for (dashscope)."""
    voice: str | None = None
    temperature: float | None = Field(default=None, allow_inf_nan=False)
    instructions: str = Field(default="", max_length=200_000)
    """More than the largest model that speaks remembers; a template of a megabyte takes seconds to fill in."""
    greeting: str | None = Field(default=None, max_length=10_000)
    farewell: str | None = Field(default=None, max_length=10_000)
    language: str | None = None
    turn_detection: TurnDetectionConfig = TurnDetectionConfig()
    transcripts: Transcripts = Transcripts()
    native_audio: bool = True
    """Let the phone's own codec through to a model that takes it, instead of going over PCM."""
    extra: dict[str, Any] = {}
    organization: str | None = None
    project: str | None = None
    """Whom the vendor charges, where the key alone does not say it (openai)."""
    transcription_model: str | None = None
    """Who writes down what the caller says, where that can be chosen."""
    token: Secret | None = None
    """A bearer token instead of a key (azure_openai, azure_voice_live)."""
    entra: EntraConfig | None = None
    api_version: str | None = None
    """Of Azure's services, where they have versions."""
    shape: Literal["auto", "ga", "beta"] = "auto"
    """Which of the two shapes of the protocol an openai_compatible server speaks; auto: it says so itself."""
    input_rate: Literal[8000, 16000, 24000, 48000] | None = None
    output_rate: Literal[8000, 16000, 22050, 24000, 44100, 48000] | None = None
    g711: bool = False
    key_header: str | None = None
    delegation: DelegationConfig | None = None
    think: ThinkConfig | None = None
    vertex: VertexConfig | None = None
    aws: AwsConfig | None = None
    tool_behavior: Literal["blocking", "non_blocking"] | None = None
    """Whether the model goes on talking while a tool works, where it can."""
    voice_provider: ServiceConfig | None = None
    """Who speaks what the model writes, where it is not to speak itself."""
    stt: ServiceConfig | None = None
    llm: ServiceConfig | None = None
    tts: ServiceConfig | None = None
    """The parts of a `cascade`."""

    @field_validator("url")
    @classmethod
    def _full_url(cls, url: str | None) -> str | None:
        """Which schemes a provider takes, its dialect says: `agent_settings.problems` makes one."""
        return None if url is None else _address(url)
