"""The configuration's shape: pydantic models of what happens when an agent fails, `fallback:` in a tenant's file."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import Field, ValidationInfo, field_validator, model_validator

from sipbridge import prompts
from sipbridge.configfile import Section, beside
from sipbridge.tenant_file.agent import AgentConfig

StepKind: TypeAlias = Literal["prompt", "agent", "transfer", "goodbye"]

_KINDS: tuple[StepKind, ...] = ("prompt", "agent", "transfer", "goodbye")
_INHERITED = ("instructions", "greeting", "farewell", "language", "turn_detection", "transcripts")
"""What is the tenant's rather than a vendor's: whoever stands in for an agent has it from that one, where it has none
of its own."""


class FallbackStep(Section):
    """One step: one of its keys."""

    prompt: str | None = Field(default=None, min_length=1)
    """A WAV file that the caller hears."""
    agent: AgentConfig | None = None
    """Who goes on with the conversation; see `standing_in`."""
    transfer: str | None = Field(default=None, min_length=1)
    """A target of `tools.transfer_call`, by its name."""
    goodbye: str | None = Field(default=None, min_length=1)
    """A WAV file that is heard before the call ends, instead of our own sentence."""

    @property
    def kind(self) -> StepKind:
        return next(kind for kind in _KINDS if getattr(self, kind) is not None)

    @model_validator(mode="after")
    def _one_of_them(self) -> FallbackStep:
        if sum(getattr(self, kind) is not None for kind in _KINDS) != 1:
            raise ValueError(f"a step is one of {', '.join(_KINDS)}")
        return self

    @field_validator("prompt", "goodbye")
    @classmethod
    def _a_file_that_can_be_played(cls, name: str | None, info: ValidationInfo) -> str | None:
        """Beside the tenant's file; else a sentence that ships with sipbridge, by its name (prompts/one-moment.wav)."""
        if name is None:
            return None
        path = beside(name, info)
        stem = Path(name).stem if Path(name).suffix.lower() in ("", ".wav") else ""
        if not path.exists() and stem in prompts.PROMPTS:
            path = prompts.DIRECTORY / f"{stem}.wav"
        try:
            prompts.load_wav(path, prompts.PROMPT_RATE)
        except ValueError as error:
            near = get_close_matches(stem, prompts.PROMPTS, n=1)
            hint = f"; {near[0]!r} ships with sipbridge" if near and not path.exists() else ""
            raise ValueError(f"{path}: {error}{hint}") from None
        return str(path)


def standing_in(agent: AgentConfig, failed: AgentConfig) -> AgentConfig:
    """An agent in the place of one that failed: what it says nothing of is as it was there."""
    missing = {name: getattr(failed, name) for name in _INHERITED if name not in agent.model_fields_set}
    return agent.model_copy(update=missing)
