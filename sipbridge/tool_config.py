"""The configuration's shape: pydantic models of what the model may do, `tools:` in a tenant's file."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from sipbridge.config import PLANNED
from sipbridge.configfile import Section
from sipbridge.digits_config import CollectDigitsConfig, SendDtmfConfig


class HangUpConfig(Section):
    pass


class TransferCallConfig(Section):
    targets: dict[str, str] = Field(min_length=1)
    confirm: Annotated[bool, PLANNED] = False
    mode: Literal["blind", "attended"] = "blind"
    via: Literal["auto", "refer", "bridge"] = "auto"
    """Who connects the two: the caller's side (REFER), or we with a second leg."""
    ring_seconds: float = Field(default=30, gt=0, le=180)
    accept_seconds: float = Field(default=20, gt=0, le=120)
    """Of an attended transfer: how long a person may take to decide, once all has been said."""
    question: str = Field(default="Press 1 to take the call, or 2 to decline.", min_length=1)

    @property
    def needs_a_way_out(self) -> bool:
        """Whether it can only be done by calling the target ourselves."""
        return self.mode == "attended" or self.via == "bridge"

    @field_validator("targets")
    @classmethod
    def _sip_or_tel(cls, targets: dict[str, str]) -> dict[str, str]:
        for name, target in targets.items():
            if not re.fullmatch(r"(sips?:[^\s<>?]+|tel:\+?[0-9().-]+(;[^\s<>?]*)?)", target):
                raise ValueError(f"target {name!r}: expected sip:USER@HOST or tel:NUMBER, not {target!r}")
        return targets


class HoldConfig(Section):
    seconds: float = Field(default=120, gt=0, le=3600)
    """The longest that a caller is left with the music."""


_BUILT_IN = ("hang_up", "transfer_call", "send_dtmf", "collect_digits", "hold")


class ToolsConfig(Section):
    hang_up: HangUpConfig | None = None
    transfer_call: TransferCallConfig | None = None
    send_dtmf: SendDtmfConfig | None = None
    collect_digits: CollectDigitsConfig | None = None
    hold: HoldConfig | None = None
    http: Annotated[tuple[dict[str, Any], ...], PLANNED] = ()
    python: Annotated[tuple[str, ...], PLANNED] = ()
    mcp: Annotated[tuple[dict[str, Any], ...], PLANNED] = ()

    def names(self) -> frozenset[str] | None:
        """Of all tools that the tenant has, for `agents.NAME.tools`; None: MCP servers have to be asked for some."""
        if self.mcp:
            return None
        names = {name for name in _BUILT_IN if getattr(self, name, None) is not None}
        names |= {str(tool.get("name")) for tool in self.http}
        return frozenset(names | {function.rpartition(":")[2] for function in self.python})
