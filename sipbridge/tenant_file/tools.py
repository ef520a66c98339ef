"""The configuration's shape: pydantic models of what the model may do, `tools:` in a tenant's file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from sipbridge.configfile import Place, Section, error_at
from sipbridge.errors import SipParseError
from sipbridge.sip.headers import Uri
from sipbridge.tenant_file.digits import CollectDigitsConfig, SendDtmfConfig
from sipbridge.tenant_file.tool_sources import (
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
    confirm: bool = False
    """Whether the caller has to agree."""
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
            if not name.strip() or not name.isprintable():
                raise error_at((name,), "a target's name is text that a model can say")
            if not _is_address(target):
                raise error_at((name,), f"sip:USER@HOST or tel:NUMBER is expected, not {target!r}")
        return targets


def _is_address(target: str) -> bool:
    if target.startswith("tel:"):
        return re.fullmatch(r"tel:\+?[().-]*[0-9][0-9().-]*(;[^\s<>?]*)?", target) is not None
    try:
        return re.fullmatch(r"sips?:[^\s<>?]+", target) is not None and bool(Uri.parse(target).host)
    except SipParseError:
        return False


class SwitchAgentConfig(Section):
    """Nothing to say: where there are several agents they have it in any case."""


class HoldConfig(Section):
    seconds: float = Field(default=120, gt=0, le=3600)
    """The longest that a caller is left with the music."""


OWN_TOOLS = ("hang_up", "transfer_call", "send_dtmf", "collect_digits", "hold", "switch_agent")
"""Names that no other tool may have."""


_SECRET_NAME = re.compile(r"auth|key|token|secret|password|cookie", re.IGNORECASE)


def _function(name: str) -> str:
    """Whether there is one, `tools.services.faults` finds out."""
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w{0,63}", name):
        raise ValueError(f"MODULE:FUNCTION is expected, not {name!r}")
    return name


class ToolsConfig(Section):
    hang_up: HangUpConfig | None = None
    transfer_call: TransferCallConfig | None = None
    send_dtmf: SendDtmfConfig | None = None
    collect_digits: CollectDigitsConfig | None = None
    hold: HoldConfig | None = None
    switch_agent: SwitchAgentConfig | None = None
    http: tuple[HttpToolConfig, ...] = ()
    python: tuple[Annotated[str, AfterValidator(_function)], ...] = ()
    mcp: tuple[McpServerConfig, ...] = ()
    pass_through: tuple[PassThroughConfig, ...] = ()
    quotas: QuotasConfig = QuotasConfig()
    waiting: WaitingConfig | None = None

    def names(self) -> frozenset[str] | None:
        """Of all tools that the tenant has, for `agents.NAME.tools`; None: MCP servers have to be asked for some."""
        if self.mcp:
            return None
        return frozenset(self._own()) | {name for _, name in self._declared()}

    def _own(self) -> Iterator[str]:
        return (name for name in OWN_TOOLS if getattr(self, name, None) is not None)

    def _declared(self) -> Iterator[tuple[Place, str]]:
        for number, http in enumerate(self.http):
            yield ("http", number, "name"), http.name
        for number, function in enumerate(self.python):
            yield ("python", number), function.partition(":")[2]
        for number, passed in enumerate(self.pass_through):
            yield ("pass_through", number, "name"), passed.name

    def secrets_in_plain_sight(self) -> Iterator[Place]:
        """Headers and variables that by their names are secret, and stand in the file as they are."""
        for kind, sections in (("http", self.http), ("mcp", self.mcp)):
            for number, section in enumerate(sections):
                for key in ("headers", "env"):
                    for name, secret in getattr(section, key, {}).items():
                        if secret.in_plain_sight and _SECRET_NAME.search(name):
                            yield kind, number, key, name

    @model_validator(mode="after")
    def _each_name_once(self) -> ToolsConfig:
        taken = set(OWN_TOOLS)
        for place, name in self._declared():
            if name in taken:
                raise error_at(place, f"there is another tool {name!r}")
            taken.add(name)
        for name, field in ({} if self.collect_digits is None else self.collect_digits.fields).items():
            if field.tool is not None and not self.mcp and field.tool not in taken.difference(OWN_TOOLS):
                known = ", ".join(sorted(taken.difference(OWN_TOOLS))) or "none"
                raise error_at(("collect_digits", "fields", name, "tool"), f"no such tool; known are: {known}")
        servers = [server.name for server in self.mcp]
        for number, name in enumerate(servers):
            if name in servers[:number]:
                raise error_at(("mcp", number, "name"), f"there is another server {name!r}")
        return self
