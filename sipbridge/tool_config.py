"""The configuration's shape: pydantic models of what the model may do, `tools:` in a tenant's file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator, model_validator

from sipbridge.config import PLANNED
from sipbridge.configfile import Place, Section, error_at
from sipbridge.tool_source_config import (
    HttpToolConfig,
    McpServerConfig,
    PassThroughConfig,
    QuotasConfig,
    WaitingConfig,
)


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


def _function(name: str) -> str:
    """Whether there is one, `tools.python.load` finds out when the tenant is checked."""
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w{0,63}", name):
        raise ValueError(f"MODULE:FUNCTION is expected, not {name!r}")
    return name


OWN_TOOLS = frozenset({"hang_up", "transfer_call", "send_dtmf", "collect_digits", "hold", "switch_agent"})
"""Names that no other tool may have."""


class ToolsConfig(Section):
    hang_up: HangUpConfig | None = None
    transfer_call: TransferCallConfig | None = None
    http: tuple[HttpToolConfig, ...] = ()
    python: tuple[Annotated[str, AfterValidator(_function)], ...] = ()
    mcp: tuple[McpServerConfig, ...] = ()
    pass_through: tuple[PassThroughConfig, ...] = ()
    quotas: QuotasConfig = QuotasConfig()
    waiting: WaitingConfig | None = None

    def __bool__(self) -> bool:
        """Whether the model may use any."""
        return any(getattr(self, name) not in (None, ()) for name in type(self).model_fields if name not in ("quotas", "waiting"))

    def names(self) -> Iterator[tuple[Place, str]]:
        """Of the tools whose names stand in the file, each with its place; what an MCP server has, it says itself."""
        for number, http in enumerate(self.http):
            yield ("http", number, "name"), http.name
        for number, function in enumerate(self.python):
            yield ("python", number), function.partition(":")[2]
        for number, passed in enumerate(self.pass_through):
            yield ("pass_through", number, "name"), passed.name

    @model_validator(mode="after")
    def _each_name_once(self) -> ToolsConfig:
        taken = set(OWN_TOOLS)
        for place, name in self.names():
            if name in taken:
                raise error_at(place, f"there is another tool {name!r}")
            taken.add(name)
        if len({server.name for server in self.mcp}) < len(self.mcp):
            raise error_at(("mcp",), "two servers of one name")
        return self
