"""The configuration's shape: pydantic models of a tenant's file, `tenants/ID.yaml`; see `config` for what is common."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from sipbridge.configfile import Patterns, Place, Section, error_at, load
from sipbridge.media import silero
from sipbridge.tenant_file.agent import AgentConfig
from sipbridge.tenant_file.fallback import FallbackStep
from sipbridge.tenant_file.limits import CallLimits, PhrasesConfig, SilenceConfig
from sipbridge.tenant_file.sounds import TONE, ToneOrWav, WavFile, playable
from sipbridge.tenant_file.summary import SummaryConfig
from sipbridge.tenant_file.tools import ToolsConfig


class Match(Section):
    """All of those given must hold."""

    to: Annotated[Patterns, Field(min_length=1)] = ("*",)
    caller: Patterns = Field(default=(), alias="from")
    trunk: str | None = None
    header: dict[str, str] = {}


class Deadlines(Section):
    connect_seconds: float = Field(default=3, gt=0, le=600)
    first_audio_seconds: float = Field(default=5, gt=0, le=600)
    reply_seconds: float = Field(default=10, gt=0, le=600)
    tool_seconds: float = Field(default=10, gt=0, le=600)


class BargeIn(Section):
    enabled: bool = True
    source: Literal["agent", "local"] = "agent"
    vad: Literal["energy", "silero"] = "energy"
    """What our own ear is, where one is needed."""
    debounce_ms: int = Field(default=0, ge=0, le=5000)
    protect_greeting_ms: int = Field(default=0, ge=0, le=600_000)
    fade_ms: int = Field(default=10, ge=0, le=10)
    recover_false_alarms: bool = False
    backchannels: tuple[str, ...] | None = None
    """Words that take no turn; None: those of `backchannels.DEFAULT`."""

    @field_validator("vad")
    @classmethod
    def _installed(cls, vad: str) -> str:
        if vad == "silero" and (why := silero.trouble()):
            raise ValueError(f"silero {why}")
        return vad


class RecordingConfig(Section):
    enabled: bool = False
    notice: str | None = Field(default=None, min_length=1)
    """What the caller hears first: a sentence for the agent to say, or the path of a WAV file."""
    format: Literal["wav", "flac"] = "wav"
    retention_days: int = Field(default=30, ge=1, le=36_500)
    """Then recordings of its calls are deleted."""

    @field_validator("notice")
    @classmethod
    def _a_file_that_can_be_played(cls, notice: str | None, info: ValidationInfo) -> str | None:
        return playable(notice, info) if notice is not None and notice.lower().endswith(".wav") else notice

    @property
    def notice_file(self) -> Path | None:
        """Where the notice is one."""
        return Path(self.notice) if self.notice is not None and self.notice.lower().endswith(".wav") else None

    @property
    def notice_text(self) -> str | None:
        return None if self.notice_file is not None else self.notice


_AGENT_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What every vendor takes as a value that a model may choose."""


class TenantConfig(Section):
    """One tenant's file; its name is the tenant's id. Of agents it has one (`agent:`) or several (`agents:`); who reads
    it finds all of them in `agents`, and in `agent` the one that a call begins with."""

    match: Match = Match()
    outbound_trunk: str | None = None
    single: AgentConfig | None = Field(default=None, alias="agent")
    several: dict[str, AgentConfig] = Field(default={}, alias="agents")
    fallback: tuple[FallbackStep, ...] = ()
    """What is done, in this order, when the agent fails."""
    answer: Literal["when_ready", "ring_then_answer", "immediately"] = "when_ready"
    rings: int = Field(default=2, ge=1, le=20)
    early_media: bool = False
    waiting_sound: ToneOrWav | None = TONE
    """What is heard until the agent can be."""
    machine: Literal["talk", "hang_up"] = "talk"
    """What becomes of a call of ours that a machine answers."""
    deadlines: Deadlines = Deadlines()
    barge_in: BargeIn = BargeIn()
    tools: ToolsConfig = ToolsConfig()
    keys: Literal["text", "ignore"] = "text"
    """What becomes of the caller's keys that nobody waits for."""
    phrases: PhrasesConfig = PhrasesConfig()
    limits: CallLimits = CallLimits()
    silence: SilenceConfig = SilenceConfig()
    recording: RecordingConfig = RecordingConfig()
    hold_music: WavFile | None = None
    """The path of a WAV file; None: a quiet one of ours."""
    storage: Literal["everything", "no_personal_data", "attributes"] = "everything"
    """How much of a call is kept (docs/history.md)."""
    apply_changes: Literal["new_calls", "instructions"] = "new_calls"
    """What calls that are up take of a newer version of this file."""
    summary: SummaryConfig | None = None
    """Who writes down what a call was about, when it is over; None: nobody."""

    @field_validator("several")
    @classmethod
    def _names(cls, several: dict[str, AgentConfig]) -> dict[str, AgentConfig]:
        for name in several:
            if not _AGENT_NAME.fullmatch(name):
                raise error_at((name,), "an agent's name is made of letters, digits, - and _, 64 at most")
        return several

    @model_validator(mode="after")
    def _one_or_several(self) -> TenantConfig:
        if self.single is None and not self.several:
            raise error_at(("agent",), "Field required, or 'agents' with at least one")
        if self.single is not None and self.several:
            raise error_at(("agent",), "is short for agents: {main: ...}; there are 'agents' already")
        return self

    @property
    def records(self) -> bool:
        """Whether its calls are to be recorded: a voice says who it is, so not where that is not to be kept."""
        return self.recording.enabled and self.storage == "everything"

    @property
    def agents(self) -> dict[str, AgentConfig]:
        """All of them by name, in their order: a call begins with the first."""
        return self.several if self.single is None else {"main": self.single}

    @property
    def agent(self) -> AgentConfig:
        """The one that a call begins with."""
        return next(iter(self.agents.values()))

    def places_of_agents(self) -> Iterator[tuple[Place, AgentConfig]]:
        """Everywhere in the file that an agent stands: what is true of one has to be true of each."""
        if self.single is not None:
            yield ("agent",), self.single
        for name, agent in self.several.items():
            yield ("agents", name), agent
        for number, step in enumerate(self.fallback):
            if step.agent is not None:
                yield ("fallback", number, "agent"), step.agent

    @field_validator("fallback")
    @classmethod
    def _the_goodbye_comes_last(cls, steps: tuple[FallbackStep, ...]) -> tuple[FallbackStep, ...]:
        for number, step in enumerate(steps[:-1]):
            if step.kind == "goodbye":
                raise error_at((number, "goodbye"), "it ends the call: nothing can follow it")
        return steps

    @model_validator(mode="after")
    def _transfers_lead_to_targets(self) -> TenantConfig:
        """Whatever leads to a transfer leads to the same names."""
        targets = self.tools.transfer_call.targets if self.tools.transfer_call is not None else {}
        named: list[tuple[Place, str]] = [(("phrases", "transfer", name), name) for name in self.phrases.transfer]
        for number, step in enumerate(self.fallback):
            if step.transfer is not None:
                named.append((("fallback", number, "transfer"), step.transfer))
        for place, name in named:
            if name not in targets:
                known = ", ".join(targets) or "none"
                raise error_at(place, f"no target of tools.transfer_call; known are: {known}")
        return self


def load_tenant(path: Path) -> TenantConfig:
    """Read one tenant's file. Raises `ConfigError`."""
    return load(path, TenantConfig)
