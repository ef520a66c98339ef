"""The configuration's shape: pydantic models of keys that an agent presses, and of numbers that callers enter."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from sipbridge.configfile import Section

MOST_DIGITS = 64
"""Of a number. (The longest in use, an IBAN or a card with all that belongs to it, have half of that.)"""

FieldName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


class SendDtmfConfig(Section):
    pass


class DigitsField(Section):
    """A number that a caller may be asked for."""

    description: str | None = Field(default=None, max_length=200)
    """What it is, for the agent; else the field's name has to say it."""
    digits: int | None = Field(default=None, ge=1, le=MOST_DIGITS)
    """Exactly so many; else `min` to `max`."""
    min: int | None = Field(default=None, ge=1, le=MOST_DIGITS)
    max: int | None = Field(default=None, ge=1, le=MOST_DIGITS)
    terminator: Literal["#", "*"] | None = "#"
    """The key that says: that is all."""
    clear: Literal["*", "#"] | None = "*"
    """The key that begins anew; where nothing was entered, it asks for the question once more."""
    timeout_seconds: float = Field(default=15, gt=0, le=120)
    """How long to wait for the next key."""
    secure: bool = False
    tool: str | None = None
    """Who is given what was entered in secret."""

    @model_validator(mode="after")
    def _consistent(self) -> DigitsField:
        if self.digits is not None and (self.min is not None or self.max is not None):
            raise ValueError("either digits or min and max")
        if self.least > self.most:
            raise ValueError("min is more than max")
        if self.terminator is not None and self.terminator == self.clear:
            raise ValueError(f"terminator and clear are both {self.clear!r}")
        if self.secure and self.tool is None:
            raise ValueError("secure: true needs tool: the name of the tool that is given the digits")
        if self.tool is not None and not self.secure:
            raise ValueError("tool is for secure: true; else the agent is told the digits itself")
        return self

    @property
    def least(self) -> int:
        return self.digits or self.min or 1

    @property
    def most(self) -> int:
        return self.digits or self.max or MOST_DIGITS


class CollectDigitsConfig(Section):
    fields: dict[FieldName, DigitsField] = Field(min_length=1)
