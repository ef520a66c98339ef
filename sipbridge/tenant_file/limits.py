"""The configuration's shape: what bounds calls, `limits:` and `silence:` in a tenant's file, and `phrases:`."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import Field, field_validator, model_validator

from sipbridge.configfile import Patterns, Section, error_at
from sipbridge.tenant_file.sounds import WavFile
from sipbridge.wording import plain_words

Sentence = Annotated[str, Field(min_length=1, max_length=1000)]
"""For the agent to say."""


class CallLimits(Section):
    concurrent_calls: int | None = Field(default=None, ge=0)
    """Of all the tenant's calls, as the next three; 0: none at all."""
    calls_per_second: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    minutes_per_day: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    spend_per_day: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    timezone: str | None = Field(default=None, max_length=64)
    """Whose midnight begins a day; None: UTC."""
    spoken: WavFile | None = None
    """What a caller hears for whom there is no room, instead of a busy tone."""
    call_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """From the answer; the node's `max_call_seconds` counts from the INVITE and stays."""
    warning_seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """How long before the end the caller is told. None: half a minute, in calls that may be longer than twice that."""
    warning: Sentence | None = None
    """The words of it, also where the money runs out."""
    spend_per_call: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """USD, by `prices`."""
    loop_turns: int | None = Field(default=None, ge=3, le=1000)
    """So many turns of a caller's that bring nothing new are a machine's."""

    @field_validator("timezone")
    @classmethod
    def _a_zone(cls, name: str | None) -> str | None:
        if name is None:
            return None
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            near = get_close_matches(name, available_timezones(), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "Europe/Berlin or UTC, for example"
            raise ValueError(f"no time zone {name!r}; {hint}") from None
        return name

    @model_validator(mode="after")
    def _a_warning_in_the_call(self) -> CallLimits:
        if self.call_seconds is not None and (self.warning_seconds or 0) >= self.call_seconds:
            raise error_at(("warning_seconds",), f"there is no such moment in a call of {self.call_seconds:g} s")
        return self


class SilenceConfig(Section):
    """Nobody says anything."""

    seconds: float | None = Field(default=None, gt=0, le=86_400)
    """Then the next prompt is spoken; after the last one, the goodbye. None: silence is nobody's business."""
    prompts: Annotated[Patterns, Field(max_length=10)] | None = None
    """One after another. None: a sentence that ships with sipbridge, twice."""
    hang_up: bool = True

    @field_validator("prompts")
    @classmethod
    def _prompts_have_words(cls, prompts: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if prompts is None else _with_words(prompts)


class PhrasesConfig(Section):
    """What the agent says, in its own words, where its model calls no tools."""

    hang_up: Patterns = ()
    transfer: dict[str, Patterns] = {}
    """Name of a target of `tools.transfer_call` -> what the agent says when it means that."""

    @property
    def given(self) -> bool:
        return bool(self.hang_up or self.transfer)

    @field_validator("hang_up")
    @classmethod
    def _hang_up_has_words(cls, phrases: tuple[str, ...]) -> tuple[str, ...]:
        return _with_words(phrases)

    @field_validator("transfer")
    @classmethod
    def _transfer_has_words(cls, transfer: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for phrases in transfer.values():
            _with_words(phrases)
        return transfer

    @model_validator(mode="after")
    def _each_means_one_thing(self) -> PhrasesConfig:
        meanings = {tuple(plain_words(phrase)): "hang_up" for phrase in self.hang_up}
        for name, phrases in self.transfer.items():
            for phrase in phrases:
                other = meanings.setdefault(tuple(plain_words(phrase)), name)
                if other != name:
                    raise error_at(("transfer", name), f"{phrase!r} stands for {other}, too")
        return self


def _with_words(phrases: tuple[str, ...]) -> tuple[str, ...]:
    for phrase in phrases:
        if not plain_words(phrase):
            raise ValueError(f"{phrase!r} has no word in it")
    return phrases
