"""The configuration's shape: pydantic models of a tenant's file, `tenants/ID.yaml`; see `config` for what is common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from sipbridge.agent_config import AgentConfig
from sipbridge.config import PLANNED
from sipbridge.configfile import Patterns, Section, load
from sipbridge.media import silero
from sipbridge.prompts import PROMPT_RATE, load_wav
from sipbridge.tool_config import ToolsConfig


class Match(Section):
    """All of those given must hold."""

    to: Patterns = ("*",)
    caller: Patterns = Field(default=(), alias="from")
    trunk: str | None = None
    header: dict[str, str] = {}


class Deadlines(Section):
    connect_seconds: float = Field(default=3, gt=0)
    first_audio_seconds: Annotated[float, PLANNED] = Field(default=5, gt=0)
    reply_seconds: float = Field(default=10, gt=0)
    tool_seconds: float = Field(default=10, gt=0)


class BargeIn(Section):
    enabled: bool = True
    source: Literal["agent", "local"] = "agent"
    vad: Literal["energy", "silero"] = "energy"
    """What our own ear is, where one is needed."""
    debounce_ms: int = Field(default=0, ge=0, le=5000)
    protect_greeting_ms: int = Field(default=0, ge=0)
    fade_ms: int = Field(default=10, ge=0, le=10)
    recover_false_alarms: bool = False
    backchannels: tuple[str, ...] | None = None
    """Words that take no turn; None: those of `backchannels.DEFAULT`."""

    @field_validator("vad")
    @classmethod
    def _installed(cls, vad: str) -> str:
        if vad == "silero" and (why := silero.missing()):
            raise ValueError(f"silero {why}")
        return vad


class RecordingConfig(Section):
    enabled: bool = False
    notice: str | None = Field(default=None, min_length=1)
    """What the caller hears first: a sentence for the agent to say, or the path of a WAV file."""
    format: Literal["wav", "flac"] = "wav"
    retention_days: Annotated[int, PLANNED] = Field(default=30, ge=1)

    @field_validator("notice")
    @classmethod
    def _a_file_that_can_be_played(cls, notice: str | None, info: ValidationInfo) -> str | None:
        if notice is None or not notice.lower().endswith(".wav"):
            return notice
        path = Path((info.context or {}).get("directory", ""), notice)
        try:
            load_wav(path, PROMPT_RATE)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        return str(path)

    @property
    def notice_file(self) -> Path | None:
        """Where the notice is one."""
        return Path(self.notice) if self.notice is not None and self.notice.lower().endswith(".wav") else None

    @property
    def notice_text(self) -> str | None:
        return None if self.notice_file is not None else self.notice


class TenantConfig(Section):
    """One tenant's file; its name is the tenant's id."""

    match: Match = Match()
    outbound_trunk: str | None = None
    agent: AgentConfig
    agents: Annotated[dict[str, Any], PLANNED] = {}
    fallback: Annotated[tuple[dict[str, Any], ...], PLANNED] = ()
    answer: Annotated[Literal["when_ready", "ring_then_answer", "immediately"], PLANNED] = "when_ready"
    rings: Annotated[int, PLANNED] = Field(default=2, ge=1)
    deadlines: Deadlines = Deadlines()
    barge_in: BargeIn = BargeIn()
    tools: ToolsConfig = ToolsConfig()
    phrases: Annotated[dict[str, Any], PLANNED] = {}
    limits: Annotated[dict[str, Any], PLANNED] = {}
    recording: RecordingConfig = RecordingConfig()
    storage: Annotated[Literal["everything", "no_personal_data", "attributes"], PLANNED] = "everything"


def load_tenant(path: Path) -> TenantConfig:
    """Read one tenant's file. Raises `ConfigError`."""
    return load(path, TenantConfig)
