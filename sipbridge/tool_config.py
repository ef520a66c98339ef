"""The configuration's shape: pydantic models of what the model may do, `tools:` in a tenant's file."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, field_validator

from sipbridge.config import PLANNED
from sipbridge.configfile import Section


class HangUpConfig(Section):
    pass


class TransferCallConfig(Section):
    targets: dict[str, str] = Field(min_length=1)
    confirm: Annotated[bool, PLANNED] = False

    @field_validator("targets")
    @classmethod
    def _sip_or_tel(cls, targets: dict[str, str]) -> dict[str, str]:
        for name, target in targets.items():
            if not re.fullmatch(r"(sips?:[^\s<>?]+|tel:\+?[0-9().-]+(;[^\s<>?]*)?)", target):
                raise ValueError(f"target {name!r}: expected sip:USER@HOST or tel:NUMBER, not {target!r}")
        return targets


_BUILT_IN = ("hang_up", "transfer_call", "send_dtmf", "collect_digits", "hold")


class ToolsConfig(Section):
    hang_up: HangUpConfig | None = None
    transfer_call: TransferCallConfig | None = None
    http: Annotated[tuple[dict[str, Any], ...], PLANNED] = ()
    python: Annotated[tuple[str, ...], PLANNED] = ()
    mcp: Annotated[tuple[dict[str, Any], ...], PLANNED] = ()

    def known(self) -> frozenset[str] | None:
        """Of all tools that the tenant has, for `agents.NAME.tools`; None: MCP servers have to be asked for some."""
        if self.mcp:
            return None
        names = {name for name in _BUILT_IN if getattr(self, name, None) is not None}
        names |= {str(tool.get("name")) for tool in self.http}
        return frozenset(names | {function.rpartition(":")[2] for function in self.python})
